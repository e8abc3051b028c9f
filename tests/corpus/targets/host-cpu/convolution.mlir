// What has no row of its own runs as on the host, and is at home there.
// target: host-cpu
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x5x5xf32>) -> tensor<1x3x5x5xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<1x2x5x5xf32>):
    %w = "core.constant"() <{value = dense<2.500000e-01> : tensor<3x2x3x3xf32>}> : () -> tensor<3x2x3x3xf32>
    %y = "core.convolution"(%x, %w) <{dilations = array<i64: 1, 1>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>}> : (tensor<1x2x5x5xf32>, tensor<3x2x3x3xf32>) -> tensor<1x3x5x5xf32>
    "func.return"(%y) : (tensor<1x3x5x5xf32>) -> ()
  }) : () -> ()
}) : () -> ()
