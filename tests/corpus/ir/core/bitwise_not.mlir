// Complement.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<4xi32>) -> tensor<4xi32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<4xi32>):
    %y = "core.bitwise_not"(%x) : (tensor<4xi32>) -> tensor<4xi32>
    "func.return"(%y) : (tensor<4xi32>) -> ()
  }) : () -> ()
}) : () -> ()
