// A machine whose vector engine has f32 and whose matrix engine has not: only the product is in f16, its weight's scale stays.
// pipeline: demote-floats,cse
// target: qualcomm-snapdragon-x-gen3
// tolerance: 4e-3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x32xf32>, tensor<32x4xi4>, tensor<1x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x32xf32>, %w: tensor<32x4xi4>, %s: tensor<1x4xf32>, %g: tensor<4xf32>):
    %e = "core.exp"(%x) : (tensor<2x32xf32>) -> tensor<2x32xf32>
    %y = "core.linear"(%e, %w, %s) <{activation = "none", axis = 0 : i64, block = 32 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>, transpose_weight = false}> : (tensor<2x32xf32>, tensor<32x4xi4>, tensor<1x4xf32>) -> tensor<2x4xf32>
    %n = "core.rms_norm"(%y, %g) <{epsilon = 9.9999999999999995E-7 : f64}> : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>
    "func.return"(%n) : (tensor<2x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
