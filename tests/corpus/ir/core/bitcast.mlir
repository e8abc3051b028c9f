// The same bits.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<4xui8>) -> tensor<4xi8>, sym_name = "main"}> ({
  ^bb0(%x: tensor<4xui8>):
    %y = "core.bitcast"(%x) : (tensor<4xui8>) -> tensor<4xi8>
    "func.return"(%y) : (tensor<4xi8>) -> ()
  }) : () -> ()
}) : () -> ()
