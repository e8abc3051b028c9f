// A machine without f32: products, softmax and what lies between compute in f16. A mask of the lowest number is made in f32 and saturates, as arguments do.
// pipeline: demote-floats,cse
// target: apple-m5-npu
// tolerance: 4e-3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4xf32>, tensor<4x4xf32>, tensor<4xf32>, tensor<2x4xi1>) -> (tensor<4x2xf32>, tensor<2x4xi1>), sym_name = "main"}> ({
  ^bb0(%x: tensor<2x4xf32>, %w: tensor<4x4xf32>, %g: tensor<4xf32>, %m: tensor<2x4xi1>):
    %lowest = "core.constant"() <{value = dense<-3.40282347E+38> : tensor<f32>}> : () -> tensor<f32>
    %one = "core.constant"() <{value = dense<1.000000e+00> : tensor<f32>}> : () -> tensor<f32>
    %seen = "core.cast"(%m) : (tensor<2x4xi1>) -> tensor<2x4xf32>
    %hidden = "core.sub"(%one, %seen) : (tensor<f32>, tensor<2x4xf32>) -> tensor<2x4xf32>
    %mask = "core.mul"(%hidden, %lowest) : (tensor<2x4xf32>, tensor<f32>) -> tensor<2x4xf32>
    %y = "core.linear"(%x, %w, %g) <{activation = "silu", operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, transpose_weight = false}> : (tensor<2x4xf32>, tensor<4x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>
    %n = "core.add"(%y, %mask) : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
    %s = "core.softmax"(%n) <{axis = 1 : i64}> : (tensor<2x4xf32>) -> tensor<2x4xf32>
    %t = "core.transpose"(%s) <{permutation = array<i64: 1, 0>}> : (tensor<2x4xf32>) -> tensor<4x2xf32>
    "func.return"(%t, %m) : (tensor<4x2xf32>, tensor<2x4xi1>) -> ()
  }) : () -> ()
}) : () -> ()
