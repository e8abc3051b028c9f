// Choosing by data: one command each.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x7xf32>) -> (tensor<3x2xf32>, tensor<3x2xi64>, tensor<3xi64>), sym_name = "main"}> ({
  ^bb0(%x: tensor<3x7xf32>):
    %v, %i = "core.top_k"(%x) <{axis = -1 : i64, k = 2 : i64, largest = true}> : (tensor<3x7xf32>) -> (tensor<3x2xf32>, tensor<3x2xi64>)
    %a = "core.arg_reduce"(%x) <{axis = 1 : i64, function = "min", keep_dims = false}> : (tensor<3x7xf32>) -> tensor<3xi64>
    "func.return"(%v, %i, %a) : (tensor<3x2xf32>, tensor<3x2xi64>, tensor<3xi64>) -> ()
  }) : () -> ()
}) : () -> ()
