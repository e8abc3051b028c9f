// Rows whose length is a register.
// target: npu-gen3
// symbols: n=7<=40
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x?xf32, ["n"]>) -> tensor<2x?xf32, ["n"]>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x?xf32, ["n"]>):
    %y = "core.softmax"(%x) <{axis = -1 : i64}> : (tensor<2x?xf32, ["n"]>) -> tensor<2x?xf32, ["n"]>
    "func.return"(%y) : (tensor<2x?xf32, ["n"]>) -> ()
  }) : () -> ()
}) : () -> ()
