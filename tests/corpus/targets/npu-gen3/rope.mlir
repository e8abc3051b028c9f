// Rotate halves.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x3x8xf32>, tensor<1x1x3x8xf32>, tensor<1x1x3x8xf32>) -> tensor<1x2x3x8xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x2x3x8xf32>, %x1: tensor<1x1x3x8xf32>, %x2: tensor<1x1x3x8xf32>):
    %y = "core.rope"(%x0, %x1, %x2) <{interleaved = false}> : (tensor<1x2x3x8xf32>, tensor<1x1x3x8xf32>, tensor<1x1x3x8xf32>) -> tensor<1x2x3x8xf32>
    "func.return"(%y) : (tensor<1x2x3x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
