//! Mixtures of experts of com.microsoft: MoE, and QMoE with weights of few bits.
//!
//! Every expert sees every token and the router's weights, zero for those not chosen, add the results up: y = sum over e of
//! gate[t, e] * expert_e(x[t]). Which experts a token takes is data, and an NPU's tiles are static.
//!
//! Source: ONNX Runtime's docs/ContribOperators.md.

use super::super::context::NodeContext;
use super::super::dims;
use super::super::emit::Quantization;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, microsoft};
use super::microsoft::{middle, unpacked};
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    microsoft("MoE", mixture).refuses("use_sparse_mixer"),
    microsoft("QMoE", quantized_mixture)
        .refuses("quant_type other than int; prepacked weights; use_sparse_mixer"),
];

/// One of an expert's matrices, for all experts.
struct Layer {
    /// `[e, k, n]`.
    weight: ValueId,
    /// `[e, n]`.
    bias: Option<ValueId>,
}

impl Layer {
    /// x W + b for x `[t, k]` or `[e, t, k]`: `[e, t, n]`.
    fn apply(&self, node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
        let y = node.matmul(x, self.weight)?;
        let Some(bias) = self.bias else { return Ok(y) };
        let shape = node.shape(bias);
        let [experts, width] = shape.as_slice() else {
            return Err(Fault::model(format!("one bias per expert is needed, found {}", node.ty(bias))));
        };
        let bias = node.reshape(bias, &[experts.clone(), Dim::Known(1), width.clone()])?;
        node.add(y, bias)
    }
}

fn mixture(node: &mut NodeContext) -> Made {
    let layer = |node: &mut NodeContext, weight: usize, bias: usize| -> Outcome<Option<Layer>> {
        let Some(weight) = node.optional_value(weight)? else { return Ok(None) };
        if node.rank(weight) != 3 {
            return Err(Fault::model(format!(
                "weights of experts must have rank 3, found {}",
                node.ty(weight)
            )));
        }
        Ok(Some(Layer { weight: node.transpose_last(weight)?, bias: node.optional_value(bias)? }))
    };
    let (first, second) = (layer(node, 2, 3)?, layer(node, 4, 5)?);
    let third = layer(node, 6, 7)?;
    let normalizes = node.flag("normalize_routing_weights", false)?;
    mix(node, [first, second, third], None, normalizes)
}

fn quantized_mixture(node: &mut NodeContext) -> Made {
    let kind = node.text("quant_type", "int")?;
    if kind != "int" && !kind.is_empty() {
        return Err(Fault::unsupported(
            format!("attribute 'quant_type' = '{kind}' is not supported"),
            "use 'int'",
        ));
    }
    if node.int("weights_prepacked", -1)? == 1 {
        return Err(Fault::unsupported("prepacked weights are not supported", "export them as they are"));
    }
    let bits = node.int("expert_weight_bits", 4)?;
    let mut layers = Vec::new();
    for (at, points) in [(2, 11), (5, 12), (8, 13)] {
        let own = node.int(&format!("fc{}_expert_weight_bits", at / 3 + 1), bits)?;
        layers.push(match node.optional(at) {
            Some(codes) => Some(few_bits(node, &codes, at, points, own)?),
            None => None,
        });
    }
    let weights = node.optional_value(14)?;
    let third = layers.pop().flatten();
    let second = layers.pop().flatten();
    // ONNX Runtime's kernel takes the softmax over the chosen experts alone, whatever the attribute says.
    let normalizes = weights.is_none() || node.flag("normalize_routing_weights", false)?;
    mix(node, [layers.pop().flatten(), second, third], weights, normalizes)
}

/// A layer stored in few bits: codes `[e, n, k * bits / 8]` at input `at`, its scale and bias after it, its zero points at `points`.
fn few_bits(node: &mut NodeContext, codes: &Operand, at: usize, points: usize, bits: i64) -> Outcome<Layer> {
    let block = node.int("block_size", 0)?;
    if !matches!(bits, 2 | 4 | 8) || !(0..1 << 31).contains(&block) {
        return Err(Fault::unsupported(
            format!("weights of {bits} bits in blocks of {block} are not supported"),
            "2, 4 and 8 bits are",
        ));
    }
    let sizes: Option<Vec<i64>> = codes.shape().iter().map(Dim::known).collect();
    let Some(&[experts, rows, bytes]) = sizes.as_deref() else {
        return Err(Fault::model(format!("weights of experts must have rank 3, found {}", codes.ty())));
    };
    let columns = bytes.saturating_mul(8 / bits);
    let all = experts.saturating_mul(rows);
    let codes = unpacked(node, codes, bits, all, columns)?;
    let codes = node.data(&codes)?;
    let scale = node.value(at + 1)?;
    let blocks = if block > 0 { (columns + block - 1) / block } else { 1 };
    let grid = if block > 0 { vec![Dim::Known(all), Dim::Known(blocks)] } else { vec![Dim::Known(all)] };
    let scale = node.reshape(scale, &grid)?;
    let zero_point = match node.optional(points) {
        Some(points) => {
            // Rows of zero points start on a byte: along the blocks, or along all rows of an expert.
            let (lines, count) = if block > 0 { (all, blocks) } else { (experts, rows) };
            let width = (count.saturating_mul(bits) + 7) / 8 * 8 / bits;
            let points = unpacked(node, &points, bits, lines, width)?;
            let points = node.data(&points)?;
            let points = node.slice_axis(points, 1, &Dim::Known(0), &Dim::Known(count))?;
            node.reshape(points, &grid)?
        }
        None => middle(node, node.element(codes), bits, &grid)?,
    };
    let axis = Some(usize::from(block > 0));
    let with = Quantization { scale, zero_point: Some(zero_point), axis, block };
    let element = node.element(scale);
    let weight = node.dequantize(codes, &with, element)?;
    let weight = node.reshape(weight, &[Dim::Known(experts), Dim::Known(rows), Dim::Known(columns)])?;
    let x = node.value(0)?;
    let weight = node.cast_like(weight, x)?;
    Ok(Layer { weight: node.transpose_last(weight)?, bias: node.optional_value(at + 2)? })
}

fn mix(
    node: &mut NodeContext,
    [first, second, third]: [Option<Layer>; 3],
    weights: Option<ValueId>,
    normalizes: bool,
) -> Made {
    let missing = || Fault::model("the weights of fc1 or fc2 are missing");
    let (first, second) = (first.ok_or_else(missing)?, second.ok_or_else(missing)?);
    let (x, router) = (node.value(0)?, node.value(1)?);
    let shape = node.shape(x);
    let (width, tokens) = shape.split_last().ok_or_else(|| Fault::model("input 0 has no dimensions"))?;
    let tokens =
        dims::product(tokens).ok_or_else(|| Fault::model("a dimension is too long an expression"))?;
    let flat = node.reshape(x, &[tokens.clone(), width.clone()])?;
    if node.rank(router) != 2 {
        return Err(Fault::model(format!("input 1 must be [tokens, experts], found {}", node.ty(router))));
    }
    node.equate("tokens of input and router differ", &tokens, &node.dim(router, 0)?)?;
    node.equate("experts of router and weights differ", &node.dim(first.weight, 0)?, &node.dim(router, 1)?)?;
    let gates = gates(node, router, weights, normalizes)?;
    let hidden = first.apply(node, flat)?;
    let hidden = activated(node, hidden, flat, third.as_ref())?;
    let y = second.apply(node, hidden)?;
    let gates = node.transpose(gates, &[1, 0])?;
    let experts = node.dim(gates, 0)?;
    let gates = node.reshape(gates, &[experts, tokens, Dim::Known(1)])?;
    let gates = node.cast_like(gates, y)?;
    let y = node.mul(y, gates)?;
    let y = node.reduce(&core::REDUCE_SUM, y, &[0], false)?;
    let y = node.reshape(y, &shape)?;
    node.one(y)
}

/// The weight of each expert for each token `[t, e]`: the k largest of the router's softmax, or of weights given apart; others 0.
fn gates(
    node: &mut NodeContext,
    router: ValueId,
    weights: Option<ValueId>,
    normalizes: bool,
) -> Outcome<ValueId> {
    if node.int("use_sparse_mixer", 0)? != 0 {
        return Err(Fault::unsupported("attribute 'use_sparse_mixer' is not supported", "export without it"));
    }
    let (k, experts) = (node.int("k", 1)?, node.dim(router, 1)?);
    if k < 1 || experts.known().is_some_and(|experts| k > experts) {
        return Err(Fault::model(format!("attribute 'k' = {k} of {experts} experts")));
    }
    let router = node.cast(router, Element::F32)?;
    let chances = node.along(&core::SOFTMAX, router, 1)?;
    let op = node.op(&core::TOP_K, |op| {
        op.operand(chances)
            .attribute("k", Attribute::dim(&Dim::Known(k)))
            .attribute("axis", 1usize)
            .attribute("largest", true)
    })?;
    let chosen = node.module.op(op).results[1];
    let tokens = node.dim(router, 0)?;
    let chosen = node.reshape(chosen, &[tokens, Dim::Known(k), Dim::Known(1)])?;
    let one = Dim::Known(1);
    let element = node.element(chosen);
    let places = node.iota(element, &[one.clone(), one, experts], 2)?;
    let is_chosen = node.compare("eq", chosen, places)?;
    let is_chosen = node.cast(is_chosen, Element::F32)?;
    let keep = node.reduce(&core::REDUCE_SUM, is_chosen, &[1], false)?;
    let base = match weights {
        Some(weights) => node.cast(weights, Element::F32)?,
        None => chances,
    };
    let gates = node.mul(base, keep)?;
    if !normalizes {
        return Ok(gates);
    }
    let sum = node.reduce(&core::REDUCE_SUM, gates, &[1], true)?;
    node.binary(&core::DIV, gates, sum)
}

/// The activation of what fc1 gives; fc3 applied to the tokens makes the linear half of a gated one.
fn activated(
    node: &mut NodeContext,
    hidden: ValueId,
    tokens: ValueId,
    third: Option<&Layer>,
) -> Outcome<ValueId> {
    let name = node.text("activation_type", "relu")?;
    let linear = third.map(|third| third.apply(node, tokens)).transpose()?;
    if name == "swiglu" {
        let (gate, linear) = match (node.int("swiglu_fusion", 0)?, linear) {
            (0, Some(linear)) => (hidden, linear),
            (1, _) => halves(node, hidden, true)?,
            (2, _) => halves(node, hidden, false)?,
            (fusion, _) => {
                return Err(Fault::model(format!("attribute 'swiglu_fusion' = {fusion} without fc3")));
            }
        };
        return swiglu(node, gate, linear);
    }
    let y = match name.as_str() {
        "relu" => node.unary(&core::RELU, hidden)?,
        "gelu" => node.make(&core::GELU, |op| op.operand(hidden).attribute("approximate", "tanh"))?,
        "silu" => node.unary(&core::SILU, hidden)?,
        "identity" => hidden,
        other => return Err(Fault::model(format!("attribute 'activation_type' = '{other}' is not known"))),
    };
    match linear {
        Some(linear) => node.mul(y, linear),
        None => Ok(y),
    }
}

/// Gate and linear half of `[e, t, 2 * n]`: alternating, or one behind the other.
fn halves(node: &mut NodeContext, both: ValueId, alternates: bool) -> Outcome<(ValueId, ValueId)> {
    let shape = node.shape(both);
    let half = shape[2].divide_exactly(&Dim::Known(2));
    let half = half.ok_or_else(|| Fault::model(format!("{} does not split into 2 halves", shape[2])))?;
    let (two, axis) = (Dim::Known(2), if alternates { 3 } else { 2 });
    let apart = if alternates { [half.clone(), two] } else { [two, half.clone()] };
    let apart = node.reshape(both, &[&shape[..2], &apart].concat())?;
    let mut parts = Vec::new();
    for at in 0..2 {
        let part = node.slice_axis(apart, axis, &Dim::Known(at), &Dim::Known(1))?;
        parts.push(node.reshape(part, &[shape[0].clone(), shape[1].clone(), half.clone()])?);
    }
    Ok((parts[0], parts[1]))
}

/// G * sigmoid(alpha * G) * (L + beta) with G = min(gate, limit) and L = clamp(linear, -limit, limit).
fn swiglu(node: &mut NodeContext, gate: ValueId, linear: ValueId) -> Outcome<ValueId> {
    let (alpha, beta) = (node.float("activation_alpha", 1.0)?, node.float("activation_beta", 0.0)?);
    let (mut gate, mut linear) = (gate, linear);
    if node.has("swiglu_limit") {
        let limit = node.float("swiglu_limit", 0.0)?;
        gate = node.make(&core::CLAMP, |op| op.operand(gate).attribute("max", limit))?;
        linear = node
            .make(&core::CLAMP, |op| op.operand(linear).attribute("min", -limit).attribute("max", limit))?;
    }
    let scaled = node.scale(gate, alpha)?;
    let open = node.unary(&core::SIGMOID, scaled)?;
    let open = node.mul(gate, open)?;
    if beta != 0.0 {
        let beta = node.scalar_like(linear, beta)?;
        linear = node.add(linear, beta)?;
    }
    node.mul(open, linear)
}
