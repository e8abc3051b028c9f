// A symbol without a range cannot be laid out.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<?xf32, ["s"]>) -> tensor<?xf32, ["s"]>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?xf32, ["s"]>):
    %y = "core.neg"(%x) : (tensor<?xf32, ["s"]>) -> tensor<?xf32, ["s"]>
    "func.return"(%y) : (tensor<?xf32, ["s"]>) -> ()
  }) : () -> ()
}) : () -> ()
