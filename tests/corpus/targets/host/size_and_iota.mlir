// A symbolic size as data is an expression of registers.
// target: host
// symbols: s=3<=4
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<?xf32, ["s"]>) -> (tensor<i64>, tensor<?xi64, ["s"]>), sym_name = "main"}> ({
  ^bb0(%x: tensor<?xf32, ["s"]>):
    %n = "core.size"() <{value = "2*s"}> : () -> tensor<i64>
    %i = "core.iota"() <{axis = 0 : i64}> : () -> tensor<?xi64, ["s"]>
    "func.return"(%n, %i) : (tensor<i64>, tensor<?xi64, ["s"]>) -> ()
  }) : () -> ()
}) : () -> ()
