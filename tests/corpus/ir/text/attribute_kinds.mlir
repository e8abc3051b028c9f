// Every kind of attribute.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %y = "core.relu"(%x) {acme.a = [1, "two", 3.000000e+00 : f32], acme.b = true, acme.c = {x = 1 : i64}, acme.d = array<i64: 1, 2>, acme.e = @main, acme.f = tensor<2xf32>, acme.g} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
