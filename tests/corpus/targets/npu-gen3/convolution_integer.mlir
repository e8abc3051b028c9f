// 3x3, padded, counting from a zero point.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x5x5xi8>, tensor<3x2x3x3xi8>, tensor<3xi32>) -> tensor<1x3x5x5xi32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x2x5x5xi8>, %x1: tensor<3x2x3x3xi8>, %x2: tensor<3xi32>):
    %y = "core.convolution_integer"(%x0, %x1, %x2) <{dilations = array<i64: 1, 1>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>, x_zero = -5 : i64}> : (tensor<1x2x5x5xi8>, tensor<3x2x3x3xi8>, tensor<3xi32>) -> tensor<1x3x5x5xi32>
    "func.return"(%y) : (tensor<1x3x5x5xi32>) -> ()
  }) : () -> ()
}) : () -> ()
