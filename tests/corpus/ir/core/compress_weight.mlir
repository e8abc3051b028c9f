// The schemes, on a weight that is computed.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<8x4xf32>) -> tensor<8x4xf32>, sym_name = "main"}> ({
  ^bb0(%w: tensor<8x4xf32>):
    %p = "core.compress_weight"(%w) <{fraction = 2.500000e-01 : f64, scheme = "prune"}> : (tensor<8x4xf32>) -> tensor<8x4xf32>
    %v, %i = "core.compress_weight"(%p) <{axis = 0 : i64, scheme = "sparse_2_4"}> : (tensor<8x4xf32>) -> (tensor<4x4xf32>, tensor<4x4xui2>)
    %c, %l = "core.compress_weight"(%v) <{scheme = "palette"}> : (tensor<4x4xf32>) -> (tensor<4x4xui4>, tensor<16xf32>)
    %g = "core.gather"(%l, %c) <{axis = 0 : i64}> : (tensor<16xf32>, tensor<4x4xui4>) -> tensor<4x4xf32>
    %y = "core.sparse_expand"(%g, %i) <{axis = 0 : i64}> : (tensor<4x4xf32>, tensor<4x4xui2>) -> tensor<8x4xf32>
    "func.return"(%y) : (tensor<8x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
