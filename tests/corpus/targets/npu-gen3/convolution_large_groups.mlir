// Groups of channels whose filters do not fit the chip together: each group is cut as a convolution of its own.
// target: npu-gen3
// sram: 32768
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x64x5x5xf32>, tensor<64x32x3x3xf32>, tensor<64xf32>) -> tensor<1x64x5x5xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x64x5x5xf32>, %x1: tensor<64x32x3x3xf32>, %x2: tensor<64xf32>):
    %y = "core.convolution"(%x0, %x1, %x2) <{dilations = array<i64: 1, 1>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>}> : (tensor<1x64x5x5xf32>, tensor<64x32x3x3xf32>, tensor<64xf32>) -> tensor<1x64x5x5xf32>
    "func.return"(%y) : (tensor<1x64x5x5xf32>) -> ()
  }) : () -> ()
}) : () -> ()
