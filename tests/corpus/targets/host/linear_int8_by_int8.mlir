// On the host too, integer activations meet integer weights as integers; the stored [n, k] weight has a scale per channel.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3x40xi8>, tensor<7x40xi8>, tensor<7xf32>, tensor<7xf32>) -> tensor<2x3x7xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3x40xi8>, %w: tensor<7x40xi8>, %b: tensor<7xf32>, %s: tensor<7xf32>):
    %y = "core.linear"(%x, %w, %b, %s) <{activation = "relu", axis = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0>, transpose_weight = true}> : (tensor<2x3x40xi8>, tensor<7x40xi8>, tensor<7xf32>, tensor<7xf32>) -> tensor<2x3x7xf32>
    "func.return"(%y) : (tensor<2x3x7xf32>) -> ()
  }) : () -> ()
}) : () -> ()
