// Rounds to nearest even.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xf16>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %y = "core.cast"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf16>
    "func.return"(%y) : (tensor<2x3xf16>) -> ()
  }) : () -> ()
}) : () -> ()
