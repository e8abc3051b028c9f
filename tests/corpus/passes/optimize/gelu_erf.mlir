// GELU by the error function.
// pipeline: canonicalize,optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %r = "core.constant"() <{value = dense<0.707106769> : tensor<f32>}> : () -> tensor<f32>
    %one = "core.constant"() <{value = dense<1.0> : tensor<f32>}> : () -> tensor<f32>
    %half = "core.constant"() <{value = dense<0.5> : tensor<f32>}> : () -> tensor<f32>
    %a = "core.mul"(%x, %r) : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
    %e = "core.erf"(%a) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %p = "core.add"(%e, %one) : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
    %m = "core.mul"(%x, %p) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    %y = "core.mul"(%m, %half) : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
