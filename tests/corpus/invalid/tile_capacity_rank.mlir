// A capacity has a length per dimension.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "main"}> ({
    %b = "tile.buffer"() <{capacity = array<i64: 4>}> : () -> memref<4x8xf32, "sram">
    "func.return"() : () -> ()
  }) : () -> ()
}) : () -> ()
