//! Packed weights: in which tiles the runtime's kernels read the right side of a product, and the recipe that brings a weight there.
//!
//! A tile is 16 columns of `halves * rows` rows of k. Its columns lie one after another, each with its rows: what a vector register of
//! 16 sums takes in one load. With two halves, row `p * rows + q` is the `p`-th element of the `q`-th pair: the low and the high nibbles of
//! a line then are one register each. It must not know ops or kernels.
//!
//! ```text
//! [k, n] i4  =>  pad [k1 * 8, n1 * 16]  =>  reshape [k1, 2, 4, n1, 16]  =>  transpose [n1, k1, 16, 4, 2]
//! ```

use crate::emit::runtime_element;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::builder::Builder;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::types::TensorType;
use tilewright_runtime::kernels::packed;

/// Columns of a tile.
pub const COLUMNS: i64 = packed::PANEL_COLUMNS as i64;

/// The rows of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Parts that the rows of a tile come in.
    pub halves: i64,
    /// Rows of k in each part that lie side by side.
    pub rows: i64,
}

impl Layout {
    /// The layout that the runtime's kernels know for an element type; `None` where products read it as it is.
    pub fn of(element: Element) -> Option<Layout> {
        let known = packed::Layout::of(runtime_element(element)?)?;
        Some(Layout { halves: known.groups as i64, rows: known.rows as i64 })
    }

    /// Rows of k of a tile.
    pub fn depth(self) -> i64 {
        self.halves * self.rows
    }

    /// Shape of a packed matrix: `[n1, k1, columns, rows, halves]`.
    pub fn shape(self, k: i64, n: i64) -> [i64; 5] {
        [ceil_div(n, COLUMNS), ceil_div(k, self.depth()), COLUMNS, self.rows, self.halves]
    }

    /// Packs a matrix `[k, n]`, or `[n, k]` when it is turned.
    ///
    /// # Errors
    /// When it is no matrix of known size.
    pub fn pack(self, builder: &mut Builder, w: ValueId, is_turned: bool) -> Result<ValueId, String> {
        let shape = matrix(builder, w)?;
        let (k, n) = if is_turned { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
        let [n1, k1, columns, rows, halves] = self.shape(k, n);
        let split = [k1, halves, rows];
        let (whole, dims, order) = if is_turned {
            ([n1 * columns, k1 * self.depth()], [&[n1, columns], &split[..]].concat(), [0, 2, 1, 4, 3])
        } else {
            ([k1 * self.depth(), n1 * columns], [&split[..], &[n1, columns]].concat(), [3, 0, 4, 2, 1])
        };
        let padded = pad(builder, w, &shape, &whole)?;
        moved(builder, padded, &dims, &order)
    }
}

/// Packs scales or zero points `[blocks, n]`, or `[n, blocks]` when they are turned, to `[n1, blocks, columns]`.
///
/// # Errors
/// As [`Layout::pack`].
pub fn pack_factors(builder: &mut Builder, factors: ValueId, is_turned: bool) -> Result<ValueId, String> {
    let shape = matrix(builder, factors)?;
    let (blocks, n) = if is_turned { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
    let n1 = ceil_div(n, COLUMNS);
    let (whole, dims, order) = if is_turned {
        ([n1 * COLUMNS, blocks], [n1, COLUMNS, blocks], [0, 2, 1])
    } else {
        ([blocks, n1 * COLUMNS], [blocks, n1, COLUMNS], [1, 0, 2])
    };
    let padded = pad(builder, factors, &shape, &whole)?;
    moved(builder, padded, &dims, &order)
}

fn ceil_div(a: i64, b: i64) -> i64 {
    (a + b - 1) / b
}

fn matrix(builder: &Builder, value: ValueId) -> Result<[i64; 2], String> {
    let ty = builder.module.tensor(value).ok_or("expected a tensor")?;
    let shape = ty.known_shape().ok_or_else(|| format!("{ty} has no known size"))?;
    shape.as_slice().try_into().map_err(|_| format!("{ty} is no matrix"))
}

/// Zeros after the end of both axes.
fn pad(builder: &mut Builder, x: ValueId, shape: &[i64; 2], whole: &[i64; 2]) -> Result<ValueId, String> {
    if shape == whole {
        return Ok(x);
    }
    let high = [whole[0] - shape[0], whole[1] - shape[1]].map(Dim::Known);
    let pad = builder.op(&core::PAD).operand(x).maybe(None);
    let pad = pad.attribute("low", Attribute::dims(&[Dim::Known(0), Dim::Known(0)]));
    pad.attribute("high", Attribute::dims(&high)).value()
}

/// Reshapes, then permutes.
fn moved(builder: &mut Builder, x: ValueId, dims: &[i64], order: &[i64]) -> Result<ValueId, String> {
    let element = builder.module.tensor(x).ok_or("expected a tensor")?.element;
    let split = builder.op(&core::RESHAPE).operand(x).result(TensorType::of(element, dims)).value()?;
    builder.op(&core::TRANSPOSE).operand(split).attribute("permutation", Attribute::ints(order)).value()
}
