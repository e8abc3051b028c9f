// A symbol becomes a number everywhere.
// pipeline: bind-symbols{set=seq:3}
// symbols: seq=3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x?x4xf32, ["seq"]>) -> tensor<1x?x4xf32, ["seq"]>, sym_name = "main"}> ({
  ^bb0(%x: tensor<1x?x4xf32, ["seq"]>):
    %y = "core.relu"(%x) : (tensor<1x?x4xf32, ["seq"]>) -> tensor<1x?x4xf32, ["seq"]>
    "func.return"(%y) : (tensor<1x?x4xf32, ["seq"]>) -> ()
  }) : () -> ()
}) : () -> ()
