// Rows by index.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<5x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<5x3xf32>):
    %indices = "core.constant"() <{value = dense<[4, -1]> : tensor<2xi64>}> : () -> tensor<2xi64>
    %y = "core.gather"(%x0, %indices) <{axis = 0 : i64}> : (tensor<5x3xf32>, tensor<2xi64>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
