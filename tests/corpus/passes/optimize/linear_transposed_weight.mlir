// A transposed weight is read as it lies.
// pipeline: canonicalize,optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4x8xf32>) -> tensor<2x4x6xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x4x8xf32>):
    %w = "core.constant"() <{value = dense_resource<w> : tensor<6x8xf32>}> : () -> tensor<6x8xf32>
    %t = "core.transpose"(%w) <{permutation = array<i64: 1, 0>}> : (tensor<6x8xf32>) -> tensor<8x6xf32>
    %y = "core.matmul"(%x, %t) : (tensor<2x4x8xf32>, tensor<8x6xf32>) -> tensor<2x4x6xf32>
    "func.return"(%y) : (tensor<2x4x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
