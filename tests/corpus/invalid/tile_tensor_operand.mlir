// Tile ops take views, not tensors.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "main"}> ({
    %t = "core.constant"() <{value = dense<1.0> : tensor<4xf32>}> : () -> tensor<4xf32>
    "tile.fill"(%t) <{engine = "host", value = 1.0}> : (tensor<4xf32>) -> ()
    "func.return"() : () -> ()
  }) : () -> ()
}) : () -> ()
