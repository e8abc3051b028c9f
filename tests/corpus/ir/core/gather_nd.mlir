// By coordinates.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x4xf32>) -> tensor<2xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<3x4xf32>):
    %indices = "core.constant"() <{value = dense<[[0, 1], [2, 3]]> : tensor<2x2xi64>}> : () -> tensor<2x2xi64>
    %y = "core.gather_nd"(%x0, %indices) <{batch_dims = 0 : i64}> : (tensor<3x4xf32>, tensor<2x2xi64>) -> tensor<2xf32>
    "func.return"(%y) : (tensor<2xf32>) -> ()
  }) : () -> ()
}) : () -> ()
