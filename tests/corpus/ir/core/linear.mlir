// Matmul, bias, activation.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4xf32>, tensor<4x6xf32>, tensor<6xf32>) -> tensor<2x6xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x4xf32>, %x1: tensor<4x6xf32>, %x2: tensor<6xf32>):
    %y = "core.linear"(%x0, %x1, %x2) <{activation = "silu", operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, transpose_weight = false}> : (tensor<2x4xf32>, tensor<4x6xf32>, tensor<6xf32>) -> tensor<2x6xf32>
    "func.return"(%y) : (tensor<2x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
