// SwiGLU.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x4xf32>, %x1: tensor<2x4xf32>):
    %y = "core.glu"(%x0, %x1) <{activation = "silu"}> : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
    "func.return"(%y) : (tensor<2x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
