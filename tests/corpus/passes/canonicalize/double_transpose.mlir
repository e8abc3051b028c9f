// Two transposes are one, or none.
// pipeline: canonicalize
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3x4xf32>):
    %t = "core.transpose"(%x) <{permutation = array<i64: 2, 0, 1>}> : (tensor<2x3x4xf32>) -> tensor<4x2x3xf32>
    %y = "core.transpose"(%t) <{permutation = array<i64: 1, 2, 0>}> : (tensor<4x2x3xf32>) -> tensor<2x3x4xf32>
    "func.return"(%y) : (tensor<2x3x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
