//! The values of small computations on constants, asked for by rows that need them at compile time.
//!
//! Uses the ops' own reference semantics; gives nothing when data or symbols are involved or the numbers are many.

use super::operand::{Operand, Origin};
use std::collections::BTreeSet;
use std::sync::Arc;
use tilewright_ir::dialects::builtin;
use tilewright_ir::dim::Bindings;
use tilewright_ir::element::Element;
use tilewright_ir::module::{Module, Source, ValueId};
use tilewright_ir::op_def::{Evaluate, Invocation, Signature, Traits};
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::Type;

/// The most elements of a tensor that is computed here.
const ELEMENTS_MAX: i64 = 65536;
/// The most ops that are computed for one value, shared ones counted again.
const FUEL: usize = 256;

/// The value of an operand, if it is a small constant.
pub(crate) fn constant(module: &Module, operand: &Operand) -> Option<Tensor> {
    match operand.origin() {
        Origin::Constant(elements) => {
            is_small(&Type::Tensor(elements.ty().clone())).then(|| Tensor::from_elements(elements).ok())?
        }
        Origin::Symbolic(symbolic) => {
            let shape: Vec<i64> = symbolic.shape.iter().map(|dim| *dim as i64).collect();
            Some(Tensor::from_ints(symbolic.element, &shape, symbolic.known()?))
        }
        Origin::Value(value) => evaluate(module, *value, &mut FUEL.clone()),
        Origin::Strings(codes) => constant(module, codes),
        Origin::List(_) | Origin::Empty => None,
    }
}

/// The one number of an operand, if it is a constant of one element.
pub(crate) fn scalar(module: &Module, operand: &Operand) -> Option<f64> {
    let tensor = constant(module, operand)?;
    (tensor.len() == 1 && tensor.element != Element::Bool).then(|| tensor.float(0))
}

fn is_small(ty: &Type) -> bool {
    let count = ty.as_tensor().and_then(|tensor| {
        tensor.known_shape()?.iter().try_fold(1i64, |product, dim| product.checked_mul(*dim))
    });
    count.is_some_and(|count| count <= ELEMENTS_MAX)
}

fn evaluate(module: &Module, value: ValueId, fuel: &mut usize) -> Option<Tensor> {
    let Source::Result(op, index) = module.value(value).source else { return None };
    let operation = module.op(op);
    let Evaluate::With(function) = operation.def.evaluate else { return None };
    *fuel = fuel.checked_sub(1)?;
    if !operation.def.is(Traits::PURE) || !is_small(module.ty(value)) {
        return None;
    }
    let operands: Option<Vec<Tensor>> =
        operation.operands.iter().map(|operand| evaluate(module, *operand, fuel)).collect();
    let operands = operands?;
    let values: Vec<&Tensor> = operands.iter().collect();
    let results = module.with_signature(op, |signature| {
        let signature = Signature { ..*signature };
        function(&Invocation { signature, values: &values, bindings: &Bindings::new() }).ok()
    });
    results?.into_iter().nth(index)
}

/// The names of the model's inputs whose elements an operand follows from, sorted.
pub(crate) fn inputs_of(module: &Module, operand: &Operand) -> BTreeSet<Arc<str>> {
    let operand = operand.as_strings().unwrap_or(operand);
    let Origin::Value(value) = operand.origin() else { return BTreeSet::new() };
    let (mut names, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![*value]);
    while let Some(value) = open.pop() {
        if !seen.insert(value) {
            continue;
        }
        match module.value(value).source {
            Source::Result(op, _) => open.extend(&module.op(op).operands),
            Source::Argument(block, _) => {
                match module.block(block).parent.and_then(|region| module.region(region).parent) {
                    // What a loop hands to its body follows from what the loop is given.
                    Some(op) if module.op(op).def != &builtin::FUNCTION => {
                        open.extend(&module.op(op).operands)
                    }
                    _ => names.extend(module.value(value).name.clone()),
                }
            }
        }
    }
    names
}
