//! Constant folding by the ops' own reference semantics, for small results only: a weight stays where it is mapped.

use super::{Rewriter, Simplified};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::fold;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::tensor::Tensor;

/// Largest constant that is folded: covers gains, rotary frequencies and shape arithmetic.
const LIMIT_BYTES: usize = 64 << 10;

/// The value of a constant of at most [`LIMIT_BYTES`].
pub(super) fn small_constant(module: &Module, value: ValueId) -> Option<Tensor> {
    fold::constant_of(module, value, LIMIT_BYTES)
}

/// Evaluates a pure op on small constants.
pub(super) fn fold(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    if makes_weights_larger(rewriter.module, op) {
        return None;
    }
    let results = fold::fold(rewriter.module, op, LIMIT_BYTES)?;
    Some(results.iter().map(|value| rewriter.constant(value)).collect())
}

/// Weights in few bits, sparse ones and codes of a palette stay so, also small ones.
fn makes_weights_larger(module: &Module, op: OpId) -> bool {
    let operation = module.op(op);
    let is_coded = || {
        let codes = operation.operands.get(1).and_then(|value| module.tensor(*value));
        operation.def == &core::GATHER && codes.is_some_and(|ty| ty.element == Element::U4)
    };
    operation.def == &core::DEQUANTIZE || operation.def == &core::SPARSE_EXPAND || is_coded()
}

/// A size that is known is a constant.
pub(super) fn size(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let dim = rewriter.module.op(op).attributes.get("value")?.as_dim()?;
    let Dim::Known(value) = dim else { return None };
    Some(vec![rewriter.constant(&Tensor::from_ints(Element::I64, &[], vec![value]))])
}
