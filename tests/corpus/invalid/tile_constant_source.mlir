// A constant has a value or a function, not neither.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "main"}> ({
    %c = "tile.constant"() : () -> memref<4xf32, "const">
    "func.return"() : () -> ()
  }) : () -> ()
}) : () -> ()
