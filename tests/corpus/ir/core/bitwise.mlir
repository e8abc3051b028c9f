// Bit by bit.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<4xi32>, %x1: tensor<4xi32>):
    %y = "core.bitwise"(%x0, %x1) <{function = "and"}> : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
    "func.return"(%y) : (tensor<4xi32>) -> ()
  }) : () -> ()
}) : () -> ()
