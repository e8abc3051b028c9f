// Truth per element.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xi1>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %y = "core.is_nan"(%x) : (tensor<2x3xf32>) -> tensor<2x3xi1>
    "func.return"(%y) : (tensor<2x3xi1>) -> ()
  }) : () -> ()
}) : () -> ()
