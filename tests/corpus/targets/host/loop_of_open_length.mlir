// The length of a stacked result is a register, set when the loop is done.
// target: host
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2xf32>) -> (tensor<2xf32>, tensor<?x2xf32, ["hist"]>), sym_name = "main"}> ({
  ^bb0(%x: tensor<2xf32>):
    %n = "core.constant"() <{value = dense<3> : tensor<i64>}> : () -> tensor<i64>
    %r, %h = "core.loop"(%n, %x) <{operandSegmentSizes = array<i32: 1, 0, 1>}> ({
    ^bb0(%i: tensor<i64>, %go: tensor<i1>, %a: tensor<2xf32>):
      %f = "core.cast"(%i) : (tensor<i64>) -> tensor<f32>
      %d = "core.add"(%a, %f) : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
      "core.yield"(%go, %d, %a) : (tensor<i1>, tensor<2xf32>, tensor<2xf32>) -> ()
    }) : (tensor<i64>, tensor<2xf32>) -> (tensor<2xf32>, tensor<?x2xf32, ["hist"]>)
    "func.return"(%r, %h) : (tensor<2xf32>, tensor<?x2xf32, ["hist"]>) -> ()
  }) : () -> ()
}) : () -> ()
