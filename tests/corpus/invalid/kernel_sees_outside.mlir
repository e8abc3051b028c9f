// A kernel is isolated: it sees its arguments alone.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %y = "core.kernel"() <{kind = "rows", name = "k"}> ({
      %r = "core.relu"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
      "core.yield"(%r) : (tensor<2x3xf32>) -> ()
    }) : () -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
