// Who is who is read from the graph: 8 bits for attention and the last product, 4 for the feed-forward.
// pipeline: quantize-weights{preset=mixed overrides=role:attention.output=fp8_e4m3;role:feed_forward.gate=mxfp4}
// tolerance: 3e-1
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x3x32xf32>) -> tensor<1x3x48xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<1x3x32xf32>):
    %wq = "core.constant"() <{value = dense_resource<wq> : tensor<32x32xf32>}> : () -> tensor<32x32xf32>
    %wk = "core.constant"() <{value = dense_resource<wk> : tensor<32x32xf32>}> : () -> tensor<32x32xf32>
    %wv = "core.constant"() <{value = dense_resource<wv> : tensor<32x32xf32>}> : () -> tensor<32x32xf32>
    %wo = "core.constant"() <{value = dense_resource<wo> : tensor<32x32xf32>}> : () -> tensor<32x32xf32>
    %wg = "core.constant"() <{value = dense_resource<wg> : tensor<32x64xf32>}> : () -> tensor<32x64xf32>
    %wu = "core.constant"() <{value = dense_resource<wu> : tensor<32x64xf32>}> : () -> tensor<32x64xf32>
    %wd = "core.constant"() <{value = dense_resource<wd> : tensor<64x32xf32>}> : () -> tensor<64x32xf32>
    %wl = "core.constant"() <{value = dense_resource<wl> : tensor<48x32xf32>}> : () -> tensor<48x32xf32>
    %q = "core.matmul"(%x, %wq) : (tensor<1x3x32xf32>, tensor<32x32xf32>) -> tensor<1x3x32xf32>
    %k = "core.matmul"(%x, %wk) : (tensor<1x3x32xf32>, tensor<32x32xf32>) -> tensor<1x3x32xf32>
    %v = "core.matmul"(%x, %wv) : (tensor<1x3x32xf32>, tensor<32x32xf32>) -> tensor<1x3x32xf32>
    %kt = "core.transpose"(%k) <{permutation = array<i64: 0, 2, 1>}> : (tensor<1x3x32xf32>) -> tensor<1x32x3xf32>
    %s = "core.matmul"(%q, %kt) : (tensor<1x3x32xf32>, tensor<1x32x3xf32>) -> tensor<1x3x3xf32>
    %p = "core.softmax"(%s) <{axis = 2 : i64}> : (tensor<1x3x3xf32>) -> tensor<1x3x3xf32>
    %o = "core.matmul"(%p, %v) : (tensor<1x3x3xf32>, tensor<1x3x32xf32>) -> tensor<1x3x32xf32>
    %a = "core.matmul"(%o, %wo) : (tensor<1x3x32xf32>, tensor<32x32xf32>) -> tensor<1x3x32xf32>
    %h = "core.add"(%x, %a) : (tensor<1x3x32xf32>, tensor<1x3x32xf32>) -> tensor<1x3x32xf32>
    %g = "core.matmul"(%h, %wg) : (tensor<1x3x32xf32>, tensor<32x64xf32>) -> tensor<1x3x64xf32>
    %u = "core.matmul"(%h, %wu) : (tensor<1x3x32xf32>, tensor<32x64xf32>) -> tensor<1x3x64xf32>
    %i = "core.silu"(%g) : (tensor<1x3x64xf32>) -> tensor<1x3x64xf32>
    %m = "core.mul"(%i, %u) : (tensor<1x3x64xf32>, tensor<1x3x64xf32>) -> tensor<1x3x64xf32>
    %d = "core.matmul"(%m, %wd) : (tensor<1x3x64xf32>, tensor<64x32xf32>) -> tensor<1x3x32xf32>
    %r = "core.add"(%h, %d) : (tensor<1x3x32xf32>, tensor<1x3x32xf32>) -> tensor<1x3x32xf32>
    %y = "core.linear"(%r, %wl) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = true}> : (tensor<1x3x32xf32>, tensor<48x32xf32>) -> tensor<1x3x48xf32>
    "func.return"(%y) : (tensor<1x3x48xf32>) -> ()
  }) : () -> ()
}) : () -> ()
