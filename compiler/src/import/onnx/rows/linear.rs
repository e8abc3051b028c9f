//! Matrix products: MatMul, Gemm, Einsum and their kin.

use super::super::context::NodeContext;
use super::super::dims;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since, standard};
use super::microsoft::rounded_in_blocks;
use std::collections::BTreeSet;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] =
    &[since(12, "Einsum", einsum), standard("Gemm", gemm), standard("MatMul", matmul)];

fn matmul(node: &mut NodeContext) -> Made {
    let (mut a, b) = (node.value(0)?, node.value(1)?);
    if node.importer.options.int8_activations_fused
        && let Some((k, block)) = four_bit_blocks(node, b)
    {
        a = rounded_in_blocks(node, a, k, block)?;
    }
    let y = node.matmul(a, b)?;
    node.one(y)
}

/// Rows and block size of a weight that is dequantised from 4 bits in blocks along its rows.
fn four_bit_blocks(node: &NodeContext, weight: ValueId) -> Option<(i64, i64)> {
    let op = node.module.op(node.module.producer_of(weight, &core::DEQUANTIZE)?);
    let int = |name: &str| op.attributes.get(name).and_then(|value| value.as_int());
    let stored = node.module.tensor(*op.operands.first()?)?;
    let fits = stored.element.bits() == 4 && stored.rank() == 2 && int("axis") == Some(0);
    Some((stored.shape[0].known()?, int("block").filter(|block| fits && *block > 0)?))
}

fn gemm(node: &mut NodeContext) -> Made {
    let y = gemm_value(node)?;
    node.one(y)
}

/// alpha * A B + beta * C.
pub(super) fn gemm_value(node: &mut NodeContext) -> Outcome<ValueId> {
    let (mut a, mut b) = (node.value(0)?, node.value(1)?);
    if node.flag("transA", false)? {
        a = node.transpose_last(a)?;
    }
    if node.flag("transB", false)? {
        b = node.transpose_last(b)?;
    }
    let mut y = node.matmul(a, b)?;
    let alpha = node.float("alpha", 1.0)?;
    y = node.scale(y, alpha)?;
    if let Some(bias) = node.optional_value(2)? {
        let beta = node.float("beta", 1.0)?;
        let bias = node.scale(bias, beta)?;
        y = node.add(y, bias)?;
    }
    Ok(y)
}

/// A subscript of an equation: a letter, or a dimension of the ellipsis counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// A value with the labels of its axes.
struct Term {
    value: ValueId,
    labels: Vec<Label>,
}

fn labels(text: &str, rank: Option<usize>, ellipsis: usize) -> Outcome<Vec<Label>> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let letters = text.replace("...", "").chars().count();
    let width = match rank {
        Some(rank) => rank
            .checked_sub(letters)
            .ok_or_else(|| Fault::model(format!("'{text}' has more subscripts than axes")))?,
        None => ellipsis,
    };
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while let Some(letter) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            found.extend((0..width).rev().map(Label::Ellipsis));
            rest = after;
        } else if letter.is_ascii_alphabetic() {
            found.push(Label::Letter(letter));
            rest = &rest[1..];
        } else {
            return Err(Fault::model(format!("attribute 'equation' holds '{letter}'")));
        }
    }
    if rank.is_some_and(|rank| rank != found.len()) {
        return Err(Fault::model(format!("'{text}' does not name every axis of its operand")));
    }
    Ok(found)
}

fn einsum(node: &mut NodeContext) -> Made {
    let equation = node.text("equation", "")?;
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_string(), Some(right.to_string())),
        None => (equation.clone(), None),
    };
    let texts: Vec<&str> = left.split(',').collect();
    if texts.len() != node.input_count() {
        return Err(Fault::model(format!(
            "equation '{equation}' has {} terms for {} inputs",
            texts.len(),
            node.input_count()
        )));
    }
    let mut terms = Vec::new();
    let mut ellipsis = 0;
    for (at, text) in texts.iter().enumerate() {
        let value = node.value(at)?;
        let labels = labels(text, Some(node.rank(value)), 0)?;
        ellipsis = ellipsis.max(labels.iter().filter(|label| matches!(label, Label::Ellipsis(_))).count());
        terms.push(diagonal(node, Term { value, labels })?);
    }
    let output = match &right {
        Some(right) => labels(right, None, ellipsis)?,
        None => implicit_output(&terms, ellipsis),
    };
    let mut terms = terms.into_iter();
    let mut so_far = terms.next().ok_or_else(|| Fault::model("there are no inputs"))?;
    let rest: Vec<Term> = terms.collect();
    for (at, next) in rest.iter().enumerate() {
        let needed: BTreeSet<Label> =
            output.iter().chain(rest[at + 1..].iter().flat_map(|term| &term.labels)).copied().collect();
        so_far = contract(node, so_far, next, &needed)?;
    }
    let needed: BTreeSet<Label> = output.iter().copied().collect();
    let so_far = sum_out(node, so_far, |label| needed.contains(label))?;
    if let Some(label) = output.iter().find(|label| !so_far.labels.contains(label)) {
        return Err(Fault::model(format!(
            "the output of equation '{equation}' names {label:?}, which no input has"
        )));
    }
    let y = arrange(node, &so_far, &output)?;
    node.one(y)
}

/// A term that names an axis twice, with the elements alone whose coordinates on both are equal.
fn diagonal(node: &mut NodeContext, mut term: Term) -> Outcome<Term> {
    while let Some((first, second)) = (0..term.labels.len()).find_map(|at| {
        let again = term.labels[at + 1..].iter().position(|label| *label == term.labels[at])?;
        Some((at, at + 1 + again))
    }) {
        let shape = node.shape(term.value);
        node.equate("an axis that is named twice has two lengths", &shape[first], &shape[second])?;
        let rows = node.iota(Element::I64, &shape, first)?;
        let columns = node.iota(Element::I64, &shape, second)?;
        let is_same = node.compare("eq", rows, columns)?;
        let zero = node.scalar_like(term.value, 0.0)?;
        let kept = node.select(is_same, term.value, zero)?;
        let value = node.reduce(&core::REDUCE_SUM, kept, &[second], false)?;
        term.labels.remove(second);
        term.value = value;
    }
    Ok(term)
}

/// Labels of the output when the equation leaves it out: the ellipsis, then letters that occur once, sorted.
fn implicit_output(terms: &[Term], ellipsis: usize) -> Vec<Label> {
    let all: Vec<Label> = terms.iter().flat_map(|term| term.labels.iter().copied()).collect();
    let mut letters: Vec<Label> = all
        .iter()
        .filter(|label| {
            matches!(label, Label::Letter(_)) && all.iter().filter(|other| other == label).count() == 1
        })
        .copied()
        .collect();
    letters.sort();
    (0..ellipsis).rev().map(Label::Ellipsis).chain(letters).collect()
}

fn sum_out(node: &mut NodeContext, term: Term, keep: impl Fn(&Label) -> bool) -> Outcome<Term> {
    let axes: Vec<usize> = (0..term.labels.len()).filter(|axis| !keep(&term.labels[*axis])).collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let value = node.reduce(&core::REDUCE_SUM, term.value, &axes, false)?;
    Ok(Term { value, labels: term.labels.into_iter().filter(keep).collect() })
}

/// The term with its axes in the order of `labels`, all of which it has.
fn arrange(node: &mut NodeContext, term: &Term, labels: &[Label]) -> Outcome<ValueId> {
    let permutation: Vec<usize> =
        labels.iter().filter_map(|label| term.labels.iter().position(|other| other == label)).collect();
    node.transpose(term.value, &permutation)
}

/// One product: labels of both that are needed later are batches, shared ones that are not are summed by a matrix product.
fn contract(node: &mut NodeContext, a: Term, b: &Term, needed: &BTreeSet<Label>) -> Outcome<Term> {
    let a = sum_out(node, a, |label| needed.contains(label) || b.labels.contains(label))?;
    let right = Term { value: b.value, labels: b.labels.clone() };
    let b = sum_out(node, right, |label| needed.contains(label) || a.labels.contains(label))?;
    let shared = |label: &&Label| a.labels.contains(label) && b.labels.contains(label);
    let batch: Vec<Label> =
        a.labels.iter().filter(shared).filter(|label| needed.contains(label)).copied().collect();
    let inner: Vec<Label> =
        a.labels.iter().filter(shared).filter(|label| !needed.contains(label)).copied().collect();
    let rows: Vec<Label> = a.labels.iter().filter(|label| !shared(label)).copied().collect();
    let columns: Vec<Label> = b.labels.iter().filter(|label| !shared(label)).copied().collect();
    let left = grouped(node, &a, &batch, &rows, &inner)?;
    let right = grouped(node, &b, &batch, &inner, &columns)?;
    let mut shape =
        node.broadcast_shape(&batch_dims(node, left, &batch), &batch_dims(node, right, &batch))?.to_vec();
    let product = node.matmul(left, right)?;
    for (term, part) in [(&a, &rows), (&b, &columns)] {
        for label in part {
            shape.push(dim_of(node, term, label)?);
        }
    }
    let value = node.reshape(product, &shape)?;
    Ok(Term { value, labels: [batch, rows, columns].concat() })
}

fn batch_dims(node: &NodeContext, value: ValueId, batch: &[Label]) -> Vec<Dim> {
    node.shape(value)[..batch.len()].to_vec()
}

fn dim_of(node: &NodeContext, term: &Term, label: &Label) -> Outcome<Dim> {
    let axis = term.labels.iter().position(|other| other == label);
    axis.map_or(Ok(Dim::Known(1)), |axis| node.dim(term.value, axis))
}

/// `[batch.., product of rows, product of columns]`.
fn grouped(
    node: &mut NodeContext,
    term: &Term,
    batch: &[Label],
    rows: &[Label],
    columns: &[Label],
) -> Outcome<ValueId> {
    let order = [batch, rows, columns].concat();
    let value = arrange(node, term, &order)?;
    let dims = node.shape(value);
    let (front, back) = (batch.len(), batch.len() + rows.len());
    let too_long = || Fault::model("a dimension is too long an expression");
    let mut shape = dims[..front].to_vec();
    shape.push(dims::product(&dims[front..back]).ok_or_else(too_long)?);
    shape.push(dims::product(&dims[back..]).ok_or_else(too_long)?);
    node.reshape(value, &shape)
}
