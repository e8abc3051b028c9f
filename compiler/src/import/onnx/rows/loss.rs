//! Losses of training, composed of softmax, picking and sums.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    since(12, "NegativeLogLikelihoodLoss", |node| {
        let x = node.value(0)?;
        let loss = negative_log_likelihood(node, x)?;
        node.one(loss)
    }),
    since(12, "SoftmaxCrossEntropyLoss", softmax_cross_entropy),
];

fn softmax_cross_entropy(node: &mut NodeContext) -> Made {
    let scores = node.value(0)?;
    if node.rank(scores) < 2 {
        return Err(Fault::model(format!("scores of rank 2 or more are needed, found {}", node.ty(scores))));
    }
    let log_probabilities = node.along(&core::LOG_SOFTMAX, scores, 1)?;
    let loss = negative_log_likelihood(node, log_probabilities)?;
    node.many(&[loss, log_probabilities])
}

/// `-x[n, target[n, d..], d..] * weight[target]`, reduced as asked for: x [n, classes, d..], target (input 1) [n, d..], weight
/// (input 2) [classes]. A mean divides by the sum of the weights.
fn negative_log_likelihood(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    let (target, weight) = (node.value(1)?, node.optional_value(2)?);
    let (shape, places) = (node.shape(x), node.shape(target));
    if shape.len() < 2 || places.len() + 1 != shape.len() {
        return Err(Fault::model(format!("target {} does not fit input {}", node.ty(target), node.ty(x))));
    }
    for (axis, place) in places.iter().enumerate() {
        let from = if axis == 0 { 0 } else { axis + 1 };
        node.equate("input and target differ in a dimension", &shape[from], place)?;
    }
    let ignored = if node.has("ignore_index") {
        let index = node.int("ignore_index", 0)?;
        let element = node.element(target);
        let index = node.ints(element, &[], &[index])?;
        Some(node.compare("eq", target, index)?)
    } else {
        None
    };
    let (zero, one) = (node.scalar_like(x, 0.0)?, node.scalar_like(x, 1.0)?);
    let target = match ignored {
        Some(ignored) => {
            let first = node.scalar_like(target, 0.0)?;
            node.select(ignored, first, target)?
        }
        None => target,
    };
    let mut apart = places.to_vec();
    apart.insert(1, Dim::Known(1));
    let indices = node.cast(target, Element::I64)?;
    let indices = node.reshape(indices, &apart)?;
    let picked =
        node.make(&core::GATHER_ELEMENTS, |op| op.operands(&[x, indices]).attribute("axis", 1usize))?;
    let picked = node.reshape(picked, &places)?;
    let mut loss = node.unary(&core::NEG, picked)?;
    let mut factor = match weight {
        Some(weight) => Some(node.gather(weight, target, 0)?),
        None if ignored.is_some() => Some(one),
        None => None,
    };
    if let Some(given) = factor {
        loss = node.mul(loss, given)?;
    }
    if let (Some(ignored), Some(given)) = (ignored, factor) {
        factor = Some(node.select(ignored, zero, given)?);
        loss = node.select(ignored, zero, loss)?;
    }
    let axes: Vec<usize> = (0..places.len()).collect();
    match (node.text("reduction", "mean")?.as_str(), factor) {
        ("none", _) => Ok(loss),
        ("sum", _) => node.reduce(&core::REDUCE_SUM, loss, &axes, false),
        ("mean", None) => node.reduce(&core::REDUCE_MEAN, loss, &axes, false),
        ("mean", Some(factor)) => {
            let sum = node.reduce(&core::REDUCE_SUM, loss, &axes, false)?;
            let factor = node.broadcast(factor, &places)?;
            let weights = node.reduce(&core::REDUCE_SUM, factor, &axes, false)?;
            node.binary(&core::DIV, sum, weights)
        }
        (other, _) => Err(Fault::model(format!("attribute 'reduction' = '{other}' is not known"))),
    }
}
