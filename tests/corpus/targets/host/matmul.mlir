// Everything as portable commands on the host.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x4xf32>, tensor<4x5xf32>) -> tensor<3x5xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<3x4xf32>, %x1: tensor<4x5xf32>):
    %y = "core.matmul"(%x0, %x1) : (tensor<3x4xf32>, tensor<4x5xf32>) -> tensor<3x5xf32>
    "func.return"(%y) : (tensor<3x5xf32>) -> ()
  }) : () -> ()
}) : () -> ()
