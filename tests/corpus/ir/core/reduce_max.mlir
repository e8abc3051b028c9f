// Max over the last axis.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3x4xf32>) -> tensor<2x3x1xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3x4xf32>):
    %y = "core.reduce_max"(%x) <{axes = array<i64: -1>, keep_dims = true}> : (tensor<2x3x4xf32>) -> tensor<2x3x1xf32>
    "func.return"(%y) : (tensor<2x3x1xf32>) -> ()
  }) : () -> ()
}) : () -> ()
