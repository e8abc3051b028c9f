//! Rotary position embedding and scaled dot-product attention.
//!
//! ```text
//! %r = "core.rope"(%q, %cos, %sin) <{interleaved = false}> : (tensor<1x4x?x16xf32, ["seq"]>, tensor<?x8xf32, ["seq"]>, ..) -> ..
//! %y = "core.attention"(%q, %k, %v) <{causal = true, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, scale = 2.500000e-01 : f64}>
//!   : (tensor<1x4x?x16xf32, ["seq"]>, tensor<1x2x?x16xf32, ["past_seq + seq"]>, ..) -> tensor<1x4x?x16xf32, ["seq"]>
//! ```

use super::support::{differ, expect_broadcast, expect_dim, expect_element, expect_rank, expect_shape, one};
use crate::dim::{Dim, Function};
use crate::element::Element;
use crate::op_def::{
    AttributeRule, Infer, OpDef, Signature, Traits, TypeRule, attribute, optional, optional_attribute, value,
};
use crate::types::Type;

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
    ..OpDef::DEFAULT
};

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
    attributes: &[
        attribute("scale", AttributeRule::Float),
        optional_attribute("causal", AttributeRule::Bool),
        optional_attribute("softcap", AttributeRule::Float),
        optional_attribute("window", AttributeRule::Int),
    ],
    axes: "b h s d, b g t d, b g t e, b h s t, h -> b h s e; reduce d t; group g of h",
    traits: Traits::PURE,
    infer: Infer::With(infer_attention),
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
    one(q.element, q.shape[..3].iter().chain(&v.shape[3..]).cloned())
}
