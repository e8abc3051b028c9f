// Factors of a product's input go into the gain of the norm before it, and into its bias, whether the norm is fused or in parts.
// pipeline: fold-channel-factors
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x4xf32>, tensor<3x1xf32>, tensor<4x2xf32>) -> (tensor<3x2xf32>, tensor<3x2xf32>, tensor<3x2xf32>), sym_name = "main"}> ({
  ^bb0(%x: tensor<3x4xf32>, %r: tensor<3x1xf32>, %w: tensor<4x2xf32>):
    %g = "core.constant"() <{value = dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>}> : () -> tensor<4xf32>
    %b = "core.constant"() <{value = dense<[0.5, 0.25, 0.125, 1.0]> : tensor<4xf32>}> : () -> tensor<4xf32>
    %s = "core.constant"() <{value = dense<[0.5, 2.0, 4.0, 0.25]> : tensor<4xf32>}> : () -> tensor<4xf32>
    %h = "core.mul"(%x, %r) : (tensor<3x4xf32>, tensor<3x1xf32>) -> tensor<3x4xf32>
    %n0 = "core.mul"(%h, %g) : (tensor<3x4xf32>, tensor<4xf32>) -> tensor<3x4xf32>
    %d0 = "core.mul"(%n0, %s) : (tensor<3x4xf32>, tensor<4xf32>) -> tensor<3x4xf32>
    %y0 = "core.matmul"(%d0, %w) : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
    %n1 = "core.rms_norm"(%x, %g) <{epsilon = 1.000000e-05 : f32}> : (tensor<3x4xf32>, tensor<4xf32>) -> tensor<3x4xf32>
    %d1 = "core.mul"(%n1, %s) : (tensor<3x4xf32>, tensor<4xf32>) -> tensor<3x4xf32>
    %y1 = "core.matmul"(%d1, %w) : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
    %n2 = "core.layer_norm"(%x, %g, %b) <{epsilon = 1.000000e-05 : f32, operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<3x4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<3x4xf32>
    %d2 = "core.mul"(%s, %n2) : (tensor<4xf32>, tensor<3x4xf32>) -> tensor<3x4xf32>
    %y2 = "core.matmul"(%d2, %w) : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
    "func.return"(%y0, %y1, %y2) : (tensor<3x2xf32>, tensor<3x2xf32>, tensor<3x2xf32>) -> ()
  }) : () -> ()
}) : () -> ()
