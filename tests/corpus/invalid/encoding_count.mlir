// Two question marks, one expression.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<?x?xf32, ["a"]>) -> tensor<?x?xf32, ["a"]>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x?xf32, ["a"]>):
    %y = "core.relu"(%x) : (tensor<?x?xf32, ["a"]>) -> tensor<?x?xf32, ["a"]>
    "func.return"(%y) : (tensor<?x?xf32, ["a"]>) -> ()
  }) : () -> ()
}) : () -> ()
