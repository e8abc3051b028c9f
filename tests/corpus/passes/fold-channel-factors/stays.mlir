// Where someone else sees the channels, or a scale is shared by them, the factors stay a multiplication.
// pipeline: fold-channel-factors
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x4xf32>, tensor<4x2xf32>) -> (tensor<3x2xf32>, tensor<3x4xf32>, tensor<3x2xf32>, tensor<3x2xf32>), sym_name = "main"}> ({
  ^bb0(%x: tensor<3x4xf32>, %w: tensor<4x2xf32>):
    %g = "core.constant"() <{value = dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>}> : () -> tensor<4xf32>
    %s = "core.constant"() <{value = dense<[0.5, 2.0, 4.0, 0.25]> : tensor<4xf32>}> : () -> tensor<4xf32>
    %q = "core.constant"() <{value = dense<[[1, 2, 3, 4], [1, -2, 3, -4], [0, 2, 0, 4], [7, 6, 5, 4]]> : tensor<4x4xi8>}> : () -> tensor<4x4xi8>
    %one = "core.constant"() <{value = dense<0.25> : tensor<f32>}> : () -> tensor<f32>
    %n0 = "core.rms_norm"(%x, %g) <{epsilon = 1.000000e-05 : f32}> : (tensor<3x4xf32>, tensor<4xf32>) -> tensor<3x4xf32>
    %d0 = "core.mul"(%n0, %s) : (tensor<3x4xf32>, tensor<4xf32>) -> tensor<3x4xf32>
    %y0 = "core.matmul"(%d0, %w) : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
    %e = "core.dequantize"(%q, %one) <{operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<4x4xi8>, tensor<f32>) -> tensor<4x4xf32>
    %m = "core.matmul"(%x, %e) : (tensor<3x4xf32>, tensor<4x4xf32>) -> tensor<3x4xf32>
    %d1 = "core.mul"(%m, %s) : (tensor<3x4xf32>, tensor<4xf32>) -> tensor<3x4xf32>
    %y1 = "core.matmul"(%d1, %w) : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
    %d2 = "core.mul"(%x, %s) : (tensor<3x4xf32>, tensor<4xf32>) -> tensor<3x4xf32>
    %y2 = "core.matmul"(%d2, %w) : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
    "func.return"(%y0, %n0, %y1, %y2) : (tensor<3x2xf32>, tensor<3x4xf32>, tensor<3x2xf32>, tensor<3x2xf32>) -> ()
  }) : () -> ()
}) : () -> ()
