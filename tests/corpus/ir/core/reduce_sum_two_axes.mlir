// Over two axes, dropped.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3x4xf32>) -> tensor<3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3x4xf32>):
    %y = "core.reduce_sum"(%x) <{axes = array<i64: 0, 2>, keep_dims = false}> : (tensor<2x3x4xf32>) -> tensor<3xf32>
    "func.return"(%y) : (tensor<3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
