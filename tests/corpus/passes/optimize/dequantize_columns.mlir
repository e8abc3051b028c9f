// A scale per column goes into the product.
// pipeline: canonicalize,optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4x8xf32>) -> tensor<2x4x6xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x4x8xf32>):
    %q = "core.constant"() <{value = dense_resource<q> : tensor<8x6xi8>}> : () -> tensor<8x6xi8>
    %scale = "core.constant"() <{value = dense_resource<scale> : tensor<6xf32>}> : () -> tensor<6xf32>
    %w = "core.dequantize"(%q, %scale) <{axis = 1 : i64, block = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<8x6xi8>, tensor<6xf32>) -> tensor<8x6xf32>
    %y = "core.matmul"(%x, %w) : (tensor<2x4x8xf32>, tensor<8x6xf32>) -> tensor<2x4x6xf32>
    "func.return"(%y) : (tensor<2x4x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
