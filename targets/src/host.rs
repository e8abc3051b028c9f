//! The host: every core op as portable commands with engine `host` on whole views in DRAM. What a target does not take runs here.
//!
//! Ops that only rename elements become views of their operand; broadcasts are strides of 0, transposes are permuted strides; fused
//! ops are taken apart. It must not know targets.
//!
//! ```text
//! %y = "core.softmax"(%x) {axis = 1}   =>   "tile.softmax"(%y', %x') {engine = "host"}, both with axis 1 moved to the end
//! ```

mod attention;
mod cache;
mod compression;
mod control;
mod elementwise;
mod indexing;
mod movement;
mod pad;
mod product;
mod quantization;
mod reduction;
mod spatial;

use crate::lowering::{LoweringContext, engine, space};
use crate::view::View;
use tilewright_ir::dialects::tile;
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;
use tilewright_ir::op_def::OpDef;

pub(crate) use attention::merge_units;
pub(crate) use cache::{BlockViews, Piece, QuantizeBlock, append_blocks, pieces, quantize_channels};
pub(crate) use control::inline_kernel;
pub(crate) use product::{Weight, linear_with};
pub(crate) use quantization::Parameters;
pub(crate) use spatial::{cut as cut_padding, zero_points};

/// How the host runs an op.
pub struct HostRow {
    /// The op.
    pub def: &'static OpDef,
    /// Writes its tile ops.
    pub lower: fn(&mut LoweringContext, OpId) -> Result<(), String>,
    /// It only renames: it takes no command where strides allow it, and is not listed in the placement table.
    pub is_free: bool,
    /// Its ops are placed one by one.
    pub has_regions: bool,
}

impl HostRow {
    const fn new(
        def: &'static OpDef,
        lower: fn(&mut LoweringContext, OpId) -> Result<(), String>,
    ) -> HostRow {
        HostRow { def, lower, is_free: false, has_regions: false }
    }

    const fn free(
        def: &'static OpDef,
        lower: fn(&mut LoweringContext, OpId) -> Result<(), String>,
    ) -> HostRow {
        HostRow { is_free: true, ..HostRow::new(def, lower) }
    }

    const fn regions(
        def: &'static OpDef,
        lower: fn(&mut LoweringContext, OpId) -> Result<(), String>,
    ) -> HostRow {
        HostRow { has_regions: true, ..HostRow::new(def, lower) }
    }
}

static TABLES: &[&[HostRow]] = &[
    attention::ROWS,
    cache::ROWS,
    compression::ROWS,
    control::ROWS,
    elementwise::ROWS,
    indexing::ROWS,
    movement::ROWS,
    pad::ROWS,
    product::ROWS,
    quantization::ROWS,
    reduction::ROWS,
    spatial::ROWS,
];

/// The host's row of an op.
pub fn find(def: &OpDef) -> Option<&'static HostRow> {
    TABLES.iter().flat_map(|rows| rows.iter()).find(|row| row.def == def)
}

// ---- what the families share ------------------------------------------------------------------------------------------

const HOST: &str = engine::HOST;

impl LoweringContext<'_> {
    fn host_copy(&mut self, destination: &View, source: &View) -> Result<(), String> {
        if destination == source { Ok(()) } else { self.transfer(self.copy_engine, destination, source) }
    }

    fn host_fill(&mut self, destination: &View, value: f64) -> Result<(), String> {
        self.command(&tile::FILL, HOST).view(destination).attribute("value", value).emit()
    }

    fn host_unary(&mut self, function: &str, destination: &View, x: &View) -> Result<(), String> {
        self.command(&tile::UNARY, HOST).view(destination).view(x).attribute("function", function).emit()
    }

    fn host_binary(&mut self, function: &str, destination: &View, a: &View, b: &View) -> Result<(), String> {
        let (a, b) = (a.broadcast_to(&destination.dims), b.broadcast_to(&destination.dims));
        self.command(&tile::BINARY, HOST)
            .view(destination)
            .view(&a)
            .view(&b)
            .attribute("function", function)
            .emit()
    }

    /// Float to integer saturates, integer to integer wraps, as `core.cast` says.
    fn host_convert(&mut self, destination: &View, x: &View) -> Result<(), String> {
        let saturate = x.element.is_float();
        self.command(&tile::CONVERT, HOST).view(destination).view(x).attribute("saturate", saturate).emit()
    }

    /// A new DRAM buffer.
    fn host_buffer(&mut self, element: Element, dims: &[tilewright_ir::dim::Dim]) -> Result<View, String> {
        self.buffer(space::DRAM, element, dims)
    }

    /// The elements of `view` in another element type, converted when it has to be.
    fn host_cast(&mut self, view: &View, element: Element) -> Result<View, String> {
        if view.element == element {
            return Ok(view.clone());
        }
        let copy = self.host_buffer(element, &view.dims)?;
        self.host_convert(&copy, view)?;
        Ok(copy)
    }
}

/// Reads operand 0 and the destination of result 0.
fn one_to_one(context: &mut LoweringContext, op: OpId) -> Result<(View, View), String> {
    let x = context.operand(op, 0)?;
    let destination = context.destination(context.result(op, 0))?;
    Ok((destination, x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::dialects::core;

    #[test]
    fn every_core_op_has_a_row() {
        let free_standing = [&core::CONSTANT, &core::YIELD, &core::KERNEL];
        let missing: Vec<&str> = core::DIALECT
            .ops
            .iter()
            .filter(|op| !free_standing.contains(op) && find(op).is_none())
            .map(|op| op.name)
            .collect();
        assert!(missing.is_empty(), "no host lowering for {missing:?}");
    }
}
