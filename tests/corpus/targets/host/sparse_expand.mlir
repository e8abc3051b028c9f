// Values that are computed are scattered to their places.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<4x3xf32>) -> tensor<8x3xf32>, sym_name = "main"}> ({
  ^bb0(%v: tensor<4x3xf32>):
    %i = "core.constant"() <{value = dense<[[0, 1, 0], [2, 3, 1], [1, 0, 2], [3, 2, 3]]> : tensor<4x3xui2>}> : () -> tensor<4x3xui2>
    %y = "core.sparse_expand"(%v, %i) <{axis = 0 : i64}> : (tensor<4x3xf32>, tensor<4x3xui2>) -> tensor<8x3xf32>
    "func.return"(%y) : (tensor<8x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
