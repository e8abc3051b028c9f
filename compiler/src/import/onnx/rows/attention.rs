//! Attention and rotary embedding of the standard domain, and the steps that ONNX Runtime's operators share with them.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since};
use tilewright_ir::attribute::Attributes;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::op_def::normalize_axis;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] =
    &[since(23, "Attention", attention), since(23, "RotaryEmbedding", rotary_embedding)];

/// `[b, s, heads * d]` as `[b, heads, s, d]`.
pub(super) fn split_heads(node: &mut NodeContext, x: ValueId, heads: i64) -> Outcome<ValueId> {
    let shape = node.shape(x);
    if shape.len() != 3 {
        return Err(Fault::model(format!("rank 3 is needed, found {}", node.ty(x))));
    }
    let head = Dim::Known(heads);
    let size = shape[2].divide_exactly(&head).filter(|_| heads > 0);
    let size = size.ok_or_else(|| Fault::model(format!("{} does not split into {heads} heads", shape[2])))?;
    let apart = node.reshape(x, &[shape[0].clone(), shape[1].clone(), head, size])?;
    node.transpose(apart, &[0, 2, 1, 3])
}

/// `[b, heads, s, d]` as `[b, s, heads * d]`.
pub(super) fn join_heads(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    let shape = node.shape(x);
    let moved = node.transpose(x, &[0, 2, 1, 3])?;
    node.reshape(moved, &[shape[0].clone(), shape[2].clone(), &shape[1] * &shape[3]])
}

/// Rotates the first `2 * width` entries of each head: x `[b, h, s, d]`, cos and sin `[.., s, width]`.
pub(super) fn rotate(
    node: &mut NodeContext,
    x: ValueId,
    cos: ValueId,
    sin: ValueId,
    interleaved: bool,
) -> Outcome<ValueId> {
    let (last, shape) = (node.rank(x) - 1, node.shape(x));
    let width =
        node.shape(cos).last().cloned().ok_or_else(|| Fault::model("the cosines have no dimensions"))?;
    let rotated = &width * &Dim::Known(2);
    let (front, rest) = if rotated == shape[last] {
        (x, None)
    } else {
        let rest = &shape[last] - &rotated;
        if rest.known().is_some_and(|rest| rest < 0) {
            return Err(Fault::model(format!(
                "{rotated} entries of heads of size {} cannot be rotated",
                shape[last]
            )));
        }
        let front = node.slice_axis(x, last, &Dim::Known(0), &rotated)?;
        (front, Some(node.slice_axis(x, last, &rotated, &rest)?))
    };
    let element = node.element(x);
    let (cos, sin) = (node.cast(cos, element)?, node.cast(sin, element)?);
    let table = node.shape(cos);
    if node.shape(sin) != table {
        return Err(Fault::model(format!(
            "cosines {} and sines {} differ in shape",
            node.ty(cos),
            node.ty(sin)
        )));
    }
    node.broadcast_shape(&table[..table.len() - 1], &shape[..last])?;
    let y =
        node.make(&core::ROPE, |op| op.operands(&[front, cos, sin]).attribute("interleaved", interleaved))?;
    match rest {
        Some(rest) => node.concat(&[y, rest], last),
        None => Ok(y),
    }
}

/// Rows of a table at positions `[b, s]`, as `[b, 1, s, width]`.
pub(super) fn table_rows(node: &mut NodeContext, table: ValueId, positions: ValueId) -> Outcome<ValueId> {
    if node.rank(table) != 2 {
        return Err(Fault::model(format!("a table of rank 2 is needed, found {}", node.ty(table))));
    }
    let rows = node.gather(table, positions, 0)?;
    per_head(node, rows)
}

/// `[b, s, width]` as `[b, 1, s, width]`; `[s, width]` as it is.
fn per_head(node: &mut NodeContext, rows: ValueId) -> Outcome<ValueId> {
    let shape = node.shape(rows);
    match shape.as_slice() {
        [batch, length, width] => {
            node.reshape(rows, &[batch.clone(), Dim::Known(1), length.clone(), width.clone()])
        }
        _ => Ok(rows),
    }
}

fn rotary_embedding(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let (cos, sin) = (node.value(1)?, node.value(2)?);
    let (cos, sin) = match node.optional_value(3)? {
        Some(positions) => (table_rows(node, cos, positions)?, table_rows(node, sin, positions)?),
        None => (per_head(node, cos)?, per_head(node, sin)?),
    };
    let width = node.int("rotary_embedding_dim", 0)?;
    let found = &node.shape(cos).last().cloned().unwrap_or(Dim::Known(0)) * &Dim::Known(2);
    if width > 0 {
        node.equate("the table's width is not half of 'rotary_embedding_dim'", &found, &Dim::Known(width))?;
    }
    let interleaved = node.flag("interleaved", false)?;
    let is_flat = node.rank(x) == 3;
    let heads = if is_flat {
        let count = node.required_int("num_heads")?;
        split_heads(node, x, count)?
    } else {
        x
    };
    if node.rank(heads) != 4 {
        return Err(Fault::model(format!("input 0 must have rank 3 or 4, found {}", node.ty(x))));
    }
    let y = rotate(node, heads, cos, sin, interleaved)?;
    let y = if is_flat { join_heads(node, y)? } else { y };
    node.one(y)
}

/// What attention looks at: heads apart, caches joined.
pub(super) struct Heads {
    /// Queries `[b, h, s, d]`.
    pub(super) q: ValueId,
    /// Keys `[b, g, t, d]`.
    pub(super) k: ValueId,
    /// Values `[b, g, t, e]`.
    pub(super) v: ValueId,
}

/// How attention is computed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rule {
    /// Factor of the logits; 1 / sqrt(d) when left out.
    pub(super) scale: Option<f64>,
    /// Later keys are hidden, aligned at the end.
    pub(super) causal: bool,
    /// Bound of the logits; 0 for none.
    pub(super) softcap: f64,
    /// Keys seen to the left, own one included; -1 for all.
    pub(super) window: i64,
}

/// Scaled dot-product attention.
pub(super) fn attend(
    node: &mut NodeContext,
    heads: &Heads,
    rule: &Rule,
    mask: Option<ValueId>,
    sinks: Option<ValueId>,
) -> Outcome<ValueId> {
    let (q, k, v) = (node.shape(heads.q), node.shape(heads.k), node.shape(heads.v));
    if q.len() != 4 || k.len() != 4 || v.len() != 4 {
        return Err(Fault::model("queries, keys and values must have rank 4 with heads apart"));
    }
    node.equate("the batches of queries and keys differ", &q[0], &k[0])?;
    node.equate("the batches of queries and values differ", &q[0], &v[0])?;
    node.equate("the head sizes of queries and keys differ", &q[3], &k[3])?;
    node.equate("the lengths of keys and values differ", &k[2], &v[2])?;
    let scale = match rule.scale {
        Some(scale) => scale,
        None => {
            let size =
                q[3].known().ok_or_else(|| Fault::unsupported("the head size must be known", "bind it"))?;
            1.0 / (size as f64).sqrt()
        }
    };
    if let Some(mask) = mask {
        let logits = [q[0].clone(), q[1].clone(), q[2].clone(), k[2].clone()];
        node.broadcast_shape(&node.shape(mask), &logits)?;
    }
    let rule = *rule;
    node.make(&core::ATTENTION, |op| {
        let mut op = op.operands(&[heads.q, heads.k, heads.v]).maybe(mask).maybe(sinks);
        op = op.attribute("scale", scale).attribute("causal", rule.causal);
        if rule.softcap != 0.0 {
            op = op.attribute("softcap", rule.softcap);
        }
        if rule.window >= 0 { op.attribute("window", rule.window) } else { op }
    })
}

/// The past followed by the new, along the sequence axis of `[b, g, s, d]`.
pub(super) fn with_past(node: &mut NodeContext, past: Option<ValueId>, new: ValueId) -> Outcome<ValueId> {
    match past {
        Some(past) if node.rank(past) == 4 => node.concat(&[past, new], 2),
        Some(past) => Err(Fault::model(format!("a cache of rank 4 is needed, found {}", node.ty(past)))),
        None => Ok(new),
    }
}

fn attention(node: &mut NodeContext) -> Made {
    let (q, k, v) = (node.value(0)?, node.value(1)?, node.value(2)?);
    let is_flat = node.rank(q) == 3;
    let apart = |node: &mut NodeContext, x: ValueId, name: &str| -> Outcome<ValueId> {
        if node.rank(x) == 3 {
            let heads = node.required_int(name)?;
            split_heads(node, x, heads)
        } else {
            Ok(x)
        }
    };
    let q = apart(node, q, "q_num_heads")?;
    let (k, v) = (apart(node, k, "kv_num_heads")?, apart(node, v, "kv_num_heads")?);
    let (past_key, past_value) = (node.optional_value(4)?, node.optional_value(5)?);
    let past = past_key.map(|past| node.shape(past).get(2).cloned().unwrap_or(Dim::Known(0)));
    let (k, v) = (with_past(node, past_key, k)?, with_past(node, past_value, v)?);
    let heads = Heads { q, k, v };
    let mut rule = Rule {
        scale: if node.has("scale") { Some(node.float("scale", 0.0)?) } else { None },
        causal: node.flag("is_causal", false)?,
        softcap: node.float("softcap", 0.0)?,
        window: -1,
    };
    let (s, t) = (node.dim(q, 2)?, node.dim(k, 2)?);
    let mut mask = match node.optional_value(3)? {
        Some(mask) => Some(widen_mask(node, mask, &t)?),
        None => None,
    };
    let (left, right) = (node.int("left_window_size", -1)?, node.int("right_window_size", -1)?);
    let right = if rule.causal && right < 0 { 0 } else { right };
    let lengths = node.optional_value(6)?;
    // The core op aligns at the end. Without a past ONNX aligns at the start, which is the same for a square; with lengths of an outer
    // cache each batch ends where its valid keys do.
    let offset = past.clone().unwrap_or(Dim::Known(0));
    let is_aligned = lengths.is_none() && t == &offset + &s;
    if is_aligned && (right == 0 || (left < 0 && right < 0)) {
        rule.causal = right == 0;
        rule.window = if left >= 0 { left.saturating_add(1) } else { -1 };
    } else if left >= 0 || right >= 0 {
        rule.causal = false;
        let start = first_position(node, lengths, &offset, &s)?;
        mask = Some(window_mask(node, mask, (&s, &t), start, left, right)?);
    }
    if let Some(lengths) = lengths {
        mask = Some(length_mask(node, mask, lengths, &t)?);
    }
    let y = attend(node, &heads, &rule, mask, None)?;
    let y = if is_flat { join_heads(node, y)? } else { y };
    if !node.wants(3) {
        return node.many(&[y, k, v]);
    }
    if rule.causal || rule.window >= 0 {
        let start = first_position(node, lengths, &offset, &s)?;
        mask = Some(window_mask(node, mask, (&s, &t), start, left, right)?);
    }
    let mode = node.int("qk_matmul_output_mode", 0)?;
    let scores = super::scores::shown(node, &heads, &rule, mask, mode)?;
    node.many(&[y, k, v, scores])
}

/// A mask with fewer keys than there are hides the rest.
fn widen_mask(node: &mut NodeContext, mask: ValueId, keys: &Dim) -> Outcome<ValueId> {
    let shape = node.shape(mask);
    let Some(last) = shape.last().filter(|last| *last != keys && **last != Dim::Known(1)) else {
        return Ok(mask);
    };
    let missing = keys - last;
    let (Some(count), false) = (missing.known(), node.element(mask) == Element::U8) else { return Ok(mask) };
    if count <= 0 {
        return Ok(mask);
    }
    let hidden = if node.element(mask) == Element::Bool { 0.0 } else { f64::NEG_INFINITY };
    let fill = node.scalar_like(mask, hidden)?;
    let mut high = vec![Dim::Known(0); shape.len()];
    let low = high.clone();
    if let Some(last) = high.last_mut() {
        *last = missing;
    }
    node.make(&core::PAD, |op| {
        op.operand(mask)
            .maybe(Some(fill))
            .attribute("low", low)
            .attribute("high", high)
            .attribute("mode", "constant")
    })
}

/// Joins a keep-mask with what is there: and of truth values, or minus infinity where a float mask must hide.
pub(super) fn also_keep(node: &mut NodeContext, mask: Option<ValueId>, keep: ValueId) -> Outcome<ValueId> {
    let Some(mask) = mask else { return Ok(keep) };
    if node.element(mask) == Element::Bool {
        let function = Attributes::from([("function".into(), "and".into())]);
        return node.binary_with(&core::LOGICAL, mask, keep, function);
    }
    let hidden = node.scalar_like(mask, f64::NEG_INFINITY)?;
    node.select(keep, mask, hidden)
}

/// The position of the first query: a number, or one per batch as `[b, 1, 1, 1]`.
fn first_position(
    node: &mut NodeContext,
    lengths: Option<ValueId>,
    offset: &Dim,
    queries: &Dim,
) -> Outcome<ValueId> {
    let Some(lengths) = lengths else { return node.size(offset) };
    let lengths = node.cast(lengths, Element::I64)?;
    let queries = node.size(queries)?;
    let start = node.sub(lengths, queries)?;
    let one = Dim::Known(1);
    let batch = node.shape(start).first().cloned().unwrap_or(one.clone());
    node.reshape(start, &[batch, one.clone(), one.clone(), one])
}

/// Query i, at position start + i, sees keys from `left` before to `right` after; -1 for no limit.
pub(super) fn window_mask(
    node: &mut NodeContext,
    mut mask: Option<ValueId>,
    (s, t): (&Dim, &Dim),
    start: ValueId,
    left: i64,
    right: i64,
) -> Outcome<ValueId> {
    let shape = [s.clone(), t.clone()];
    let (rows, keys) = (node.iota(Element::I64, &shape, 0)?, node.iota(Element::I64, &shape, 1)?);
    let rows = node.add(rows, start)?;
    for (limit, predicate, sign) in [(right, "le", 1), (left, "ge", -1)] {
        if limit >= 0 {
            let distance = node.ints(Element::I64, &[], &[limit.saturating_mul(sign)])?;
            let edge = node.add(rows, distance)?;
            let keep = node.compare(predicate, keys, edge)?;
            mask = Some(also_keep(node, mask, keep)?);
        }
    }
    mask.ok_or_else(|| Fault::model("a window without limits"))
}

/// Keys below `lengths[b]` are kept.
fn length_mask(
    node: &mut NodeContext,
    mask: Option<ValueId>,
    lengths: ValueId,
    keys: &Dim,
) -> Outcome<ValueId> {
    let lengths = node.cast(lengths, Element::I64)?;
    let shape = node.shape(lengths);
    if normalize_axis(0, shape.len()).is_none() || shape.len() != 1 {
        return Err(Fault::model(format!("one length per batch is needed, found {}", node.ty(lengths))));
    }
    let one = Dim::Known(1);
    let lengths = node.reshape(lengths, &[shape[0].clone(), one.clone(), one.clone(), one.clone()])?;
    let places = node.iota(Element::I64, &[one.clone(), one.clone(), one, keys.clone()], 3)?;
    let keep = node.compare("lt", places, lengths)?;
    also_keep(node, mask, keep)
}
