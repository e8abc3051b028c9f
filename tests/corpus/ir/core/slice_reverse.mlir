// Reversed.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<6xf32>) -> tensor<6xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<6xf32>):
    %y = "core.slice"(%x) <{starts = [5], steps = array<i64: -1>}> : (tensor<6xf32>) -> tensor<6xf32>
    "func.return"(%y) : (tensor<6xf32>) -> ()
  }) : () -> ()
}) : () -> ()
