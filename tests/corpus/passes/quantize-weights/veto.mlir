// The reference machine multiplies bf16 by bf16 alone: the weight stays as it is, and the user is told.
// pipeline: quantize-weights{preset=int4 overrides=*=int4_g32}
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x64xbf16>) -> tensor<3x48xbf16>, sym_name = "main"}> ({
  ^bb0(%x: tensor<3x64xbf16>):
    %c = "core.constant"() <{value = dense_resource<layer.weight> : tensor<64x48xbf16>}> : () -> tensor<64x48xbf16>
    %y = "core.matmul"(%x, %c) : (tensor<3x64xbf16>, tensor<64x48xbf16>) -> tensor<3x48xbf16> loc("layer/MatMul")
    "func.return"(%y) : (tensor<3x48xbf16>) -> ()
  }) : () -> ()
}) : () -> ()
