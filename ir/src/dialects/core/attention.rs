//! Rotary position embedding and scaled dot-product attention.
//!
//! ```text
//! %r = "core.rope"(%q, %cos, %sin) <{interleaved = false}> : (tensor<1x4x?x16xf32, ["seq"]>, tensor<?x8xf32, ["seq"]>, ..) -> ..
//! %y = "core.attention"(%q, %k, %v) <{causal = true, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, scale = 2.500000e-01 : f64}>
//!   : (tensor<1x4x?x16xf32, ["seq"]>, tensor<1x2x?x16xf32, ["past_seq + seq"]>, ..) -> tensor<1x4x?x16xf32, ["seq"]>
//! ```

use super::support::{
    broadcast_to, differ, expect_broadcast, expect_dim, expect_element, expect_rank, expect_shape, floats,
    one,
};
use crate::dim::{Dim, Function};
use crate::element::Element;
use crate::op_def::{
    AttributeDef, AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute,
    optional, optional_attribute, value,
};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};
use std::borrow::Cow;

/// Rotary position embedding.
pub static ROPE: OpDef = OpDef {
    name: "core.rope",
    doc: "Rotates pairs of the last axis: result_a = x_a * cos_a - x_b * sin_a, result_b = x_b * cos_b + x_a * sin_b, with the pairs (a, b) \
          = (i, i + d/2), or (2i, 2i + 1) when `interleaved`. x [.., s, d]; cos and sin [.., d] with an entry per element, or [.., d/2] \
          with one per pair; their leading dimensions broadcast to x's (Su et al. 2021, arXiv:2104.09864). ONNX RotaryEmbedding.",
    operands: &[
        value("x", TypeRule::FloatTensor),
        value("cos", TypeRule::FloatTensor),
        value("sin", TypeRule::FloatTensor),
    ],
    results: &[value("result", TypeRule::FloatTensor)],
    attributes: &[attribute("interleaved", AttributeRule::Bool)],
    axes: ".. d, .. r, .. r -> .. d; whole d r",
    traits: Traits::PURE,
    infer: Infer::LikeOperand(0),
    verify: Some(verify_rope),
    evaluate: Evaluate::With(evaluate_rope),
    ..OpDef::DEFAULT
};

/// What says which keys a query sees and how they are weighed, in every attention.
pub(super) const SCORES: [AttributeDef; 4] = [
    attribute("scale", AttributeRule::Float),
    optional_attribute("causal", AttributeRule::Bool),
    optional_attribute("softcap", AttributeRule::Float),
    optional_attribute("window", AttributeRule::Int),
];

/// Scaled dot-product attention.
pub static ATTENTION: OpDef = OpDef {
    name: "core.attention",
    doc: "p = softmax over keys of (cap(`scale` * q k^T) + mask), result = p v. q [b, h, s, d], k [b, g, t, d], v [b, g, t, e], result [b, h, \
          s, e]; query head i reads key head i / (h / g). cap(x) = `softcap` * tanh(x / softcap) when softcap > 0. mask broadcasts to [b, \
          h, s, t]: i1 keeps where true, floats are added. `causal`: query i sees key j when j <= i + t - s (aligned at the end). `window` \
          >= 0: and only when j > i + t - s - window. sinks [h] are extra logits that take probability and add nothing. A query \
          that sees no key gives 0. softcap 0, window -1 and causal false when left out (Vaswani et al. 2017, arXiv:1706.03762; Ainslie \
          et al. 2023, arXiv:2305.13245). ONNX Attention, com.microsoft GroupQueryAttention.",
    operands: &[
        value("q", TypeRule::FloatTensor),
        value("k", TypeRule::FloatTensor),
        value("v", TypeRule::FloatTensor),
        optional("mask", TypeRule::Tensor),
        optional("sinks", TypeRule::FloatTensor),
    ],
    results: &[value("result", TypeRule::FloatTensor)],
    attributes: &SCORES,
    axes: "b h s d, b g t d, b g t e, b h s t, h -> b h s e; reduce d t; group g of h",
    traits: Traits::PURE,
    infer: Infer::With(infer_attention),
    evaluate: Evaluate::With(evaluate_attention),
    ..OpDef::DEFAULT
};

fn verify_rope(signature: &Signature) -> Result<(), String> {
    let x = signature.require_tensor(0)?;
    let (d, leading) = x.shape.split_last().ok_or("operand 'x' must have rank 1 or more")?;
    if matches!(d, Dim::Known(value) if value % 2 != 0) {
        return Err(format!("the last dimension of 'x' must be even, found {d}"));
    }
    let half = Dim::call(Function::FloorDiv, d, &Dim::Known(2));
    for slot in [1, 2] {
        let (table, name) = (signature.require_tensor(slot)?, signature.def.operands[slot].name);
        let (last, table_leading) =
            table.shape.split_last().ok_or_else(|| format!("operand '{name}' must have rank 1 or more"))?;
        if differ(last, d) && differ(last, &half) {
            return Err(format!("the last dimension of '{name}' must be {d} or {half}, found {last}"));
        }
        expect_broadcast(name, table_leading, leading)?;
    }
    Ok(())
}

fn infer_attention(signature: &Signature) -> Result<Vec<Type>, String> {
    let (q, k) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    let v = signature.require_tensor(2)?;
    for (name, ty) in [("q", q), ("k", k), ("v", v)] {
        expect_rank(name, ty, 4)?;
        expect_element(name, q.element, ty)?;
    }
    one(q.element, infer_lengths(signature, q, k, v)?)
}

/// Checks that q, k, v and the operands 3 (mask) and 4 (sinks) fit each other; gives the result's shape.
pub(super) fn infer_lengths(
    signature: &Signature,
    q: &TensorType,
    k: &TensorType,
    v: &TensorType,
) -> Result<Vec<Dim>, String> {
    for (name, ty) in [("q", q), ("k", k), ("v", v)] {
        expect_rank(name, ty, 4)?;
    }
    expect_dim("batch of 'k'", &q.shape[0], &k.shape[0])?;
    expect_dim("batch of 'v'", &q.shape[0], &v.shape[0])?;
    expect_dim("heads of 'v'", &k.shape[1], &v.shape[1])?;
    expect_dim("keys of 'v'", &k.shape[2], &v.shape[2])?;
    if differ(&q.shape[3], &k.shape[3]) {
        return Err(format!("inner dimensions differ: {} and {}", q.shape[3], k.shape[3]));
    }
    if let (Dim::Known(heads), Dim::Known(groups)) = (&q.shape[1], &k.shape[1])
        && (*groups == 0 || heads % groups != 0)
    {
        return Err(format!("{heads} query heads are no multiple of {groups} key heads"));
    }
    let (heads, keys) = (q.shape[1].clone(), k.shape[2].clone());
    if let Some(mask) = signature.tensor(3) {
        if mask.element != Element::Bool && !mask.element.is_float() {
            return Err(format!("operand 'mask' must hold i1 or floats, found {}", mask.element));
        }
        expect_broadcast(
            "mask",
            &mask.shape,
            &[q.shape[0].clone(), heads.clone(), q.shape[2].clone(), keys],
        )?;
    }
    if let Some(sinks) = signature.tensor(4) {
        expect_shape("sinks", std::slice::from_ref(&heads), &sinks.shape)?;
    }
    Ok(q.shape[..3].iter().chain(&v.shape[3..]).cloned().collect())
}

fn evaluate_rope(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, interleaved) = (call.operand(0), call.signature.bool("interleaved", false));
    let (d, leading) = x.shape.split_last().ok_or("operand 'x' must have rank 1 or more")?;
    let half = d / 2;
    let mut tables = Vec::new();
    for slot in [1, 2] {
        let table = call.operand(slot);
        let width = table.shape.last().copied().unwrap_or(0);
        if width != *d && width != half {
            return Err(format!("a table of {width} entries does not fit a last dimension of {d}"));
        }
        let shape = [leading, &[width]].concat();
        tables.push((floats(&*broadcast_to(table, &shape)?), width));
    }
    let entry = |table: &(Vec<f64>, usize), row: usize, place: usize, pair: usize| {
        table.0[row * table.1 + if table.1 == half { pair } else { place }]
    };
    let values = floats(x);
    let mut results = values.clone();
    for row in 0..leading.iter().product::<usize>() {
        for pair in 0..half {
            let (a, b) = if interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
            let (left, right) = (values[row * d + a], values[row * d + b]);
            let cos = |place| entry(&tables[0], row, place, pair);
            let sin = |place| entry(&tables[1], row, place, pair);
            results[row * d + a] = left * cos(a) - right * sin(a);
            results[row * d + b] = right * cos(b) + left * sin(b);
        }
    }
    Ok(vec![Tensor::from_floats(x.element, &x.shape, results)])
}

/// What every query of an attention shares.
struct Attention<'a> {
    scale: f64,
    softcap: f64,
    causal: bool,
    window: i64,
    /// How far the last query is behind the first, in keys: t - s.
    shift: i64,
    keys: &'a [f64],
    values: &'a [f64],
    key_width: usize,
    value_width: usize,
}

impl Attention<'_> {
    /// One query against the keys of one head; `mask` gives what is added to key j's logit.
    fn query(
        &self,
        query: &[f64],
        at: usize,
        mask: impl Fn(usize) -> f64,
        sink: Option<f64>,
        out: &mut [f64],
    ) {
        let last = at as i64 + self.shift;
        let count = self.keys.len() / self.key_width.max(1);
        let logit = |j: usize| {
            let hidden = self.causal && j as i64 > last;
            let added = mask(j);
            let outside = self.window >= 0 && j as i64 <= last - self.window;
            // Before the product, so that what a hidden key holds has no influence.
            if hidden || outside || added == f64::NEG_INFINITY {
                return f64::NEG_INFINITY;
            }
            let key = &self.keys[j * self.key_width..(j + 1) * self.key_width];
            let mut logit = query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() * self.scale;
            if self.softcap > 0.0 {
                logit = self.softcap * (logit / self.softcap).tanh();
            }
            logit + added
        };
        let logits: Vec<f64> = (0..count).map(logit).collect();
        let start = sink.unwrap_or(f64::NEG_INFINITY);
        let largest = logits.iter().copied().fold(start, f64::max);
        if largest == f64::NEG_INFINITY {
            // No key is seen; a NaN logit does not come here, for the sum below keeps it.
            let nan = logits.iter().any(|logit| logit.is_nan());
            out.fill(if nan { f64::NAN } else { 0.0 });
            return;
        }
        let weights: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let sum = weights.iter().sum::<f64>() + sink.map_or(0.0, |sink| (sink - largest).exp());
        for (j, weight) in weights.iter().enumerate() {
            // A key that is not seen adds nothing, whatever its value.
            if *weight != 0.0 {
                let value = &self.values[j * self.value_width..(j + 1) * self.value_width];
                out.iter_mut().zip(value).for_each(|(out, value)| *out += weight / sum * value);
            }
        }
    }
}

/// The extents of an attention.
pub(super) struct Lengths {
    batch: usize,
    heads: usize,
    /// Queries.
    pub(super) length: usize,
    /// Width of queries and keys.
    pub(super) d: usize,
    groups: usize,
    /// Keys.
    pub(super) count: usize,
    e: usize,
}

impl Lengths {
    /// From q [b, h, s, d], k [b, g, t, d], v [b, g, t, e].
    pub(super) fn of(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Lengths, String> {
        let [batch, heads, length, d] = q.shape[..] else {
            return Err("operand 'q' must have rank 4".into());
        };
        let (groups, count, e) = (k.shape[1], k.shape[2], v.shape[3]);
        if k.shape != [batch, groups, count, d] || v.shape != [batch, groups, count, e] {
            return Err(format!("shapes differ: q {:?}, k {:?}, v {:?}", q.shape, k.shape, v.shape));
        }
        if groups == 0 || heads % groups != 0 {
            return Err(format!("{heads} query heads are no multiple of {groups} key heads"));
        }
        Ok(Lengths { batch, heads, length, d, groups, count, e })
    }
}

/// All queries; `keys(group, query)` gives the keys [t, d] that a query reads, `values` is [b, g, t, e]. Mask and sinks are the call's
/// operands 3 and 4.
pub(super) fn attend<'k>(
    call: &Invocation,
    q: &Tensor,
    lengths: &Lengths,
    keys: &dyn Fn(usize, usize) -> Cow<'k, [f64]>,
    values: &[f64],
) -> Result<Tensor, String> {
    let Lengths { batch, heads, length, d, groups, count, e } = *lengths;
    let full = [batch, heads, length, count];
    let mask = call.get(3).map(|mask| broadcast_to(mask, &full)).transpose()?;
    // As what is added to a logit: 0 or minus infinity for a keep-mask.
    let mask = mask.map(|mask| match mask.element {
        Element::Bool => {
            mask.floats().into_iter().map(|keep| if keep != 0.0 { 0.0 } else { f64::NEG_INFINITY }).collect()
        }
        _ => floats(&mask),
    });
    let sinks = call.get(4).map(floats);
    let queries = floats(q);
    let mut out = vec![0.0; batch * heads * length * e];
    for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
        let group = b * groups + h / (heads / groups);
        for at in 0..length {
            let keys = keys(group, at);
            let attention = Attention {
                scale: call.signature.float("scale", 1.0),
                softcap: call.signature.float("softcap", 0.0),
                causal: call.signature.bool("causal", false),
                window: call.signature.int("window", -1),
                shift: count as i64 - length as i64,
                keys: &keys,
                values: &values[group * count * e..(group + 1) * count * e],
                key_width: d,
                value_width: e,
            };
            let row = (b * heads + h) * length + at;
            let added = |j: usize| mask.as_ref().map_or(0.0, |mask: &Vec<f64>| mask[row * count + j]);
            let sink = sinks.as_ref().map(|sinks| sinks[h]);
            let query = &queries[row * d..(row + 1) * d];
            attention.query(query, at, added, sink, &mut out[row * e..(row + 1) * e]);
        }
    }
    Ok(Tensor::from_floats(q.element, &[batch, heads, length, e], out))
}

fn evaluate_attention(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (q, k, v) = (call.operand(0), call.operand(1), call.operand(2));
    let lengths = Lengths::of(q, k, v)?;
    let (keys, values) = (floats(k), floats(v));
    let size = lengths.count * lengths.d;
    let keys = |group: usize, _| Cow::Borrowed(&keys[group * size..(group + 1) * size]);
    Ok(vec![attend(call, q, &lengths, &keys, &values)?])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Call, assert_near, call, f32s, ramp};
    use super::*;

    #[test]
    fn rope_rotates_halves_and_pairs() {
        let x = f32s(&[1, 4], &[1.0, 2.0, 3.0, 4.0]);
        let (cos, sin) = (f32s(&[1, 2], &[0.0, 1.0]), f32s(&[1, 2], &[1.0, 0.0]));
        let rope = |interleaved: bool| call(&ROPE).with("interleaved", interleaved);
        // A quarter turn of the first pair, none of the second.
        assert_near(&rope(false).on(&[&x, &cos, &sin]), &[-3.0, 2.0, 1.0, 4.0]);
        assert_near(&rope(true).on(&[&x, &cos, &sin]), &[-2.0, 1.0, 3.0, 4.0]);
        let full = |values: [f64; 2]| f32s(&[1, 4], &[values[0], values[1], values[0], values[1]]);
        let found = rope(false).on(&[&x, &full([0.0, 1.0]), &full([1.0, 0.0])]);
        assert_near(&found, &[-3.0, 2.0, 1.0, 4.0]);
        let error = rope(false).infer(&["f32: 2, 8", "f32: 2, 5", "f32: 2, 4"]).unwrap_err();
        assert_eq!(error, "the last dimension of 'cos' must be 8 or 4, found 5");
    }

    fn attend(
        set: impl Fn(Call) -> Call,
        length: usize,
        mask: Option<&Tensor>,
        sinks: Option<&Tensor>,
    ) -> Tensor {
        // Every logit is 0, so each query gives the mean of the values it sees: 0, 1, 2 ...
        let (q, k) = (f32s(&[1, 1, length, 1], &vec![0.0; length]), f32s(&[1, 1, 4, 1], &[1.0; 4]));
        let call = set(call(&ATTENTION).with("scale", 1.0));
        call.try_on(&[Some(&q), Some(&k), Some(&ramp(&[1, 1, 4, 1])), mask, sinks]).unwrap().remove(0)
    }

    #[test]
    fn visibility_is_aligned_at_the_end() {
        assert_near(&attend(|call| call, 2, None, None), &[1.5, 1.5]);
        assert_near(&attend(|call| call.with("causal", true), 2, None, None), &[1.0, 1.5]);
        assert_near(
            &attend(|call| call.with("causal", true).with("window", 2i64), 2, None, None),
            &[1.5, 2.5],
        );
        assert_near(&attend(|call| call.with("window", 1i64), 2, None, None), &[2.5, 3.0]);
    }

    #[test]
    fn masks_keep_or_add_and_nothing_seen_is_zero() {
        let keep = Tensor::from_ints(Element::Bool, &[2, 4], vec![1, 1, 0, 0, 0, 0, 0, 0]);
        assert_near(&attend(|call| call, 2, Some(&keep), None), &[0.5, 0.0]);
        let add = f32s(&[4], &[f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY, 3f64.ln()]);
        assert_near(&attend(|call| call, 1, Some(&add), None), &[2.5]);
        let sinks = f32s(&[1], &[4f64.ln()]);
        assert_near(&attend(|call| call, 1, None, Some(&sinks)), &[0.75]);
        // More queries than keys: the first sees none.
        assert_near(&attend(|call| call.with("causal", true), 5, None, None), &[0.0, 0.0, 0.5, 1.0, 1.5]);
    }

    #[test]
    fn heads_share_groups_and_logits_are_capped() {
        let q = f32s(&[1, 2, 1, 1], &[1.0, -1.0]);
        let k = f32s(&[1, 1, 2, 1], &[0.0, 100.0]);
        let v = f32s(&[1, 1, 2, 1], &[0.0, 1.0]);
        let capped = call(&ATTENTION).with("scale", 1.0).with("softcap", 2.0);
        let found = capped.try_on(&[Some(&q), Some(&k), Some(&v), None, None]).unwrap().remove(0);
        // Logits 0 and +-2.
        assert_near(&found, &[0.880_797_1, 0.119_202_9]);
        let types = ["f32: 1, 4, seq, 8", "f32: 1, 2, past + seq, 8", "f32: 1, 2, past + seq, 16"];
        let attention = call(&ATTENTION).with("scale", 1.0);
        let segments = crate::attribute::Attribute::Segments([1, 1, 1, 0, 0].into());
        let attention = attention.with("operandSegmentSizes", segments);
        assert_eq!(attention.infer(&types).unwrap(), "tensor<1x4x?x16xf32, [\"seq\"]>");
        let error = attention.infer(&["f32: 1, 3, 1, 8", types[1], types[2]]).unwrap_err();
        assert_eq!(error, "3 query heads are no multiple of 2 key heads");
    }
}
