// Ba et al. 2016.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x8xf32>, tensor<8xf32>, tensor<8xf32>) -> tensor<2x8xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x8xf32>, %x1: tensor<8xf32>, %x2: tensor<8xf32>):
    %y = "core.layer_norm"(%x0, %x1, %x2) <{epsilon = 1.000000e-05, operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<2x8xf32>, tensor<8xf32>, tensor<8xf32>) -> tensor<2x8xf32>
    "func.return"(%y) : (tensor<2x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
