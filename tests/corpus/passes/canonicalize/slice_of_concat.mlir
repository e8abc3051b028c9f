// A slice that lies in one part of a concatenation reads that part.
// pipeline: canonicalize
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<2x3xf32>, %x1: tensor<2x3xf32>):
    %c = "core.concat"(%x0, %x1) <{axis = 0 : i64}> : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<4x3xf32>
    %y = "core.slice"(%c) <{starts = [2, 0], steps = array<i64: 1, 1>}> : (tensor<4x3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
