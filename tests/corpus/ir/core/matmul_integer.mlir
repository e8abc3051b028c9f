// Exact 32-bit sums.
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<3x4xi8>, tensor<4x5xi8>) -> tensor<3x5xi32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<3x4xi8>, %x1: tensor<4x5xi8>):
    %y = "core.matmul_integer"(%x0, %x1) <{operandSegmentSizes = array<i32: 1, 1, 0, 0>}> : (tensor<3x4xi8>, tensor<4x5xi8>) -> tensor<3x5xi32>
    "func.return"(%y) : (tensor<3x5xi32>) -> ()
  }) : () -> ()
}) : () -> ()
