// Writes by index.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x2xf32>, tensor<1x2xf32>) -> tensor<3x2xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<3x2xf32>, %x2: tensor<1x2xf32>):
    %indices = "core.constant"() <{value = dense<[[2, 0]]> : tensor<1x2xi64>}> : () -> tensor<1x2xi64>
    %y = "core.scatter_elements"(%x0, %indices, %x2) <{axis = 0 : i64, reduction = "none"}> : (tensor<3x2xf32>, tensor<1x2xi64>, tensor<1x2xf32>) -> tensor<3x2xf32>
    "func.return"(%y) : (tensor<3x2xf32>) -> ()
  }) : () -> ()
}) : () -> ()
