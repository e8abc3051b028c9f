//! What else ai.onnx.ml has for tensors: linear models, scaling, and look-ups of numbers. Text and maps are not tensors here.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, of};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::tensor::Tensor;

type Made = Outcome<Vec<Operand>>;

const DOMAIN: &str = "ai.onnx.ml";

pub(super) static ROWS: &[Row] = &[
    of(DOMAIN, "ArrayFeatureExtractor", array_feature_extractor),
    of(DOMAIN, "Binarizer", binarizer),
    of(DOMAIN, "FeatureVectorizer", feature_vectorizer),
    of(DOMAIN, "Imputer", imputer),
    of(DOMAIN, "LabelEncoder", label_encoder).refuses("strings"),
    of(DOMAIN, "LinearClassifier", linear_classifier)
        .refuses("labels that are strings; post_transform SOFTMAX_ZERO and PROBIT"),
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
    let labels = node.ints_attribute("classlabels_ints")?.map_or(0, <[i64]>::len) as i64;
    let scores = linear(node, if rows > 0 { rows } else { labels })?;
    classified(node, &Scores { values: scores, scored: None, single: Single::Linear })
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

/// The label with the highest score, and the scores `[b, labels]`.
pub(super) fn classified(node: &mut NodeContext, scores: &Scores) -> Made {
    let labels = node.ints_attribute("classlabels_int64s")?.or(node.ints_attribute("classlabels_ints")?);
    let labels = labels.filter(|labels| !labels.is_empty());
    let labels = labels
        .ok_or_else(|| Fault::unsupported("labels must be integers", "use numbers as labels"))?
        .to_vec();
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
    let place = node.make(&core::ARG_REDUCE, |op| {
        op.operand(ranked)
            .attribute("function", "max")
            .attribute("axis", 1usize)
            .attribute("keep_dims", false)
    })?;
    let labels = node.ints(Element::I64, &[labels.len() as i64], &labels)?;
    let label = node.gather(labels, place, 0)?;
    let shown = transformed(node, scores.values, &transform)?;
    node.many(&[label, shown])
}

/// One score `[b, 1]` of two labels.
fn of_two(node: &mut NodeContext, scores: &Scores, transform: &str, labels: &[i64]) -> Made {
    let (score, single) = (scores.values, scores.single);
    let border = node.scalar_like(score, if single == Single::Share { 0.5 } else { 0.0 })?;
    let is_second = node.compare("gt", score, border)?;
    let rows = node.dim(score, 0)?;
    let is_second = node.reshape(is_second, &[rows])?;
    let [first, second] = [labels[0], labels[1]].map(|label| node.ints(Element::I64, &[], &[label]));
    let label = node.select(is_second, second?, first?)?;
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
    node.many(&[label, both])
}

/// Keys or values of a look-up as a tensor.
fn entries(node: &mut NodeContext, kind: &str) -> Outcome<Tensor> {
    if let Some(tensor) = node.tensor_attribute(&format!("{kind}_tensor"))? {
        return Ok(Tensor::from_elements(&tensor)?);
    }
    if let Some(values) = node.ints_attribute(&format!("{kind}_int64s"))? {
        return Ok(Tensor::from_ints(Element::I64, &[values.len() as i64], values.to_vec()));
    }
    let values = floats(node, &format!("{kind}_floats"))?;
    if values.is_empty() {
        return Err(Fault::unsupported("text cannot be looked up", "keep text out of the model"));
    }
    Ok(Tensor::from_floats(Element::F32, &[values.len()], values))
}

fn label_encoder(node: &mut NodeContext) -> Made {
    let (x, keys, values) = (node.value(0)?, entries(node, "keys")?, entries(node, "values")?);
    if keys.len() != values.len() || keys.element != node.element(x) {
        return Err(Fault::model(format!(
            "{} keys of {} for {} values and input {}",
            keys.len(),
            keys.element,
            values.len(),
            node.ty(x)
        )));
    }
    let default = match node.tensor_attribute("default_tensor")? {
        Some(tensor) => {
            let first = Tensor::from_elements(&tensor)?.floats().first().copied();
            first.ok_or_else(|| Fault::model("attribute 'default_tensor' is empty"))?
        }
        None if values.element.is_float() => node.float("default_float", -0.0)?,
        None => node.int("default_int64", -1)? as f64,
    };
    let flat = |tensor: Tensor| Tensor { shape: vec![tensor.len()], ..tensor };
    let (element, count) = (values.element, values.len());
    let (keys, values) = (node.tensor(&flat(keys))?, node.tensor(&flat(values))?);
    let shape = node.shape(x);
    let column = node.reshape(x, &[shape.as_slice(), &[Dim::Known(1)]].concat())?;
    let same = node.compare("eq", column, keys)?;
    let same = node.cast(same, Element::I64)?;
    // Of equal keys the last counts.
    let place = node.make(&core::ARG_REDUCE, |op| {
        op.operand(same)
            .attribute("function", "max")
            .attribute("axis", shape.len())
            .attribute("keep_dims", false)
            .attribute("select_last", count > 0)
    })?;
    let found = node.reduce(&core::REDUCE_MAX, same, &[shape.len()], false)?;
    let found = node.cast(found, Element::Bool)?;
    let value = node.gather(values, place, 0)?;
    let default = node.scalar(element, default)?;
    let y = node.select(found, value, default)?;
    node.one(y)
}
