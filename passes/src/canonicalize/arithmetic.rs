//! Arithmetic that does nothing, or has a plainer form. Only what is exact for every input of the op's type.

use super::{Rewriter, Simplified, is_float};
use tilewright_ir::attribute::Attributes;
use tilewright_ir::dialects::core;
use tilewright_ir::element::Element;
use tilewright_ir::module::{OpId, ValueId};
use tilewright_ir::op_def::OpDef;
use tilewright_ir::tensor::Tensor;

/// `x` when the other operand is the neutral number.
fn neutral(rewriter: &Rewriter, op: OpId, number: f64) -> Simplified {
    let (x, c) = (rewriter.operand(op, 0), rewriter.operand(op, 1));
    (rewriter.splat(c)? == number).then(|| rewriter.same_type(op, x))?
}

fn unary(rewriter: &mut Rewriter, op: OpId, def: &'static OpDef, x: ValueId) -> Simplified {
    let ty = rewriter.result_type(op)?;
    (rewriter.tensor(x)? == ty).then_some(())?;
    Some(vec![rewriter.make(def, &[x], Attributes::new(), &ty)?])
}

/// `x + 0`, `x + neg(y)`.
pub(super) fn add(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    if let Some(found) = neutral(rewriter, op, 0.0) {
        return Some(found);
    }
    let (x, y) = (rewriter.operand(op, 0), rewriter.operand(op, 1));
    let ty = rewriter.result_type(op)?;
    for (kept, negated) in [(x, y), (y, x)] {
        if let Some(neg) = rewriter.module.producer_of(negated, &core::NEG) {
            let inner = rewriter.operand(neg, 0);
            return Some(vec![rewriter.make(&core::SUB, &[kept, inner], Attributes::new(), &ty)?]);
        }
    }
    None
}

/// `x - 0`.
pub(super) fn sub(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    neutral(rewriter, op, 0.0)
}

/// `x * 1`, `x * -1`.
pub(super) fn mul(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    if let Some(found) = neutral(rewriter, op, 1.0) {
        return Some(found);
    }
    let (x, c) = (rewriter.operand(op, 0), rewriter.operand(op, 1));
    let element = rewriter.result_type(op)?.element;
    if is_float(element) && rewriter.splat(c)? == -1.0 {
        return unary(rewriter, op, &core::NEG, x);
    }
    None
}

/// `x / 1`, division by a power of two, `1 / x`.
pub(super) fn div(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    if let Some(found) = neutral(rewriter, op, 1.0) {
        return Some(found);
    }
    let (x, y) = (rewriter.operand(op, 0), rewriter.operand(op, 1));
    let ty = rewriter.result_type(op)?;
    if !is_float(ty.element) {
        return None;
    }
    if let Some(number) = rewriter.splat(y) {
        let inverse = 1.0 / number;
        // The reciprocal of a power of two is exact, so that multiplying gives the same bits.
        if number.is_normal() && number.abs().log2().fract() == 0.0 && number.abs().log2().abs() < 14.0 {
            let shape: Vec<usize> =
                rewriter.tensor(y)?.known_shape()?.iter().map(|dim| *dim as usize).collect();
            let constant = rewriter.constant(&Tensor::splat(ty.element, &shape, inverse));
            return Some(vec![rewriter.make(&core::MUL, &[x, constant], Attributes::new(), &ty)?]);
        }
        return None;
    }
    if rewriter.splat(x)? == 1.0 {
        return unary(rewriter, op, &core::RECIPROCAL, y);
    }
    None
}

/// Powers with a plain form.
pub(super) fn pow(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let (x, c) = (rewriter.operand(op, 0), rewriter.operand(op, 1));
    let number = rewriter.splat(c)?;
    let ty = rewriter.result_type(op)?;
    if number == 1.0 {
        return rewriter.same_type(op, x);
    }
    if number == 2.0 || number == 3.0 {
        (rewriter.tensor(x)? == ty).then_some(())?;
        let square = rewriter.make(&core::MUL, &[x, x], Attributes::new(), &ty)?;
        if number == 2.0 {
            return Some(vec![square]);
        }
        return Some(vec![rewriter.make(&core::MUL, &[square, x], Attributes::new(), &ty)?]);
    }
    let plain: &[(f64, &'static OpDef)] =
        &[(0.5, &core::SQRT), (-0.5, &core::RSQRT), (-1.0, &core::RECIPROCAL)];
    let row = plain.iter().find(|row| row.0 == number && is_float(ty.element))?;
    unary(rewriter, op, row.1, x)
}

/// `f(f(x))` for `neg` and `not`.
pub(super) fn involution(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let def = rewriter.module.op(op).def;
    let inner = rewriter.module.producer_of(rewriter.operand(op, 0), def)?;
    Some(vec![rewriter.operand(inner, 0)])
}

/// `1 / sqrt(x)`.
pub(super) fn reciprocal(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let root = rewriter.module.producer_of(rewriter.operand(op, 0), &core::SQRT)?;
    let x = rewriter.operand(root, 0);
    unary(rewriter, op, &core::RSQRT, x)
}

/// `and` with true, `or` with false, either with itself.
pub(super) fn logical(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let function = rewriter.module.op(op).attributes.get("function")?.as_str()?.to_string();
    let (x, y) = (rewriter.operand(op, 0), rewriter.operand(op, 1));
    if x == y && function != "xor" {
        return rewriter.same_type(op, x);
    }
    let value = rewriter.splat(y)?;
    match (function.as_str(), value != 0.0) {
        ("and", true) | ("or" | "xor", false) => rewriter.same_type(op, x),
        ("and", false) | ("or", true) => rewriter.same_type(op, y),
        _ => None,
    }
}

/// A constant condition, or equal branches.
pub(super) fn select(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let (condition, a, b) = (rewriter.operand(op, 0), rewriter.operand(op, 1), rewriter.operand(op, 2));
    if a == b {
        return rewriter.same_type(op, a);
    }
    let chosen = if rewriter.splat(condition)? != 0.0 { a } else { b };
    if let Some(found) = rewriter.same_type(op, chosen) {
        return Some(found);
    }
    let ty = rewriter.result_type(op)?;
    Some(vec![rewriter.make(&core::BROADCAST, &[chosen], Attributes::new(), &ty)?])
}

/// A reduction over axes of length one only renames.
pub(super) fn reduce(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let x = rewriter.operand(op, 0);
    let ty = rewriter.tensor(x)?;
    let axes = rewriter.module.op(op).attributes.get("axes")?.as_ints()?.to_vec();
    let trivial = axes.iter().all(|axis| ty.shape.get(*axis as usize).and_then(|dim| dim.known()) == Some(1));
    if !trivial || ty.element == Element::Bool {
        return None;
    }
    let result = rewriter.result_type(op)?;
    if result == ty {
        return Some(vec![x]);
    }
    Some(vec![rewriter.make(&core::RESHAPE, &[x], Attributes::new(), &result)?])
}
