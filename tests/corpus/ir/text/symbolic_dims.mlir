// Both spellings of a sum are one dimension.
// symbols: past_seq=2 seq=3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x?x64xf32, ["past_seq + seq"]>, tensor<1x?x64xf32, ["seq + past_seq"]>) -> tensor<1x?x64xf32, ["seq + past_seq"]>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x?x64xf32, ["past_seq + seq"]>, %x1: tensor<1x?x64xf32, ["seq + past_seq"]>):
    %y = "core.add"(%x0, %x1) : (tensor<1x?x64xf32, ["past_seq + seq"]>, tensor<1x?x64xf32, ["seq + past_seq"]>) -> tensor<1x?x64xf32, ["past_seq + seq"]>
    "func.return"(%y) : (tensor<1x?x64xf32, ["past_seq + seq"]>) -> ()
  }) : () -> ()
}) : () -> ()
