// The left side does not fit SRAM: as many of its columns as there is room for stay, the others go through memory.
// pipeline: form-kernels
// target: npu-gen3
// sram: 65536
// tolerance: 1e-3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<48x1024xf32>, tensor<48x1xf32>, tensor<1024x512xi4>, tensor<16x512xf16>) -> tensor<48x512xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<48x1024xf32>, %s: tensor<48x1xf32>, %w: tensor<1024x512xi4>, %t: tensor<16x512xf16>):
    %m = "core.mul"(%s, %s) : (tensor<48x1xf32>, tensor<48x1xf32>) -> tensor<48x1xf32>
    %e = "core.exp"(%m) : (tensor<48x1xf32>) -> tensor<48x1xf32>
    %q = "core.quantize"(%x, %e) <{axis = 1 : i64, block = 1024 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<48x1024xf32>, tensor<48x1xf32>) -> tensor<48x1024xi8>
    %y = "core.linear"(%q, %w, %t) <{activation = "none", axis = 0 : i64, block = 64 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>, transpose_weight = false}> : (tensor<48x1024xi8>, tensor<1024x512xi4>, tensor<16x512xf16>) -> tensor<48x512xf32>
    "func.return"(%y) : (tensor<48x512xf32>) -> ()
  }) : () -> ()
}) : () -> ()
