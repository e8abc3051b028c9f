// Rotation by halves.
// pipeline: canonicalize,optimize,canonicalize,cse,dce
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x3x8xf32>, tensor<1x1x3x8xf32>, tensor<1x1x3x8xf32>) -> tensor<1x2x3x8xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x2x3x8xf32>, %x1: tensor<1x1x3x8xf32>, %x2: tensor<1x1x3x8xf32>):
    %a = "core.slice"(%x0) <{starts = [0, 0, 0, 0], steps = array<i64: 1, 1, 1, 1>}> : (tensor<1x2x3x8xf32>) -> tensor<1x2x3x4xf32>
    %b = "core.slice"(%x0) <{starts = [0, 0, 0, 4], steps = array<i64: 1, 1, 1, 1>}> : (tensor<1x2x3x8xf32>) -> tensor<1x2x3x4xf32>
    %n = "core.neg"(%b) : (tensor<1x2x3x4xf32>) -> tensor<1x2x3x4xf32>
    %r = "core.concat"(%n, %a) <{axis = -1 : i64}> : (tensor<1x2x3x4xf32>, tensor<1x2x3x4xf32>) -> tensor<1x2x3x8xf32>
    %p = "core.mul"(%x0, %x1) : (tensor<1x2x3x8xf32>, tensor<1x1x3x8xf32>) -> tensor<1x2x3x8xf32>
    %q = "core.mul"(%r, %x2) : (tensor<1x2x3x8xf32>, tensor<1x1x3x8xf32>) -> tensor<1x2x3x8xf32>
    %y = "core.add"(%p, %q) : (tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x8xf32>
    "func.return"(%y) : (tensor<1x2x3x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
