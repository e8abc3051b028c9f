// The text ends in the middle.
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "ma