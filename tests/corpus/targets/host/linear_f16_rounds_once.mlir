// Narrow floats go through f32, so that the result is rounded once.
// target: host
// tolerance: 2e-3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4xf16>, tensor<4x3xf16>, tensor<3xf16>) -> tensor<2x3xf16>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x4xf16>, %w: tensor<4x3xf16>, %b: tensor<3xf16>):
    %y = "core.linear"(%x, %w, %b) <{activation = "gelu", operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, transpose_weight = false}> : (tensor<2x4xf16>, tensor<4x3xf16>, tensor<3xf16>) -> tensor<2x3xf16>
    "func.return"(%y) : (tensor<2x3xf16>) -> ()
  }) : () -> ()
}) : () -> ()
