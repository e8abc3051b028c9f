// What: a maximum is taken of the integers, a mean is a convolution with ones, and a bias in floats is added to real numbers.
// pipeline: integer-convolutions,canonicalize
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x4x7x6xi8>, tensor<3xf32>) -> (tensor<1x4x1x1xi8>, tensor<1x4x3x3xi8>, tensor<1x3x7x6xf32>), sym_name = "main"}> ({
  ^bb0(%q: tensor<1x4x7x6xi8>, %b: tensor<3xf32>):
    %s = "core.constant"() <{value = dense<2.500000e-01> : tensor<f32>}> : () -> tensor<f32>
    %z = "core.constant"() <{value = dense<-3> : tensor<i8>}> : () -> tensor<i8>
    %w = "core.constant"() <{value = dense_resource<w> : tensor<3x4x1x1xi8>}> : () -> tensor<3x4x1x1xi8>
    %x = "core.dequantize"(%q, %s, %z) <{operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<1x4x7x6xi8>, tensor<f32>, tensor<i8>) -> tensor<1x4x7x6xf32>
    %wf = "core.dequantize"(%w, %s) <{operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<3x4x1x1xi8>, tensor<f32>) -> tensor<3x4x1x1xf32>
    %m = "core.reduce_mean"(%x) <{axes = array<i64: 2, 3>, keep_dims = true}> : (tensor<1x4x7x6xf32>) -> tensor<1x4x1x1xf32>
    %p = "core.pool"(%x) <{function = "max", kernel = array<i64: 3, 2>, strides = array<i64: 2, 2>}> : (tensor<1x4x7x6xf32>) -> tensor<1x4x3x3xf32>
    %y = "core.convolution"(%x, %wf, %b) <{operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<1x4x7x6xf32>, tensor<3x4x1x1xf32>, tensor<3xf32>) -> tensor<1x3x7x6xf32>
    %r = "core.quantize"(%m, %s, %z) <{operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<1x4x1x1xf32>, tensor<f32>, tensor<i8>) -> tensor<1x4x1x1xi8>
    %t = "core.quantize"(%p, %s, %z) <{operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<1x4x3x3xf32>, tensor<f32>, tensor<i8>) -> tensor<1x4x3x3xi8>
    "func.return"(%r, %t, %y) : (tensor<1x4x1x1xi8>, tensor<1x4x3x3xi8>, tensor<1x3x7x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
