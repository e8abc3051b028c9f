// Neither does multiplying by one.
// pipeline: canonicalize
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %z = "core.constant"() <{value = dense<1.0> : tensor<f32>}> : () -> tensor<f32>
    %y = "core.mul"(%x, %z) : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
