// RMSNorm in the spelling with rsqrt.
// pipeline: canonicalize,optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4x8xf32>) -> tensor<2x4x8xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x4x8xf32>):
    %eps = "core.constant"() <{value = dense<1.0e-3> : tensor<f32>}> : () -> tensor<f32>
    %sq = "core.mul"(%x, %x) : (tensor<2x4x8xf32>, tensor<2x4x8xf32>) -> tensor<2x4x8xf32>
    %mean = "core.reduce_mean"(%sq) <{axes = array<i64: -1>, keep_dims = true}> : (tensor<2x4x8xf32>) -> tensor<2x4x1xf32>
    %sum = "core.add"(%mean, %eps) : (tensor<2x4x1xf32>, tensor<f32>) -> tensor<2x4x1xf32>
    %inv = "core.rsqrt"(%sum) : (tensor<2x4x1xf32>) -> tensor<2x4x1xf32>
    %n = "core.mul"(%x, %inv) : (tensor<2x4x8xf32>, tensor<2x4x1xf32>) -> tensor<2x4x8xf32>
    %gain = "core.constant"() <{value = dense_resource<gain> : tensor<8xf32>}> : () -> tensor<8xf32>
    %y = "core.mul"(%n, %gain) : (tensor<2x4x8xf32>, tensor<8xf32>) -> tensor<2x4x8xf32>
    "func.return"(%y) : (tensor<2x4x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
