// A running sum over rows as a scan.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3xf32>, tensor<4x3xf32>) -> (tensor<3xf32>, tensor<4x3xf32>), sym_name = "main"}> ({
  ^bb0(%x0: tensor<3xf32>, %x1: tensor<4x3xf32>):
    %s:2 = "core.scan"(%x0, %x1) <{carried_count = 1 : i64}> ({
    ^bb0(%c: tensor<3xf32>, %row: tensor<3xf32>):
      %n = "core.add"(%c, %row) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
      "core.yield"(%n, %n) : (tensor<3xf32>, tensor<3xf32>) -> ()
    }) : (tensor<3xf32>, tensor<4x3xf32>) -> (tensor<3xf32>, tensor<4x3xf32>)
    "func.return"(%s#0, %s#1) : (tensor<3xf32>, tensor<4x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
