// Quantised activations by packed weights: integer products, scaled by block into f32.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x256xi8>, tensor<256x64xui4>, tensor<2x64xf16>, tensor<2x64xui4>) -> tensor<3x64xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<3x256xi8>, %w: tensor<256x64xui4>, %s: tensor<2x64xf16>, %z: tensor<2x64xui4>):
    %y = "core.linear"(%x, %w, %s, %z) <{activation = "none", axis = 0 : i64, block = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 1>, transpose_weight = false}> : (tensor<3x256xi8>, tensor<256x64xui4>, tensor<2x64xf16>, tensor<2x64xui4>) -> tensor<3x64xf32>
    "func.return"(%y) : (tensor<3x64xf32>) -> ()
  }) : () -> ()
}) : () -> ()
