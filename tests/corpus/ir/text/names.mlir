// Names come from the source or the op, so that one new op does not renumber the rest.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %0 = "core.relu"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %1 = "core.relu"(%0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %mine = "core.neg"(%1) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %y = "core.relu"(%mine) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
