// A dimension that is no expression.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<?xf32, ["a +"]>) -> tensor<?xf32, ["a +"]>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?xf32, ["a +"]>):
    %y = "core.relu"(%x) : (tensor<?xf32, ["a +"]>) -> tensor<?xf32, ["a +"]>
    "func.return"(%y) : (tensor<?xf32, ["a +"]>) -> ()
  }) : () -> ()
}) : () -> ()
