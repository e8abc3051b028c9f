// Channels and groups do not fit.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x3x4x4xf32>, tensor<2x1x1x1xf32>) -> tensor<1x2x4x4xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x3x4x4xf32>, %x1: tensor<2x1x1x1xf32>):
    %y = "core.convolution"(%x0, %x1) <{groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<1x3x4x4xf32>, tensor<2x1x1x1xf32>) -> tensor<1x2x4x4xf32>
    "func.return"(%y) : (tensor<1x2x4x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
