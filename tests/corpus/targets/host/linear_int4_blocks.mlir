// Weights of four bits with scales in blocks of k are dequantised by the product itself.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x8xf32>, tensor<3x8xui4>, tensor<3x2xf32>, tensor<3x2xui4>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x8xf32>, %w: tensor<3x8xui4>, %s: tensor<3x2xf32>, %z: tensor<3x2xui4>):
    %y = "core.linear"(%x, %w, %s, %z) <{activation = "none", axis = 1 : i64, block = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 1>, transpose_weight = true}> : (tensor<2x8xf32>, tensor<3x8xui4>, tensor<3x2xf32>, tensor<3x2xui4>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
