// Constants of every element type that MLIR has.
"builtin.module"() ({
  "func.func"() <{function_type = () -> tensor<2xf32>, sym_name = "main"}> ({
  ^bb0:
    %c0 = "core.constant"() <{value = dense<1.5> : tensor<2xf64>}> : () -> tensor<2xf64>
    %c1 = "core.constant"() <{value = dense<1.5> : tensor<2xf32>}> : () -> tensor<2xf32>
    %c2 = "core.constant"() <{value = dense<1.5> : tensor<2xf16>}> : () -> tensor<2xf16>
    %c3 = "core.constant"() <{value = dense<1.5> : tensor<2xbf16>}> : () -> tensor<2xbf16>
    %c4 = "core.constant"() <{value = dense<-3> : tensor<2xi64>}> : () -> tensor<2xi64>
    %c5 = "core.constant"() <{value = dense<-3> : tensor<2xi32>}> : () -> tensor<2xi32>
    %c6 = "core.constant"() <{value = dense<-3> : tensor<2xi16>}> : () -> tensor<2xi16>
    %c7 = "core.constant"() <{value = dense<-3> : tensor<2xi8>}> : () -> tensor<2xi8>
    %c8 = "core.constant"() <{value = dense<-3> : tensor<2xi4>}> : () -> tensor<2xi4>
    %c9 = "core.constant"() <{value = dense<3> : tensor<2xui64>}> : () -> tensor<2xui64>
    %c10 = "core.constant"() <{value = dense<3> : tensor<2xui32>}> : () -> tensor<2xui32>
    %c11 = "core.constant"() <{value = dense<3> : tensor<2xui16>}> : () -> tensor<2xui16>
    %c12 = "core.constant"() <{value = dense<3> : tensor<2xui8>}> : () -> tensor<2xui8>
    %c13 = "core.constant"() <{value = dense<3> : tensor<2xui4>}> : () -> tensor<2xui4>
    %c14 = "core.constant"() <{value = dense<true> : tensor<2xi1>}> : () -> tensor<2xi1>
    "func.return"(%c1) : (tensor<2xf32>) -> ()
  }) : () -> ()
}) : () -> ()
