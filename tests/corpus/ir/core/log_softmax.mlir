// Logarithm of softmax.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x5xf32>) -> tensor<2x5xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x5xf32>):
    %y = "core.log_softmax"(%x) <{axis = -1 : i64}> : (tensor<2x5xf32>) -> tensor<2x5xf32>
    "func.return"(%y) : (tensor<2x5xf32>) -> ()
  }) : () -> ()
}) : () -> ()
