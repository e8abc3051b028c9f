// A constant's value has the result's type.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "main"}> ({
    %c = "tile.constant"() <{value = dense<1.0> : tensor<3xf32>}> : () -> memref<4xf32, "const">
    "func.return"() : () -> ()
  }) : () -> ()
}) : () -> ()
