// A selection that is known.
// pipeline: canonicalize
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x3xf32>, %x1: tensor<2x3xf32>):
    %k = "core.constant"() <{value = dense<false> : tensor<i1>}> : () -> tensor<i1>
    %y = "core.select"(%k, %x0, %x1) : (tensor<i1>, tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
