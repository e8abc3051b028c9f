// Activations are rounded to int8 by row inside the kernel that multiplies them: norm, quantisation, scales; two
// products share the rows here, which are widened for them once.
// pipeline: quantize-activations,optimize,canonicalize,cse,dce,form-kernels
// target: npu-gen3
// tolerance: 3e-2
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<5x64xf32>, tensor<64xf32>, tensor<64x96xi8>, tensor<96xf32>, tensor<64x96xi4>, tensor<2x96xf16>) -> tensor<5x96xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<5x64xf32>, %g: tensor<64xf32>, %w: tensor<64x96xi8>, %s: tensor<96xf32>, %v: tensor<64x96xi4>, %t: tensor<2x96xf16>):
    %n = "core.rms_norm"(%x, %g) <{epsilon = 1.000000e-05 : f32}> : (tensor<5x64xf32>, tensor<64xf32>) -> tensor<5x64xf32>
    %gate = "core.linear"(%n, %w, %s) <{activation = "silu", axis = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>, transpose_weight = false}> : (tensor<5x64xf32>, tensor<64x96xi8>, tensor<96xf32>) -> tensor<5x96xf32>
    %up = "core.linear"(%n, %v, %t) <{activation = "none", axis = 0 : i64, block = 32 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>, transpose_weight = false}> : (tensor<5x64xf32>, tensor<64x96xi4>, tensor<2x96xf16>) -> tensor<5x96xf32>
    %y = "core.mul"(%gate, %up) : (tensor<5x96xf32>, tensor<5x96xf32>) -> tensor<5x96xf32>
    "func.return"(%y) : (tensor<5x96xf32>) -> ()
  }) : () -> ()
}) : () -> ()
