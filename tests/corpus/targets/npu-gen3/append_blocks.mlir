// A block of 32 is settled when 32 tokens follow it: after 94 of 97 tokens the second one is, from a ring that wraps.
// target: npu-gen3
// symbols: p=94<=100
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x3x8xf16>, tensor<1x2x?x8xui4, ["p"]>, tensor<1x2x4x8xf16>, tensor<1x2x4x8xf16>, tensor<1x2x96x8xf16>) -> (tensor<1x2x?x8xui4, ["p + 3"]>, tensor<1x2x4x8xf16>, tensor<1x2x4x8xf16>, tensor<1x2x96x8xf16>), sym_name = "main"}> ({
  ^bb0(%new: tensor<1x2x3x8xf16>, %body: tensor<1x2x?x8xui4, ["p"]>, %scale: tensor<1x2x4x8xf16>, %offset: tensor<1x2x4x8xf16>, %recent: tensor<1x2x96x8xf16>):
    %r:4 = "core.append_blocks"(%new, %body, %scale, %offset, %recent) <{block = 32 : i64, keep = 32 : i64}> : (tensor<1x2x3x8xf16>, tensor<1x2x?x8xui4, ["p"]>, tensor<1x2x4x8xf16>, tensor<1x2x4x8xf16>, tensor<1x2x96x8xf16>) -> (tensor<1x2x?x8xui4, ["p + 3"]>, tensor<1x2x4x8xf16>, tensor<1x2x4x8xf16>, tensor<1x2x96x8xf16>)
    "func.return"(%r#0, %r#1, %r#2, %r#3) : (tensor<1x2x?x8xui4, ["p + 3"]>, tensor<1x2x4x8xf16>, tensor<1x2x4x8xf16>, tensor<1x2x96x8xf16>) -> ()
  }) : () -> ()
}) : () -> ()
