//! Constant folding by the ops' own reference semantics, for small results only: a weight stays where it is mapped.

use super::{Rewriter, Simplified};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::{Bindings, Dim};
use tilewright_ir::element::Element;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::op_def::{Evaluate, Invocation, Signature, Traits};
use tilewright_ir::tensor::Tensor;

/// Largest constant that is folded, in elements: covers gains, rotary frequencies and shape arithmetic.
const ELEMENTS_MAX: i64 = 8192;

/// The value of a constant of at most [`ELEMENTS_MAX`] elements.
pub(super) fn small_constant(module: &Module, value: ValueId) -> Option<Tensor> {
    let op = module.producer_of(value, &core::CONSTANT)?;
    let elements = module.op(op).attributes.get("value")?.as_elements()?;
    let count: i64 = elements.ty().known_shape()?.iter().product();
    (count <= ELEMENTS_MAX).then(|| Tensor::from_elements(elements).ok())?
}

/// Evaluates a pure op on small constants.
pub(super) fn fold(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let module = &*rewriter.module;
    let operation = module.op(op);
    let def = operation.def;
    // Quantised weights stay quantised, also small ones.
    if !def.is(Traits::PURE)
        || def.is(Traits::CONSTANT)
        || def == &core::DEQUANTIZE
        || !operation.regions.is_empty()
    {
        return None;
    }
    let Evaluate::With(evaluate) = def.evaluate else { return None };
    let is_constant = |value: &ValueId| module.producer_of(*value, &core::CONSTANT).is_some();
    if def == &core::SIZE || !operation.operands.iter().all(is_constant) {
        return None;
    }
    for result in &operation.results {
        let shape = module.tensor(*result)?.known_shape()?;
        if shape.iter().product::<i64>() > ELEMENTS_MAX {
            return None;
        }
    }
    let values: Vec<Tensor> =
        operation.operands.iter().map(|value| small_constant(module, *value)).collect::<Option<_>>()?;
    let references: Vec<&Tensor> = values.iter().collect();
    let bindings = Bindings::new();
    let results = module
        .with_signature(op, |signature| {
            let signature = Signature { ..*signature };
            evaluate(&Invocation { signature, values: &references, bindings: &bindings })
        })
        .ok()?;
    let types: Vec<_> = operation.results.iter().map(|value| module.tensor(*value).cloned()).collect();
    if results.iter().zip(&types).any(|(value, ty)| Some(value.ty()) != *ty) {
        return None;
    }
    Some(results.iter().map(|value| rewriter.constant(value)).collect())
}

/// A size that is known is a constant.
pub(super) fn size(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let dim = rewriter.module.op(op).attributes.get("value")?.as_dim()?;
    let Dim::Known(value) = dim else { return None };
    Some(vec![rewriter.constant(&Tensor::from_ints(Element::I64, &[], vec![value]))])
}
