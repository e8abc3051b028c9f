// After the memory plan every buffer has its offset.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "main"}> ({
    %a = "tile.buffer"() <{capacity = array<i64: 4, 8>, offset_bytes = 0 : i64}> : () -> memref<4x8xi8, "sram">
    %b = "tile.buffer"() <{capacity = array<i64: 8, 4>, offset_bytes = 64 : i64}> : () -> memref<8x4xi8, "sram">
    %s = "tile.buffer"() <{capacity = array<i64: 1, 4>, offset_bytes = 128 : i64}> : () -> memref<1x4xf32, "sram">
    %c = "tile.buffer"() <{capacity = array<i64: 4, 4>, offset_bytes = 0 : i64}> : () -> memref<4x4xf32, "acc">
    "tile.matmul"(%c, %a, %b, %s) <{accumulate = true, block = 0 : i64, engine = "matrix", operandSegmentSizes = array<i32: 1, 1, 1, 1, 0>}> : (memref<4x4xf32, "acc">, memref<4x8xi8, "sram">, memref<8x4xi8, "sram">, memref<1x4xf32, "sram">) -> ()
    "func.return"() : () -> ()
  }) : () -> ()
}) : () -> ()
