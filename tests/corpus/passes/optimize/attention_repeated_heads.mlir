// Keys and values repeated over a group of heads.
// pipeline: canonicalize,optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x3x8xf32>, tensor<1x1x5x8xf32>, tensor<1x1x5x8xf32>) -> tensor<1x2x3x8xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x2x3x8xf32>, %x1: tensor<1x1x5x8xf32>, %x2: tensor<1x1x5x8xf32>):
    %k2u = "core.reshape"(%x1) : (tensor<1x1x5x8xf32>) -> tensor<1x1x1x5x8xf32>
    %k2e = "core.broadcast"(%k2u) : (tensor<1x1x1x5x8xf32>) -> tensor<1x1x2x5x8xf32>
    %k2 = "core.reshape"(%k2e) : (tensor<1x1x2x5x8xf32>) -> tensor<1x2x5x8xf32>
    %v2u = "core.reshape"(%x2) : (tensor<1x1x5x8xf32>) -> tensor<1x1x1x5x8xf32>
    %v2e = "core.broadcast"(%v2u) : (tensor<1x1x1x5x8xf32>) -> tensor<1x1x2x5x8xf32>
    %v2 = "core.reshape"(%v2e) : (tensor<1x1x2x5x8xf32>) -> tensor<1x2x5x8xf32>
    %kt = "core.transpose"(%k2) <{permutation = array<i64: 0, 1, 3, 2>}> : (tensor<1x2x5x8xf32>) -> tensor<1x2x8x5xf32>
    %s0 = "core.matmul"(%x0, %kt) : (tensor<1x2x3x8xf32>, tensor<1x2x8x5xf32>) -> tensor<1x2x3x5xf32>
    %scale = "core.constant"() <{value = dense<0.353553385> : tensor<f32>}> : () -> tensor<f32>
    %s = "core.mul"(%s0, %scale) : (tensor<1x2x3x5xf32>, tensor<f32>) -> tensor<1x2x3x5xf32>
    %p = "core.softmax"(%s) <{axis = -1 : i64}> : (tensor<1x2x3x5xf32>) -> tensor<1x2x3x5xf32>
    %y = "core.matmul"(%p, %v2) : (tensor<1x2x3x5xf32>, tensor<1x2x5x8xf32>) -> tensor<1x2x3x8xf32>
    "func.return"(%y) : (tensor<1x2x3x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
