// An engine is one of the five.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "main"}> ({
    %b = "tile.buffer"() <{capacity = array<i64: 4>}> : () -> memref<4xf32, "sram">
    "tile.unary"(%b, %b) <{engine = "gpu", function = "exp"}> : (memref<4xf32, "sram">, memref<4xf32, "sram">) -> ()
    "func.return"() : () -> ()
  }) : () -> ()
}) : () -> ()
