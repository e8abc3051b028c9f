// A scale per column.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4xi8>, tensor<4xf32>) -> tensor<2x4xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x4xi8>, %x1: tensor<4xf32>):
    %y = "core.dequantize"(%x0, %x1) <{axis = 1 : i64, block = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<2x4xi8>, tensor<4xf32>) -> tensor<2x4xf32>
    "func.return"(%y) : (tensor<2x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
