// GELU by the tangent.
// pipeline: canonicalize,optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %k = "core.constant"() <{value = dense<0.044715> : tensor<f32>}> : () -> tensor<f32>
    %r = "core.constant"() <{value = dense<0.797884583> : tensor<f32>}> : () -> tensor<f32>
    %one = "core.constant"() <{value = dense<1.0> : tensor<f32>}> : () -> tensor<f32>
    %half = "core.constant"() <{value = dense<0.5> : tensor<f32>}> : () -> tensor<f32>
    %x2 = "core.mul"(%x, %x) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    %x3 = "core.mul"(%x2, %x) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    %kx = "core.mul"(%x3, %k) : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
    %s = "core.add"(%x, %kx) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    %a = "core.mul"(%s, %r) : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
    %t = "core.tanh"(%a) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %p = "core.add"(%t, %one) : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
    %h = "core.mul"(%x, %half) : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
    %y = "core.mul"(%h, %p) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
