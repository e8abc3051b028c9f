// Scores bent by a tangent, as Gemma 2 does.
// pipeline: canonicalize,optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x3x8xf32>, tensor<1x2x5x8xf32>, tensor<1x2x5x8xf32>) -> tensor<1x2x3x8xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x2x3x8xf32>, %x1: tensor<1x2x5x8xf32>, %x2: tensor<1x2x5x8xf32>):
    %kt = "core.transpose"(%x1) <{permutation = array<i64: 0, 1, 3, 2>}> : (tensor<1x2x5x8xf32>) -> tensor<1x2x8x5xf32>
    %s0 = "core.matmul"(%x0, %kt) : (tensor<1x2x3x8xf32>, tensor<1x2x8x5xf32>) -> tensor<1x2x3x5xf32>
    %scale = "core.constant"() <{value = dense<0.353553385> : tensor<f32>}> : () -> tensor<f32>
    %s = "core.mul"(%s0, %scale) : (tensor<1x2x3x5xf32>, tensor<f32>) -> tensor<1x2x3x5xf32>
    %cap = "core.constant"() <{value = dense<50.0> : tensor<f32>}> : () -> tensor<f32>
    %d = "core.div"(%s, %cap) : (tensor<1x2x3x5xf32>, tensor<f32>) -> tensor<1x2x3x5xf32>
    %t = "core.tanh"(%d) : (tensor<1x2x3x5xf32>) -> tensor<1x2x3x5xf32>
    %sm = "core.mul"(%t, %cap) : (tensor<1x2x3x5xf32>, tensor<f32>) -> tensor<1x2x3x5xf32>
    %p = "core.softmax"(%sm) <{axis = -1 : i64}> : (tensor<1x2x3x5xf32>) -> tensor<1x2x3x5xf32>
    %y = "core.matmul"(%p, %x2) : (tensor<1x2x3x5xf32>, tensor<1x2x5x8xf32>) -> tensor<1x2x3x8xf32>
    "func.return"(%y) : (tensor<1x2x3x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
