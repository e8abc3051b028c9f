//! The `tile` dialect: what an NPU does, on views of memory spaces, between `core` and the command stream.
//!
//! It mirrors the portable commands one to one, so that emission is a table: operands are a command's views in field order,
//! attributes its other fields, `engine` says who runs it. Extents, offsets and loop limits are dimension expressions over the
//! program's registers (`tile.register`) and the variables of enclosing `tile.for` loops, by name. It must not know how a
//! command is encoded, nor any target.
//!
//! ```text
//! %x = "tile.argument"() {name = "x", role = "input"} : () -> memref<4x64xf32, "io">
//! %s = "tile.buffer"() {capacity = array<i64: 4, 64>} : () -> memref<4x64xf32, "sram">
//! %t = "tile.transfer"(%s, %x) {engine = "dma0"} : (memref<4x64xf32, "sram">, memref<4x64xf32, "io">) -> !tile.token
//! "tile.wait"(%t) : (!tile.token) -> ()
//! "tile.unary"(%s, %s) {engine = "vector", function = "silu"} : (memref<..>, memref<..>) -> ()
//! ```

mod command;
mod control;
mod memory;

pub use command::*;
pub use control::*;
pub use memory::*;

use crate::op_def::OpDef;
use crate::registry::Dialect;

/// Memory spaces by name, as in the command set.
pub const SPACES: &[&str] = &["const", "io", "state", "dram", "sram", "acc"];

/// Engines by name, as in the command set.
pub const ENGINES: &[&str] = &["host", "dma0", "dma1", "matrix", "vector"];

/// What an op does with a view operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes all of it; earlier contents do not matter.
    Write,
    /// Reads it and writes it.
    Update,
}

impl Access {
    /// Whether bytes may change.
    pub const fn writes(self) -> bool {
        !matches!(self, Access::Read)
    }

    /// Whether earlier contents matter.
    pub const fn reads(self) -> bool {
        !matches!(self, Access::Write)
    }
}

/// An op that becomes a command which touches views.
pub struct CommandOp {
    /// Its definition.
    pub def: &'static OpDef,
    /// What it does with each operand definition, in order.
    pub access: &'static [Access],
}

/// The command op of a definition.
pub fn command_op(def: &OpDef) -> Option<&'static CommandOp> {
    COMMANDS.iter().chain(CONTROL_COMMANDS).find(|row| row.def == def)
}

/// The dialect.
pub static DIALECT: Dialect = Dialect {
    name: "tile",
    doc: "Strided transfers and engine commands on views of memory spaces.",
    ops: &[
        &REGISTER,
        &BUFFER,
        &CONSTANT,
        &ARGUMENT,
        &VIEW,
        &FOR,
        &LOOP,
        &BREAK_UNLESS,
        &IF,
        &SET_REGISTER,
        &STORE_EXPRESSION,
        &WAIT,
        &TRANSFER,
        &GATHER,
        &GATHER_ELEMENTS,
        &SCATTER_ELEMENTS,
        &GATHER_ND,
        &SCATTER_ND,
        &FILL,
        &IOTA,
        &MATMUL,
        &MATMUL_INTEGER,
        &CONVOLUTION,
        &CONV_TRANSPOSE,
        &POOL,
        &ATTENTION,
        &ATTENTION_FINISH,
        &UNARY,
        &BINARY,
        &SELECT,
        &CONVERT,
        &QUANTIZE,
        &DEQUANTIZE,
        &QUANTIZE_GROUPS,
        &REDUCE,
        &SOFTMAX,
        &NORMALIZE,
        &ROPE,
        &CUMULATIVE,
        &ARG_REDUCE,
        &TOP_K,
    ],
};
