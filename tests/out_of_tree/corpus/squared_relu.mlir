// A rectified value times itself becomes one op of ACME's NPU.
// pipeline: optimize
// target: acme-npu
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %r = "core.relu"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %y = "core.mul"(%r, %r) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
