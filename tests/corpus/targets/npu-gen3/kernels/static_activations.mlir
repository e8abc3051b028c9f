// A product between static quantisations is one of integers: the activation's scale is in the weight's, its zero point in the bias; the
// weight may have a zero point of its own.
// pipeline: optimize,canonicalize,cse,dce,form-kernels
// target: npu-gen3
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<5x64xf32>) -> (tensor<5x48xf32>, tensor<5x48xui8>), sym_name = "main"}> ({
  ^bb0(%x: tensor<5x64xf32>):
    %one = "core.constant"() <{value = dense<0.02> : tensor<f32>}> : () -> tensor<f32>
    %two = "core.constant"() <{value = dense<0.05> : tensor<f32>}> : () -> tensor<f32>
    %zx = "core.constant"() <{value = dense<131> : tensor<ui8>}> : () -> tensor<ui8>
    %zw = "core.constant"() <{value = dense<7> : tensor<i8>}> : () -> tensor<i8>
    %w = "core.constant"() <{value = dense<3> : tensor<64x48xi8>}> : () -> tensor<64x48xi8>
    %s = "core.constant"() <{value = dense<0.01> : tensor<48xf32>}> : () -> tensor<48xf32>
    %b = "core.constant"() <{value = dense<0.25> : tensor<48xf32>}> : () -> tensor<48xf32>
    %q = "core.quantize"(%x, %one, %zx) <{operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<5x64xf32>, tensor<f32>, tensor<ui8>) -> tensor<5x64xui8>
    %d = "core.dequantize"(%q, %one, %zx) <{operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<5x64xui8>, tensor<f32>, tensor<ui8>) -> tensor<5x64xf32>
    %v = "core.dequantize"(%w, %s) <{axis = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<64x48xi8>, tensor<48xf32>) -> tensor<64x48xf32>
    %u = "core.dequantize"(%w, %two, %zw) <{operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<64x48xi8>, tensor<f32>, tensor<i8>) -> tensor<64x48xf32>
    %m = "core.matmul"(%d, %v) : (tensor<5x64xf32>, tensor<64x48xf32>) -> tensor<5x48xf32>
    %y0 = "core.add"(%m, %b) : (tensor<5x48xf32>, tensor<48xf32>) -> tensor<5x48xf32>
    %n = "core.matmul"(%d, %u) : (tensor<5x64xf32>, tensor<64x48xf32>) -> tensor<5x48xf32>
    %y1 = "core.quantize"(%n, %two, %zx) <{operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<5x48xf32>, tensor<f32>, tensor<ui8>) -> tensor<5x48xui8>
    "func.return"(%y0, %y1) : (tensor<5x48xf32>, tensor<5x48xui8>) -> ()
  }) : () -> ()
}) : () -> ()
