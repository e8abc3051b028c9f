// Product, bias and activation are one op.
// pipeline: optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4x8xf32>, tensor<8x6xf32>, tensor<6xf32>) -> tensor<2x4x6xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x4x8xf32>, %x1: tensor<8x6xf32>, %x2: tensor<6xf32>):
    %m = "core.matmul"(%x0, %x1) : (tensor<2x4x8xf32>, tensor<8x6xf32>) -> tensor<2x4x6xf32>
    %b = "core.add"(%m, %x2) : (tensor<2x4x6xf32>, tensor<6xf32>) -> tensor<2x4x6xf32>
    %y = "core.relu"(%b) : (tensor<2x4x6xf32>) -> tensor<2x4x6xf32>
    "func.return"(%y) : (tensor<2x4x6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
