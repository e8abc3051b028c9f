// Half to even, saturating.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4xf32>, tensor<f32>) -> tensor<2x4xi8>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x4xf32>, %x1: tensor<f32>):
    %y = "core.quantize"(%x0, %x1) <{axis = 0 : i64, block = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<2x4xf32>, tensor<f32>) -> tensor<2x4xi8>
    "func.return"(%y) : (tensor<2x4xi8>) -> ()
  }) : () -> ()
}) : () -> ()
