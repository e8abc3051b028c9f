// A convolution takes its residual and activation.
// pipeline: form-kernels
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x6x6xf32>, tensor<3x2x3x3xf32>, tensor<1x3x6x6xf32>) -> tensor<1x3x6x6xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x2x6x6xf32>, %x1: tensor<3x2x3x3xf32>, %x2: tensor<1x3x6x6xf32>):
    %c = "core.convolution"(%x0, %x1) <{dilations = array<i64: 1, 1>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>}> : (tensor<1x2x6x6xf32>, tensor<3x2x3x3xf32>) -> tensor<1x3x6x6xf32>
    %s = "core.add"(%c, %x2) : (tensor<1x3x6x6xf32>, tensor<1x3x6x6xf32>) -> tensor<1x3x6x6xf32>
    %y = "core.relu"(%s) : (tensor<1x3x6x6xf32>) -> tensor<1x3x6x6xf32>
    "func.return"(%y) : (tensor<1x3x6x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
