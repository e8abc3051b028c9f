// Nonzero.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<4xi64>) -> tensor<4xi1>, sym_name = "main"}> ({
  ^bb0(%x: tensor<4xi64>):
    %y = "core.cast"(%x) : (tensor<4xi64>) -> tensor<4xi1>
    "func.return"(%y) : (tensor<4xi1>) -> ()
  }) : () -> ()
}) : () -> ()
