// Values and places.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x5xf32>) -> (tensor<2x2xf32>, tensor<2x2xi64>), sym_name = "main"}> ({
  ^bb0(%x: tensor<2x5xf32>):
    %y:2 = "core.top_k"(%x) <{axis = 1 : i64, k = 2 : i64, largest = true}> : (tensor<2x5xf32>) -> (tensor<2x2xf32>, tensor<2x2xi64>)
    "func.return"(%y#0, %y#1) : (tensor<2x2xf32>, tensor<2x2xi64>) -> ()
  }) : () -> ()
}) : () -> ()
