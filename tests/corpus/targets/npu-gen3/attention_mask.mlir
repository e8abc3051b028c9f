// With an additive mask.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x3x8xf32>, tensor<1x2x5x8xf32>, tensor<1x2x5x8xf32>, tensor<1x1x3x5xf32>) -> tensor<1x2x3x8xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x2x3x8xf32>, %x1: tensor<1x2x5x8xf32>, %x2: tensor<1x2x5x8xf32>, %x3: tensor<1x1x3x5xf32>):
    %y = "core.attention"(%x0, %x1, %x2, %x3) <{causal = false, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0>, scale = 3.535530e-01, softcap = 0.000000e+00, window = -1 : i64}> : (tensor<1x2x3x8xf32>, tensor<1x2x5x8xf32>, tensor<1x2x5x8xf32>, tensor<1x1x3x5xf32>) -> tensor<1x2x3x8xf32>
    "func.return"(%y) : (tensor<1x2x3x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
