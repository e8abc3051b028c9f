// Weights that are not numbers, and weights that need larger scales than f16 holds: all told at once.
// pipeline: quantize-weights{preset=int4 overrides=*=int4_g32}
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x64xf32>) -> (tensor<3x32xf32>, tensor<3x32xf32>), sym_name = "main"}> ({
  ^bb0(%x: tensor<3x64xf32>):
    %a = "core.constant"() <{value = dense<0x7FC00000> : tensor<64x32xf32>}> : () -> tensor<64x32xf32>
    %b = "core.constant"() <{value = dense<1.0e30> : tensor<64x32xf32>}> : () -> tensor<64x32xf32>
    %y = "core.matmul"(%x, %a) : (tensor<3x64xf32>, tensor<64x32xf32>) -> tensor<3x32xf32> loc("first")
    %z = "core.matmul"(%x, %b) : (tensor<3x64xf32>, tensor<64x32xf32>) -> tensor<3x32xf32> loc("second")
    "func.return"(%y, %z) : (tensor<3x32xf32>, tensor<3x32xf32>) -> ()
  }) : () -> ()
}) : () -> ()
