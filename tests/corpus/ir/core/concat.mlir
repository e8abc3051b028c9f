// One after the other.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>, tensor<1x3xf32>) -> tensor<3x3xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x3xf32>, %x1: tensor<1x3xf32>):
    %y = "core.concat"(%x0, %x1) <{axis = 0 : i64}> : (tensor<2x3xf32>, tensor<1x3xf32>) -> tensor<3x3xf32>
    "func.return"(%y) : (tensor<3x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
