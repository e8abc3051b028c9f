// A weight prints by name and content, never by its numbers.
"builtin.module"() ({
  "func.func"() <{function_type = () -> tensor<64x64xf32>, sym_name = "main"}> ({
  ^bb0:
    %w = "core.constant"() <{value = dense_resource<model.layers.0.weight> : tensor<64x64xf32>}> : () -> tensor<64x64xf32>
    "func.return"(%w) : (tensor<64x64xf32>) -> ()
  }) : () -> ()
}) : () -> ()
