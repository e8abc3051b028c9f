//! Constants, symbolic sizes as data, and index ramps.

use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute, value,
};
use crate::tensor::Tensor;
use crate::types::Type;

/// A compile-time tensor.
pub static CONSTANT: OpDef = OpDef {
    name: "core.constant",
    doc: "result = value. A weight is a `dense_resource`; its bytes stay where they are mapped.",
    results: &[value("result", TypeRule::Tensor)],
    attributes: &[attribute("value", AttributeRule::Elements)],
    traits: Traits::PURE.with(Traits::CONSTANT),
    infer: Infer::With(infer_constant),
    evaluate: Evaluate::With(evaluate_constant),
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
