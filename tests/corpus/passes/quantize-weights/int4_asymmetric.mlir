// Zero points beside the scales; the product takes ui4.
// pipeline: quantize-weights{preset=w4a16_g32_asym overrides=*=int4_g32_asym},optimize,canonicalize,cse,dce,form-kernels
// target: npu-gen3
// tolerance: 2e-1
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x64xf32>) -> tensor<3x48xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<3x64xf32>):
    %c = "core.constant"() <{value = dense_resource<layer.weight> : tensor<64x48xf32>}> : () -> tensor<64x48xf32>
    %y = "core.matmul"(%x, %c) : (tensor<3x64xf32>, tensor<64x48xf32>) -> tensor<3x48xf32> loc("layer/MatMul")
    "func.return"(%y) : (tensor<3x48xf32>) -> ()
  }) : () -> ()
}) : () -> ()
