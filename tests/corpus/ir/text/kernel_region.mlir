// A kernel and its yield.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %y = "core.kernel"(%x) <{kind = "elementwise", name = "k"}> ({
    ^bb0(%a: tensor<2x3xf32>):
      %r = "core.relu"(%a) : (tensor<2x3xf32>) -> tensor<2x3xf32>
      "core.yield"(%r) : (tensor<2x3xf32>) -> ()
    }) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
