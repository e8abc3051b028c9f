// A transposed convolution, stride 2.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x3x3xf32>, tensor<2x3x2x2xf32>) -> tensor<1x3x6x6xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x2x3x3xf32>, %x1: tensor<2x3x2x2xf32>):
    %y = "core.conv_transpose"(%x0, %x1) <{operandSegmentSizes = array<i32: 1, 1, 0>, strides = array<i64: 2, 2>}> : (tensor<1x2x3x3xf32>, tensor<2x3x2x2xf32>) -> tensor<1x3x6x6xf32>
    "func.return"(%y) : (tensor<1x3x6x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
