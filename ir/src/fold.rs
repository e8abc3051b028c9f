//! Constant folding: an op whose operands are all small constants becomes constants, by its own reference semantics.
//!
//! Used by the importer for shape arithmetic and by the canonicaliser. Large tensors stay as they are: a weight is never copied
//! into the IR. An op that cannot be evaluated (an index out of range, an unbound symbol) is left for the evaluator to report.
//!
//! ```text
//! %0 = "core.add"(%c1, %c2) : (tensor<i64>, tensor<i64>) -> tensor<i64>   =>   "core.constant"() <{value = dense<3> : tensor<i64>}>
//! ```

use crate::builder::Builder;
use crate::dialects::core::CONSTANT;
use crate::dim::Bindings;
use crate::evaluate::invoke;
use crate::module::{Module, OpId};
use crate::op_def::{Signature, Traits};
use crate::tensor::Tensor;
use crate::types::Type;

/// How many bytes a tensor may have to be folded, when the caller has no reason for another limit.
pub const DEFAULT_LIMIT_BYTES: usize = 4096;

fn is_small(ty: &Type, limit_bytes: usize) -> bool {
    let Some(tensor) = ty.as_tensor() else { return false };
    let Some(shape) = tensor.known_shape() else { return false };
    let count = shape.iter().try_fold(1usize, |product, dim| product.checked_mul((*dim).max(0) as usize));
    count
        .and_then(|count| count.checked_mul(tensor.element.bits()))
        .is_some_and(|bits| bits.div_ceil(8) <= limit_bytes)
}

/// The value of a constant of at most `limit_bytes`.
pub fn constant_of(module: &Module, value: crate::module::ValueId, limit_bytes: usize) -> Option<Tensor> {
    let op = module.producer_of(value, &CONSTANT)?;
    if !is_small(module.ty(value), limit_bytes) {
        return None;
    }
    Tensor::from_elements(module.op(op).attributes.get("value")?.as_elements()?).ok()
}

/// Evaluates an op from a signature and operand values, if it is pure, has no regions and its results are small.
pub fn fold_signature(signature: &Signature, values: &[&Tensor], limit_bytes: usize) -> Option<Vec<Tensor>> {
    let def = signature.def;
    if !def.is(Traits::PURE) || !signature.results.iter().all(|ty| is_small(ty, limit_bytes)) {
        return None;
    }
    let results = signature.results;
    let found = invoke(signature, values, &Bindings::new()).ok()?;
    let fits = |(ty, value): (&Type, &Tensor)| ty.as_tensor().is_some_and(|ty| *ty == value.ty());
    (found.len() == results.len() && results.iter().zip(&found).all(fits)).then_some(found)
}

/// The values of an op's results, if all its operands are constants and none of them nor the results is over the limit. `None` for
/// constants themselves.
pub fn fold(module: &Module, op: OpId, limit_bytes: usize) -> Option<Vec<Tensor>> {
    let operation = module.op(op);
    if operation.def == &CONSTANT {
        return None;
    }
    let operands: Option<Vec<Tensor>> =
        operation.operands.iter().map(|value| constant_of(module, *value, limit_bytes)).collect();
    let operands = operands?;
    let values: Vec<&Tensor> = operands.iter().collect();
    module.with_signature(op, |signature| fold_signature(signature, &values, limit_bytes))
}

/// Replaces an op by constants if [`fold`] can; true when it did.
pub fn fold_in_place(module: &mut Module, op: OpId, limit_bytes: usize) -> bool {
    let Some(values) = fold(module, op, limit_bytes) else { return false };
    let results = module.op(op).results.clone();
    for (result, value) in results.into_iter().zip(&values) {
        let constant = Builder::before(module, op).constant(value);
        module.replace_all_uses(result, constant);
    }
    module.erase(op);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::core;
    use crate::element::Element;

    #[test]
    fn small_constants_fold_and_others_stay() {
        let mut module = Module::new();
        let block = module.body();
        let mut builder = Builder::at_end(&mut module, block);
        let a = builder.constant(&Tensor::from_ints(Element::I64, &[2], vec![1, 2]));
        let b = builder.constant(&Tensor::from_ints(Element::I64, &[2], vec![10, 20]));
        let sum = builder.op(&core::ADD).operands(&[a, b]).value().unwrap();
        let minus = builder.op(&core::NEG).operand(sum).value().unwrap();
        let sum_op = module.producer(sum).unwrap();
        assert_eq!(fold(&module, sum_op, 15), None, "16 bytes are over the limit of 15");
        let minus_op = module.producer(minus).unwrap();
        assert_eq!(fold(&module, minus_op, 4096), None, "its operand is no constant yet");
        assert!(fold_in_place(&mut module, sum_op, 16));
        assert_eq!(fold(&module, minus_op, 16).unwrap()[0].ints(), [-11, -22]);
    }

    #[test]
    fn what_cannot_be_evaluated_stays() {
        let mut module = Module::new();
        let block = module.body();
        let mut builder = Builder::at_end(&mut module, block);
        let x = builder.constant(&Tensor::from_ints(Element::I64, &[2], vec![1, 2]));
        let index = builder.constant(&Tensor::from_ints(Element::I64, &[], vec![5]));
        let gathered =
            builder.op(&core::GATHER).operands(&[x, index]).attribute("axis", 0i64).value().unwrap();
        let size = builder.op(&core::SIZE).attribute("value", "seq").value().unwrap();
        for value in [gathered, size] {
            let op = module.producer(value).unwrap();
            assert!(!fold_in_place(&mut module, op, DEFAULT_LIMIT_BYTES));
        }
    }
}
