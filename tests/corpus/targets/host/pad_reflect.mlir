// Borders grow axis by axis from what is already there.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<3x6xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %y = "core.pad"(%x) <{high = [0, 2], low = [1, 1], mode = "reflect", operandSegmentSizes = array<i32: 1, 0>}> : (tensor<2x3xf32>) -> tensor<3x6xf32>
    "func.return"(%y) : (tensor<3x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
