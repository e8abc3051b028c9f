// Depthwise, stride 2.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x4x6x6xf32>, tensor<4x1x3x3xf32>) -> tensor<1x4x3x3xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x4x6x6xf32>, %x1: tensor<4x1x3x3xf32>):
    %y = "core.convolution"(%x0, %x1) <{dilations = array<i64: 1, 1>, groups = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 2, 2>}> : (tensor<1x4x6x6xf32>, tensor<4x1x3x3xf32>) -> tensor<1x4x3x3xf32>
    "func.return"(%y) : (tensor<1x4x3x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
