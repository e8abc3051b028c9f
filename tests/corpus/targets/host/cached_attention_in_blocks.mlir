// Settled blocks, then the blocks of the ring. At position 94 the first block is settled, from 95 on the second one is too.
// target: host
// symbols: p=94<=100
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x4x3x8xf32>, tensor<1x2x?x8xui4, ["p + 3"]>, tensor<1x2x?x8xui8, ["p + 3"]>, tensor<1x1x1x?xi1, ["p + 3"]>, tensor<4xf32>, tensor<1x2x4x8xf16>, tensor<1x2x4x8xf16>, tensor<1x2x96x8xf16>, tensor<1x2x?x2xf16, ["p + 3"]>, tensor<1x2x?x2xf16, ["p + 3"]>) -> tensor<1x4x3x8xf32>, sym_name = "main"}> ({
  ^bb0(%q: tensor<1x4x3x8xf32>, %k: tensor<1x2x?x8xui4, ["p + 3"]>, %v: tensor<1x2x?x8xui8, ["p + 3"]>, %mask: tensor<1x1x1x?xi1, ["p + 3"]>, %sinks: tensor<4xf32>, %ks: tensor<1x2x4x8xf16>, %ko: tensor<1x2x4x8xf16>, %recent: tensor<1x2x96x8xf16>, %vs: tensor<1x2x?x2xf16, ["p + 3"]>, %vo: tensor<1x2x?x2xf16, ["p + 3"]>):
    %y = "core.cached_attention"(%q, %k, %v, %mask, %sinks, %ks, %ko, %recent, %vs, %vo) <{block = 32 : i64, causal = true, keep = 32 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 1, 1, 1, 1>, scale = 1.000000e-01 : f64, softcap = 5.000000e+00 : f64, window = 80 : i64}> : (tensor<1x4x3x8xf32>, tensor<1x2x?x8xui4, ["p + 3"]>, tensor<1x2x?x8xui8, ["p + 3"]>, tensor<1x1x1x?xi1, ["p + 3"]>, tensor<4xf32>, tensor<1x2x4x8xf16>, tensor<1x2x4x8xf16>, tensor<1x2x96x8xf16>, tensor<1x2x?x2xf16, ["p + 3"]>, tensor<1x2x?x2xf16, ["p + 3"]>) -> tensor<1x4x3x8xf32>
    "func.return"(%y) : (tensor<1x4x3x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
