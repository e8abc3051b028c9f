// A view's dims are its result's.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "main"}> ({
    %b = "tile.buffer"() <{capacity = array<i64: 4, 8>}> : () -> memref<4x8xf32, "sram">
    %v = "tile.view"(%b) <{dims = [4, 4], offset = 0 : i64, strides = array<i64: 8, 1>}> : (memref<4x8xf32, "sram">) -> memref<4x5xf32, "sram">
    "func.return"() : () -> ()
  }) : () -> ()
}) : () -> ()
