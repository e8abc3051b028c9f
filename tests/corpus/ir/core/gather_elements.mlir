// Element by element.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x2xf32>) -> tensor<3x2xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<3x2xf32>):
    %indices = "core.constant"() <{value = dense<[[0, 1], [1, 0], [-1, 0]]> : tensor<3x2xi64>}> : () -> tensor<3x2xi64>
    %y = "core.gather_elements"(%x0, %indices) <{axis = 1 : i64}> : (tensor<3x2xf32>, tensor<3x2xi64>) -> tensor<3x2xf32>
    "func.return"(%y) : (tensor<3x2xf32>) -> ()
  }) : () -> ()
}) : () -> ()
