// Softmax over an inner axis: both views with that axis last.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3x4xf32>):
    %y = "core.softmax"(%x) <{axis = 1 : i64}> : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
    "func.return"(%y) : (tensor<2x3x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
