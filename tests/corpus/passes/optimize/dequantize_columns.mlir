// A scale per column goes into the product.
// pipeline: optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4x8xf32>, tensor<8x6xi8>, tensor<6xf32>) -> tensor<2x4x6xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x4x8xf32>, %x1: tensor<8x6xi8>, %x2: tensor<6xf32>):
    %w = "core.dequantize"(%x1, %x2) <{axis = 1 : i64, block = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<8x6xi8>, tensor<6xf32>) -> tensor<8x6xf32>
    %y = "core.matmul"(%x0, %w) : (tensor<2x4x8xf32>, tensor<8x6xf32>) -> tensor<2x4x6xf32>
    "func.return"(%y) : (tensor<2x4x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
