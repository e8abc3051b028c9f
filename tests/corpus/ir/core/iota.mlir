// 0 1 2 3 4.
"builtin.module"() ({
  "func.func"() <{function_type = () -> tensor<5xi64>, sym_name = "main"}> ({
  ^bb0:
    %y = "core.iota"() <{axis = 0 : i64}> : () -> tensor<5xi64>
    "func.return"(%y) : (tensor<5xi64>) -> ()
  }) : () -> ()
}) : () -> ()
