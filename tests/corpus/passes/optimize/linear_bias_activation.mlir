// Product, bias and activation are one op.
// pipeline: canonicalize,optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4x8xf32>) -> tensor<2x4x6xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x4x8xf32>):
    %w = "core.constant"() <{value = dense_resource<w> : tensor<8x6xf32>}> : () -> tensor<8x6xf32>
    %b = "core.constant"() <{value = dense_resource<b> : tensor<6xf32>}> : () -> tensor<6xf32>
    %m = "core.matmul"(%x, %w) : (tensor<2x4x8xf32>, tensor<8x6xf32>) -> tensor<2x4x6xf32>
    %s = "core.add"(%m, %b) : (tensor<2x4x6xf32>, tensor<6xf32>) -> tensor<2x4x6xf32>
    %y = "core.relu"(%s) : (tensor<2x4x6xf32>) -> tensor<2x4x6xf32>
    "func.return"(%y) : (tensor<2x4x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
