// Sign of the divisor.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<4xi64>, tensor<4xi64>) -> tensor<4xi64>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<4xi64>, %x1: tensor<4xi64>):
    %y = "core.remainder"(%x0, %x1) <{mode = "floor"}> : (tensor<4xi64>, tensor<4xi64>) -> tensor<4xi64>
    "func.return"(%y) : (tensor<4xi64>) -> ()
  }) : () -> ()
}) : () -> ()
