// A last block that is not full is a part of its own.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<5x4xi4>, tensor<3x4xf32>) -> tensor<5x4xf32>, sym_name = "main"}> ({
  ^bb0(%q: tensor<5x4xi4>, %s: tensor<3x4xf32>):
    %y = "core.dequantize"(%q, %s) <{axis = 0 : i64, block = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<5x4xi4>, tensor<3x4xf32>) -> tensor<5x4xf32>
    "func.return"(%y) : (tensor<5x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
