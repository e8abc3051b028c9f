// Int8 weights with scales in blocks of 4.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x8xf32>, tensor<8x6xi8>, tensor<2x6xf32>) -> tensor<2x6xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x8xf32>, %x1: tensor<8x6xi8>, %x2: tensor<2x6xf32>):
    %y = "core.linear"(%x0, %x1, %x2) <{activation = "none", axis = 0 : i64, block = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>, transpose_weight = false}> : (tensor<2x8xf32>, tensor<8x6xi8>, tensor<2x6xf32>) -> tensor<2x6xf32>
    "func.return"(%y) : (tensor<2x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
