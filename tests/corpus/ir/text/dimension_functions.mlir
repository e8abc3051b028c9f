// Division, remainder, largest and smallest in dimensions.
// symbols: seq=6
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<?x?xf32, ["floordiv(seq + 3, 4)", "max(1, seq)"]>) -> tensor<?x?xf32, ["floordiv(seq + 3, 4)", "max(1, seq)"]>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x?xf32, ["floordiv(seq + 3, 4)", "max(1, seq)"]>):
    %y = "core.neg"(%x) : (tensor<?x?xf32, ["floordiv(seq + 3, 4)", "max(1, seq)"]>) -> tensor<?x?xf32, ["floordiv(seq + 3, 4)", "max(1, seq)"]>
    "func.return"(%y) : (tensor<?x?xf32, ["floordiv(seq + 3, 4)", "max(1, seq)"]>) -> ()
  }) : () -> ()
}) : () -> ()
