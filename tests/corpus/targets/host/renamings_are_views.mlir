// Reshape, transpose and slice cost nothing: one command reads through all three.
// target: host
// symbols: s=3<=4
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x?x8xf32, ["s"]>) -> tensor<1x2x?x2xf32, ["s"]>, sym_name = "main"}> ({
  ^bb0(%x: tensor<1x?x8xf32, ["s"]>):
    %a = "core.reshape"(%x) : (tensor<1x?x8xf32, ["s"]>) -> tensor<1x?x2x4xf32, ["s"]>
    %b = "core.transpose"(%a) <{permutation = array<i64: 0, 2, 1, 3>}> : (tensor<1x?x2x4xf32, ["s"]>) -> tensor<1x2x?x4xf32, ["s"]>
    %c = "core.slice"(%b) <{starts = [0, 0, 0, 3], steps = array<i64: 1, 1, 1, -2>}> : (tensor<1x2x?x4xf32, ["s"]>) -> tensor<1x2x?x2xf32, ["s"]>
    %d = "core.neg"(%c) : (tensor<1x2x?x2xf32, ["s"]>) -> tensor<1x2x?x2xf32, ["s"]>
    "func.return"(%d) : (tensor<1x2x?x2xf32, ["s"]>) -> ()
  }) : () -> ()
}) : () -> ()
