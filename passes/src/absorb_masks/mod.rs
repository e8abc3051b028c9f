//! Takes causal masks and windows into attention, so that no `[s, t]` mask is ever built. What remains is a `[b, 1, 1, t]` padding mask.
//!
//! A mask is followed back to what it holds at an index ([`index`]). If that is a conjunction of conditions, each of which is provably
//! the causal one, a window, or one that depends on batch and key alone, the attention gets attributes and the padding mask
//! instead. Anything else is left as it is. Rows that see no key at all are zero afterwards, as the attention op defines, where an
//! additive mask of large negative numbers would have given an average.
//!
//! ```text
//! "core.attention"(%q, %k, %v, %mask)   with mask = select(and(t <= s + past, pad[b, t]), 0, -inf)
//! =>  "core.attention"(%q, %k, %v, %pad) <{causal = true ..}>
//! ```

pub mod index;

use crate::pass::{Pass, PassContext, PassDef};
use index::{Affine, Expression, Reader, element};
use std::collections::BTreeMap;
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::builder::Builder;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "absorb-masks",
    doc: "Turns masks that are provably causal, windowed or padding into attributes and a small mask of attention.",
    options: &[],
    make: |_| Ok(Box::new(AbsorbMasks)),
};

struct AbsorbMasks;

/// Index variables: batch, (head,) query, key.
const BATCH: usize = 0;
const QUERY: usize = 2;
const KEY: usize = 3;

/// Additive masks at or below this hide a key: half of the largest f16 magnitude, which exporters use for f16 models.
const HIDDEN_AT_MOST: f64 = -32000.0;

impl Pass for AbsorbMasks {
    fn run(&self, module: &mut Module, _context: &mut PassContext) -> Result<(), Diagnostics> {
        for function in module.functions() {
            let block = module.entry(function, 0);
            absorb(module, block);
        }
        Ok(())
    }
}

/// What is known of a mask for attention of given lengths.
#[derive(Clone, Debug, Default)]
struct Found {
    causal: bool,
    window: Option<i64>,
    padding: Vec<Expression>,
}

/// What replaces a mask: facts, and the padding mask that stays; `None` when the mask itself stays.
type Absorbed = Option<(Found, Option<ValueId>)>;

fn absorb(module: &mut Module, block: BlockId) {
    // Padding masks already made, by the mask they replace: all layers share one.
    let mut made: BTreeMap<(ValueId, Dim, Dim), Absorbed> = BTreeMap::new();
    for op in module.block(block).ops.clone() {
        if module.op(op).def != &core::ATTENTION {
            continue;
        }
        let Some(mask) = module.operand_at(op, 3) else { continue };
        let Some((queries, keys)) = lengths(module, op) else { continue };
        let key = (mask, queries.clone(), keys.clone());
        let entry = match made.get(&key) {
            Some(entry) => entry.clone(),
            None => {
                let entry = analyse(module, mask, &queries, &keys).and_then(|found| {
                    let padding = padding_mask(module, op, &found.padding)?;
                    Some((found, padding))
                });
                made.insert(key, entry.clone());
                entry
            }
        };
        if let Some((found, padding)) = entry {
            rewrite(module, op, &found, padding);
        }
    }
}

fn lengths(module: &Module, op: OpId) -> Option<(Dim, Dim)> {
    let query = module.tensor(module.operand_at(op, 0)?)?;
    let key = module.tensor(module.operand_at(op, 1)?)?;
    Some((query.shape.get(2)?.clone(), key.shape.get(2)?.clone()))
}

fn analyse(module: &Module, mask: ValueId, queries: &Dim, keys: &Dim) -> Option<Found> {
    let ty = module.tensor(mask)?;
    let skip = 4usize.checked_sub(ty.rank())?;
    let index: Vec<Affine> = ty
        .shape
        .iter()
        .enumerate()
        .map(|(axis, dim)| match dim {
            Dim::Known(1) => Affine::constant(Dim::Known(0)),
            _ => Affine::variable(axis + skip),
        })
        .collect();
    let mut extents = vec![Dim::Known(1); 4];
    for (axis, dim) in ty.shape.iter().enumerate() {
        extents[axis + skip] = dim.clone();
    }
    let expression = element(Reader { module, extents: &extents }, mask, &index, 0);
    let mut conditions = Vec::new();
    if ty.element == Element::Bool {
        conjuncts(&expression, true, &mut conditions)?;
    } else {
        additive(&expression, &mut conditions)?;
    }
    let mut found = Found::default();
    let lengths = (queries.clone(), keys.clone());
    for condition in conditions {
        classify(module, condition, &lengths, &mut found)?;
    }
    // The op's window is meant as a limit beside the causal one; targets take it so.
    if found.window.is_some() && !found.causal {
        return None;
    }
    // A lone padding mask that has no query axis is small already.
    let wide = ty.rank() >= 2 && ty.shape[ty.rank() - 2] != Dim::Known(1);
    let useful = found.causal || found.window.is_some() || found.padding.is_empty() || wide;
    useful.then_some(found)
}

/// Conditions under which an additive mask is zero, all else hiding the key.
fn additive(expression: &Expression, into: &mut Vec<Expression>) -> Option<()> {
    let zero = |expression: &Expression| matches!(expression, Expression::Number(value) if *value == 0.0);
    match expression {
        Expression::Number(0.0) => Some(()),
        Expression::Add(a, b) => {
            additive(a, into)?;
            additive(b, into)
        }
        Expression::Select(condition, a, b) if hides(b) => {
            conjuncts(condition, true, into)?;
            additive(a, into)
        }
        Expression::Select(condition, a, b) if hides(a) => {
            conjuncts(condition, false, into)?;
            additive(b, into)
        }
        // (1 - kept) * large, where kept is 0 or 1.
        Expression::Mul(a, b) if hides(b) => match a.as_ref() {
            Expression::Sub(one, kept) if **one == Expression::Number(1.0) => {
                conjuncts(&truth(kept), true, into)
            }
            Expression::Select(condition, x, y) if zero(x) => {
                conjuncts(condition, true, into).filter(|()| **y == Expression::Number(1.0))
            }
            Expression::Select(condition, x, y) if zero(y) => {
                conjuncts(condition, false, into).filter(|()| **x == Expression::Number(1.0))
            }
            other => conjuncts(&truth(other), false, into),
        },
        _ => None,
    }
}

fn truth(expression: &Expression) -> Expression {
    match expression {
        Expression::Load(..) => Expression::Truth(Box::new(expression.clone())),
        other => other.clone(),
    }
}

fn hides(expression: &Expression) -> bool {
    matches!(expression, Expression::Number(value) if *value <= HIDDEN_AT_MOST)
}

/// Takes a condition (or its negation) apart into conditions that must all hold.
fn conjuncts(expression: &Expression, holds: bool, into: &mut Vec<Expression>) -> Option<()> {
    match (expression, holds) {
        (Expression::And(a, b), true) | (Expression::Or(a, b), false) => {
            conjuncts(a, holds, into)?;
            conjuncts(b, holds, into)
        }
        (Expression::Not(inner), _) => conjuncts(inner, !holds, into),
        (Expression::Number(value), _) => ((*value != 0.0) == holds).then_some(()),
        (Expression::Truth(inner), _) if is_condition(inner) => conjuncts(inner, holds, into),
        // A truth value turned into a number and compared with zero.
        (Expression::Compare(predicate, a, b), _) if is_condition(a) => {
            let number = match b.as_ref() {
                Expression::Number(value) => *value,
                Expression::Integer(affine) => affine.known()?.known()? as f64,
                _ => return None,
            };
            let same = match predicate.as_str() {
                "eq" => number == 1.0,
                "ne" => number == 0.0,
                _ => return None,
            };
            (number == 0.0 || number == 1.0).then_some(())?;
            conjuncts(a, holds == same, into)
        }
        (other, true) => {
            into.push(other.clone());
            Some(())
        }
        (other, false) => {
            into.push(Expression::Not(Box::new(other.clone())));
            Some(())
        }
    }
}

fn is_condition(expression: &Expression) -> bool {
    matches!(
        expression,
        Expression::And(..)
            | Expression::Or(..)
            | Expression::Not(_)
            | Expression::Compare(..)
            | Expression::Truth(_)
    )
}

/// Reads a comparison of integers as `difference >= 0`.
fn difference(expression: &Expression) -> Option<Affine> {
    let (expression, holds) = match expression {
        Expression::Not(inner) => (inner.as_ref(), false),
        other => (other, true),
    };
    let Expression::Compare(predicate, a, b) = expression else { return None };
    let (Expression::Integer(a), Expression::Integer(b)) = (a.as_ref(), b.as_ref()) else { return None };
    let one = Affine::constant(Dim::Known(1));
    let at_least = |a: &Affine, b: &Affine| a.plus(b, -1);
    let above = |a: &Affine, b: &Affine| a.plus(b, -1).plus(&one, -1);
    match (predicate.as_str(), holds) {
        ("le", true) | ("gt", false) => Some(at_least(b, a)),
        ("ge", true) | ("lt", false) => Some(at_least(a, b)),
        ("lt", true) | ("ge", false) => Some(above(b, a)),
        ("gt", true) | ("le", false) => Some(above(a, b)),
        _ => None,
    }
}

fn coefficient(affine: &Affine, variable: usize) -> Option<i64> {
    affine.terms.get(&variable).map_or(Some(0), Dim::known)
}

/// `lengths`: queries and keys.
fn classify(module: &Module, condition: Expression, lengths: &(Dim, Dim), found: &mut Found) -> Option<()> {
    let shift = &(&lengths.1 - &lengths.0);
    if let Some(difference) = difference(&condition) {
        if let Some(constant) = difference.known().and_then(Dim::known) {
            return (constant >= 0).then_some(());
        }
        // query + shift - key >= 0: causal, end-aligned. key - query - shift + window - 1 >= 0: a window.
        // With one query or one key, its variable is zero and left out.
        let (query, key) = (coefficient(&difference, QUERY), coefficient(&difference, KEY));
        let others = difference.terms.keys().any(|variable| ![QUERY, KEY].contains(variable));
        let may = |found: Option<i64>, wanted: i64, single: bool| {
            found == Some(wanted) || (found == Some(0) && single)
        };
        if others {
            return None;
        }
        if may(query, 1, lengths.0 == Dim::Known(1)) && may(key, -1, lengths.1 == Dim::Known(1)) {
            let rest = (&difference.constant - shift).known()?;
            (rest == 0).then(|| found.causal = true)?;
            return Some(());
        }
        if may(query, -1, lengths.0 == Dim::Known(1)) && may(key, 1, lengths.1 == Dim::Known(1)) {
            let window = (&difference.constant + shift).known()? + 1;
            (window >= 1 && found.window.is_none()).then(|| found.window = Some(window))?;
            return Some(());
        }
        return None;
    }
    is_padding(module, &condition).then(|| found.padding.push(condition))
}

/// A tensor of truth or numbers read at batch and key alone: directly, negated, or compared with a number.
fn is_padding(module: &Module, condition: &Expression) -> bool {
    match condition {
        Expression::Not(inner) | Expression::Truth(inner) => is_padding(module, inner),
        Expression::Compare(_, a, b) => {
            is_padding(module, a)
                && matches!(b.as_ref(), Expression::Number(_) | Expression::Integer(_))
                && number(b).is_some()
        }
        Expression::Load(value, index) => {
            let Some(ty) = module.tensor(*value) else { return false };
            let reads = |axis: usize, variable: usize| {
                index[axis] == Affine::variable(variable)
                    || (ty.shape[axis] == Dim::Known(1) && index[axis] == Affine::constant(Dim::Known(0)))
            };
            ty.rank() == 2 && reads(0, BATCH) && reads(1, KEY)
        }
        _ => false,
    }
}

fn number(expression: &Expression) -> Option<f64> {
    match expression {
        Expression::Number(value) => Some(*value),
        Expression::Integer(affine) => affine.known()?.known().map(|value| value as f64),
        _ => None,
    }
}

/// The conjunction of padding conditions as an `i1` tensor `[b, 1, 1, t]` before `op`; `Some(None)` when there are none.
fn padding_mask(module: &mut Module, op: OpId, conditions: &[Expression]) -> Option<Option<ValueId>> {
    let mut joined: Option<ValueId> = None;
    for condition in conditions {
        let flat = emit(&mut Builder::before(module, op), condition)?;
        joined = Some(match joined {
            None => flat,
            Some(other) => {
                let mut builder = Builder::before(module, op);
                builder
                    .op(&core::LOGICAL)
                    .operands(&[other, flat])
                    .attribute("function", "and")
                    .value()
                    .ok()?
            }
        });
    }
    let Some(flat) = joined else { return Some(None) };
    let ty = module.tensor(flat)?.clone();
    let one = Dim::Known(1);
    let wide = TensorType::new(Element::Bool, [ty.shape[0].clone(), one.clone(), one, ty.shape[1].clone()]);
    let mask = Builder::before(module, op).op(&core::RESHAPE).operand(flat).result(wide).value().ok()?;
    Some(Some(mask))
}

/// A padding condition as an `i1` tensor `[b, t]`.
fn emit(builder: &mut Builder, condition: &Expression) -> Option<ValueId> {
    match condition {
        Expression::Load(value, _) => {
            let ty = builder.module.tensor(*value)?.clone();
            if ty.element == Element::Bool {
                return Some(*value);
            }
            emit_compare(builder, *value, "ne", 0.0)
        }
        Expression::Truth(inner) => emit(builder, inner),
        Expression::Not(inner) => {
            let inner = emit(builder, inner)?;
            builder.op(&core::NOT).operand(inner).value().ok()
        }
        Expression::Compare(predicate, a, b) => match a.as_ref() {
            Expression::Load(value, _) => emit_compare(builder, *value, predicate, number(b)?),
            _ => None,
        },
        _ => None,
    }
}

fn emit_compare(builder: &mut Builder, value: ValueId, predicate: &str, number: f64) -> Option<ValueId> {
    let element = builder.module.tensor(value)?.element;
    let constant = builder.constant(&Tensor::splat(element, &[], number));
    builder.op(&core::COMPARE).operands(&[value, constant]).attribute("predicate", predicate).value().ok()
}

fn rewrite(module: &mut Module, op: OpId, found: &Found, padding: Option<ValueId>) {
    let sinks = module.operand_at(op, 4);
    let operands: Vec<ValueId> =
        (0..3).filter_map(|slot| module.operand_at(op, slot)).chain(padding).chain(sinks).collect();
    module.set_operands(op, &operands);
    let attributes: &mut Attributes = &mut module.op_mut(op).attributes;
    let sizes = [1, 1, 1, i32::from(padding.is_some()), i32::from(sinks.is_some())];
    attributes.insert("operandSegmentSizes".into(), Attribute::Segments(sizes.into()));
    if found.causal {
        attributes.insert("causal".into(), Attribute::Bool(true));
    }
    if let Some(window) = found.window {
        let known = attributes.get("window").and_then(Attribute::as_int).filter(|known| *known >= 0);
        attributes.insert("window".into(), Attribute::Int(known.map_or(window, |known| known.min(window))));
    }
}
