// A mask of any form: the age of keys is that of tokens aligned at the end.
// pipeline: quantize-kv-cache{format=kv4}
// symbols: p=0<=60
// results: 1
// tolerance: 2e-1
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{tw.name = "q"}, {tw.name = "k"}, {tw.name = "v"}, {tw.name = "past.0.key", tw.state = "present.0.key"}, {tw.name = "past.0.value", tw.state = "present.0.value"}], function_type = (tensor<1x4x4x32xf32>, tensor<1x2x4x32xf32>, tensor<1x2x4x32xf32>, tensor<1x2x?x32xf32, ["p"]>, tensor<1x2x?x32xf32, ["p"]>) -> (tensor<1x4x4x32xf32>, tensor<1x2x?x32xf32, ["p + 4"]>, tensor<1x2x?x32xf32, ["p + 4"]>), res_attrs = [{tw.name = "y"}, {tw.name = "present.0.key"}, {tw.name = "present.0.value"}], sym_name = "main"}> ({
  ^bb0(%q: tensor<1x4x4x32xf32>, %k: tensor<1x2x4x32xf32>, %v: tensor<1x2x4x32xf32>, %pk: tensor<1x2x?x32xf32, ["p"]>, %pv: tensor<1x2x?x32xf32, ["p"]>):
    %ck = "core.concat"(%pk, %k) <{axis = 2 : i64}> : (tensor<1x2x?x32xf32, ["p"]>, tensor<1x2x4x32xf32>) -> tensor<1x2x?x32xf32, ["p + 4"]>
    %cv = "core.concat"(%pv, %v) <{axis = 2 : i64}> : (tensor<1x2x?x32xf32, ["p"]>, tensor<1x2x4x32xf32>) -> tensor<1x2x?x32xf32, ["p + 4"]>
    %y = "core.attention"(%q, %ck, %cv) <{operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, scale = 3.000000e-01 : f64}> : (tensor<1x4x4x32xf32>, tensor<1x2x?x32xf32, ["p + 4"]>, tensor<1x2x?x32xf32, ["p + 4"]>) -> tensor<1x4x4x32xf32>
    "func.return"(%y, %ck, %cv) : (tensor<1x4x4x32xf32>, tensor<1x2x?x32xf32, ["p + 4"]>, tensor<1x2x?x32xf32, ["p + 4"]>) -> ()
  }) : () -> ()
}) : () -> ()
