// Two regions, the outer value captured.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<i1>, tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<i1>, %x1: tensor<2x3xf32>):
    %y = "core.if"(%x0) ({
      %a = "core.relu"(%x1) : (tensor<2x3xf32>) -> tensor<2x3xf32>
      "core.yield"(%a) : (tensor<2x3xf32>) -> ()
    }, {
      %b = "core.neg"(%x1) : (tensor<2x3xf32>) -> tensor<2x3xf32>
      "core.yield"(%b) : (tensor<2x3xf32>) -> ()
    }) : (tensor<i1>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
