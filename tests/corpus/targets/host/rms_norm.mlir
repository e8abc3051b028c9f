// A norm on the host.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x4x8xf32>, tensor<8xf32>) -> tensor<2x4x8xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x4x8xf32>, %x1: tensor<8xf32>):
    %y = "core.rms_norm"(%x0, %x1) <{epsilon = 1.000000e-06}> : (tensor<2x4x8xf32>, tensor<8xf32>) -> tensor<2x4x8xf32>
    "func.return"(%y) : (tensor<2x4x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
