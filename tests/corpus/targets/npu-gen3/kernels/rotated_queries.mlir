// Queries are rotated in SRAM when attention takes them in; keys, which a cache keeps, are rotated on their own.
// pipeline: form-kernels
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x4x6x8xf32>, tensor<1x2x6x8xf32>, tensor<1x2x6x8xf32>, tensor<6x4xf32>, tensor<6x4xf32>) -> (tensor<1x4x6x8xf32>, tensor<1x2x6x8xf32>), sym_name = "main"}> ({
  ^bb0(%q: tensor<1x4x6x8xf32>, %k: tensor<1x2x6x8xf32>, %v: tensor<1x2x6x8xf32>, %c: tensor<6x4xf32>, %s: tensor<6x4xf32>):
    %rq = "core.rope"(%q, %c, %s) <{interleaved = false}> : (tensor<1x4x6x8xf32>, tensor<6x4xf32>, tensor<6x4xf32>) -> tensor<1x4x6x8xf32>
    %rk = "core.rope"(%k, %c, %s) <{interleaved = false}> : (tensor<1x2x6x8xf32>, tensor<6x4xf32>, tensor<6x4xf32>) -> tensor<1x2x6x8xf32>
    %y = "core.attention"(%rq, %rk, %v) <{causal = true, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, scale = 3.535530e-01}> : (tensor<1x4x6x8xf32>, tensor<1x2x6x8xf32>, tensor<1x2x6x8xf32>) -> tensor<1x4x6x8xf32>
    "func.return"(%y, %rk) : (tensor<1x4x6x8xf32>, tensor<1x2x6x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
