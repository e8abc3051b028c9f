// Inputs and outputs keep their model names.
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{tw.name = "input_ids"}], function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, res_attrs = [{tw.name = "logits"}], sym_name = "main"}> ({
  ^bb0(%x: tensor<2x3xf32>):
    %y = "core.relu"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    "func.return"(%y) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
