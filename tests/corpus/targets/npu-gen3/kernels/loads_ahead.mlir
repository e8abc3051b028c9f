// Weights of a kernel come in while the kernel before it writes its result and reads it again; an input made earlier does too.
// pipeline: form-kernels
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<8x64xf32>, tensor<64x64xf32>, tensor<64x32xf32>, tensor<8x32xf32>) -> tensor<8x32xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<8x64xf32>, %v: tensor<64x64xf32>, %w: tensor<64x32xf32>, %r: tensor<8x32xf32>):
    %a = "core.linear"(%x, %v) <{activation = "silu", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = false}> : (tensor<8x64xf32>, tensor<64x64xf32>) -> tensor<8x64xf32>
    %s = "core.softmax"(%a) <{axis = 1 : i64}> : (tensor<8x64xf32>) -> tensor<8x64xf32>
    %b = "core.linear"(%s, %w) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = false}> : (tensor<8x64xf32>, tensor<64x32xf32>) -> tensor<8x32xf32>
    %m = "core.softmax"(%b) <{axis = 0 : i64}> : (tensor<8x32xf32>) -> tensor<8x32xf32>
    %y = "core.add"(%m, %r) : (tensor<8x32xf32>, tensor<8x32xf32>) -> tensor<8x32xf32>
    "func.return"(%y) : (tensor<8x32xf32>) -> ()
  }) : () -> ()
}) : () -> ()
