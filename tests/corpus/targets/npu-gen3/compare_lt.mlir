// Predicate lt.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x3xf32>, %x1: tensor<2x3xf32>):
    %y = "core.compare"(%x0, %x1) <{predicate = "lt"}> : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
    "func.return"(%y) : (tensor<2x3xi1>) -> ()
  }) : () -> ()
}) : () -> ()
