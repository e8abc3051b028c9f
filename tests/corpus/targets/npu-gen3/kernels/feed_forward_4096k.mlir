// The same with 4096 KiB of SRAM.
// pipeline: form-kernels
// target: npu-gen3
// sram: 4194304
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x4x16xf32>, tensor<16xf32>, tensor<16x24xf32>, tensor<16x24xf32>, tensor<24x16xf32>) -> tensor<1x4x16xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<1x4x16xf32>, %g: tensor<16xf32>, %wg: tensor<16x24xf32>, %wu: tensor<16x24xf32>, %wd: tensor<24x16xf32>):
    %n = "core.rms_norm"(%x, %g) <{epsilon = 1.000000e-06}> : (tensor<1x4x16xf32>, tensor<16xf32>) -> tensor<1x4x16xf32>
    %a = "core.linear"(%n, %wg) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = false}> : (tensor<1x4x16xf32>, tensor<16x24xf32>) -> tensor<1x4x24xf32>
    %b = "core.linear"(%n, %wu) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = false}> : (tensor<1x4x16xf32>, tensor<16x24xf32>) -> tensor<1x4x24xf32>
    %m = "core.glu"(%a, %b) <{activation = "silu"}> : (tensor<1x4x24xf32>, tensor<1x4x24xf32>) -> tensor<1x4x24xf32>
    %d = "core.linear"(%m, %wd) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = false}> : (tensor<1x4x24xf32>, tensor<24x16xf32>) -> tensor<1x4x16xf32>
    %y = "core.add"(%x, %d) : (tensor<1x4x16xf32>, tensor<1x4x16xf32>) -> tensor<1x4x16xf32>
    "func.return"(%y) : (tensor<1x4x16xf32>) -> ()
  }) : () -> ()
}) : () -> ()
