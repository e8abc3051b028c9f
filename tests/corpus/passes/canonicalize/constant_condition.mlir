// A branch that is known is taken.
// pipeline: canonicalize
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %k = "core.constant"() <{value = dense<true> : tensor<i1>}> : () -> tensor<i1>
    %y = "core.if"(%k) ({
      %a = "core.relu"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
      "core.yield"(%a) : (tensor<2x3xf32>) -> ()
    }, {
      %b = "core.neg"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
      "core.yield"(%b) : (tensor<2x3xf32>) -> ()
    }) : (tensor<i1>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
