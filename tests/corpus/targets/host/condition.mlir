// Both branches write the results' places.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<i1>, tensor<4xf32>) -> tensor<4xf32>, sym_name = "main"}> ({
  ^bb0(%c: tensor<i1>, %x: tensor<4xf32>):
    %y = "core.if"(%c) ({
      %a = "core.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
      "core.yield"(%a) : (tensor<4xf32>) -> ()
    }, {
      "core.yield"(%x) : (tensor<4xf32>) -> ()
    }) : (tensor<i1>) -> tensor<4xf32>
    "func.return"(%y) : (tensor<4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
