// What nobody reads goes, and what only it read.
// pipeline: dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %a = "core.exp"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %b = "core.relu"(%a) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %y = "core.neg"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
