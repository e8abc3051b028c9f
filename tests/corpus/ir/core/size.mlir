// A dimension as data.
"builtin.module"() ({
  "func.func"() <{function_type = () -> tensor<i64>, sym_name = "main"}> ({
  ^bb0:
    %y = "core.size"() <{value = 7 : i64}> : () -> tensor<i64>
    "func.return"(%y) : (tensor<i64>) -> ()
  }) : () -> ()
}) : () -> ()
