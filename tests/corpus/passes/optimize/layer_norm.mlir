// LayerNorm from its parts.
// pipeline: canonicalize,optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4x8xf32>) -> tensor<2x4x8xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x4x8xf32>):
    %gain = "core.constant"() <{value = dense_resource<gain> : tensor<8xf32>}> : () -> tensor<8xf32>
    %bias = "core.constant"() <{value = dense_resource<bias> : tensor<8xf32>}> : () -> tensor<8xf32>
    %eps = "core.constant"() <{value = dense<1.0e-3> : tensor<f32>}> : () -> tensor<f32>
    %mean = "core.reduce_mean"(%x) <{axes = array<i64: -1>, keep_dims = true}> : (tensor<2x4x8xf32>) -> tensor<2x4x1xf32>
    %d = "core.sub"(%x, %mean) : (tensor<2x4x8xf32>, tensor<2x4x1xf32>) -> tensor<2x4x8xf32>
    %sq = "core.mul"(%d, %d) : (tensor<2x4x8xf32>, tensor<2x4x8xf32>) -> tensor<2x4x8xf32>
    %var = "core.reduce_mean"(%sq) <{axes = array<i64: -1>, keep_dims = true}> : (tensor<2x4x8xf32>) -> tensor<2x4x1xf32>
    %sum = "core.add"(%var, %eps) : (tensor<2x4x1xf32>, tensor<f32>) -> tensor<2x4x1xf32>
    %root = "core.sqrt"(%sum) : (tensor<2x4x1xf32>) -> tensor<2x4x1xf32>
    %n = "core.div"(%d, %root) : (tensor<2x4x8xf32>, tensor<2x4x1xf32>) -> tensor<2x4x8xf32>
    %s = "core.mul"(%n, %gain) : (tensor<2x4x8xf32>, tensor<8xf32>) -> tensor<2x4x8xf32>
    %y = "core.add"(%s, %bias) : (tensor<2x4x8xf32>, tensor<8xf32>) -> tensor<2x4x8xf32>
    "func.return"(%y) : (tensor<2x4x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
