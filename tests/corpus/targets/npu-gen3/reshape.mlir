// Row-major order stays.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x6xf32>) -> tensor<3x4xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x6xf32>):
    %y = "core.reshape"(%x) : (tensor<2x6xf32>) -> tensor<3x4xf32>
    "func.return"(%y) : (tensor<3x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
