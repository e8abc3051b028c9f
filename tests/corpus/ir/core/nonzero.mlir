// The places of true elements: how many is known when it has run.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<6xf32>, tensor<6xf32>) -> (tensor<?xf32, ["found"]>, tensor<?xi64, ["found"]>), sym_name = "main"}> ({
  ^bb0(%x: tensor<6xf32>, %y: tensor<6xf32>):
    %m = "core.compare"(%x, %y) <{predicate = "lt"}> : (tensor<6xf32>, tensor<6xf32>) -> tensor<6xi1>
    %i = "core.nonzero"(%m) : (tensor<6xi1>) -> tensor<?xi64, ["found"]>
    %z = "core.gather"(%y, %i) <{axis = 0 : i64}> : (tensor<6xf32>, tensor<?xi64, ["found"]>) -> tensor<?xf32, ["found"]>
    "func.return"(%z, %i) : (tensor<?xf32, ["found"]>, tensor<?xi64, ["found"]>) -> ()
  }) : () -> ()
}) : () -> ()
