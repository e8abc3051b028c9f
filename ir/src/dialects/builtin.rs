//! MLIR's own module and functions, as far as they are used.
//!
//! ```text
//! "builtin.module"() ({ "func.func"() <{function_type = () -> (), sym_name = "main"}> ({ "func.return"() : () -> () }) : () -> () }) : () -> ()
//! ```

use crate::op_def::{
    AttributeRule, Evaluate, OpDef, Traits, TypeRule, attribute, optional_attribute, variadic,
};
use crate::registry::Dialect;

/// The dialect.
pub static DIALECT: Dialect =
    Dialect { name: "builtin", doc: "MLIR's module and functions.", ops: &[&MODULE, &FUNCTION, &RETURN] };

/// The outermost op.
pub static MODULE: OpDef = OpDef {
    name: "builtin.module",
    doc: "Holds functions.",
    attributes: &[optional_attribute("sym_name", AttributeRule::Str)],
    regions: 1,
    traits: Traits::ISOLATED.with(Traits::NO_TERMINATOR),
    ..OpDef::DEFAULT
};

/// A function.
pub static FUNCTION: OpDef = OpDef {
    name: "func.func",
    doc: "A function: one region whose first block takes the arguments. `arg_attrs` and `res_attrs` name inputs and outputs \
          (`tw.name`) and tie states (`tw.state`).",
    attributes: &[
        attribute("function_type", AttributeRule::Type),
        attribute("sym_name", AttributeRule::Str),
        optional_attribute("arg_attrs", AttributeRule::Array),
        optional_attribute("res_attrs", AttributeRule::Array),
        optional_attribute("sym_visibility", AttributeRule::Str),
    ],
    regions: 1,
    traits: Traits::ISOLATED.with(Traits::SYMBOL),
    ..OpDef::DEFAULT
};

/// Gives a function's results.
pub static RETURN: OpDef = OpDef {
    name: "func.return",
    doc: "Ends a function with its results.",
    operands: &[variadic("results", TypeRule::Any)],
    traits: Traits::TERMINATOR,
    evaluate: Evaluate::None,
    ..OpDef::DEFAULT
};
