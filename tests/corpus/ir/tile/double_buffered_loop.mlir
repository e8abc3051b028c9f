// A tile loop with a transfer that has a name: the wait is for the last transfer of that name.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "main"}> ({
    "tile.register"() <{maximum = 511 : i64, minimum = 0 : i64, name = "past", role = "bound"}> : () -> ()
    %x = "tile.argument"() <{capacity = array<i64: 512, 64>, name = "x", role = "input"}> : () -> memref<?x64xf32, {dims = ["past"], space = "io"}>
    %tile = "tile.buffer"() <{capacity = array<i64: 32, 64>}> : () -> memref<32x64xf32, "sram">
    "tile.for"() <{limit = "past", step = 32 : i64, variable = "i0"}> ({
      %part = "tile.view"(%x) <{dims = ["min(32, past - i0)", 64], offset = "64*i0", strides = array<i64: 64, 1>}> : (memref<?x64xf32, {dims = ["past"], space = "io"}>) -> memref<?x64xf32, {dims = ["min(32, past - i0)"], space = "io"}>
      %room = "tile.view"(%tile) <{dims = ["min(32, past - i0)", 64], offset = 0 : i64, strides = array<i64: 64, 1>}> : (memref<32x64xf32, "sram">) -> memref<?x64xf32, {dims = ["min(32, past - i0)"], space = "sram"}>
      %t = "tile.transfer"(%room, %part) <{engine = "dma0", name = "next"}> : (memref<?x64xf32, {dims = ["min(32, past - i0)"], space = "sram"}>, memref<?x64xf32, {dims = ["min(32, past - i0)"], space = "io"}>) -> !tile.token
      "tile.wait"() <{name = "next", operandSegmentSizes = array<i32: 0>}> : () -> ()
      "tile.unary"(%room, %room) <{engine = "vector", function = "silu"}> : (memref<?x64xf32, {dims = ["min(32, past - i0)"], space = "sram"}>, memref<?x64xf32, {dims = ["min(32, past - i0)"], space = "sram"}>) -> ()
    }) : () -> ()
    "func.return"() : () -> ()
  }) : () -> ()
}) : () -> ()
