// A value around.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>, tensor<f32>) -> tensor<3x4xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x3xf32>, %x1: tensor<f32>):
    %y = "core.pad"(%x0, %x1) <{high = array<i64: 0, 1>, low = array<i64: 1, 0>, mode = "constant", operandSegmentSizes = array<i32: 1, 1>}> : (tensor<2x3xf32>, tensor<f32>) -> tensor<3x4xf32>
    "func.return"(%y) : (tensor<3x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
