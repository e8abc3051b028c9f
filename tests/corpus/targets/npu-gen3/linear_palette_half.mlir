// Levels in another element than the product's are cast when the artifact is written, not in a kernel.
// pipeline: form-kernels
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x8xf16>) -> tensor<3x6xf16>, sym_name = "main"}> ({
  ^bb0(%x: tensor<3x8xf16>):
    %w = "core.constant"() <{value = dense<[[1.000000e+00, 2.803000e+00, -1.670000e-01, -2.108000e+00, 2.240000e-01, 6.010000e-01], [-2.268000e+00, -1.664000e+00, 1.885000e+00, 1.495000e+00, -9.400000e-01, 6.120000e-01], [2.509000e+00, -2.930000e-01, -2.577000e+00, -2.440000e-01, 8.140000e-01, -1.757000e+00], [-1.472000e+00, 2.107000e+00, 1.992000e+00, -8.490000e-01, 6.800000e-02, 2.078000e+00], [-4.010000e-01, -2.889000e+00, -5.560000e-01, 1.157000e+00, -1.114000e+00, -1.245000e+00], [2.193000e+00, 2.297000e+00, -8.920000e-01, -5.810000e-01, 1.585000e+00, -4.230000e-01], [-2.996000e+00, -7.010000e-01, 1.588000e+00, -4.150000e-01, -1.053000e+00, 2.097000e+00], [2.395000e+00, -1.038000e+00, -1.262000e+00, 1.105000e+00, -3.100000e-01, -2.879000e+00]]> : tensor<8x6xf32>}> : () -> tensor<8x6xf32>
    %c, %l = "core.compress_weight"(%w) <{scheme = "palette"}> : (tensor<8x6xf32>) -> (tensor<8x6xui4>, tensor<16xf32>)
    %h = "core.cast"(%l) : (tensor<16xf32>) -> tensor<16xf16>
    %g = "core.gather"(%h, %c) <{axis = 0 : i64}> : (tensor<16xf16>, tensor<8x6xui4>) -> tensor<8x6xf16>
    %y = "core.linear"(%x, %g) <{activation = "silu", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = false}> : (tensor<3x8xf16>, tensor<8x6xf16>) -> tensor<3x6xf16>
    "func.return"(%y) : (tensor<3x6xf16>) -> ()
  }) : () -> ()
}) : () -> ()
