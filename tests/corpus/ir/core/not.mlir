// Negation.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xi1>) -> tensor<2x3xi1>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xi1>):
    %y = "core.not"(%x) : (tensor<2x3xi1>) -> tensor<2x3xi1>
    "func.return"(%y) : (tensor<2x3xi1>) -> ()
  }) : () -> ()
}) : () -> ()
