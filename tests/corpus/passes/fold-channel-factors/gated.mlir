// The plain half of a gated unit takes the factors: into its scales where its weight is quantised, into its weight where not. A turned
// weight takes them along its own axis, and a bias takes them too.
// pipeline: fold-channel-factors
// tolerance: 2e-3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x8xf32>, tensor<8x4xf32>) -> (tensor<3x2xf32>, tensor<3x2xf32>), sym_name = "main"}> ({
  ^bb0(%x: tensor<3x8xf32>, %gw: tensor<8x4xf32>):
    %s = "core.constant"() <{value = dense<[0.5, 2.0, 4.0, 0.25]> : tensor<4xf32>}> : () -> tensor<4xf32>
    %b = "core.constant"() <{value = dense<[1.0, -2.0, 3.0, 0.5]> : tensor<4xf32>}> : () -> tensor<4xf32>
    %q = "core.constant"() <{value = dense<[[1, 2, 3, 4, 5, 6, 7, -8], [1, -2, 3, -4, 5, -6, 7, -8], [0, 2, 0, 4, 0, 6, 0, -8], [7, 6, 5, 4, 3, 2, 1, 0]]> : tensor<4x8xi8>}> : () -> tensor<4x8xi8>
    %c = "core.constant"() <{value = dense<[[0.5, 0.25], [0.125, 1.0], [0.75, 0.5], [0.25, 0.5]]> : tensor<4x2xf16>}> : () -> tensor<4x2xf16>
    %v = "core.constant"() <{value = dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]> : tensor<4x2xf32>}> : () -> tensor<4x2xf32>
    %p = "core.constant"() <{value = dense<[[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]]> : tensor<8x4xf32>}> : () -> tensor<8x4xf32>
    %gate = "core.matmul"(%x, %gw) : (tensor<3x8xf32>, tensor<8x4xf32>) -> tensor<3x4xf32>
    %act = "core.silu"(%gate) : (tensor<3x4xf32>) -> tensor<3x4xf32>
    %d = "core.dequantize"(%q, %c) <{axis = 1 : i64, block = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<4x8xi8>, tensor<4x2xf16>) -> tensor<4x8xf32>
    %t = "core.transpose"(%d) <{permutation = array<i64: 1, 0>}> : (tensor<4x8xf32>) -> tensor<8x4xf32>
    %up = "core.matmul"(%x, %t) : (tensor<3x8xf32>, tensor<8x4xf32>) -> tensor<3x4xf32>
    %h = "core.mul"(%act, %up) : (tensor<3x4xf32>, tensor<3x4xf32>) -> tensor<3x4xf32>
    %hs = "core.mul"(%h, %s) : (tensor<3x4xf32>, tensor<4xf32>) -> tensor<3x4xf32>
    %y0 = "core.matmul"(%hs, %v) : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
    %l = "core.linear"(%x, %p, %b) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, transpose_weight = false}> : (tensor<3x8xf32>, tensor<8x4xf32>, tensor<4xf32>) -> tensor<3x4xf32>
    %ls = "core.mul"(%l, %s) : (tensor<3x4xf32>, tensor<4xf32>) -> tensor<3x4xf32>
    %y1 = "core.matmul"(%ls, %v) : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
    "func.return"(%y0, %y1) : (tensor<3x2xf32>, tensor<3x2xf32>) -> ()
  }) : () -> ()
}) : () -> ()
