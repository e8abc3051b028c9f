// Truncates.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<4xf32>) -> tensor<4xi32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<4xf32>):
    %y = "core.cast"(%x) : (tensor<4xf32>) -> tensor<4xi32>
    "func.return"(%y) : (tensor<4xi32>) -> ()
  }) : () -> ()
}) : () -> ()
