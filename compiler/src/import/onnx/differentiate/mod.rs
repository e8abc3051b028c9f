//! Reverse-mode differentiation of core ops: the gradient of a value with respect to others, as ops that compute it.
//!
//! Ops between the two are walked from the end; each hands the gradient of its result on to its operands by its rule in
//! [`rules`], and what arrives at one value by several ways is added (Griewank and Walther, Evaluating Derivatives, 2008, chapter 3).
//! The gradient of a tensor is that of the sum of its elements. An op without a rule is refused by name. It knows no ONNX operator.
//!
//! ```text
//! d = (a + b) * a   ->   da = (a + b) + a, db = a
//! ```

mod rules;

use super::emit::Emitter;
use super::fault::{Fault, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::edit;
use tilewright_ir::module::{OpId, ValueId};
use tilewright_ir::op_def::{OpDef, Traits};

#[cfg(test)]
pub(crate) use rules::RULES;

/// An op with the gradient of its result.
pub(super) struct Step<'e> {
    emit: &'e mut Emitter,
    op: OpId,
    /// Gradient of the first result.
    pub(super) gradient: ValueId,
    /// Which operands a gradient is asked for.
    pub(super) wanted: Vec<bool>,
}

impl Deref for Step<'_> {
    type Target = Emitter;
    fn deref(&self) -> &Emitter {
        self.emit
    }
}

impl DerefMut for Step<'_> {
    fn deref_mut(&mut self) -> &mut Emitter {
        self.emit
    }
}

impl Step<'_> {
    /// The operand at a position.
    pub(super) fn operand(&self, at: usize) -> ValueId {
        self.emit.module.op(self.op).operands[at]
    }

    /// The first result.
    pub(super) fn result(&self) -> ValueId {
        self.emit.module.result(self.op)
    }

    fn attribute(&self, name: &str) -> Option<&tilewright_ir::attribute::Attribute> {
        self.emit.module.op(self.op).attributes.get(name)
    }
}

/// The ops of the current block whose results depend on some values, in order; what lies before `cut` values is not looked at.
fn dependents(emit: &Emitter, from: &[ValueId], cut: &BTreeSet<ValueId>) -> (Vec<OpId>, BTreeSet<ValueId>) {
    let (mut active, mut ops): (BTreeSet<ValueId>, Vec<OpId>) = (from.iter().copied().collect(), Vec::new());
    for op in &emit.module.block(emit.block()).ops {
        let mut reads = false;
        emit.module.walk(*op, &mut |inner| {
            reads |= emit.module.op(inner).operands.iter().any(|operand| active.contains(operand));
        });
        let results = &emit.module.op(*op).results;
        if reads && !results.iter().any(|result| cut.contains(result)) {
            active.extend(results.iter().copied());
            ops.push(*op);
        }
    }
    (ops, active)
}

/// Computes `y` again with other values in place of some that it depends on.
///
/// # Errors
/// When a value and what stands for it differ in type.
pub(crate) fn at(emit: &mut Emitter, y: ValueId, values: &[(ValueId, ValueId)]) -> Outcome<ValueId> {
    let mut map = BTreeMap::new();
    for (named, given) in values.iter().filter(|(named, given)| named != given) {
        let (expected, found) = (emit.ty(*named), emit.ty(*given));
        if expected != found {
            return Err(Fault::model(format!("a value of type {expected} is given as {found}")));
        }
        map.insert(*named, *given);
    }
    let cut = values.iter().map(|(named, _)| *named).collect();
    let changed: Vec<ValueId> = map.keys().copied().collect();
    let (ops, _) = dependents(emit, &changed, &cut);
    let block = emit.block();
    for op in ops {
        let copy = edit::clone_op(&mut emit.module, op, &mut map);
        emit.module.append(block, copy);
    }
    Ok(map.get(&y).copied().unwrap_or(y))
}

/// The gradients of the sum of `y` with respect to `xs`, each of its x's type; `constants` are not looked behind.
///
/// # Errors
/// An op without a rule between them, or values that are no floats.
pub(crate) fn gradients(
    emit: &mut Emitter,
    y: ValueId,
    xs: &[ValueId],
    constants: &[ValueId],
) -> Outcome<Vec<ValueId>> {
    for value in xs.iter().chain([&y]) {
        if !emit.element(*value).is_float() {
            return Err(Fault::model(format!("a gradient is of floats, found {}", emit.ty(*value))));
        }
    }
    let cut = xs.iter().chain(constants).copied().filter(|value| *value != y).collect();
    let (ops, active) = dependents(emit, xs, &cut);
    let mut known: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let ones = filled(emit, y, 1.0)?;
    known.insert(y, ones);
    for op in ops.into_iter().rev() {
        let operation = emit.module.op(op);
        let given: Vec<bool> = operation.results.iter().map(|result| known.contains_key(result)).collect();
        if !given.contains(&true) {
            continue;
        }
        let (def, operands) = (operation.def, operation.operands.to_vec());
        let rule = rules::find(def).filter(|_| given.len() == 1);
        let rule = rule.ok_or_else(|| {
            let what = format!("'{}' cannot be differentiated", def.name);
            Fault::unsupported(what, "export the model with its gradient as operators")
        })?;
        let wanted =
            operands.iter().map(|value| active.contains(value) && emit.element(*value).is_float()).collect();
        let gradient = known[&emit.module.result(op)];
        let mut step = Step { emit, op, gradient, wanted };
        let parts = rule(&mut step)?;
        for (operand, part) in operands.into_iter().zip(parts) {
            let Some(part) = part.filter(|_| active.contains(&operand)) else { continue };
            let part = if def.is(Traits::ELEMENTWISE) { sum_to(emit, part, operand)? } else { part };
            let sum = match known.get(&operand) {
                Some(earlier) => emit.add(*earlier, part)?,
                None => part,
            };
            known.insert(operand, sum);
        }
    }
    let found = |x: &ValueId| known.get(x).copied();
    let all: Vec<(ValueId, Option<ValueId>)> = xs.iter().map(|x| (*x, found(x))).collect();
    all.into_iter().map(|(x, gradient)| gradient.map_or_else(|| filled(emit, x, 0.0), Ok)).collect()
}

/// One number in a value's shape.
fn filled(emit: &mut Emitter, like: ValueId, number: f64) -> Outcome<ValueId> {
    let scalar = emit.scalar_like(like, number)?;
    let shape = emit.shape(like);
    emit.broadcast(scalar, &shape)
}

/// Sums what a broadcast of `like` has repeated.
fn sum_to(emit: &mut Emitter, gradient: ValueId, like: ValueId) -> Outcome<ValueId> {
    let (from, to) = (emit.shape(gradient), emit.shape(like));
    let lead = from.len().saturating_sub(to.len());
    let is_repeated =
        |axis: &usize| *axis < lead || (to[*axis - lead] == Dim::Known(1) && from[*axis] != Dim::Known(1));
    let axes: Vec<usize> = (0..from.len()).filter(is_repeated).collect();
    let sum = if axes.is_empty() { gradient } else { emit.reduce(&core::REDUCE_SUM, gradient, &axes, true)? };
    emit.reshape(sum, &to)
}

/// The rule of an op.
pub(super) type Rule = fn(&mut Step) -> Outcome<Vec<Option<ValueId>>>;
/// Rules by op.
pub(super) type Table = &'static [(&'static OpDef, Rule)];
