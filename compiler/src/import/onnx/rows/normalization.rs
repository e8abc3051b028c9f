//! Normalisations and softmax.

use super::super::context::NodeContext;
use super::super::dims;
use super::super::emit::axis_of;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, microsoft, since, standard};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::op_def::OpDef;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    standard("BatchNormalization", batch_normalization)
        .refuses("outputs for training beyond mean and variance"),
    standard("Dropout", dropout),
    since(18, "GroupNormalization", group_normalization),
    standard("Hardmax", hardmax).refuses("before opset 13: several axes"),
    standard("InstanceNormalization", instance_normalization),
    since(17, "LayerNormalization", |node| normalization(node, false)),
    standard("LogSoftmax", |node| softmax(node, &core::LOG_SOFTMAX)),
    standard("LpNormalization", lp_normalization),
    since(9, "MeanVarianceNormalization", mean_variance),
    since(23, "RMSNormalization", |node| normalization(node, true)),
    // Not a standard operator, but written into the empty domain by ONNX Runtime's exporters.
    standard("SimplifiedLayerNormalization", |node| normalization(node, true)),
    standard("Softmax", |node| softmax(node, &core::SOFTMAX)),
    microsoft("SimplifiedLayerNormalization", |node| normalization(node, true)),
    microsoft("SkipLayerNormalization", |node| skip_normalization(node, false)),
    microsoft("SkipSimplifiedLayerNormalization", |node| skip_normalization(node, true)),
];

fn dropout(node: &mut NodeContext) -> Made {
    let training = match node.optional(2) {
        Some(_) => node.known_tensor(2)?.ints().first().is_some_and(|value| *value != 0),
        None => false,
    };
    let ratio = match node.optional(1) {
        Some(_) if training => node.known_tensor(1)?.floats().first().copied().unwrap_or(0.5),
        _ => node.float("ratio", 0.5)?,
    };
    if training && ratio != 0.0 {
        let x = node.value(0)?;
        let kept = super::random::kept(node, &node.shape(x), ratio)?;
        let scaled = node.scale(x, 1.0 / (1.0 - ratio))?;
        let flags = node.cast_like(kept, x)?;
        let y = node.mul(scaled, flags)?;
        return node.many(&[y, kept]);
    }
    let x = node.input(0)?;
    if !node.wants(1) {
        return Ok(vec![x]);
    }
    let kept = node.ints(Element::Bool, &[], &[1])?;
    let mask = node.broadcast(kept, x.shape())?;
    Ok(vec![x, node.operand(mask)])
}

/// One at the largest element of the axis (the first of equal ones), zero elsewhere.
fn hardmax(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let (rank, shape) = (node.rank(x), node.shape(x));
    let axis = node.axis("axis", if node.version < 13 { 1 } else { -1 }, rank)?;
    if node.version < 13 && axis + 1 != rank {
        return Err(Fault::unsupported(
            "hardmax over several axes is not supported",
            "convert the model to opset 13",
        ));
    }
    let place = node.make(&core::ARG_REDUCE, |op| {
        op.operand(x).attribute("function", "max").attribute("axis", axis).attribute("keep_dims", true)
    })?;
    let places = node.iota(Element::I64, &shape, axis)?;
    let is_largest = node.compare("eq", places, place)?;
    let y = node.cast_like(is_largest, x)?;
    node.one(y)
}

/// Softmax along an axis; before opset 13 over all axes from `axis` on.
fn softmax(node: &mut NodeContext, def: &'static OpDef) -> Made {
    let x = node.value(0)?;
    let rank = node.rank(x);
    let y = if node.version >= 13 {
        let axis = node.axis("axis", -1, rank)?;
        node.along(def, x, axis)?
    } else {
        let axis = node.axis("axis", 1, rank)?;
        softmax_from(node, def, x, axis)?
    };
    node.one(y)
}

/// Softmax over all axes from `axis` on.
pub(super) fn softmax_from(
    node: &mut NodeContext,
    def: &'static OpDef,
    x: ValueId,
    axis: usize,
) -> Outcome<ValueId> {
    if axis + 1 == node.rank(x) {
        return node.along(def, x, axis);
    }
    let shape = node.shape(x);
    let flat = flat_from(&shape, axis)?;
    let y = node.reshape(x, &flat)?;
    let y = node.along(def, y, axis)?;
    node.reshape(y, &shape)
}

/// The shape with all axes from `axis` on made one.
fn flat_from(shape: &[Dim], axis: usize) -> Outcome<Vec<Dim>> {
    let last =
        dims::product(&shape[axis..]).ok_or_else(|| Fault::model("a dimension is too long an expression"))?;
    Ok(shape[..axis].iter().cloned().chain([last]).collect())
}

/// RMS or layer normalisation of the axes from `axis` on.
fn normalization(node: &mut NodeContext, is_rms: bool) -> Made {
    let x = node.value(0)?;
    let axis = node.axis("axis", -1, node.rank(x))?;
    let epsilon = node.float("epsilon", 1e-5)?;
    let (gain, bias) = (node.value(1)?, node.optional_value(2)?);
    let y = normalize(node, x, axis, gain, bias, epsilon, is_rms)?;
    if is_rms || !(node.wants(1) || node.wants(2)) {
        return node.one(y);
    }
    let wide = if node.int("stash_type", 1)? == 1 { node.cast(x, Element::F32)? } else { x };
    let axes: Vec<usize> = (axis..node.rank(x)).collect();
    let (_, mean, inverse) = standardize(node, wide, &axes, epsilon)?;
    node.many(&[y, mean, inverse])
}

pub(super) fn normalize(
    node: &mut NodeContext,
    x: ValueId,
    axis: usize,
    gain: ValueId,
    bias: Option<ValueId>,
    epsilon: f64,
    is_rms: bool,
) -> Outcome<ValueId> {
    let shape = node.shape(x);
    let flat = flat_from(&shape, axis)?;
    let inner = node.reshape(x, &flat)?;
    let gain = vector(node, gain, &shape[axis..])?;
    let bias = bias.map(|bias| vector(node, bias, &shape[axis..])).transpose()?;
    let element = node.element(x);
    // Gain and bias may be wider than x (f32 beside f16).
    let gain = node.cast(gain, element)?;
    let bias = bias.map(|bias| node.cast(bias, element)).transpose()?;
    let y = if is_rms {
        let y = node.make(&core::RMS_NORM, |op| op.operands(&[inner, gain]).attribute("epsilon", epsilon))?;
        match bias {
            Some(bias) => node.add(y, bias)?,
            None => y,
        }
    } else {
        node.make(&core::LAYER_NORM, |op| {
            op.operands(&[inner, gain]).maybe(bias).attribute("epsilon", epsilon)
        })?
    };
    node.reshape(y, &shape)
}

/// A gain or bias over the normalised axes, as one vector.
fn vector(node: &mut NodeContext, value: ValueId, shape: &[Dim]) -> Outcome<ValueId> {
    let wanted = node.broadcast_shape(&node.shape(value), shape)?;
    let value = if node.shape(value) == wanted { value } else { node.broadcast(value, &wanted)? };
    let flat = flat_from(&wanted, 0)?;
    node.reshape(value, &flat)
}

/// The sum of input, skip and bias, normalised; the sum itself is output 3.
fn skip_normalization(node: &mut NodeContext, is_rms: bool) -> Made {
    let (x, skip) = (node.value(0)?, node.value(1)?);
    let gain = node.value(2)?;
    let (beta, bias) = if is_rms { (None, 3) } else { (node.optional_value(3)?, 4) };
    let mut sum = node.add(x, skip)?;
    if let Some(bias) = node.optional_value(bias)? {
        sum = node.add(sum, bias)?;
    }
    let epsilon = node.float("epsilon", 1e-5)?;
    let axis = super::super::emit::axis_of(-1, node.rank(sum))?;
    let y = normalize(node, sum, axis, gain, beta, epsilon, is_rms)?;
    for output in [1, 2] {
        if node.wants(output) {
            return Err(Fault::unsupported(
                format!("output {output} is not supported"),
                "it is for training only",
            ));
        }
    }
    node.many(&[y, y, y, sum])
}

/// A vector over channels, shaped to broadcast with `[n, c, spatial..]`.
pub(super) fn per_channel(node: &mut NodeContext, value: ValueId, rank: usize) -> Outcome<ValueId> {
    if node.rank(value) != 1 {
        return Err(Fault::model(format!("one value per channel is needed, found {}", node.ty(value))));
    }
    let mut shape = vec![node.dim(value, 0)?];
    shape.extend(std::iter::repeat_n(Dim::Known(1), rank.saturating_sub(2)));
    node.reshape(value, &shape)
}

/// x * factor + offset with factor = scale / sqrt(variance + epsilon), offset = bias - mean * factor: both from constants.
fn batch_normalization(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let epsilon = node.float("epsilon", 1e-5)?;
    let (scale, bias) = (node.value(1)?, node.value(2)?);
    let (mut mean, mut variance) = (node.value(3)?, node.value(4)?);
    let mut running = None;
    if node.flag("training_mode", false)? {
        let momentum = node.float("momentum", 0.9)?;
        let of_batch = batch_statistics(node, x)?;
        let mut next = Vec::new();
        for (old, new) in [(mean, of_batch.0), (variance, of_batch.1)] {
            let new = node.cast_like(new, old)?;
            let (old, new) = (node.scale(old, momentum)?, node.scale(new, 1.0 - momentum)?);
            next.push(node.add(old, new)?);
        }
        (mean, variance) = (node.cast_like(of_batch.0, mean)?, node.cast_like(of_batch.1, variance)?);
        running = Some(next);
    }
    let epsilon = node.scalar_like(variance, epsilon)?;
    let sum = node.add(variance, epsilon)?;
    let inverse = node.unary(&core::RSQRT, sum)?;
    let factor = node.mul(scale, inverse)?;
    let shift = node.mul(mean, factor)?;
    let offset = node.sub(bias, shift)?;
    let (rank, element) = (node.rank(x), node.element(x));
    let (factor, offset) = (node.cast(factor, element)?, node.cast(offset, element)?);
    let (factor, offset) = (per_channel(node, factor, rank)?, per_channel(node, offset, rank)?);
    let y = node.mul(x, factor)?;
    let y = node.add(y, offset)?;
    match running {
        Some(running) => node.many(&[y, running[0], running[1]]),
        None => node.one(y),
    }
}

/// Mean and variance of each channel of `[n, c, ..]`.
fn batch_statistics(node: &mut NodeContext, x: ValueId) -> Outcome<(ValueId, ValueId)> {
    let axes: Vec<usize> = (0..node.rank(x)).filter(|axis| *axis != 1).collect();
    let mean = node.reduce(&core::REDUCE_MEAN, x, &axes, true)?;
    let centered = node.sub(x, mean)?;
    let squared = node.mul(centered, centered)?;
    let variance = node.reduce(&core::REDUCE_MEAN, squared, &axes, false)?;
    let mean = node.reduce(&core::REDUCE_MEAN, x, &axes, false)?;
    Ok((mean, variance))
}

/// (x - mean) / sqrt(variance + epsilon) over axes; the mean; 1 / sqrt(variance + epsilon).
pub(super) fn standardize(
    node: &mut NodeContext,
    x: ValueId,
    axes: &[usize],
    epsilon: f64,
) -> Outcome<(ValueId, ValueId, ValueId)> {
    let mean = node.reduce(&core::REDUCE_MEAN, x, axes, true)?;
    let centered = node.sub(x, mean)?;
    let squared = node.mul(centered, centered)?;
    let variance = node.reduce(&core::REDUCE_MEAN, squared, axes, true)?;
    let epsilon = node.scalar_like(x, epsilon)?;
    let sum = node.add(variance, epsilon)?;
    let inverse = node.unary(&core::RSQRT, sum)?;
    Ok((node.mul(centered, inverse)?, mean, inverse))
}

fn instance_normalization(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let rank = node.rank(x);
    let epsilon = node.float("epsilon", 1e-5)?;
    let axes: Vec<usize> = (2..rank).collect();
    let (y, _, _) = standardize(node, x, &axes, epsilon)?;
    let (scale, bias) = (node.value(1)?, node.value(2)?);
    let (scale, bias) = (per_channel(node, scale, rank)?, per_channel(node, bias, rank)?);
    let y = node.mul(y, scale)?;
    let y = node.add(y, bias)?;
    node.one(y)
}

/// Scale and bias are per group before opset 21 and per channel since.
fn group_normalization(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let shape = node.shape(x);
    let groups = node.required_int("num_groups")?;
    let epsilon = node.float("epsilon", 1e-5)?;
    if shape.len() < 3 {
        return Err(Fault::model(format!("input 0 must have rank 3 or more, found {}", node.ty(x))));
    }
    let rest = shape[1]
        .divide_exactly(&Dim::Known(groups))
        .filter(|_| groups > 0)
        .ok_or_else(|| Fault::model(format!("{} channels do not split into {groups} groups", shape[1])))?;
    let mut apart = vec![shape[0].clone(), Dim::Known(groups), rest];
    apart.extend(shape[2..].iter().cloned());
    let grouped = node.reshape(x, &apart)?;
    let axes: Vec<usize> = (2..apart.len()).collect();
    let (y, _, _) = standardize(node, grouped, &axes, epsilon)?;
    let (scale, bias) = (node.value(1)?, node.value(2)?);
    let is_per_group = node.version < 21;
    let mut y = if is_per_group { y } else { node.reshape(y, &shape)? };
    let rank = node.rank(y);
    let (scale, bias) = (per_channel(node, scale, rank)?, per_channel(node, bias, rank)?);
    y = node.mul(y, scale)?;
    y = node.add(y, bias)?;
    let y = node.reshape(y, &shape)?;
    node.one(y)
}

fn mean_variance(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let axes = node.ints_attribute("axes")?.unwrap_or(&[0, 2, 3]);
    let axes: Vec<usize> = axes.iter().map(|axis| axis_of(*axis, node.rank(x))).collect::<Outcome<_>>()?;
    let (y, _, _) = standardize(node, x, &axes, 1e-9)?;
    node.one(y)
}

fn lp_normalization(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let (axis, p) = (node.axis("axis", -1, node.rank(x))?, node.int("p", 2)?);
    let norm = match p {
        1 => {
            let sizes = node.unary(&core::ABS, x)?;
            node.reduce(&core::REDUCE_SUM, sizes, &[axis], true)?
        }
        2 => {
            let squares = node.mul(x, x)?;
            let sum = node.reduce(&core::REDUCE_SUM, squares, &[axis], true)?;
            node.unary(&core::SQRT, sum)?
        }
        other => return Err(Fault::model(format!("attribute 'p' must be 1 or 2, found {other}"))),
    };
    // A vector of zeros stays one.
    let zero = node.scalar_like(x, 0.0)?;
    let is_zero = node.compare("eq", norm, zero)?;
    let one = node.scalar_like(x, 1.0)?;
    let divisor = node.select(is_zero, one, norm)?;
    let y = node.binary(&core::DIV, x, divisor)?;
    node.one(y)
}
