// Adds rows.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<4x3xf32>, tensor<2x3xf32>) -> tensor<4x3xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<4x3xf32>, %x2: tensor<2x3xf32>):
    %indices = "core.constant"() <{value = dense<[[3], [1]]> : tensor<2x1xi64>}> : () -> tensor<2x1xi64>
    %y = "core.scatter_nd"(%x0, %indices, %x2) <{reduction = "add"}> : (tensor<4x3xf32>, tensor<2x1xi64>, tensor<2x3xf32>) -> tensor<4x3xf32>
    "func.return"(%y) : (tensor<4x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
