// A row that cannot fit on the chip goes to the host, which says why.
// target: npu-gen3
// sram: 1024
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x4096xf32>, tensor<4096xf32>) -> tensor<1x4096xf32>, sym_name = "main"}> ({
  ^bb0(%x0: tensor<1x4096xf32>, %x1: tensor<4096xf32>):
    %y = "core.rms_norm"(%x0, %x1) <{epsilon = 1.000000e-06}> : (tensor<1x4096xf32>, tensor<4096xf32>) -> tensor<1x4096xf32>
    "func.return"(%y) : (tensor<1x4096xf32>) -> ()
  }) : () -> ()
}) : () -> ()
