//! What else ai.onnx.ml has for tensors: linear models and scaling. Maps are not tensors here.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, of};
use super::look_up::Entries;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::tensor::Tensor;

type Made = Outcome<Vec<Operand>>;

const DOMAIN: &str = "ai.onnx.ml";

pub(super) static ROWS: &[Row] = &[
    of(DOMAIN, "ArrayFeatureExtractor", array_feature_extractor).moving_strings(),
    of(DOMAIN, "Binarizer", binarizer),
    of(DOMAIN, "FeatureVectorizer", feature_vectorizer),
    of(DOMAIN, "Imputer", imputer),
    of(DOMAIN, "LinearClassifier", linear_classifier).refuses("post_transform SOFTMAX_ZERO and PROBIT"),
    of(DOMAIN, "LinearRegressor", linear_regressor).refuses("post_transform SOFTMAX_ZERO and PROBIT"),
    of(DOMAIN, "Normalizer", normalizer),
    of(DOMAIN, "Scaler", scaler),
];

fn floats(node: &NodeContext, name: &str) -> Outcome<Vec<f64>> {
    Ok(node.floats_attribute(name)?.unwrap_or_default().iter().map(|value| f64::from(*value)).collect())
}

fn vector(node: &mut NodeContext, values: Vec<f64>) -> Outcome<ValueId> {
    node.tensor(&Tensor::from_floats(Element::F32, &[values.len()], values))
}

/// Columns of the last axis.
fn array_feature_extractor(node: &mut NodeContext) -> Made {
    let (x, indices) = (node.value(0)?, node.value(1)?);
    let rank = node.rank(x);
    if rank == 0 {
        return Err(Fault::model("input 0 must have rank 1 or more"));
    }
    let count = node.ty(indices).element_count();
    let indices = node.reshape(indices, std::slice::from_ref(&count))?;
    let y = node.gather(x, indices, rank - 1)?;
    let y = if rank == 1 { node.reshape(y, &[Dim::Known(1), count])? } else { y };
    node.one(y)
}

fn binarizer(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let threshold = node.float("threshold", 0.0)?;
    let threshold = node.scalar_like(x, threshold)?;
    let flags = node.compare("gt", x, threshold)?;
    let y = node.cast_like(flags, x)?;
    node.one(y)
}

fn feature_vectorizer(node: &mut NodeContext) -> Made {
    let mut parts = Vec::new();
    for at in 0..node.input_count() {
        let x = node.value(at)?;
        let x = node.cast(x, Element::F32)?;
        let shape = node.shape(x);
        parts.push(match shape.as_slice() {
            [count] => node.reshape(x, &[Dim::Known(1), count.clone()])?,
            [_, _] => x,
            _ => return Err(Fault::model(format!("input {at} must have rank 1 or 2, found {}", node.ty(x)))),
        });
    }
    let y = node.concat(&parts, 1)?;
    node.one(y)
}

/// Puts a value in place of one that marks what is missing.
fn imputer(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let element = node.element(x);
    let (values, marker) = if element.is_float() {
        (floats(node, "imputed_value_floats")?, node.float("replaced_value_float", 0.0)?)
    } else {
        let values = node.ints_attribute("imputed_value_int64s")?.unwrap_or_default();
        (values.iter().map(|value| *value as f64).collect(), node.int("replaced_value_int64", 0)? as f64)
    };
    let values = node.tensor(&Tensor::from_floats(element, &[values.len()], values))?;
    let is_missing = if marker.is_nan() {
        node.unary(&core::IS_NAN, x)?
    } else {
        let marker = node.scalar_like(x, marker)?;
        node.compare("eq", x, marker)?
    };
    let y = node.select(is_missing, values, x)?;
    node.one(y)
}

fn scaler(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let x = node.cast(x, Element::F32)?;
    let (offset, scale) = (floats(node, "offset")?, floats(node, "scale")?);
    let (offset, scale) = (vector(node, offset)?, vector(node, scale)?);
    let centered = node.sub(x, offset)?;
    let y = node.mul(centered, scale)?;
    node.one(y)
}

fn normalizer(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let x = node.cast(x, Element::F32)?;
    let axis = node.rank(x).checked_sub(1).ok_or_else(|| Fault::model("a scalar cannot be normalized"))?;
    let size = match node.text("norm", "MAX")?.as_str() {
        "MAX" => node.reduce(&core::REDUCE_MAX, x, &[axis], true)?,
        "L1" => {
            let size = node.unary(&core::ABS, x)?;
            node.reduce(&core::REDUCE_SUM, size, &[axis], true)?
        }
        "L2" => {
            let square = node.mul(x, x)?;
            let sum = node.reduce(&core::REDUCE_SUM, square, &[axis], true)?;
            node.unary(&core::SQRT, sum)?
        }
        other => return Err(Fault::model(format!("attribute 'norm' = '{other}' is not known"))),
    };
    let (zero, one) = (node.scalar_like(x, 0.0)?, node.scalar_like(x, 1.0)?);
    let is_zero = node.compare("eq", size, zero)?;
    let size = node.select(is_zero, one, size)?;
    let y = node.binary(&core::DIV, x, size)?;
    node.one(y)
}

/// `x @ coefficients^T + intercepts`: `[b, rows]`.
fn linear(node: &mut NodeContext, rows: i64) -> Outcome<ValueId> {
    let x = node.value(0)?;
    let x = node.cast(x, Element::F32)?;
    let (coefficients, intercepts) = (floats(node, "coefficients")?, floats(node, "intercepts")?);
    let columns = usize::try_from(rows).ok().filter(|rows| *rows > 0 && coefficients.len() % rows == 0);
    let rows = columns
        .ok_or_else(|| Fault::model(format!("{} coefficients for {rows} results", coefficients.len())))?;
    let columns = coefficients.len() / rows;
    let weights = node.tensor(&Tensor::from_floats(Element::F32, &[rows, columns], coefficients))?;
    let weights = node.transpose_last(weights)?;
    let y = node.matmul(x, weights)?;
    if intercepts.is_empty() {
        return Ok(y);
    }
    let intercepts = vector(node, intercepts)?;
    node.add(y, intercepts)
}

fn linear_regressor(node: &mut NodeContext) -> Made {
    let (targets, transform) = (node.int("targets", 1)?, node.text("post_transform", "NONE")?);
    let y = linear(node, targets)?;
    let y = transformed(node, y, &transform)?;
    node.one(y)
}

fn linear_classifier(node: &mut NodeContext) -> Made {
    let rows = floats(node, "intercepts")?.len() as i64;
    let labels = labels(node)?.len() as i64;
    let scores = linear(node, if rows > 0 { rows } else { labels })?;
    classified(node, &Scores { values: scores, scored: None, single: Single::Linear, is_second_alone: false })
}

/// Scores through a `post_transform`.
pub(super) fn transformed(node: &mut NodeContext, scores: ValueId, transform: &str) -> Outcome<ValueId> {
    match transform {
        "NONE" => Ok(scores),
        "SOFTMAX" => node.along(&core::SOFTMAX, scores, 1),
        "LOGISTIC" => node.unary(&core::SIGMOID, scores),
        other => Err(Fault::unsupported(
            format!("post_transform {other} is not supported"),
            "NONE, SOFTMAX and LOGISTIC are",
        )),
    }
}

/// What a classifier has computed.
pub(super) struct Scores {
    /// `[b, labels]`, or `[b, 1]` for two labels.
    pub(super) values: ValueId,
    /// Which labels have a score at all, of the same shape; all when there is none.
    pub(super) scored: Option<ValueId>,
    /// What one score is of two labels.
    pub(super) single: Single,
    /// Of two labels only the second one ever gets a score: whether it is above the border decides.
    pub(super) is_second_alone: bool,
}

/// The labels of a classifier.
fn labels(node: &mut NodeContext) -> Outcome<Entries> {
    let ints = if node.has("classlabels_ints") { "classlabels_ints" } else { "classlabels_int64s" };
    let labels = Entries::of(node, ["", ints, "", "classlabels_strings"])?.filter(|labels| labels.len() > 0);
    labels.ok_or_else(|| Fault::model("the labels are missing"))
}

/// How ONNX Runtime reads one score of two labels; the operators' texts do not say.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Single {
    /// The other one's is 1 less it; the second label above 0.
    Linear,
    /// A share: the other one's is 1 less it; the second label above one half.
    Share,
    /// The other one's is its negative; the second label above 0.
    Margin,
}

/// The label with the highest score, and the scores `[b, labels]`. Where both of two labels have scores ONNX Runtime 1.31 gives 1 or 0
/// (not the labels) as the second score is above 0 or not; ONNX says that the top one is given.
pub(super) fn classified(node: &mut NodeContext, scores: &Scores) -> Made {
    let labels = labels(node)?;
    let transform = node.text("post_transform", "NONE")?;
    if node.dim(scores.values, 1)? == Dim::Known(1) && labels.len() == 2 {
        return of_two(node, scores, &transform, &labels);
    }
    let count = Dim::Known(labels.len() as i64);
    node.equate("labels and scores differ in number", &node.dim(scores.values, 1)?, &count)?;
    let ranked = match scores.scored {
        Some(scored) => {
            let lowest = node.scalar_like(scores.values, f64::NEG_INFINITY)?;
            node.select(scored, scores.values, lowest)?
        }
        None => scores.values,
    };
    let place = if scores.is_second_alone && labels.len() == 2 {
        let second = node.slice_axis(scores.values, 1, &Dim::Known(1), &Dim::Known(1))?;
        is_above(node, second, scores.single)?
    } else {
        node.make(&core::ARG_REDUCE, |op| {
            op.operand(ranked)
                .attribute("function", "max")
                .attribute("axis", 1usize)
                .attribute("keep_dims", false)
        })?
    };
    let label = labels.at(node, place)?;
    let shown = transformed(node, scores.values, &transform)?;
    Ok(vec![label, node.operand(shown)])
}

/// Whether the score `[b, 1]` of the second of two labels is above what decides: `[b]` of 0 or 1.
fn is_above(node: &mut NodeContext, score: ValueId, single: Single) -> Outcome<ValueId> {
    let border = node.scalar_like(score, if single == Single::Share { 0.5 } else { 0.0 })?;
    let is_above = node.compare("gt", score, border)?;
    let rows = node.dim(score, 0)?;
    let is_above = node.reshape(is_above, &[rows])?;
    node.cast(is_above, Element::I64)
}

/// One score `[b, 1]` of two labels.
fn of_two(node: &mut NodeContext, scores: &Scores, transform: &str, labels: &Entries) -> Made {
    let (score, single) = (scores.values, scores.single);
    let place = is_above(node, score, single)?;
    let label = labels.at(node, place)?;
    let other = if transform == "LOGISTIC" || single == Single::Margin {
        node.unary(&core::NEG, score)?
    } else {
        let one = node.scalar_like(score, 1.0)?;
        node.sub(one, score)?
    };
    let both = node.concat(&[other, score], 1)?;
    let both = match transform {
        // A softmax of one score leaves it as it is.
        "SOFTMAX" => both,
        _ => transformed(node, both, transform)?,
    };
    Ok(vec![label, node.operand(both)])
}
