// A fused linear is taken apart: product, bias and activation in place.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4xf32>, tensor<3x4xf32>, tensor<3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x4xf32>, %w: tensor<3x4xf32>, %b: tensor<3xf32>):
    %y = "core.linear"(%x, %w, %b) <{activation = "silu", operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, transpose_weight = true}> : (tensor<2x4xf32>, tensor<3x4xf32>, tensor<3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
