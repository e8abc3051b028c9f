// The last exception that fits counts; one that fits nothing is told.
// pipeline: quantize-weights{preset=int4 overrides=role:last=nf4_g64;layer*=fp8_e5m2_g32_f32;*=int8_tensor;nothing*=int8},optimize,canonicalize,cse,dce,form-kernels
// target: npu-gen3
// tolerance: 2e-2
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x64xf32>) -> tensor<3x48xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<3x64xf32>):
    %c = "core.constant"() <{value = dense_resource<layer.weight> : tensor<64x48xf32>}> : () -> tensor<64x48xf32>
    %y = "core.matmul"(%x, %c) : (tensor<3x64xf32>, tensor<64x48xf32>) -> tensor<3x48xf32> loc("layer/MatMul")
    "func.return"(%y) : (tensor<3x48xf32>) -> ()
  }) : () -> ()
}) : () -> ()
