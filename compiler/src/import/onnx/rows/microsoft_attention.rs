//! Attention of com.microsoft: grouped-query, multi-head and self attention with caches and masks, and rotary embedding.
//!
//! Source: ONNX Runtime's docs/ContribOperators.md. Caches may be longer than what is valid in them: `seqlens_k` of GroupQueryAttention
//! says how long each sequence is. Where the batch is one, as in all that exporters of language models write, the past is valid as a
//! whole and the caches stay plain concatenations, which later become state in place.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, microsoft};
use super::attention::{
    Heads, Rule, also_keep, attend, join_heads, rotate, split_heads, table_rows, window_mask, with_past,
};
use super::integer::scaled_product;
use tilewright_ir::attribute::Attributes;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    microsoft("Attention", self_attention),
    microsoft("GroupQueryAttention", group_query_attention).refuses("quantised caches (k_quant_type)"),
    microsoft("MultiHeadAttention", multi_head_attention),
    microsoft("QAttention", quantized_attention),
    microsoft("RotaryEmbedding", rotary_embedding).refuses("is_packed_batching"),
];

/// Positions start, start + 1, .. as `[s]`.
fn positions_from(node: &mut NodeContext, start: &Dim, length: &Dim) -> Outcome<ValueId> {
    let ramp = node.iota(Element::I64, std::slice::from_ref(length), 0)?;
    if *start == Dim::Known(0) {
        return Ok(ramp);
    }
    let start = node.size(start)?;
    node.add(ramp, start)
}

/// Faults on the first of the attributes that is set.
fn refuse_set(node: &NodeContext, names: &[&str]) -> Outcome<()> {
    for name in names {
        if node.int(name, 0)? != 0 {
            return Err(Fault::unsupported(
                format!("attribute '{name}' is not supported"),
                "export the model without it",
            ));
        }
    }
    Ok(())
}

// ---- rotary embedding ------------------------------------------------------------------------------------------------

fn rotary_embedding(node: &mut NodeContext) -> Made {
    refuse_set(node, &["is_packed_batching"])?;
    let (x, positions) = (node.value(0)?, node.value(1)?);
    let (cos, sin) = (node.value(2)?, node.value(3)?);
    let is_flat = node.rank(x) == 3;
    let interleaved = node.flag("interleaved", false)?;
    let heads = if is_flat {
        let given = node.int("num_heads", 0)?;
        let width = &node.dim(cos, node.rank(cos).saturating_sub(1))? * &Dim::Known(2);
        let count = match given {
            0 => node.dim(x, 2)?.divide_exactly(&width).and_then(|count| count.known()),
            given => Some(given),
        };
        let count = count
            .ok_or_else(|| Fault::model(format!("{} is no multiple of head size {width}", node.ty(x))))?;
        split_heads(node, x, count)?
    } else {
        x
    };
    if node.rank(heads) != 4 {
        return Err(Fault::model(format!("input 0 must have rank 3 or 4, found {}", node.ty(x))));
    }
    // One position alone is that of the first token.
    let positions = if node.shape(positions).as_slice() == [Dim::Known(1)] {
        let length = node.dim(heads, 2)?;
        let ramp = positions_from(node, &Dim::Known(0), &length)?;
        let start = node.cast(positions, Element::I64)?;
        node.add(ramp, start)?
    } else {
        positions
    };
    let (cos, sin) = (table_rows(node, cos, positions)?, table_rows(node, sin, positions)?);
    let y = rotate(node, heads, cos, sin, interleaved)?;
    let scale = node.float("scale", 1.0)?;
    let y = node.scale(y, scale)?;
    let y = if is_flat { join_heads(node, y)? } else { y };
    node.one(y)
}

// ---- grouped queries -------------------------------------------------------------------------------------------------

/// Queries, keys and values `[b, heads, s, d]` from three inputs or one packed input.
fn query_key_value(node: &mut NodeContext, heads: i64, groups: i64) -> Outcome<[ValueId; 3]> {
    let q = node.value(0)?;
    if let (Some(k), Some(v)) = (node.optional_value(1)?, node.optional_value(2)?) {
        return Ok([
            split_heads(node, q, heads)?,
            split_heads(node, k, groups)?,
            split_heads(node, v, groups)?,
        ]);
    }
    let count = groups.checked_mul(2).and_then(|both| both.checked_add(heads)).filter(|count| *count > 0);
    let width = node.shape(q).get(2).cloned().unwrap_or(Dim::Known(0));
    let size = count.and_then(|count| width.divide_exactly(&Dim::Known(count)));
    let size = size.ok_or_else(|| {
        Fault::model(format!("{width} does not split into {heads} heads and 2 x {groups} groups"))
    })?;
    let (q_width, k_width) = (&size * &Dim::Known(heads), &size * &Dim::Known(groups));
    let [q, k, v] = columns(node, q, &[q_width, k_width.clone(), k_width])?;
    Ok([split_heads(node, q, heads)?, split_heads(node, k, groups)?, split_heads(node, v, groups)?])
}

/// Three parts of the last axis, one behind the other.
fn columns(node: &mut NodeContext, x: ValueId, widths: &[Dim; 3]) -> Outcome<[ValueId; 3]> {
    let axis = node.rank(x).checked_sub(1).ok_or_else(|| Fault::model("a packed input has no dimensions"))?;
    let whole = &(&widths[0] + &widths[1]) + &widths[2];
    node.equate("the parts of a packed input do not add up", &node.dim(x, axis)?, &whole)?;
    let second = node.slice_axis(x, axis, &widths[0], &widths[1])?;
    let third = node.slice_axis(x, axis, &(&widths[0] + &widths[1]), &widths[2])?;
    Ok([node.slice_axis(x, axis, &Dim::Known(0), &widths[0])?, second, third])
}

fn group_query_attention(node: &mut NodeContext) -> Made {
    let (heads, groups) = (node.required_int("num_heads")?, node.required_int("kv_num_heads")?);
    refuse_cache_quantization(node)?;
    let [mut q, mut k, v] = query_key_value(node, heads, groups)?;
    if let (Some(q_gain), Some(k_gain)) = (node.optional_value(14)?, node.optional_value(15)?) {
        let epsilon = node.float("qk_norm_epsilon", 1e-6)?;
        q = node.make(&core::RMS_NORM, |op| op.operands(&[q, q_gain]).attribute("epsilon", epsilon))?;
        k = node.make(&core::RMS_NORM, |op| op.operands(&[k, k_gain]).attribute("epsilon", epsilon))?;
    }
    let (past_key, past_value) = (node.optional_value(3)?, node.optional_value(4)?);
    let past = past_key.and_then(|past| node.shape(past).get(2).cloned()).unwrap_or(Dim::Known(0));
    let length = node.dim(q, 2)?;
    if let Some(total) = node.optional(6).and_then(|total| node.symbolic_of(&total))
        && let Some(total) = total.values.first().filter(|total| total.as_symbol().is_some())
    {
        node.equate("the total length differs", total, &(&past + &length))?;
    }
    let start = valid_past(node, &past, &length)?;
    if node.flag("do_rotary", false)? {
        let interleaved = node.flag("rotary_interleaved", false)?;
        let positions = match (node.optional_value(9)?, start) {
            (Some(positions), _) => positions,
            (None, None) => positions_from(node, &past, &length)?,
            (None, Some(start)) => {
                let ramp = positions_from(node, &Dim::Known(0), &length)?;
                let batch = node.dim(q, 0)?;
                let start = node.reshape(start, &[batch, Dim::Known(1)])?;
                node.add(start, ramp)?
            }
        };
        let (cos, sin) = (node.value(7)?, node.value(8)?);
        let (cos, sin) = (table_rows(node, cos, positions)?, table_rows(node, sin, positions)?);
        q = rotate(node, q, cos, sin, interleaved)?;
        k = rotate(node, k, cos, sin, interleaved)?;
    }
    let (mut k, mut v) = (with_past(node, past_key, k)?, with_past(node, past_value, v)?);
    let mut rule = Rule {
        scale: given_scale(node)?,
        causal: node.flag("causal", true)?,
        softcap: node.float("softcap", 0.0)?,
        window: node.int("local_window_size", -1)?,
    };
    let sinks = match node.optional_value(11)? {
        Some(sinks) => Some(sinks),
        None if node.flag("smooth_softmax", false)? => {
            let zero = node.scalar_like(q, 0.0)?;
            Some(node.broadcast(zero, &[Dim::Known(heads)])?)
        }
        None => None,
    };
    let mut bias = node.optional_value(10)?;
    if let Some(start) = start {
        (k, v) = (behind_valid(node, k, &past, start)?, behind_valid(node, v, &past, start)?);
        let (batch, one) = (node.dim(q, 0)?, Dim::Known(1));
        let start = node.reshape(start, &[batch, one.clone(), one.clone(), one])?;
        let left = if rule.window > 0 { rule.window - 1 } else { -1 };
        let keys = node.dim(k, 2)?;
        bias = Some(window_mask(node, bias, (&length, &keys), start, left, 0)?);
        (rule.causal, rule.window) = (false, -1);
    }
    let y = attend(node, &Heads { q, k, v }, &rule, bias, sinks)?;
    let y = join_heads(node, y)?;
    node.many(&[y, k, v])
}

fn given_scale(node: &NodeContext) -> Outcome<Option<f64>> {
    let scale = node.float("scale", 0.0)?;
    Ok((scale != 0.0).then_some(scale))
}

/// How much of each sequence's past is valid, `[b]`: `seqlens_k + 1 - s`, or all of it (`None`).
///
/// Where the options say so, a symbolic batch is taken for one sequence and noted, so that whoever learns that there are more imports
/// again.
fn valid_past(node: &mut NodeContext, past: &Dim, length: &Dim) -> Outcome<Option<ValueId>> {
    let Some(lengths) = node.optional_value(5)? else { return Ok(None) };
    let x = node.value(0)?;
    let batch = node.dim(x, 0)?;
    if *past == Dim::Known(0) || !node.flag("causal", true)? {
        return Ok(None);
    }
    if batch.known().is_none() && node.importer.options.one_sequence {
        batch.collect_symbols(&mut node.importer.batches);
        return Ok(None);
    }
    if batch == Dim::Known(1) {
        return Ok(None);
    }
    let lengths = node.reshape(lengths, &[batch])?;
    let lengths = node.cast(lengths, Element::I64)?;
    let other = node.size(&(length - &Dim::Known(1)))?;
    let start = node.sub(lengths, other)?;
    // A first prompt may be longer than its sequence: padded at the end.
    let zero = node.ints(Element::I64, &[], &[0])?;
    Ok(Some(node.binary(&core::MAX, start, zero)?))
}

/// The new entries of `[b, g, past + s, d]` moved right behind what is valid of each sequence's past.
fn behind_valid(node: &mut NodeContext, joined: ValueId, past: &Dim, start: ValueId) -> Outcome<ValueId> {
    let rows = node.transpose(joined, &[0, 2, 1, 3])?;
    let grid = [node.dim(rows, 0)?, node.dim(rows, 1)?];
    let places = node.iota(Element::I64, &grid, 1)?;
    let start = node.reshape(start, &[grid[0].clone(), Dim::Known(1)])?;
    let past = node.size(past)?;
    let distance = node.sub(past, start)?;
    let moved = node.add(places, distance)?;
    let last = node.size(&(&grid[1] - &Dim::Known(1)))?;
    let moved = node.binary(&core::MIN, moved, last)?;
    let is_past = node.compare("lt", places, start)?;
    let from = node.select(is_past, places, moved)?;
    let from = node.reshape(from, &[grid[0].clone(), grid[1].clone(), Dim::Known(1)])?;
    let rows = node.make(&core::GATHER_ND, |op| op.operands(&[rows, from]).attribute("batch_dims", 1i64))?;
    node.transpose(rows, &[0, 2, 1, 3])
}

fn refuse_cache_quantization(node: &NodeContext) -> Outcome<()> {
    for name in ["k_quant_type", "v_quant_type"] {
        let kind = node.text(name, "NONE")?;
        if kind != "NONE" && !kind.is_empty() {
            return Err(Fault::unsupported(
                format!("a quantised cache ({name} = {kind}) is not supported"),
                "export it as float",
            ));
        }
    }
    Ok(())
}

// ---- several heads ---------------------------------------------------------------------------------------------------

fn multi_head_attention(node: &mut NodeContext) -> Made {
    let heads = node.required_int("num_heads")?;
    let mut parts = separate(node)?;
    if let Some(bias) = node.optional_value(3)? {
        let mut start = Dim::Known(0);
        for part in &mut parts {
            let shape = node.shape(*part);
            // Keys and values of another layer come with their heads apart and their bias added.
            if let [_, _, width] = shape.as_slice() {
                let piece = node.slice_axis(bias, 0, &start, width)?;
                *part = node.add(*part, piece)?;
                start = &start + width;
            }
        }
    }
    for part in &mut parts {
        if node.rank(*part) == 3 {
            *part = split_heads(node, *part, heads)?;
        }
    }
    let (past_key, past_value) = (node.optional_value(6)?, node.optional_value(7)?);
    let (k, v) = (with_past(node, past_key, parts[1])?, with_past(node, past_value, parts[2])?);
    let heads = Heads { q: parts[0], k, v };
    let (mask, bias) = (node.optional_value(4)?, node.optional_value(5)?);
    let y = attend_masked(node, &heads, mask, bias)?;
    node.many(&[y, k, v])
}

/// Queries, keys and values from three inputs, from `[b, s, n, 3, d]`, or from queries and `[b, t, n, 2, d]`.
fn separate(node: &mut NodeContext) -> Outcome<[ValueId; 3]> {
    let (q, k, v) = (node.value(0)?, node.optional_value(1)?, node.optional_value(2)?);
    let fault = |node: &NodeContext, x: ValueId| {
        Fault::model(format!("queries, keys and values are expected apart or packed, found {}", node.ty(x)))
    };
    match (k, v) {
        (None, None) if node.rank(q) == 5 => {
            Ok([unpack(node, q, 0, 3)?, unpack(node, q, 1, 3)?, unpack(node, q, 2, 3)?])
        }
        (Some(k), None) if node.rank(k) == 5 => Ok([q, unpack(node, k, 0, 2)?, unpack(node, k, 1, 2)?]),
        (Some(k), Some(v)) => {
            for (at, part) in [q, k, v].into_iter().enumerate() {
                if node.rank(part) != 3 && (at == 0 || node.rank(part) != 4) {
                    return Err(fault(node, part));
                }
            }
            Ok([q, k, v])
        }
        _ => Err(fault(node, q)),
    }
}

/// Part `index` of `count` from `[b, s, n, count, d]`, as `[b, s, n * d]`.
fn unpack(node: &mut NodeContext, packed: ValueId, index: i64, count: i64) -> Outcome<ValueId> {
    let shape = node.shape(packed);
    node.equate("a packed input holds another number of parts", &shape[3], &Dim::Known(count))?;
    let part = node.slice_axis(packed, 3, &Dim::Known(index), &Dim::Known(1))?;
    node.reshape(part, &[shape[0].clone(), shape[1].clone(), &shape[2] * &shape[4]])
}

/// Attention by the attributes that MultiHeadAttention, Attention and QAttention share; heads joined again.
fn attend_masked(
    node: &mut NodeContext,
    heads: &Heads,
    mask: Option<ValueId>,
    bias: Option<ValueId>,
) -> Outcome<ValueId> {
    let mut added = bias;
    if let Some(mask) = mask {
        let keep = keep_of(node, mask, heads)?;
        let hidden = node.float("mask_filter_value", -10000.0)?;
        let (zero, hidden) = (node.scalar_like(heads.q, 0.0)?, node.scalar_like(heads.q, hidden)?);
        let filter = node.select(keep, zero, hidden)?;
        added = Some(match bias {
            Some(bias) => node.add(bias, filter)?,
            None => filter,
        });
    }
    let rule = Rule {
        scale: given_scale(node)?,
        causal: node.flag("unidirectional", false)?,
        softcap: 0.0,
        window: -1,
    };
    let y = attend(node, heads, &rule, added, None)?;
    join_heads(node, y)
}

/// Which keys are kept, broadcastable to `[b, h, s, t]`. Masks: lengths `[b]`, ends and starts `[2 * b]`, nonzero where kept `[b, t]`,
/// `[b, s, t]` or `[b, 1, longest, longest]`.
fn keep_of(node: &mut NodeContext, mask: ValueId, heads: &Heads) -> Outcome<ValueId> {
    let (batch, s) = (node.dim(heads.q, 0)?, node.dim(heads.q, 2)?);
    let t = node.dim(heads.k, 2)?;
    let (shape, one) = (node.shape(mask), Dim::Known(1));
    match shape.as_slice() {
        [count] if *count == &batch * &Dim::Known(2) && *count != batch => {
            let ends = node.slice_axis(mask, 0, &Dim::Known(0), &batch)?;
            let starts = node.slice_axis(mask, 0, &batch, &batch)?;
            let below = compared(node, "lt", ends, &t)?;
            let from = compared(node, "ge", starts, &t)?;
            also_keep(node, Some(below), from)
        }
        [count] => {
            let what = "a mask index must hold a length per sequence, or ends and starts";
            node.equate(what, count, &batch)?;
            compared(node, "lt", mask, &t)
        }
        [rows, keys] => {
            node.equate("the mask's keys do not fit", keys, &t)?;
            let keep = node.cast(mask, Element::Bool)?;
            node.reshape(keep, &[rows.clone(), one.clone(), one, keys.clone()])
        }
        [rows, queries, keys] => {
            let keep = node.cast(mask, Element::Bool)?;
            node.reshape(keep, &[rows.clone(), one, queries.clone(), keys.clone()])
        }
        [_, _, _, _] => {
            let keep = node.slice_axis(mask, 2, &(&t - &s), &s)?;
            let keep = node.slice_axis(keep, 3, &Dim::Known(0), &t)?;
            node.cast(keep, Element::Bool)
        }
        _ => Err(Fault::model(format!("a mask of {} is not one of attention", node.ty(mask)))),
    }
}

/// Keys compared with one number per sequence, `[b, 1, 1, t]`.
fn compared(
    node: &mut NodeContext,
    predicate: &'static str,
    numbers: ValueId,
    keys: &Dim,
) -> Outcome<ValueId> {
    let one = Dim::Known(1);
    let numbers = node.cast(numbers, Element::I64)?;
    let batch = node.dim(numbers, 0)?;
    let numbers = node.reshape(numbers, &[batch, one.clone(), one.clone(), one.clone()])?;
    let places = node.iota(Element::I64, &[one.clone(), one.clone(), one, keys.clone()], 3)?;
    let attributes = Attributes::from([("predicate".into(), predicate.into())]);
    node.binary_with(&core::COMPARE, places, numbers, attributes)
}

// ---- projections included --------------------------------------------------------------------------------------------

fn self_attention(node: &mut NodeContext) -> Made {
    let (x, weights) = (node.value(0)?, node.value(1)?);
    let mut projected = node.matmul(x, weights)?;
    if let Some(bias) = node.optional_value(2)? {
        projected = node.add(projected, bias)?;
    }
    let (mask, bias) = (node.optional_value(3)?, node.optional_value(5)?);
    attend_projected(node, projected, mask, 4, bias)
}

fn quantized_attention(node: &mut NodeContext) -> Made {
    let projected = scaled_product(node, [0, 3, 6], [1, 4, 7], Some(2))?;
    let mask = node.optional_value(5)?;
    attend_projected(node, projected, mask, 8, None)
}

/// Attention over queries, keys and values side by side `[b, s, q + k + v]`; the cache `[2, b, h, p, d]` is input `past`.
fn attend_projected(
    node: &mut NodeContext,
    projected: ValueId,
    mask: Option<ValueId>,
    past: usize,
    bias: Option<ValueId>,
) -> Made {
    refuse_set(node, &["do_rotary", "past_present_share_buffer"])?;
    let heads = node.required_int("num_heads")?;
    let width = node.dim(projected, 2)?;
    let widths = match node.ints_attribute("qkv_hidden_sizes")? {
        Some(&[q, k, v]) => [Dim::Known(q), Dim::Known(k), Dim::Known(v)],
        Some(other) => {
            return Err(Fault::model(format!("attribute 'qkv_hidden_sizes' = {other:?} must hold 3 sizes")));
        }
        None => {
            let part = width.divide_exactly(&Dim::Known(3));
            let part = part.ok_or_else(|| Fault::model(format!("{width} does not split into 3 parts")))?;
            [part.clone(), part.clone(), part]
        }
    };
    let [q, k, v] = columns(node, projected, &widths)?;
    let (q, k, v) =
        (split_heads(node, q, heads)?, split_heads(node, k, heads)?, split_heads(node, v, heads)?);
    let cache = |node: &mut NodeContext, past: ValueId, at: i64| -> Outcome<ValueId> {
        let shape = node.shape(past);
        if shape.len() != 5 {
            return Err(Fault::model(format!("a cache of rank 5 is needed, found {}", node.ty(past))));
        }
        let part = node.slice_axis(past, 0, &Dim::Known(at), &Dim::Known(1))?;
        node.reshape(part, &shape[1..])
    };
    let (k, v) = match node.optional_value(past)? {
        Some(past) => {
            let (keys, values) = (cache(node, past, 0)?, cache(node, past, 1)?);
            (with_past(node, Some(keys), k)?, with_past(node, Some(values), v)?)
        }
        None => (k, v),
    };
    let y = attend_masked(node, &Heads { q, k, v }, mask, bias)?;
    if !node.wants(1) {
        return node.one(y);
    }
    let mut halves = Vec::new();
    for half in [k, v] {
        let mut shape = node.shape(half).to_vec();
        shape.insert(0, Dim::Known(1));
        halves.push(node.reshape(half, &shape)?);
    }
    let present = node.concat(&halves, 0)?;
    node.many(&[y, present])
}
