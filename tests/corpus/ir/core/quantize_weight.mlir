// A group of 32 rows shares a scale; the last group is short.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x40xf32>) -> (tensor<2x6xf32>, tensor<2x6xf32>), sym_name = "main"}> ({
  ^bb0(%x: tensor<2x40xf32>):
    %c = "core.constant"() <{value = dense_resource<w> : tensor<40x6xf32>}> : () -> tensor<40x6xf32>
    %q, %s = "core.quantize_weight"(%c) <{axis = 0 : i64, block = 32 : i64, method = "max", operandSegmentSizes = array<i32: 1, 0>}> : (tensor<40x6xf32>) -> (tensor<40x6xi4>, tensor<2x6xf16>)
    %w = "core.dequantize"(%q, %s) <{axis = 0 : i64, block = 32 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<40x6xi4>, tensor<2x6xf16>) -> tensor<40x6xf32>
    %y = "core.matmul"(%x, %w) : (tensor<2x40xf32>, tensor<40x6xf32>) -> tensor<2x6xf32>
    %a, %b, %z = "core.quantize_weight"(%c) <{axis = 1 : i64, method = "squared_error", operandSegmentSizes = array<i32: 1, 0>}> : (tensor<40x6xf32>) -> (tensor<40x6xui8>, tensor<6xf32>, tensor<6xui8>)
    %v = "core.dequantize"(%a, %b, %z) <{axis = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<40x6xui8>, tensor<6xf32>, tensor<6xui8>) -> tensor<40x6xf32>
    %u = "core.matmul"(%x, %v) : (tensor<2x40xf32>, tensor<40x6xf32>) -> tensor<2x6xf32>
    "func.return"(%y, %u) : (tensor<2x6xf32>, tensor<2x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
