//! Structured control flow of the sequencer, and numbers between registers and memory.
//!
//! ```text
//! "tile.for"() ({ .. %v = "tile.view"(%x) {offset = "64*i0", ..} .. }) {limit = "past_seq", step = 32, variable = "i0"} : () -> ()
//! "tile.if"(%condition) ({ .. }, { .. }) : (memref<i1, "dram">) -> ()
//! ```

use super::{Access, CommandOp};
use crate::op_def::{AttributeRule, OpDef, Traits, TypeRule, attribute, optional, optional_attribute, value};

/// A counted loop.
pub static FOR: OpDef = OpDef {
    name: "tile.for",
    doc: "Runs its region with `variable` = 0, step, 2 step, .. while it is less than `limit` (evaluated once). The variable is a \
          symbol inside the region.",
    attributes: &[
        attribute("variable", AttributeRule::Str),
        attribute("limit", AttributeRule::Dim),
        attribute("step", AttributeRule::Int),
    ],
    regions: 1,
    traits: Traits::NO_TERMINATOR,
    ..OpDef::DEFAULT
};

/// A loop left from inside.
pub static LOOP: OpDef = OpDef {
    name: "tile.loop",
    doc: "Runs its region at most `limit` times, until a `tile.break_unless` directly inside finds its condition false. `variable` \
          counts as in `tile.for`, by 1.",
    attributes: &[attribute("variable", AttributeRule::Str), attribute("limit", AttributeRule::Dim)],
    regions: 1,
    traits: Traits::NO_TERMINATOR,
    ..OpDef::DEFAULT
};

/// Leaves the innermost loop.
pub static BREAK_UNLESS: OpDef = OpDef {
    name: "tile.break_unless",
    doc: "Leaves the innermost loop when the one boolean is false.",
    operands: &[value("condition", TypeRule::View)],
    ..OpDef::DEFAULT
};

/// A condition.
pub static IF: OpDef = OpDef {
    name: "tile.if",
    doc: "Runs the first region when the one boolean is true, else the second.",
    operands: &[value("condition", TypeRule::View)],
    regions: 2,
    traits: Traits::NO_TERMINATOR,
    ..OpDef::DEFAULT
};

/// Memory to register.
pub static SET_REGISTER: OpDef = OpDef {
    name: "tile.set_register",
    doc: "Sets a scratch register from one integer in memory. A value outside its declared range is a run error.",
    operands: &[value("source", TypeRule::View)],
    attributes: &[attribute("register", AttributeRule::Str)],
    ..OpDef::DEFAULT
};

/// Expression to memory.
pub static STORE_EXPRESSION: OpDef = OpDef {
    name: "tile.store_expression",
    doc: "Writes the value of an expression to every element of an integer view.",
    operands: &[value("destination", TypeRule::View)],
    attributes: &[attribute("value", AttributeRule::Dim)],
    ..OpDef::DEFAULT
};

/// Waits for a transfer.
pub static WAIT: OpDef = OpDef {
    name: "tile.wait",
    doc: "Blocks until a transfer has finished: the one that gave the token, or the last one that ran with the same `name` (for \
          transfers that a loop starts one iteration ahead).",
    operands: &[optional("token", TypeRule::Opaque)],
    attributes: &[optional_attribute("name", AttributeRule::Str)],
    ..OpDef::DEFAULT
};

pub(super) static CONTROL_COMMANDS: &[CommandOp] = &[
    CommandOp { def: &BREAK_UNLESS, access: &[Access::Read] },
    CommandOp { def: &IF, access: &[Access::Read] },
    CommandOp { def: &SET_REGISTER, access: &[Access::Read] },
    CommandOp { def: &STORE_EXPRESSION, access: &[Access::Write] },
];
