// Query heads that share keys are a batch dimension; keys repeat by a stride of 0.
// target: host
// symbols: p=2<=5 s=2<=3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x4x?x8xf32, ["s"]>, tensor<1x2x?x8xf32, ["p + s"]>, tensor<1x2x?x8xf32, ["p + s"]>) -> tensor<1x4x?x8xf32, ["s"]>, sym_name = "main"}> ({
  ^bb0(%q: tensor<1x4x?x8xf32, ["s"]>, %k: tensor<1x2x?x8xf32, ["p + s"]>, %v: tensor<1x2x?x8xf32, ["p + s"]>):
    %y = "core.attention"(%q, %k, %v) <{causal = true, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, scale = 0.35, window = 3 : i64}> : (tensor<1x4x?x8xf32, ["s"]>, tensor<1x2x?x8xf32, ["p + s"]>, tensor<1x2x?x8xf32, ["p + s"]>) -> tensor<1x4x?x8xf32, ["s"]>
    "func.return"(%y) : (tensor<1x4x?x8xf32, ["s"]>) -> ()
  }) : () -> ()
}) : () -> ()
