// Every second row from row 1.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<6x4xf32>) -> tensor<3x4xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<6x4xf32>):
    %y = "core.slice"(%x) <{starts = [1, 0], steps = array<i64: 2, 1>}> : (tensor<6x4xf32>) -> tensor<3x4xf32>
    "func.return"(%y) : (tensor<3x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
