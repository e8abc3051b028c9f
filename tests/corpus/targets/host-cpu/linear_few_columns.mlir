// Few columns would be padding for the most part: the weight stays as it is.
// target: host-cpu
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x6xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x6xf32>):
    %w = "core.constant"() <{value = dense<[[-2.359000e+00, 1.216000e+00, 9.120000e-01], [2.642000e+00, -1.373000e+00, -1.465000e+00], [1.404000e+00, 9.510000e-01, -1.182000e+00], [1.105000e+00, -6.200000e-01, 1.665000e+00], [-2.290000e+00, -1.660000e+00, 2.409000e+00], [-8.520000e-01, -1.438000e+00, 1.826000e+00]]> : tensor<6x3xf32>}> : () -> tensor<6x3xf32>
    %y = "core.linear"(%x, %w) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = false}> : (tensor<2x6xf32>, tensor<6x3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
