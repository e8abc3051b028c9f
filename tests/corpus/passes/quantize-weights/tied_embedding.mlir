// Rows of one table are looked up, and it is the last product's weight: it is stored once, in a form that both take.
// pipeline: quantize-weights{preset=w8a16},optimize,canonicalize,cse,dce,form-kernels
// target: npu-gen3
// tolerance: 2e-2
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x3xi64>) -> tensor<1x3x40xf32>, sym_name = "main"}> ({
  ^bb0(%i: tensor<1x3xi64>):
    %c = "core.constant"() <{value = dense_resource<embedding> : tensor<40x32xf32>}> : () -> tensor<40x32xf32>
    %w = "core.constant"() <{value = dense_resource<hidden> : tensor<32x32xf32>}> : () -> tensor<32x32xf32>
    %x = "core.gather"(%c, %i) <{axis = 0 : i64}> : (tensor<40x32xf32>, tensor<1x3xi64>) -> tensor<1x3x32xf32>
    %h = "core.matmul"(%x, %w) : (tensor<1x3x32xf32>, tensor<32x32xf32>) -> tensor<1x3x32xf32>
    %a = "core.relu"(%h) : (tensor<1x3x32xf32>) -> tensor<1x3x32xf32>
    %t = "core.transpose"(%c) <{permutation = array<i64: 1, 0>}> : (tensor<40x32xf32>) -> tensor<32x40xf32>
    %y = "core.matmul"(%a, %t) : (tensor<1x3x32xf32>, tensor<32x40xf32>) -> tensor<1x3x40xf32>
    "func.return"(%y) : (tensor<1x3x40xf32>) -> ()
  }) : () -> ()
}) : () -> ()
