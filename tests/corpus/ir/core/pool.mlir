// Largest of 2x2.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x4x4xf32>) -> tensor<1x2x2x2xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<1x2x4x4xf32>):
    %y = "core.pool"(%x) <{count_include_pad = false, dilations = array<i64: 1, 1>, function = "max", kernel = array<i64: 2, 2>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 2, 2>}> : (tensor<1x2x4x4xf32>) -> tensor<1x2x2x2xf32>
    "func.return"(%y) : (tensor<1x2x2x2xf32>) -> ()
  }) : () -> ()
}) : () -> ()
