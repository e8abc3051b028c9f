// silu(gate) * up is one op.
// pipeline: canonicalize,optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x3xf32>, %x1: tensor<2x3xf32>):
    %s = "core.sigmoid"(%x0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %g = "core.mul"(%x0, %s) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    %y = "core.mul"(%g, %x1) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
