//! One matrix product of a cluster: where its operands lie, in which form its weight is stored, and what is added behind.
//!
//! ```text
//! x [m, k] times w [k, n] with scale [blocks, n]; sparse: w and indices [k / 2, n]; coded: w holds u4, codebook [16]
//! ```

use crate::view::View;

/// One matrix product: x [batch.., m, k] times w [batch.., k, n].
#[derive(Clone, Debug)]
pub struct Product<X = View> {
    /// Left operand: where it lies, or which of a kernel's values it is.
    pub x: X,
    /// Right operand; a transposed weight comes with permuted strides. A 2:4 sparse one has half as many rows.
    pub w: View,
    /// [blocks, n], for a quantised w.
    pub scale: Option<View>,
    /// [blocks, n].
    pub zero_point: Option<View>,
    /// `[16]`: what codes of w stand for.
    pub codebook: Option<View>,
    /// [k / 2, n], for a 2:4 sparse w.
    pub indices: Option<View>,
    /// Rows of w per block; 0 when there is one.
    pub block: i64,
    /// Zero points of an integer product, of x's and w's rank, broadcast.
    pub integer_zeros: Option<[Option<View>; 2]>,
    /// `[n]`, added to the sum.
    pub bias: Option<View>,
    /// Function applied last.
    pub activation: Option<String>,
    /// Where its result goes.
    pub result: usize,
}

/// Rows of k in which a 2:4 sparse weight has two.
const SPARSE_ROWS: i64 = 4;
/// SRAM of a codebook: 16 levels of at most 32 bits.
pub(super) const CODEBOOK_BYTES: u64 = 64;

impl<X> Product<X> {
    /// The same weight with another left operand, another result, and the zero points of rows seen through `cut`.
    pub(super) fn on<Y>(&self, x: Y, result: usize, cut: impl Fn(&View) -> View) -> Product<Y> {
        let zeros = self.integer_zeros.clone();
        Product {
            x,
            w: self.w.clone(),
            scale: self.scale.clone(),
            zero_point: self.zero_point.clone(),
            codebook: self.codebook.clone(),
            indices: self.indices.clone(),
            block: self.block,
            integer_zeros: zeros.map(|[x, w]| [x.as_ref().map(cut), w]),
            bias: self.bias.clone(),
            activation: self.activation.clone(),
            result,
        }
    }

    /// Rows of k that must stay together: a block of scales, four of a sparse weight; none when they do not fit each other.
    pub(super) fn unit(&self) -> Option<i64> {
        match (self.block, self.indices.is_some()) {
            (block, false) => Some(block.max(1)),
            (0, true) => Some(SPARSE_ROWS),
            (block, true) => (block % SPARSE_ROWS == 0).then_some(block),
        }
    }

    /// Rows of w that `rows` rows of k have.
    pub(super) fn stored(&self, rows: i64) -> i64 {
        if self.indices.is_some() { rows / 2 } else { rows }
    }
}
