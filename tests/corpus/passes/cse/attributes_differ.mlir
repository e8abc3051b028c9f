// Ops with other attributes are not equal.
// pipeline: cse
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x3xf32>) -> tensor<3x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<3x3xf32>):
    %a = "core.softmax"(%x) <{axis = 0 : i64}> : (tensor<3x3xf32>) -> tensor<3x3xf32>
    %b = "core.softmax"(%x) <{axis = 1 : i64}> : (tensor<3x3xf32>) -> tensor<3x3xf32>
    %y = "core.add"(%a, %b) : (tensor<3x3xf32>, tensor<3x3xf32>) -> tensor<3x3xf32>
    "func.return"(%y) : (tensor<3x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
