// The block takes another type than the function says.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x4xf32>):
    "func.return"(%x) : (tensor<2x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
