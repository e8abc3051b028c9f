// The nearest format that fits, where the user allows it.
// pipeline: quantize-weights{preset=int4 overrides=*=int4_g32 allow-fallback=true},optimize,canonicalize,cse,dce,form-kernels
// target: npu-gen3
// tolerance: 2e-1
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x40xf32>) -> tensor<3x48xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<3x40xf32>):
    %c = "core.constant"() <{value = dense_resource<layer.weight> : tensor<40x48xf32>}> : () -> tensor<40x48xf32>
    %y = "core.matmul"(%x, %c) : (tensor<3x40xf32>, tensor<40x48xf32>) -> tensor<3x48xf32> loc("layer/MatMul")
    "func.return"(%y) : (tensor<3x48xf32>) -> ()
  }) : () -> ()
}) : () -> ()
