// Floats that six digits do not hold, and those that are none.
"builtin.module"() ({
  "func.func"() <{function_type = () -> tensor<6xf32>, sym_name = "main"}> ({
  ^bb0:
    %y = "core.constant"() <{value = dense<[0.1, 0.333333343, 1.0e-38, 3.40282347E+38, 0x7FC00000, 0xFF800000]> : tensor<6xf32>}> : () -> tensor<6xf32>
    "func.return"(%y) : (tensor<6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
