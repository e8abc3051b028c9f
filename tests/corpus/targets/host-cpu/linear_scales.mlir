// A scale for all is spread over the columns; a scale per row of k is not packed: its strides are 0 where it repeats.
// target: host-cpu
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x10xf32>) -> (tensor<2x16xf32>, tensor<2x16xf32>), sym_name = "main"}> ({
  ^bb0(%x: tensor<2x10xf32>):
    %w = "core.constant"() <{value = dense<[[46, -92, 9, 23, 47, -97, -48, 18, 25, -29, 67, -59, -92, 33, 25, -17], [-81, -37, 90, -8, -89, 7, -65, 54, -10, -3, 7, -28, 72, -33, 16, -56], [75, -23, 69, -8, -66, 16, 96, -39, 12, 57, -4, -89, 49, -99, -40, -66], [-51, -23, 37, -7, 97, -39, -20, 70, 40, 15, 11, 20, -84, 67, 49, -17], [28, -60, -43, 5, -39, -91, -92, 27, -23, 55, 68, -82, 36, -80, -62, -2], [45, -5, 53, -62, -72, 98, 97, -76, 13, -58, -52, -11, 10, 6, 14, -38], [74, -30, -64, 58, 33, -55, -70, -32, 16, -23, -58, 69, 66, -56, 99, -55], [22, 97, -12, -17, 11, -43, -99, 39, 82, -89, -16, -19, -38, -80, -33, 14], [3, 49, -60, -1, 26, 72, -39, 88, 34, -31, 33, 23, 54, 27, -84, -58], [25, 72, 18, 2, -66, 7, 38, 49, -11, 37, -1, 25, 79, -58, 43, 12]]> : tensor<10x16xi8>}> : () -> tensor<10x16xi8>
    %s = "core.constant"() <{value = dense<[1.250000e-01]> : tensor<1xf32>}> : () -> tensor<1xf32>
    %r = "core.constant"() <{value = dense<[1.179000e+00, 1.340000e+00, 1.886000e+00, 1.198000e+00, 1.262000e+00, 1.381000e+00, 7.770000e-01, 1.268000e+00, 1.445000e+00, 1.689000e+00]> : tensor<10xf32>}> : () -> tensor<10xf32>
    %o = "core.reshape"(%s) : (tensor<1xf32>) -> tensor<f32>
    %y = "core.linear"(%x, %w, %o) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>, transpose_weight = false}> : (tensor<2x10xf32>, tensor<10x16xi8>, tensor<f32>) -> tensor<2x16xf32>
    %v = "core.linear"(%x, %w, %r) <{activation = "none", axis = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>, transpose_weight = false}> : (tensor<2x10xf32>, tensor<10x16xi8>, tensor<10xf32>) -> tensor<2x16xf32>
    "func.return"(%y, %v) : (tensor<2x16xf32>, tensor<2x16xf32>) -> ()
  }) : () -> ()
}) : () -> ()
