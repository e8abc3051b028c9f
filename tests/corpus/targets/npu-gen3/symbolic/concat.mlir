// A concatenation whose first part grows.
// target: npu-gen3
// symbols: n=4<=9
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x?xf32, ["n"]>, tensor<2x3xf32>) -> tensor<2x?xf32, ["n + 3"]>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x?xf32, ["n"]>, %x1: tensor<2x3xf32>):
    %y = "core.concat"(%x0, %x1) <{axis = 1 : i64}> : (tensor<2x?xf32, ["n"]>, tensor<2x3xf32>) -> tensor<2x?xf32, ["n + 3"]>
    "func.return"(%y) : (tensor<2x?xf32, ["n + 3"]>) -> ()
  }) : () -> ()
}) : () -> ()
