//! Constants, symbolic sizes as data, and index ramps.
//!
//! ```text
//! %w = "core.constant"() <{value = dense_resource<w> : tensor<64x64xf32>}> : () -> tensor<64x64xf32>
//! %n = "core.size"() <{value = "past_seq + seq"}> : () -> tensor<i64>
//! %i = "core.iota"() <{axis = 0 : i64}> : () -> tensor<?xi64, ["seq"]>
//! ```

use super::support::requested;
use crate::attribute::Attribute;
use crate::element::Element;
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute,
    normalize_axis, value,
};
use crate::tensor::{Tensor, strides_of};
use crate::types::Type;

/// A compile-time tensor.
pub static CONSTANT: OpDef = OpDef {
    name: "core.constant",
    doc: "result = `value`. A weight is a `dense_resource`; its bytes stay where they are mapped.",
    results: &[value("result", TypeRule::Tensor)],
    attributes: &[attribute("value", AttributeRule::Elements)],
    traits: Traits::PURE.with(Traits::CONSTANT),
    infer: Infer::With(infer_constant),
    evaluate: Evaluate::With(evaluate_constant),
    ..OpDef::DEFAULT
};

/// A symbolic dimension as data.
pub static SIZE: OpDef = OpDef {
    name: "core.size",
    doc: "result = `value`, a dimension expression, as a scalar i64. What is left of ONNX Shape after import.",
    results: &[value("result", TypeRule::IntegerTensor)],
    attributes: &[attribute("value", AttributeRule::Dim)],
    traits: Traits::PURE,
    infer: Infer::With(infer_size),
    evaluate: Evaluate::With(evaluate_size),
    ..OpDef::DEFAULT
};

/// A ramp of indices.
pub static IOTA: OpDef = OpDef {
    name: "core.iota",
    doc: "result[i0, ..] = i_`axis`. The result type is given: numbers, any shape that has the axis. StableHLO iota; ONNX \
          Range is iota * delta + start.",
    results: &[value("result", TypeRule::NumberTensor)],
    attributes: &[attribute("axis", AttributeRule::Int)],
    traits: Traits::PURE,
    verify: Some(verify_iota),
    evaluate: Evaluate::With(evaluate_iota),
    ..OpDef::DEFAULT
};

fn infer_constant(signature: &Signature) -> Result<Vec<Type>, String> {
    let elements = signature.attribute("value").and_then(|value| value.as_elements());
    let elements = elements.ok_or("attribute 'value' must hold constant elements")?;
    Ok(vec![Type::Tensor(elements.ty().clone())])
}

fn evaluate_constant(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let elements = call.signature.attribute("value").and_then(|value| value.as_elements());
    Ok(vec![Tensor::from_elements(elements.ok_or("attribute 'value' must hold constant elements")?)?])
}

fn infer_size(_signature: &Signature) -> Result<Vec<Type>, String> {
    Ok(vec![Type::tensor(Element::I64, &[])])
}

fn evaluate_size(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let dim = call.signature.attribute("value").and_then(Attribute::as_dim);
    let dim = dim.ok_or("attribute 'value' must be a dimension expression")?;
    let value = dim.evaluate(call.bindings).ok_or_else(|| format!("dimension '{dim}' has no value"))?;
    Ok(vec![Tensor::from_ints(Element::I64, &[], vec![value])])
}

fn verify_iota(signature: &Signature) -> Result<(), String> {
    let result = requested(signature).ok_or("the result type must be a tensor")?;
    let axis = signature.int("axis", 0);
    normalize_axis(axis, result.rank())
        .map(|_| ())
        .ok_or_else(|| format!("attribute 'axis' = {axis} is out of range for rank {}", result.rank()))
}

fn evaluate_iota(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let shape = call.result_shape(0)?;
    let axis = call.signature.axis("axis", 0, shape.len())?;
    let stride = strides_of(&shape)[axis];
    let count: usize = shape.iter().product();
    let values = (0..count).map(|index| (index / stride % shape[axis]) as i64).collect();
    let dims: Vec<i64> = shape.iter().map(|dim| *dim as i64).collect();
    Ok(vec![Tensor::from_ints(call.result_element(0), &dims, values)])
}

#[cfg(test)]
mod tests {
    use super::super::testing::call;
    use super::*;

    #[test]
    fn a_ramp_follows_its_axis() {
        let found = call(&IOTA).with("axis", 1i64).to("i64: 2, 3").on(&[]);
        assert_eq!(found.ints(), [0, 1, 2, 0, 1, 2]);
        let found = call(&IOTA).with("axis", 0i64).to("f32: 2, 3").on(&[]);
        assert_eq!(found.floats(), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        assert!(call(&IOTA).with("axis", 2i64).to("f32: 2, 3").infer(&[]).unwrap_err().contains("rank 2"));
    }

    #[test]
    fn a_size_needs_its_symbols() {
        assert_eq!(call(&SIZE).with("value", 7i64).on(&[]).ints(), [7]);
        let error = call(&SIZE).with("value", "seq + 1").try_on(&[]).unwrap_err();
        assert_eq!(error, "dimension 'seq + 1' has no value");
    }
}
