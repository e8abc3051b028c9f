// No such element type.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf33>) -> tensor<2x3xf33>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf33>):
    %y = "core.relu"(%x) : (tensor<2x3xf33>) -> tensor<2x3xf33>
    "func.return"(%y) : (tensor<2x3xf33>) -> ()
  }) : () -> ()
}) : () -> ()
