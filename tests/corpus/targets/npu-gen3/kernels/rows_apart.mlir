// A kernel whose rows do not fit the chip whole runs op by op.
// pipeline: form-kernels
// target: npu-gen3
// sram: 20480
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x64xf32>, tensor<64x2048xf32>) -> tensor<1x2048xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x64xf32>, %x1: tensor<64x2048xf32>):
    %l = "core.linear"(%x0, %x1) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = false}> : (tensor<1x64xf32>, tensor<64x2048xf32>) -> tensor<1x2048xf32>
    %y = "core.relu"(%l) : (tensor<1x2048xf32>) -> tensor<1x2048xf32>
    %z = "core.softmax"(%y) <{axis = 1 : i64}> : (tensor<1x2048xf32>) -> tensor<1x2048xf32>
    "func.return"(%z) : (tensor<1x2048xf32>) -> ()
  }) : () -> ()
}) : () -> ()
