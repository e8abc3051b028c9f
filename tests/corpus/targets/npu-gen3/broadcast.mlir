// Numpy alignment.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<3xf32>):
    %y = "core.broadcast"(%x) : (tensor<3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
