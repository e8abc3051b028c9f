// 2:4 sparse, then int8 in blocks of 8 (4 of what is stored), and transposed.
// pipeline: optimize,canonicalize,cse,dce,form-kernels
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x16xf32>) -> tensor<3x6xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<3x16xf32>):
    %w = "core.constant"() <{value = dense<[[1.000000e+00, 2.803000e+00, -1.670000e-01, -2.108000e+00, 2.240000e-01, 6.010000e-01, -2.268000e+00, -1.664000e+00, 1.885000e+00, 1.495000e+00, -9.400000e-01, 6.120000e-01, 2.509000e+00, -2.930000e-01, -2.577000e+00, -2.440000e-01], [8.140000e-01, -1.757000e+00, -1.472000e+00, 2.107000e+00, 1.992000e+00, -8.490000e-01, 6.800000e-02, 2.078000e+00, -4.010000e-01, -2.889000e+00, -5.560000e-01, 1.157000e+00, -1.114000e+00, -1.245000e+00, 2.193000e+00, 2.297000e+00], [-8.920000e-01, -5.810000e-01, 1.585000e+00, -4.230000e-01, -2.996000e+00, -7.010000e-01, 1.588000e+00, -4.150000e-01, -1.053000e+00, 2.097000e+00, 2.395000e+00, -1.038000e+00, -1.262000e+00, 1.105000e+00, -3.100000e-01, -2.879000e+00], [-6.980000e-01, 2.043000e+00, 2.570000e-01, -9.530000e-01, 1.798000e+00, 2.300000e+00, -1.232000e+00, -1.894000e+00, 7.070000e-01, -3.700000e-02, -2.552000e+00, -5.960000e-01, 2.444000e+00, 8.280000e-01, -9.830000e-01, 1.309000e+00], [2.058000e+00, -1.407000e+00, -2.399000e+00, 4.390000e-01, 3.900000e-01, -2.062000e+00, -4.580000e-01, 2.720000e+00, 1.242000e+00, -1.146000e+00, 6.730000e-01, 1.734000e+00, -1.491000e+00, -2.720000e+00, 3.180000e-01, 9.350000e-01], [-1.476000e+00, -3.550000e-01, 2.811000e+00, 1.471000e+00, -1.418000e+00, -4.000000e-02, 1.403000e+00, -1.429000e+00, -2.824000e+00, 3.300000e-01, 1.535000e+00, -8.730000e-01, -3.470000e-01, 2.688000e+00, 1.521000e+00, -1.747000e+00]]> : tensor<6x16xf32>}> : () -> tensor<6x16xf32>
    %v, %i = "core.compress_weight"(%w) <{axis = 1 : i64, scheme = "sparse_2_4"}> : (tensor<6x16xf32>) -> (tensor<6x8xf32>, tensor<6x8xui2>)
    %q, %s = "core.quantize_weight"(%v) <{axis = 1 : i64, block = 4 : i64, method = "max", operandSegmentSizes = array<i32: 1, 0>}> : (tensor<6x8xf32>) -> (tensor<6x8xi8>, tensor<6x2xf32>)
    %e = "core.sparse_expand"(%q, %i) <{axis = 1 : i64}> : (tensor<6x8xi8>, tensor<6x8xui2>) -> tensor<6x16xi8>
    %d = "core.dequantize"(%e, %s) <{axis = 1 : i64, block = 8 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<6x16xi8>, tensor<6x2xf32>) -> tensor<6x16xf32>
    %t = "core.transpose"(%d) <{permutation = array<i64: 1, 0>}> : (tensor<6x16xf32>) -> tensor<16x6xf32>
    %y = "core.matmul"(%x, %t) : (tensor<3x16xf32>, tensor<16x6xf32>) -> tensor<3x6xf32>
    "func.return"(%y) : (tensor<3x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
