// Nested lists and a splat.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (tensor<2x3xi64>, tensor<2x3xi64>), sym_name = "main"}> ({
  ^bb0:
    %a = "core.constant"() <{value = dense<[[1, 2, 3], [4, 5, 6]]> : tensor<2x3xi64>}> : () -> tensor<2x3xi64>
    %b = "core.constant"() <{value = dense<7> : tensor<2x3xi64>}> : () -> tensor<2x3xi64>
    "func.return"(%a, %b) : (tensor<2x3xi64>, tensor<2x3xi64>) -> ()
  }) : () -> ()
}) : () -> ()
