// Two reshapes are one.
// pipeline: canonicalize
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x6xf32>) -> tensor<3x4xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x6xf32>):
    %t = "core.reshape"(%x) : (tensor<2x6xf32>) -> tensor<12xf32>
    %y = "core.reshape"(%t) : (tensor<12xf32>) -> tensor<3x4xf32>
    "func.return"(%y) : (tensor<3x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
