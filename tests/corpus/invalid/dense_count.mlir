// Three numbers for four places.
"builtin.module"() ({
  "func.func"() <{function_type = () -> tensor<4xf32>, sym_name = "main"}> ({
  ^bb0:
    %y = "core.constant"() <{value = dense<[1.0, 2.0, 3.0]> : tensor<4xf32>}> : () -> tensor<4xf32>
    "func.return"(%y) : (tensor<4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
