// A chain stays on the chip.
// pipeline: form-kernels
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x3xf32>, %x1: tensor<2x3xf32>):
    %a = "core.exp"(%x0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %b = "core.add"(%a, %x1) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    %y = "core.tanh"(%b) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
