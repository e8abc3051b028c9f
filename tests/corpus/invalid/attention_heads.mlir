// Query heads are no multiple of key heads.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x3x2x4xf32>, tensor<1x2x5x4xf32>, tensor<1x2x5x4xf32>) -> tensor<1x3x2x4xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x3x2x4xf32>, %x1: tensor<1x2x5x4xf32>, %x2: tensor<1x2x5x4xf32>):
    %y = "core.attention"(%x0, %x1, %x2) <{operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, scale = 1.000000e+00}> : (tensor<1x3x2x4xf32>, tensor<1x2x5x4xf32>, tensor<1x2x5x4xf32>) -> tensor<1x3x2x4xf32>
    "func.return"(%y) : (tensor<1x3x2x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
