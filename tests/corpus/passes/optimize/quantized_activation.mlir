// The scale of a quantised activation comes behind the product, which becomes one of integers.
// pipeline: optimize
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3x64xi8>, tensor<64x32xi8>) -> tensor<2x3x32xf32>, sym_name = "main"}> ({
  ^bb0(%q: tensor<2x3x64xi8>, %w: tensor<64x32xi8>):
    %c = "core.constant"() <{value = dense<5.000000e-02> : tensor<f32>}> : () -> tensor<f32>
    %s = "core.constant"() <{value = dense<1.250000e-01> : tensor<32xf32>}> : () -> tensor<32xf32>
    %x = "core.dequantize"(%q, %c) <{operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<2x3x64xi8>, tensor<f32>) -> tensor<2x3x64xf32>
    %v = "core.dequantize"(%w, %s) <{axis = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<64x32xi8>, tensor<32xf32>) -> tensor<64x32xf32>
    %y = "core.matmul"(%x, %v) : (tensor<2x3x64xf32>, tensor<64x32xf32>) -> tensor<2x3x32xf32>
    "func.return"(%y) : (tensor<2x3x32xf32>) -> ()
  }) : () -> ()
}) : () -> ()
