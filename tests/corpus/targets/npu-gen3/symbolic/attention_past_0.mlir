// Attention whose length is a register, at 0 tokens of past.
// target: npu-gen3
// symbols: past=0<=16
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x4x3x8xf32>, tensor<1x2x?x8xf32, ["past + 3"]>, tensor<1x2x?x8xf32, ["past + 3"]>) -> tensor<1x4x3x8xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x4x3x8xf32>, %x1: tensor<1x2x?x8xf32, ["past + 3"]>, %x2: tensor<1x2x?x8xf32, ["past + 3"]>):
    %y = "core.attention"(%x0, %x1, %x2) <{causal = true, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, scale = 3.535530e-01, softcap = 0.000000e+00, window = -1 : i64}> : (tensor<1x4x3x8xf32>, tensor<1x2x?x8xf32, ["past + 3"]>, tensor<1x2x?x8xf32, ["past + 3"]>) -> tensor<1x4x3x8xf32>
    "func.return"(%y) : (tensor<1x4x3x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
