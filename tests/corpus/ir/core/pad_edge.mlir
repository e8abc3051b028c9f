// Repeats the edge.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<3x4xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %y = "core.pad"(%x) <{high = array<i64: 0, 1>, low = array<i64: 1, 0>, mode = "edge", operandSegmentSizes = array<i32: 1, 0>}> : (tensor<2x3xf32>) -> tensor<3x4xf32>
    "func.return"(%y) : (tensor<3x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
