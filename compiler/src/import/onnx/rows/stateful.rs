//! Operators that carry a state from call to call: linear attention and the causal convolution before it. Both domains have them.
//!
//! Source: ONNX Operators.md (opset 27) and ONNX Runtime's docs/ContribOperators.md.

use super::super::context::NodeContext;
use super::super::dims;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, microsoft, since};
use super::convolution::{Window, convolve, kernel_of};
use super::fused::{channels_first, channels_last};
use tilewright_ir::attribute::Attributes;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::ValueId;
use tilewright_ir::types::TensorType;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    since(27, "CausalConvWithState", causal_conv_with_state)
        .refuses("more than one spatial dimension; state_window"),
    microsoft("CausalConvWithState", causal_conv_with_state)
        .refuses("more than one spatial dimension; state_window"),
    microsoft("LinearAttention", linear_attention).refuses("state_window"),
];

fn refuse_window(node: &NodeContext) -> Outcome<()> {
    match node.int("state_window", 0)? {
        0 => Ok(()),
        _ => Err(Fault::unsupported("a window of states is not supported", "export with state_window 0")),
    }
}

/// A depthwise causal convolution over the sequence: the state holds what the kernel reaches back to. Inputs x `[b, c, s]`, or
/// `[b, s, c..]` with channels last, weight `[c, 1, k]`, bias?, state?; outputs y and the next state.
fn causal_conv_with_state(node: &mut NodeContext) -> Made {
    refuse_window(node)?;
    let (mut x, weight, bias) = (node.value(0)?, node.value(1)?, node.optional_value(2)?);
    let activation = node.text("activation", "none")?;
    let (dilation, is_last) = (node.int("dilation", 1)?, node.flag("channels_last", false)?);
    let kernel = kernel_of(node, weight)?;
    let shape = node.shape(x);
    if node.int("ndim", 1)? != 1 || kernel.len() != 1 || shape.len() < 3 || (!is_last && shape.len() != 3) {
        return Err(Fault::unsupported("only one spatial dimension is supported", "use Pad and Conv"));
    }
    if !(1..1 << 31).contains(&dilation) {
        return Err(Fault::model(format!("attribute 'dilation' = {dilation} must be at least 1")));
    }
    let kept = Dim::Known((kernel[0] - 1).saturating_mul(dilation));
    let mut state = node.optional_value(3)?;
    if is_last {
        x = sequence_last(node, x)?;
        state = state.map(|state| sequence_last(node, state)).transpose()?;
    }
    let flat = node.shape(x);
    let state = match state {
        Some(state) => state,
        None => {
            let zero = node.scalar_like(x, 0.0)?;
            node.broadcast(zero, &[flat[0].clone(), flat[1].clone(), kept.clone()])?
        }
    };
    node.equate("the state's length is not what the kernel reaches back to", &node.dim(state, 2)?, &kept)?;
    let joined = node.concat(&[state, x], 2)?;
    let window = Window { strides: vec![1], dilations: vec![dilation], low: vec![0], high: vec![0] };
    let groups =
        flat[1].known().ok_or_else(|| Fault::unsupported("the channels must be known", "bind them"))?;
    let y = convolve(node, joined, weight, bias, &window, groups)?;
    let mut y = match activation.as_str() {
        "none" | "" => y,
        "silu" | "swish" => node.unary(&core::SILU, y)?,
        other => {
            return Err(Fault::unsupported(
                format!("activation '{other}' is not supported"),
                "none and silu are",
            ));
        }
    };
    let mut state = node.slice_axis(joined, 2, &flat[2], &kept)?;
    if is_last {
        (y, state) = (channels_last(node, y)?, channels_last(node, state)?);
        y = node.reshape(y, &shape)?;
        let mut kept_shape = shape.to_vec();
        kept_shape[1] = kept;
        state = node.reshape(state, &kept_shape)?;
    }
    node.many(&[y, state])
}

/// `[b, s, c..]` as `[b, c, s]`.
fn sequence_last(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    let shape = node.shape(x);
    if shape.len() < 3 {
        return Err(Fault::model(format!("rank 3 or more is needed, found {}", node.ty(x))));
    }
    let channels = dims::product(&shape[2..]);
    let channels = channels.ok_or_else(|| Fault::model("a dimension is too long an expression"))?;
    let flat = node.reshape(x, &[shape[0].clone(), shape[1].clone(), channels])?;
    channels_first(node, flat)
}

/// How the state changes with a token.
#[derive(Clone, Copy, Debug)]
struct Update {
    /// It fades by exp(decay) first.
    fades: bool,
    /// What the state holds for the key already is taken off the value, and the rest is scaled by beta.
    corrects: bool,
    /// Factor of the outputs.
    scale: f64,
}

/// S = exp(g) S + k (beta (v - S^T k))^T and o = scale q^T S, token by token; the rules leave parts of it out.
fn linear_attention(node: &mut NodeContext) -> Made {
    refuse_window(node)?;
    let (fades, corrects) = super::scores::update_rule(node)?;
    let (heads, groups) = (node.required_int("q_num_heads")?, node.required_int("kv_num_heads")?);
    let (q, k, v) = (node.value(0)?, node.value(1)?, node.value(2)?);
    if heads < 1 || groups < 1 || (heads % groups != 0 && groups % heads != 0) {
        return Err(Fault::model(format!("{heads} query heads and {groups} groups do not divide")));
    }
    let past = node.optional_value(3)?;
    let element = past.map_or(node.element(q), |past| node.element(past));
    let (q, k, v) = (per_token(node, q, heads)?, per_token(node, k, groups)?, per_token(node, v, groups)?);
    let (key_size, value_size) = (node.dim(k, 4)?, node.dim(v, 4)?);
    node.equate("the head sizes of queries and keys differ", &node.dim(q, 4)?, &key_size)?;
    let mut scale = node.float("scale", 0.0)?;
    if scale == 0.0 {
        let size =
            key_size.known().ok_or_else(|| Fault::unsupported("the head size must be known", "bind it"))?;
        scale = 1.0 / (size.max(1) as f64).sqrt();
    }
    let mut streams = vec![queries(node, q, heads, groups)?, k, v];
    for (wanted, input) in [(fades, 4), (corrects, 5)] {
        if wanted {
            let gate = node.value(input)?;
            // One beta for all heads is allowed.
            let own = if node.dim(gate, 2)? == Dim::Known(1) { 1 } else { groups };
            let gate = per_token(node, gate, own)?;
            streams.push(node.transpose(gate, &[0, 1, 2, 4, 3])?);
        }
    }
    for stream in &mut streams {
        *stream = node.cast(*stream, element)?;
    }
    let batch = node.dim(k, 1)?;
    let wanted = [batch, Dim::Known(groups), key_size, value_size];
    let state = match past {
        Some(past) => {
            for (axis, dim) in wanted.iter().enumerate() {
                node.equate("the state does not fit", &node.dim(past, axis)?, dim)?;
            }
            past
        }
        None => {
            let zero = node.scalar(element, 0.0)?;
            node.broadcast(zero, &wanted)?
        }
    };
    let (outputs, state) = over_tokens(node, Update { fades, corrects, scale }, state, &streams)?;
    // [t, b, g, n, d] as [b, t, g * n * d].
    let shape = node.shape(outputs);
    let y = node.transpose(outputs, &[1, 0, 2, 3, 4])?;
    let width = &(&shape[2] * &shape[3]) * &shape[4];
    let y = node.reshape(y, &[shape[1].clone(), shape[0].clone(), width])?;
    let x = node.value(0)?;
    let y = node.cast_like(y, x)?;
    node.many(&[y, state])
}

/// `[b, t, h * d]` as `[t, b, h, 1, d]`.
fn per_token(node: &mut NodeContext, x: ValueId, heads: i64) -> Outcome<ValueId> {
    let shape = node.shape(x);
    let [batch, tokens, width] = shape.as_slice() else {
        return Err(Fault::model(format!("rank 3 is needed, found {}", node.ty(x))));
    };
    let size = width.divide_exactly(&Dim::Known(heads));
    let size = size.ok_or_else(|| Fault::model(format!("{width} does not split into {heads} heads")))?;
    let apart = [batch.clone(), tokens.clone(), Dim::Known(heads), Dim::Known(1), size];
    let apart = node.reshape(x, &apart)?;
    node.transpose(apart, &[1, 0, 2, 3, 4])
}

/// Queries `[t, b, h, 1, d]` by the group they look into: `[t, b, g, n, d]`.
fn queries(node: &mut NodeContext, q: ValueId, heads: i64, groups: i64) -> Outcome<ValueId> {
    let mut shape = node.shape(q).to_vec();
    if heads >= groups {
        (shape[2], shape[3]) = (Dim::Known(groups), Dim::Known(heads / groups));
        return node.reshape(q, &shape);
    }
    // Several groups share a query.
    shape[3] = Dim::Known(groups / heads);
    let spread = node.broadcast(q, &shape)?;
    (shape[2], shape[3]) = (Dim::Known(groups), Dim::Known(1));
    node.reshape(spread, &shape)
}

/// All outputs `[t, b, g, n, d]` and the last state; a single token needs no loop.
fn over_tokens(
    node: &mut NodeContext,
    update: Update,
    state: ValueId,
    streams: &[ValueId],
) -> Outcome<(ValueId, ValueId)> {
    let tokens = node.dim(streams[0], 0)?;
    if tokens == Dim::Known(1) {
        let mut parts = Vec::new();
        for stream in streams {
            let shape = node.shape(*stream);
            parts.push(node.reshape(*stream, &shape[1..])?);
        }
        let (output, state) = token(node, update, state, &parts)?;
        let mut shape = node.shape(output).to_vec();
        shape.insert(0, tokens);
        return Ok((node.reshape(output, &shape)?, state));
    }
    let operands: Vec<ValueId> = [state].into_iter().chain(streams.iter().copied()).collect();
    let zeros = vec![0i64; streams.len()];
    let attributes = Attributes::from([
        ("carried_count".into(), 1usize.into()),
        ("axes".into(), zeros.clone().into()),
        ("reverse".into(), zeros.into()),
    ]);
    let op = node.begin_region_op(&core::SCAN, &operands, attributes, 2);
    let mut arguments: Vec<TensorType> = operands.iter().map(|value| node.ty(*value).clone()).collect();
    for argument in &mut arguments[1..] {
        argument.shape.remove(0);
    }
    let values = node.open_region(op, 0, &arguments);
    let (output, next) = token(node, update, values[0], &values[1..])?;
    let mut results = [node.ty(next).clone(), node.ty(output).clone()];
    results[1].shape.insert(0, tokens);
    node.close_region(&[next, output])?;
    let values = node.end_region_op(op, &results);
    Ok((values[1], values[0]))
}

/// One token: its output `[b, g, n, d]` and the state after it. Streams are q, k, v, decay if it fades, beta if it corrects.
fn token(
    node: &mut NodeContext,
    update: Update,
    state: ValueId,
    streams: &[ValueId],
) -> Outcome<(ValueId, ValueId)> {
    let (q, k, mut v) = (streams[0], streams[1], streams[2]);
    let mut gates = streams[3..].iter().copied();
    let mut state = state;
    if update.fades {
        let decay = gates.next().ok_or_else(|| Fault::model("the decay is missing"))?;
        let factor = node.unary(&core::EXP, decay)?;
        state = node.mul(state, factor)?;
    }
    if update.corrects {
        let beta = gates.next().ok_or_else(|| Fault::model("beta is missing"))?;
        let held = node.matmul(k, state)?;
        let rest = node.sub(v, held)?;
        v = node.mul(rest, beta)?;
    }
    let column = node.transpose_last(k)?;
    let added = node.mul(column, v)?;
    let next = node.add(state, added)?;
    let output = node.matmul(q, next)?;
    Ok((node.scale(output, update.scale)?, next))
}
