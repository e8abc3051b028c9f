// Logical or.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<4xi1>, tensor<4xi1>) -> tensor<4xi1>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<4xi1>, %x1: tensor<4xi1>):
    %y = "core.logical"(%x0, %x1) <{function = "or"}> : (tensor<4xi1>, tensor<4xi1>) -> tensor<4xi1>
    "func.return"(%y) : (tensor<4xi1>) -> ()
  }) : () -> ()
}) : () -> ()
