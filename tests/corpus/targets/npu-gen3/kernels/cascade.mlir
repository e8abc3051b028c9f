// What: two convolutions run stripe by stripe; of the map between them only the rows in use lie in SRAM, kept rows move to its start.
// pipeline: form-kernels
// target: npu-gen3
// optimize: size
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x24x16xf32>, tensor<4x2x3x3xf32>, tensor<2x4x3x3xf32>, tensor<2xf32>) -> tensor<1x2x6x8xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<1x2x24x16xf32>, %w: tensor<4x2x3x3xf32>, %v: tensor<2x4x3x3xf32>, %b: tensor<2xf32>):
    %c = "core.convolution"(%x, %w) <{operandSegmentSizes = array<i32: 1, 1, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 2, 1>}> : (tensor<1x2x24x16xf32>, tensor<4x2x3x3xf32>) -> tensor<1x4x12x16xf32>
    %r = "core.relu"(%c) : (tensor<1x4x12x16xf32>) -> tensor<1x4x12x16xf32>
    %y = "core.convolution"(%r, %v, %b) <{operandSegmentSizes = array<i32: 1, 1, 1>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 2, 2>}> : (tensor<1x4x12x16xf32>, tensor<2x4x3x3xf32>, tensor<2xf32>) -> tensor<1x2x6x8xf32>
    "func.return"(%y) : (tensor<1x2x6x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
