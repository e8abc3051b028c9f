// A window without a causal limit: keys after the query are seen, those before the window are not.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x3x4xf32>, tensor<1x2x5x4xf32>, tensor<1x2x5x4xf32>, tensor<3x5xf32>) -> tensor<1x2x3x4xf32>, sym_name = "main"}> ({
  ^bb0(%q: tensor<1x2x3x4xf32>, %k: tensor<1x2x5x4xf32>, %v: tensor<1x2x5x4xf32>, %m: tensor<3x5xf32>):
    %y = "core.attention"(%q, %k, %v, %m) <{operandSegmentSizes = array<i32: 1, 1, 1, 1, 0>, scale = 0.5, window = 2 : i64}> : (tensor<1x2x3x4xf32>, tensor<1x2x5x4xf32>, tensor<1x2x5x4xf32>, tensor<3x5xf32>) -> tensor<1x2x3x4xf32>
    "func.return"(%y) : (tensor<1x2x3x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
