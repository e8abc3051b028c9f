//! A value of a rows kernel of which SRAM holds some columns, while the others lie in memory.
//!
//! Both parts are seen as if they had all columns, so that a place along k means the same in both. It must not choose how many columns stay.
//!
//! ```text
//! q [128, 8192] with 5120 columns resident: kept [128, 5120] in SRAM, rest [128, 3072] in memory at columns 5120..8192
//! ```

use super::rows::Rows;
use crate::lowering::LoweringContext;
use crate::view::View;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::op_def::Traits;

/// A value in two parts.
pub(super) struct Parted {
    /// The value.
    pub(super) value: usize,
    /// Columns that are resident, the first ones.
    pub(super) columns: i64,
    width: i64,
    /// Where those are, seen as all columns.
    pub(super) kept: View,
    /// Where the others are, seen as all columns.
    pub(super) rest: View,
}

impl Parted {
    /// The first `columns` of `width` columns lie in `kept`, the others in `rest`.
    pub(super) fn new(value: usize, columns: i64, width: i64, kept: View, rest: View) -> Parted {
        let all = |view: &View| vec![view.dims[0].clone(), Dim::Known(width)];
        // A view of all columns already: memory that was there before.
        let missing = if rest.dims[1] == Dim::Known(width) { 0 } else { columns };
        let kept = View { dims: all(&kept), ..kept };
        let offset = &rest.offset - &Dim::Known(missing * rest.strides[1]);
        let rest = View { dims: all(&rest), offset, ..rest };
        Parted { value, columns, width, kept, rest }
    }

    /// First column, number of columns and place of both parts, and whether that is in SRAM.
    pub(super) fn parts(&self) -> [([i64; 2], View, bool); 2] {
        let part = |view: &View, start: i64, length: i64| {
            ([start, length], view.slice(1, &Dim::Known(start), &Dim::Known(length), 1))
        };
        let (first, kept) = part(&self.kept, 0, self.columns);
        let (second, rest) = part(&self.rest, self.columns, self.width - self.columns);
        [(first, kept, true), (second, rest, false)]
    }
}

/// Whether a part of a value may be resident: nothing but the products of one cluster reads it, and it comes from memory or from an op that
/// computes its columns one by one.
pub(super) fn is_divisible(context: &LoweringContext, rows: &Rows, value: usize) -> bool {
    let [cluster] = &rows.clusters[..] else { return false };
    let row_value = &rows.values[value];
    let reads = |nodes: &[super::rows::RowNode]| {
        nodes.iter().any(|node| node.operands.iter().flatten().any(|operand| *operand == value))
    };
    let is_made = |node: &super::rows::RowNode| {
        let def = context.op(node.op).def;
        node.result == value && (def == &core::QUANTIZE || def.is(Traits::ELEMENTWISE))
    };
    let comes = match &row_value.input {
        Some(view) => view.strides[0] != 0 && view.strides[1] != 0,
        None => rows.prologue.iter().any(is_made),
    };
    comes
        && rows.count.0.known().is_some()
        && row_value.width.known().is_some()
        && row_value.element.bits() >= 8
        && cluster.products.iter().all(|product| product.x == value)
        && !reads(&cluster.nodes)
        && !reads(&rows.prologue)
}
