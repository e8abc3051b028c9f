// Groups of two in rows of four.
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x4xf32>) -> (tensor<3x4xui4>, tensor<3x2xf16>, tensor<3x2xf16>), sym_name = "main"}> ({
  ^bb0(%x: tensor<3x4xf32>):
    %r:3 = "core.quantize_groups"(%x) <{bits = 4 : i64, group = 2 : i64}> : (tensor<3x4xf32>) -> (tensor<3x4xui4>, tensor<3x2xf16>, tensor<3x2xf16>)
    "func.return"(%r#0, %r#1, %r#2) : (tensor<3x4xui4>, tensor<3x2xf16>, tensor<3x2xf16>) -> ()
  }) : () -> ()
}) : () -> ()
