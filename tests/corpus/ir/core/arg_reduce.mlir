// Index of the largest.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x5xf32>) -> tensor<2xi64>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x5xf32>):
    %y = "core.arg_reduce"(%x) <{axis = 1 : i64, function = "max", keep_dims = false, select_last = false}> : (tensor<2x5xf32>) -> tensor<2xi64>
    "func.return"(%y) : (tensor<2xi64>) -> ()
  }) : () -> ()
}) : () -> ()
