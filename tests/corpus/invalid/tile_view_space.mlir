// A view stays in its buffer's space.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "main"}> ({
    %b = "tile.buffer"() <{capacity = array<i64: 4>}> : () -> memref<4xf32, "sram">
    %v = "tile.view"(%b) <{dims = [4], offset = 0 : i64, strides = array<i64: 1>}> : (memref<4xf32, "sram">) -> memref<4xf32, "acc">
    "func.return"() : () -> ()
  }) : () -> ()
}) : () -> ()
