// Comments and free spacing are read and dropped.
// again
"builtin.module"() ({ // here
"func.func"()<{function_type=()->(),sym_name="main"}>({"func.return"():()->()}):()->()
}):()->()
