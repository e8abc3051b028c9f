// A small dequantised weight is evaluated when the artifact is written.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2xf32>) -> tensor<1x2xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<1x2xf32>):
    %q = "core.constant"() <{value = dense<[[1, -2], [3, 4]]> : tensor<2x2xi8>}> : () -> tensor<2x2xi8>
    %s = "core.constant"() <{value = dense<0.5> : tensor<f32>}> : () -> tensor<f32>
    %w = "core.dequantize"(%q, %s) <{operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<2x2xi8>, tensor<f32>) -> tensor<2x2xf32>
    %y = "core.matmul"(%x, %w) : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
    "func.return"(%y) : (tensor<1x2xf32>) -> ()
  }) : () -> ()
}) : () -> ()
