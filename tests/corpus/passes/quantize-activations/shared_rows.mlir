// Rows that two integer weights read are rounded once; a float weight keeps its activations, and so does NF4.
// pipeline: quantize-activations
// tolerance: 3e-2
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3x16xf32>, tensor<16x8xi8>, tensor<8xf32>, tensor<8x16xi4>, tensor<8x2xf16>, tensor<16x8xf32>, tensor<16x8x!core.nf4>) -> (tensor<2x3x8xf32>, tensor<2x3x8xf32>, tensor<2x3x8xf32>, tensor<2x3x8xf32>), sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3x16xf32>, %w: tensor<16x8xi8>, %s: tensor<8xf32>, %v: tensor<8x16xi4>, %t: tensor<8x2xf16>, %u: tensor<16x8xf32>, %n: tensor<16x8x!core.nf4>):
    %a = "core.dequantize"(%w, %s) <{axis = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<16x8xi8>, tensor<8xf32>) -> tensor<16x8xf32>
    %b = "core.dequantize"(%v, %t) <{axis = 1 : i64, block = 8 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<8x16xi4>, tensor<8x2xf16>) -> tensor<8x16xf32>
    %c = "core.transpose"(%b) <{permutation = array<i64: 1, 0>}> : (tensor<8x16xf32>) -> tensor<16x8xf32>
    %d = "core.dequantize"(%n, %s) <{axis = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<16x8x!core.nf4>, tensor<8xf32>) -> tensor<16x8xf32>
    %y0 = "core.matmul"(%x, %a) : (tensor<2x3x16xf32>, tensor<16x8xf32>) -> tensor<2x3x8xf32>
    %y1 = "core.matmul"(%x, %c) : (tensor<2x3x16xf32>, tensor<16x8xf32>) -> tensor<2x3x8xf32>
    %y2 = "core.matmul"(%x, %u) : (tensor<2x3x16xf32>, tensor<16x8xf32>) -> tensor<2x3x8xf32>
    %y3 = "core.matmul"(%x, %d) : (tensor<2x3x16xf32>, tensor<16x8xf32>) -> tensor<2x3x8xf32>
    "func.return"(%y0, %y1, %y2, %y3) : (tensor<2x3x8xf32>, tensor<2x3x8xf32>, tensor<2x3x8xf32>, tensor<2x3x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
