// A buffer's dimension is above its capacity.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "main"}> ({
    %b = "tile.buffer"() <{capacity = array<i64: 4, 7>}> : () -> memref<4x8xf32, "sram">
    "func.return"() : () -> ()
  }) : () -> ()
}) : () -> ()
