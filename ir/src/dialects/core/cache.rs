//! Quantised key/value caches: groups with a scale and an offset, keys in blocks of tokens behind a ring of recent ones, and attention
//! over both.
//!
//! Values (and keys of 8 bits) are quantised token by token. Keys of 4 bits are quantised channel by channel over blocks of tokens,
//! because their outliers sit in a few channels; the last tokens stay as they are (KIVI: Liu et al. 2024, arXiv:2402.02750). What a
//! query sees depends on its position alone and not on how the tokens were cut into runs.
//!
//! ```text
//! %q, %scale, %offset = "core.quantize_groups"(%v) <{bits = 4 : i64, group = 32 : i64}> : (tensor<1x2x8x64xf32>)
//!   -> (tensor<1x2x8x64xui4>, tensor<1x2x8x2xf16>, tensor<1x2x8x2xf16>)
//! ```

use super::attention::{Lengths, SCORES, attend, infer_lengths};
use super::support::{differ, expect_dim, expect_element, expect_rank, expect_shape, floats, one};
use crate::dim::Dim;
use crate::element::Element;
use crate::number::round_float;
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute, optional,
    optional_attribute, value,
};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};
use std::borrow::Cow;

/// Quantises groups of the last axis.
pub static QUANTIZE_GROUPS: OpDef = OpDef {
    name: "core.quantize_groups",
    doc: "Groups of `group` elements of the last axis as unsigned integers of `bits` (4 or 8), so that q * scale + offset is x as nearly as \
          can be: offset = f16(minimum), scale = f16((maximum - minimum) / (2^bits - 1)), q = clamp(round_half_even((x - offset) / \
          scale)), 0 where the scale is 0 or no number. x [.., d] -> q [.., d], scale and offset [.., d / group].",
    operands: &[value("x", TypeRule::FloatTensor)],
    results: &[
        value("q", TypeRule::NumberTensor),
        value("scale", TypeRule::FloatTensor),
        value("offset", TypeRule::FloatTensor),
    ],
    attributes: &[attribute("bits", AttributeRule::Int), attribute("group", AttributeRule::Int)],
    traits: Traits::PURE,
    infer: Infer::With(infer_groups),
    evaluate: Evaluate::With(evaluate_groups),
    ..OpDef::DEFAULT
};

/// Appends tokens to a cache whose keys are quantised in blocks.
pub static APPEND_BLOCKS: OpDef = OpDef {
    name: "core.append_blocks",
    doc: "Appends s tokens after p others. recent [b, g, r, d] is a ring: token i goes to row i mod r. A block of `block` tokens is \
          settled when `keep` tokens follow it; each that gets settled is read from the ring and quantised channel by channel, as \
          core.quantize_groups over its tokens, to body [b, g, p + s, d], scale and offset [b, g, n, d] (row i / block of token i). \
          Rows of body that are not settled mean nothing. new [b, g, s, d], body [b, g, p, d] (Liu et al. 2024, arXiv:2402.02750).",
    operands: &[
        value("new", TypeRule::FloatTensor),
        value("body", TypeRule::NumberTensor),
        value("scale", TypeRule::FloatTensor),
        value("offset", TypeRule::FloatTensor),
        value("recent", TypeRule::FloatTensor),
    ],
    results: &[
        value("new_body", TypeRule::NumberTensor),
        value("new_scale", TypeRule::FloatTensor),
        value("new_offset", TypeRule::FloatTensor),
        value("new_recent", TypeRule::FloatTensor),
    ],
    attributes: &[attribute("block", AttributeRule::Int), attribute("keep", AttributeRule::Int)],
    traits: Traits::PURE,
    infer: Infer::With(infer_append),
    evaluate: Evaluate::With(evaluate_append),
    ..OpDef::DEFAULT
};

/// Attention over a cache in another format.
pub static CACHED_ATTENTION: OpDef = OpDef {
    name: "core.cached_attention",
    doc: "core.attention over keys and values that are kept in another format. k [b, g, t, d] stands for k * k_scale + k_offset, v [b, g, t, \
          e] for v * v_scale + v_offset; scales and offsets are [b, g, t, groups], groups dividing the width. With `block`, k is as \
          core.append_blocks leaves it: k_scale and k_offset are [b, g, n, d], recent [b, g, r, d] holds the last keys, and \
          a query at position i sees the first floor((i + 1 - keep) / block) blocks quantised and later keys from the ring (`keep` tokens follow a settled block). \
          `causal`, `scale`, `softcap`, `window`, mask and sinks are core.attention's.",
    operands: &[
        value("q", TypeRule::FloatTensor),
        value("k", TypeRule::NumberTensor),
        value("v", TypeRule::NumberTensor),
        optional("mask", TypeRule::Tensor),
        optional("sinks", TypeRule::FloatTensor),
        optional("k_scale", TypeRule::FloatTensor),
        optional("k_offset", TypeRule::FloatTensor),
        optional("recent", TypeRule::FloatTensor),
        optional("v_scale", TypeRule::FloatTensor),
        optional("v_offset", TypeRule::FloatTensor),
    ],
    results: &[value("result", TypeRule::FloatTensor)],
    attributes: &[
        SCORES[0],
        SCORES[1],
        SCORES[2],
        SCORES[3],
        optional_attribute("block", AttributeRule::Int),
        optional_attribute("keep", AttributeRule::Int),
    ],
    traits: Traits::PURE,
    infer: Infer::With(infer_attention),
    evaluate: Evaluate::With(evaluate_attention),
    ..OpDef::DEFAULT
};

fn storage(bits: i64) -> Result<Element, String> {
    match bits {
        4 => Ok(Element::U4),
        8 => Ok(Element::U8),
        _ => Err(format!("attribute 'bits' must be 4 or 8, found {bits}")),
    }
}

fn infer_groups(signature: &Signature) -> Result<Vec<Type>, String> {
    let x = signature.require_tensor(0)?;
    let element = storage(signature.int("bits", 0))?;
    let group = signature.int("group", 0);
    let (width, leading) = x.shape.split_last().ok_or("operand 'x' must have rank 1 or more")?;
    let known =
        width.known().ok_or_else(|| format!("the last dimension of 'x' must be known, found {width}"))?;
    if group < 1 || known % group != 0 {
        return Err(format!("groups of {group} do not divide the last dimension of 'x', {known}"));
    }
    let mut factors = leading.to_vec();
    factors.push(Dim::Known(known / group));
    let factors: Type = TensorType::new(Element::F16, factors).into();
    let q: Type = TensorType::new(element, x.shape.iter().cloned()).into();
    Ok(vec![q, factors.clone(), factors])
}

/// Codes, scale and offset of one group; in f32 as the command is, so that both give the same bits.
fn quantise(values: &[f64], levels: f32) -> (Vec<i64>, f64, f64) {
    let nan_or = |pick: fn(f32, f32) -> f32| {
        move |a: f32, b: &f64| if a.is_nan() || b.is_nan() { f32::NAN } else { pick(a, *b as f32) }
    };
    let least = values.iter().fold(f32::INFINITY, nan_or(f32::min));
    let most = values.iter().fold(f32::NEG_INFINITY, nan_or(f32::max));
    let scale = round_float(Element::F16, f64::from((most - least) / levels));
    let offset = round_float(Element::F16, f64::from(least));
    let code = |value: &f64| {
        let code = ((*value as f32 - offset as f32) / scale as f32).round_ties_even();
        if code.is_finite() && scale != 0.0 { code.clamp(0.0, levels) as i64 } else { 0 }
    };
    (values.iter().map(code).collect(), scale, offset)
}

fn levels(element: Element) -> f32 {
    element.integer_range().map_or(1.0, |range| range.1 as f32)
}

fn evaluate_groups(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    let (element, group) = (storage(call.signature.int("bits", 0))?, call.signature.int("group", 1) as usize);
    let mut shape = x.shape.clone();
    let width = shape.pop().ok_or("operand 'x' must have rank 1 or more")?;
    shape.push(width / group.max(1));
    let (mut codes, mut scales, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
    for values in floats(x).chunks(group.max(1)) {
        let (code, scale, offset) = quantise(values, levels(element));
        codes.extend(code);
        scales.push(scale);
        offsets.push(offset);
    }
    let full: Vec<i64> = x.shape.iter().map(|dim| *dim as i64).collect();
    let factors = |values| Tensor::from_floats(Element::F16, &shape, values);
    Ok(vec![Tensor::from_ints(element, &full, codes), factors(scales), factors(offsets)])
}

/// Block and kept tokens of a cache, checked.
fn blocks(signature: &Signature) -> Result<(i64, i64), String> {
    let (block, keep) = (signature.int("block", 0), signature.int("keep", 0));
    if block < 1 || keep < block || keep % block != 0 {
        return Err(format!("'keep' = {keep} must be a multiple of 'block' = {block}, at least one"));
    }
    Ok((block, keep))
}

/// Checks that a ring holds all that `new` tokens may leave unsettled.
fn check_ring(ring: &Dim, block: i64, keep: i64, new: &Dim) -> Result<(), String> {
    let rows = ring.known().ok_or_else(|| format!("the ring's length must be known, found {ring}"))?;
    let needed = keep.saturating_add(block - 1).saturating_add(new.known().unwrap_or(1));
    if rows % block != 0 || rows < needed {
        return Err(format!(
            "the ring has {rows} rows, expected a multiple of {block} and at least {needed}"
        ));
    }
    Ok(())
}

fn infer_append(signature: &Signature) -> Result<Vec<Type>, String> {
    let [new, body, scale, offset, recent] = [0, 1, 2, 3, 4].map(|slot| signature.require_tensor(slot));
    let (new, body, scale, offset, recent) = (new?, body?, scale?, offset?, recent?);
    for (name, ty) in [("new", new), ("body", body), ("scale", scale), ("recent", recent)] {
        expect_rank(name, ty, 4)?;
        for axis in [0, 1, 3] {
            expect_dim(&format!("dimension {axis} of '{name}'"), &new.shape[axis], &ty.shape[axis])?;
        }
    }
    if !matches!(body.element, Element::U4 | Element::U8) {
        return Err(format!("operand 'body' must hold ui4 or ui8, found {}", body.element));
    }
    expect_shape("offset", &scale.shape, &offset.shape)?;
    expect_element("offset", scale.element, offset)?;
    expect_element("new", recent.element, new)?;
    let (block, keep) = blocks(signature)?;
    check_ring(&recent.shape[2], block, keep, &new.shape[2])?;
    let mut shape = body.shape.to_vec();
    shape[2] = &shape[2] + &new.shape[2];
    let whole: Type = TensorType::new(body.element, shape).into();
    Ok(vec![whole, scale.clone().into(), offset.clone().into(), recent.clone().into()])
}

fn evaluate_append(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let [new, body, scale, offset, recent] = [0, 1, 2, 3, 4].map(|slot| call.operand(slot));
    let (block, keep) = blocks(&call.signature)?;
    let [batch, heads, count, d] = new.shape[..] else { return Err("operand 'new' must have rank 4".into()) };
    let (past, rows, ring) = (body.shape[2], scale.shape[2], recent.shape[2]);
    let settled = |tokens: usize| (tokens as i64 - keep).max(0) / block;
    let (added, old) = (floats(new), body.ints());
    let (mut scales, mut offsets, mut recents) = (floats(scale), floats(offset), floats(recent));
    let mut codes = vec![0i64; batch * heads * (past + count) * d];
    for head in 0..batch * heads {
        let body = &mut codes[head * (past + count) * d..(head + 1) * (past + count) * d];
        body[..past * d].copy_from_slice(&old[head * past * d..(head + 1) * past * d]);
        let recents = &mut recents[head * ring * d..(head + 1) * ring * d];
        for token in 0..count {
            let row = (past + token) % ring * d;
            recents[row..row + d].copy_from_slice(&added[(head * count + token) * d..][..d]);
        }
        for at in settled(past)..settled(past + count) {
            let (first, at) = (at as usize * block as usize, at as usize);
            if at >= rows {
                return Err(format!("block {at} has no row in a scale of {rows}"));
            }
            for channel in 0..d {
                let token = |token: usize| recents[(first + token) % ring * d + channel];
                let values: Vec<f64> = (0..block as usize).map(token).collect();
                let (code, scale, offset) = quantise(&values, levels(call.operand(1).element));
                code.into_iter().enumerate().for_each(|(t, code)| body[(first + t) * d + channel] = code);
                scales[(head * rows + at) * d + channel] = scale;
                offsets[(head * rows + at) * d + channel] = offset;
            }
        }
    }
    let shape = [batch, heads, past + count, d].map(|dim| dim as i64);
    Ok(vec![
        Tensor::from_ints(body.element, &shape, codes),
        Tensor::from_floats(scale.element, &scale.shape, scales),
        Tensor::from_floats(offset.element, &offset.shape, offsets),
        Tensor::from_floats(recent.element, &recent.shape, recents),
    ])
}

fn infer_attention(signature: &Signature) -> Result<Vec<Type>, String> {
    let q = signature.require_tensor(0)?;
    let (k, v) = (signature.require_tensor(1)?, signature.require_tensor(2)?);
    let shape = infer_lengths(signature, q, k, v)?;
    let with_blocks = signature.int("block", 0) != 0;
    let recent = signature.tensor(7);
    if with_blocks != recent.is_some() {
        return Err("'block' and operand 'recent' go together".into());
    }
    for (name, of, scale, offset) in [("k", k, 5, 6), ("v", v, 8, 9)] {
        let (scale, offset) = (signature.tensor(scale), signature.tensor(offset));
        if !of.element.is_float() && scale.is_none() {
            return Err(format!("operand '{name}' holds {} and needs a scale", of.element));
        }
        for factor in [scale, offset].into_iter().flatten() {
            expect_rank(&format!("a scale of '{name}'"), factor, 4)?;
            if let (Some(width), Some(groups)) = (of.shape[3].known(), factor.shape[3].known())
                && (groups < 1 || width % groups != 0)
            {
                return Err(format!("{groups} groups do not divide the width of '{name}', {width}"));
            }
            if !(with_blocks && name == "k") && differ(&of.shape[2], &factor.shape[2]) {
                return Err(format!(
                    "a scale of '{name}' has {} rows, expected {}",
                    factor.shape[2], of.shape[2]
                ));
            }
        }
    }
    if let Some(recent) = recent {
        let (block, keep) = blocks(signature)?;
        expect_rank("recent", recent, 4)?;
        check_ring(&recent.shape[2], block, keep, &q.shape[2])?;
    }
    one(q.element, shape)
}

/// x * scale + offset, row t of x using row t / block.
fn dequantised(x: &Tensor, scale: Option<&Tensor>, offset: Option<&Tensor>, block: usize) -> Vec<f64> {
    let mut values = floats(x);
    let (rows, width) = (x.shape[2], x.shape[3]);
    let mut apply = |factor: &Tensor, combine: fn(f64, f64) -> f64| {
        let (factors, groups) = (floats(factor), factor.shape[3].max(1));
        for (at, value) in values.iter_mut().enumerate() {
            let (line, column) = (at / width, at % width);
            let row = line / rows * factor.shape[2] + line % rows / block;
            // Rows that no block has settled mean nothing and may have no scale.
            if let Some(factor) = factors.get(row * groups + column / (width / groups)) {
                *value = combine(*value, *factor);
            }
        }
    };
    if let Some(scale) = scale {
        apply(scale, |value, factor| value * factor);
    }
    if let Some(offset) = offset {
        apply(offset, |value, factor| value + factor);
    }
    values
}

fn evaluate_attention(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (q, k, v) = (call.operand(0), call.operand(1), call.operand(2));
    let block = call.signature.int("block", 0);
    let lengths = Lengths::of(q, k, v)?;
    let keys = dequantised(k, call.get(5), call.get(6), block.max(1) as usize);
    let values = dequantised(v, call.get(8), call.get(9), 1);
    let (count, d) = (lengths.count, lengths.d);
    let Some(recent) = call.get(7) else {
        let keys = |group: usize, _| Cow::Borrowed(&keys[group * count * d..(group + 1) * count * d]);
        return Ok(vec![attend(call, q, &lengths, &keys, &values)?]);
    };
    let keep = blocks(&call.signature)?.1;
    let (recents, ring) = (floats(recent), recent.shape[2]);
    // Each query sees its own mixture of settled blocks and recent keys.
    let mixed = |group: usize, at: usize| {
        let position = count as i64 - lengths.length as i64 + at as i64;
        let settled = ((position + 1 - keep).max(0) / block * block) as usize;
        let mut row = keys[group * count * d..(group + 1) * count * d].to_vec();
        for token in settled..count {
            let from = (group * ring + token % ring) * d;
            row[token * d..(token + 1) * d].copy_from_slice(&recents[from..from + d]);
        }
        Cow::Owned(row)
    };
    Ok(vec![attend(call, q, &lengths, &mixed, &values)?])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, call, f32s, ramp};
    use super::*;

    #[test]
    fn groups_keep_their_ends() {
        let x = f32s(&[2, 4], &[0.0, 30.0, -1.0, 0.5, 7.0, 7.0, 2.0, 1.0]);
        let found =
            call(&QUANTIZE_GROUPS).with("bits", 4i64).with("group", 2i64).try_on(&[Some(&x)]).unwrap();
        assert_eq!(found[0].ints(), [0, 15, 0, 15, 0, 0, 15, 0]);
        assert_near(&found[1], &[2.0, 0.099_975_586, 0.0, 0.066_650_39]);
        assert_near(&found[2], &[0.0, -1.0, 7.0, 1.0]);
        let error = call(&QUANTIZE_GROUPS).with("bits", 4i64).with("group", 3i64).infer(&["f32: 2, 4"]);
        assert_eq!(error.unwrap_err(), "groups of 3 do not divide the last dimension of 'x', 4");
    }

    /// Appends `parts` tokens at a time with blocks of 2, of which 2 are kept; the last results.
    fn appended(parts: &[usize]) -> Vec<Tensor> {
        let total: usize = parts.iter().sum();
        let all = ramp(&[1, 1, total, 2]).cast(Element::F16);
        let ring = Tensor::splat(Element::F16, &[1, 1, 12, 2], 0.0);
        let rows = Tensor::splat(Element::F16, &[1, 1, 8, 2], 0.0);
        let mut state = vec![Tensor::from_ints(Element::U4, &[1, 1, 0, 2], vec![]), rows.clone(), rows, ring];
        let mut past = 0;
        for &count in parts {
            let new = Tensor::from_floats(
                Element::F16,
                &[1, 1, count, 2],
                all.floats()[past * 2..][..count * 2].to_vec(),
            );
            let operands = [Some(&new), Some(&state[0]), Some(&state[1]), Some(&state[2]), Some(&state[3])];
            state = call(&APPEND_BLOCKS).with("block", 2i64).with("keep", 2i64).try_on(&operands).unwrap();
            past += count;
        }
        state
    }

    #[test]
    fn blocks_settle_whatever_the_runs() {
        let whole = appended(&[1, 1, 1, 1, 1, 1, 1, 1, 1]);
        for parts in [vec![4, 5], vec![5, 4], vec![2, 3, 4]] {
            let found = appended(&parts);
            assert_eq!(found, whole, "{parts:?}");
        }
        // 9 tokens settle (9 - 2) / 2 blocks; each holds channel values n and n + 2.
        assert_eq!(whole[0].ints()[..12], [0, 0, 15, 15, 0, 0, 15, 15, 0, 0, 15, 15]);
        assert_near(
            &whole[2],
            &[0.0, 1.0, 4.0, 5.0, 8.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        );
    }

    /// Signatures around a right one: each is refused or evaluates.
    #[test]
    fn no_signature_panics() {
        let base =
            ["f16: 1, 1, 3, 2", "ui4: 1, 1, 4, 2", "f16: 1, 1, 8, 2", "f16: 1, 1, 8, 2", "f16: 1, 1, 12, 2"];
        let others =
            ["f16: 1, 1, 3", "f32: 1, 1, 3, 2", "f16: 1, 1, n, 2", "f16: 1, 2, 3, 2", "ui8: 1, 1, 0, 2"];
        let mut accepted = 0;
        for (slot, other) in (0..5).flat_map(|slot| others.map(|other| (slot, other))) {
            for (block, keep) in [(2i64, 2i64), (2, 0), (0, 2), (i64::MAX, i64::MAX), (3, 3), (-2, 4)] {
                let mut types = base;
                types[slot] = other;
                let append = call(&APPEND_BLOCKS).with("block", block).with("keep", keep);
                accepted += usize::from(append.infer(&types).is_ok());
            }
        }
        assert!(accepted > 0, "some are right");
        assert!(call(&APPEND_BLOCKS).with("block", 2i64).with("keep", 2i64).infer(&base).is_ok());
    }

    #[test]
    fn queries_see_settled_blocks_and_the_ring() {
        let state = appended(&[6]);
        let (q, v) = (Tensor::splat(Element::F32, &[1, 1, 2, 2], 1.0), ramp(&[1, 1, 6, 1]));
        let attributes = |call: super::super::testing::Call| {
            call.with("scale", 0.1).with("causal", true).with("block", 2i64).with("keep", 2i64)
        };
        let operands = [
            Some(&q),
            Some(&state[0]),
            Some(&v),
            None,
            None,
            Some(&state[1]),
            Some(&state[2]),
            Some(&state[3]),
            None,
            None,
        ];
        let found = attributes(call(&CACHED_ATTENTION)).try_on(&operands).unwrap().remove(0);
        // A ramp quantises exactly at its ends, so the result is that of plain attention over the ramp.
        let plain = call(&super::super::ATTENTION).with("scale", 0.1).with("causal", true);
        let keys = ramp(&[1, 1, 6, 2]);
        let expected = plain.try_on(&[Some(&q), Some(&keys), Some(&v), None, None]).unwrap().remove(0);
        for (found, expected) in found.floats().iter().zip(expected.floats()) {
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
    }
}
