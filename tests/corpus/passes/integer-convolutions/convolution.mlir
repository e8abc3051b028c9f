// What: padded, strided, in groups, a zero point on each side, a bias in units of the sums: one convolution of integers, stored as i8.
// pipeline: integer-convolutions,canonicalize
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x4x7x6xi8>) -> tensor<1x6x4x6xi8>, sym_name = "main"}> ({
  ^bb0(%q: tensor<1x4x7x6xi8>):
    %s = "core.constant"() <{value = dense<2.500000e-02> : tensor<f32>}> : () -> tensor<f32>
    %z = "core.constant"() <{value = dense<-3> : tensor<i8>}> : () -> tensor<i8>
    %w = "core.constant"() <{value = dense_resource<w> : tensor<6x2x3x3xi8>}> : () -> tensor<6x2x3x3xi8>
    %v = "core.constant"() <{value = dense<[1.000000e-02, 2.000000e-02, 3.000000e-02, 4.000000e-02, 5.000000e-02, 6.000000e-02]> : tensor<6xf32>}> : () -> tensor<6xf32>
    %vz = "core.constant"() <{value = dense<1> : tensor<6xi8>}> : () -> tensor<6xi8>
    %b = "core.constant"() <{value = dense<[100, -200, 300, -400, 500, -600]> : tensor<6xi32>}> : () -> tensor<6xi32>
    %u = "core.constant"() <{value = dense<[2.500000e-04, 5.000000e-04, 7.500000e-04, 1.000000e-03, 1.250000e-03, 1.500000e-03]> : tensor<6xf32>}> : () -> tensor<6xf32>
    %t = "core.constant"() <{value = dense<1.700000e-01> : tensor<f32>}> : () -> tensor<f32>
    %tz = "core.constant"() <{value = dense<-7> : tensor<i8>}> : () -> tensor<i8>
    %x = "core.dequantize"(%q, %s, %z) <{operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<1x4x7x6xi8>, tensor<f32>, tensor<i8>) -> tensor<1x4x7x6xf32>
    %wf = "core.dequantize"(%w, %v, %vz) <{axis = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<6x2x3x3xi8>, tensor<6xf32>, tensor<6xi8>) -> tensor<6x2x3x3xf32>
    %bf = "core.dequantize"(%b, %u) <{axis = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<6xi32>, tensor<6xf32>) -> tensor<6xf32>
    %y = "core.convolution"(%x, %wf, %bf) <{groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 2, 1>}> : (tensor<1x4x7x6xf32>, tensor<6x2x3x3xf32>, tensor<6xf32>) -> tensor<1x6x4x6xf32>
    %r = "core.quantize"(%y, %t, %tz) <{operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<1x6x4x6xf32>, tensor<f32>, tensor<i8>) -> tensor<1x6x4x6xi8>
    "func.return"(%r) : (tensor<1x6x4x6xi8>) -> ()
  }) : () -> ()
}) : () -> ()
