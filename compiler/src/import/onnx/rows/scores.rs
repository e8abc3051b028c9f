//! Attention taken apart, where a model looks at or changes what lies between its products; and attention without softmax.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, of, since};
use super::attention::{Heads, Rule, attend, split_heads};
use tilewright_ir::attribute::Attributes;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::types::TensorType;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] =
    &[of("ai.onnx.preview", "FlexAttention", flex_attention), since(27, "LinearAttention", linear_attention)];

/// Queries per key head.
fn group(node: &NodeContext, heads: &Heads) -> Outcome<Dim> {
    let (queries, keys) = (node.dim(heads.q, 1)?, node.dim(heads.k, 1)?);
    queries
        .divide_exactly(&keys)
        .ok_or_else(|| Fault::model(format!("{queries} query heads are no multiple of {keys} key heads")))
}

/// x `[b, h, s, n]` times y `[b, g, n, m]`, each head of y shared by h / g of x: `[b, h, s, m]`.
fn grouped_product(node: &mut NodeContext, x: ValueId, y: ValueId, group: &Dim) -> Outcome<ValueId> {
    let (from, other) = (node.shape(x), node.shape(y));
    if *group == Dim::Known(1) {
        return node.matmul(x, y);
    }
    let apart = node
        .reshape(x, &[other[0].clone(), other[1].clone(), group.clone(), from[2].clone(), from[3].clone()])?;
    let shared = node.reshape(
        y,
        &[other[0].clone(), other[1].clone(), Dim::Known(1), other[2].clone(), other[3].clone()],
    )?;
    let product = node.matmul(apart, shared)?;
    node.reshape(product, &[from[0].clone(), from[1].clone(), from[2].clone(), other[3].clone()])
}

/// `scale * q k^T`: `[b, h, s, t]`.
fn logits(node: &mut NodeContext, heads: &Heads, scale: Option<f64>) -> Outcome<ValueId> {
    let scale = match scale {
        Some(scale) => scale,
        None => {
            let size = node.dim(heads.q, 3)?;
            let size =
                size.known().ok_or_else(|| Fault::unsupported("the head size must be known", "bind it"))?;
            1.0 / (size as f64).sqrt()
        }
    };
    let group = group(node, heads)?;
    let q = node.scale(heads.q, scale)?;
    let k = node.transpose_last(heads.k)?;
    grouped_product(node, q, k, &group)
}

/// Softmax over keys; a query that sees none has no probabilities but zeros.
fn probabilities(node: &mut NodeContext, logits: ValueId) -> Outcome<ValueId> {
    let last = node.rank(logits) - 1;
    let p = node.along(&core::SOFTMAX, logits, last)?;
    let largest = node.reduce(&core::REDUCE_MAX, logits, &[last], true)?;
    let lowest = node.scalar_like(logits, f64::NEG_INFINITY)?;
    let sees_none = node.compare("eq", largest, lowest)?;
    let zero = node.scalar_like(logits, 0.0)?;
    node.select(sees_none, zero, p)
}

/// What attention shows of its scores: 0 the products, 1 after the cap, 2 with the mask, 3 after softmax.
pub(super) fn shown(
    node: &mut NodeContext,
    heads: &Heads,
    rule: &Rule,
    mask: Option<ValueId>,
    mode: i64,
) -> Outcome<ValueId> {
    let mut x = logits(node, heads, rule.scale)?;
    if rule.softcap > 0.0 && mode >= 1 {
        let small = node.scale(x, 1.0 / rule.softcap)?;
        let bent = node.unary(&core::TANH, small)?;
        x = node.scale(bent, rule.softcap)?;
    }
    if let Some(mask) = mask.filter(|_| mode >= 2) {
        x = if node.element(mask) == Element::Bool {
            let hidden = node.scalar_like(x, f64::NEG_INFINITY)?;
            node.select(mask, x, hidden)?
        } else {
            let mask = node.cast_like(mask, x)?;
            node.add(x, mask)?
        };
    }
    if mode >= 3 { probabilities(node, x) } else { Ok(x) }
}

/// Attention whose scores and probabilities go through subgraphs.
fn flex_attention(node: &mut NodeContext) -> Made {
    let heads = Heads { q: node.value(0)?, k: node.value(1)?, v: node.value(2)? };
    if [heads.q, heads.k, heads.v].iter().any(|value| node.rank(*value) != 4) {
        return Err(Fault::model("queries, keys and values must have rank 4"));
    }
    let scale = if node.has("scale") { Some(node.float("scale", 0.0)?) } else { None };
    let element = node.element(heads.q);
    let default = if element == Element::F64 { Element::F64 } else { Element::F32 };
    let precision = node.element_attribute("softmax_precision", default)?;
    if !node.has("score_mod") && !node.has("prob_mod") && precision == default {
        let y = attend(node, &heads, &Rule { scale, window: -1, ..Rule::default() }, None, None)?;
        return node.one(y);
    }
    let scores = logits(node, &heads, scale)?;
    let scores = node.cast(scores, precision)?;
    let scores = modified(node, "score_mod", scores)?;
    let p = probabilities(node, scores)?;
    let p = modified(node, "prob_mod", p)?;
    let (values, group) = (node.cast(heads.v, precision)?, group(node, &heads)?);
    let y = grouped_product(node, p, values, &group)?;
    let y = node.cast(y, element)?;
    node.one(y)
}

/// A value through a subgraph of one input and one output, when there is one.
fn modified(node: &mut NodeContext, name: &str, x: ValueId) -> Outcome<ValueId> {
    if !node.has(name) {
        return Ok(x);
    }
    let graph = node.graph(name)?;
    let argument = node.operand(x);
    let made = node.importer.subgraph(graph, &[argument])?;
    let [made] = made.as_slice() else { return Err(Fault::model(format!("'{name}' must give one output"))) };
    let y = node.data(made)?;
    if node.ty(y) == node.ty(x) {
        Ok(y)
    } else {
        Err(Fault::model(format!("'{name}' gives {} for {}", node.ty(y), node.ty(x))))
    }
}

/// Whether the sum of linear attention fades, and whether what it holds for a key is corrected.
pub(super) fn update_rule(node: &NodeContext) -> Outcome<(bool, bool)> {
    Ok(match node.text("update_rule", "gated_delta")?.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Fault::model(format!("attribute 'update_rule' = '{other}' is not known"))),
    })
}

/// A running sum of outer products of keys and values that fades and is corrected as the rule says (Yang et al. 2024, arXiv:2412.06464).
fn linear_attention(node: &mut NodeContext) -> Made {
    let (queries, keys) = (node.required_int("q_num_heads")?, node.required_int("kv_num_heads")?);
    let (fades, corrects) = update_rule(node)?;
    if queries < 1 || keys < 1 || queries % keys != 0 {
        return Err(Fault::model(format!("{queries} query heads are no multiple of {keys} key heads")));
    }
    let element = node.input(0)?.element();
    let mut apart = |at: usize, heads: i64| -> Outcome<ValueId> {
        let x = node.value(at)?;
        let x = node.cast(x, Element::F32)?;
        split_heads(node, x, heads)
    };
    let (q, k, v) = (apart(0, queries)?, apart(1, keys)?, apart(2, keys)?);
    let decay = if fades {
        // One number per head, or one per entry of a key.
        let x = node.value(4)?;
        let x = node.cast(x, Element::F32)?;
        let x = node.unary(&core::EXP, x)?;
        Some(split_heads(node, x, keys)?)
    } else {
        None
    };
    let beta = if corrects {
        let x = node.value(5)?;
        let width = node.dim(x, 2)?;
        let width = width.known().filter(|width| *width == keys || *width == 1);
        let width = width.ok_or_else(|| Fault::model(format!("input 5 must have {keys} or 1 entries")))?;
        let x = node.cast(x, Element::F32)?;
        Some(split_heads(node, x, width)?)
    } else {
        None
    };
    let (batch, key_size, value_size) = (node.dim(q, 0)?, node.dim(k, 3)?, node.dim(v, 3)?);
    let state_shape = [batch.clone(), Dim::Known(keys), key_size.clone(), value_size.clone()];
    let (state, state_element) = match node.optional_value(3)? {
        Some(state) => (node.cast(state, Element::F32)?, node.element(state)),
        None => {
            let zero = node.scalar(Element::F32, 0.0)?;
            (node.broadcast(zero, &state_shape)?, element)
        }
    };
    let size =
        key_size.known().ok_or_else(|| Fault::unsupported("the head size must be known", "bind it"))?;
    let scale = match node.float("scale", 0.0)? {
        0.0 => 1.0 / (size as f64).sqrt(),
        scale => scale,
    };
    let q = node.scale(q, scale)?;
    let scanned: Vec<ValueId> = [q, k, v].into_iter().chain(decay).chain(beta).collect();
    let [state, outputs] = recurrence(node, state, &scanned, decay.is_some(), keys)?;
    let state = node.cast(state, state_element)?;
    let length = node.dim(outputs, 0)?;
    let y = node.transpose(outputs, &[1, 0, 2, 3])?;
    let y = node.reshape(y, &[batch, length, &Dim::Known(queries) * &value_size])?;
    let y = node.cast(y, element)?;
    node.many(&[y, state])
}

/// Scans queries, keys, values, decay? and beta? `[b, h, t, ..]`; gives the last state and all outputs `[t, b, h, e]`.
fn recurrence(
    node: &mut NodeContext,
    state: ValueId,
    scanned: &[ValueId],
    fades: bool,
    keys: i64,
) -> Outcome<[ValueId; 2]> {
    let operands: Vec<ValueId> = std::iter::once(state).chain(scanned.iter().copied()).collect();
    let attributes = Attributes::from([
        ("carried_count".into(), 1usize.into()),
        ("axes".into(), vec![2i64; scanned.len()].into()),
        ("reverse".into(), vec![0i64; scanned.len()].into()),
    ]);
    let mut arguments: Vec<TensorType> = operands.iter().map(|value| node.ty(*value).clone()).collect();
    let length = arguments[1].shape[2].clone();
    for (ty, value) in arguments[1..].iter_mut().zip(scanned) {
        node.equate("the lengths of the inputs differ", &length, &node.dim(*value, 2)?)?;
        ty.shape.remove(2);
    }
    let op = node.begin_region_op(&core::SCAN, &operands, attributes, 2);
    let values = node.open_region(op, 0, &arguments);
    let (mut state, q, k, v) = (values[0], values[1], values[2], values[3]);
    let (decay, beta) = if fades { (values.get(4), values.get(5)) } else { (None, values.get(4)) };
    let (key, value) = (node.shape(k), node.shape(v));
    let one = Dim::Known(1);
    let column = |node: &mut NodeContext, x: ValueId| -> Outcome<ValueId> {
        let shape = [node.shape(x).as_slice(), &[Dim::Known(1)]].concat();
        node.reshape(x, &shape)
    };
    if let Some(decay) = decay {
        let decay = column(node, *decay)?;
        state = node.mul(state, decay)?;
    }
    let mut change = node.reshape(v, &[value[0].clone(), value[1].clone(), one.clone(), value[2].clone()])?;
    if let Some(beta) = beta {
        let row = node.reshape(k, &[key[0].clone(), key[1].clone(), one, key[2].clone()])?;
        let recalled = node.matmul(row, state)?;
        let error = node.sub(change, recalled)?;
        let rate = column(node, *beta)?;
        change = node.mul(rate, error)?;
    }
    let k = column(node, k)?;
    let added = node.mul(k, change)?;
    let state = node.add(state, added)?;
    // Queries of one key head as rows.
    let from = node.shape(q);
    let heads =
        from[1].divide_exactly(&Dim::Known(keys)).ok_or_else(|| Fault::model("heads do not divide"))?;
    let rows = node.reshape(q, &[from[0].clone(), Dim::Known(keys), heads, from[2].clone()])?;
    let y = node.matmul(rows, state)?;
    let y = node.reshape(y, &[from[0].clone(), from[1].clone(), value[2].clone()])?;
    let mut results = vec![node.ty(state).clone(), node.ty(y).clone()];
    results[1].shape.insert(0, length);
    node.close_region(&[state, y])?;
    let results = node.end_region_op(op, &results);
    Ok([results[0], results[1]])
}
