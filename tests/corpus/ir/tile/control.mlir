// Conditions, loops left from inside, and numbers between registers and memory.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "main"}> ({
    "tile.register"() <{maximum = 9 : i64, minimum = 0 : i64, name = "trips", role = "scratch"}> : () -> ()
    %n = "tile.buffer"() <{capacity = array<i64>}> : () -> memref<i64, "dram">
    %c = "tile.buffer"() <{capacity = array<i64>}> : () -> memref<i1, "dram">
    "tile.set_register"(%n) <{register = "trips"}> : (memref<i64, "dram">) -> ()
    "tile.fill"(%c) <{engine = "host", value = 1.0}> : (memref<i1, "dram">) -> ()
    "tile.loop"() <{limit = "trips", variable = "i0"}> ({
      "tile.break_unless"(%c) : (memref<i1, "dram">) -> ()
      "tile.store_expression"(%n) <{value = "2*i0 + 1"}> : (memref<i64, "dram">) -> ()
    }) : () -> ()
    "tile.if"(%c) ({
      "tile.iota"(%n) <{axis = 0 : i64, engine = "host"}> : (memref<i64, "dram">) -> ()
    }, {
    }) : (memref<i1, "dram">) -> ()
    "func.return"() : () -> ()
  }) : () -> ()
}) : () -> ()
