// A scan from the end: a view with a negative stride.
// target: host
// symbols: s=3<=4
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2xf32>, tensor<2x?xf32, ["s"]>) -> (tensor<2xf32>, tensor<?x2xf32, ["s"]>), sym_name = "main"}> ({
  ^bb0(%c: tensor<2xf32>, %x: tensor<2x?xf32, ["s"]>):
    %r, %h = "core.scan"(%c, %x) <{axes = array<i64: 1>, carried_count = 1 : i64, reverse = array<i64: 1>}> ({
    ^bb0(%a: tensor<2xf32>, %b: tensor<2xf32>):
      %m = "core.add"(%a, %b) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
      "core.yield"(%m, %a) : (tensor<2xf32>, tensor<2xf32>) -> ()
    }) : (tensor<2xf32>, tensor<2x?xf32, ["s"]>) -> (tensor<2xf32>, tensor<?x2xf32, ["s"]>)
    "func.return"(%r, %h) : (tensor<2xf32>, tensor<?x2xf32, ["s"]>) -> ()
  }) : () -> ()
}) : () -> ()
