//! Changes of element type: by value (cast) and by bits (bitcast).
//!
//! ```text
//! %y = "core.cast"(%x) : (tensor<4xf32>) -> tensor<4xf16>
//! %z = "core.bitcast"(%x) : (tensor<4xf32>) -> tensor<4xi32>
//! ```

use super::support::{infer_requested_element, requested};
use crate::op_def::{AttributeRule, Infer, OpDef, Signature, Traits, TypeRule, optional_attribute, value};

/// Another element type, by value.
pub static CAST: OpDef = OpDef {
    name: "core.cast",
    doc: "result = x in the element type of the given result type, same shape. Float to float rounds to nearest, ties to even; \
          float to integer truncates and saturates, NaN to 0; integer to integer wraps; to i1 is x != 0. `saturate` (true when \
          left out): f8 results saturate, else overflow to infinity or NaN. `rounding` is for f8E8M0 results: nearest (when left \
          out), up, down. ONNX Cast.",
    operands: &[value("x", TypeRule::Tensor)],
    results: &[value("result", TypeRule::Tensor)],
    attributes: &[
        optional_attribute("saturate", AttributeRule::Bool),
        optional_attribute("rounding", AttributeRule::OneOf(&["nearest", "up", "down"])),
    ],
    axes: ".. -> ..",
    traits: Traits::PURE.with(Traits::ELEMENTWISE),
    infer: Infer::With(infer_requested_element),
    ..OpDef::DEFAULT
};

/// Another element type, by bits.
pub static BITCAST: OpDef = OpDef {
    name: "core.bitcast",
    doc: "result = the bits of x read as the element type of the given result type, which has as many bits; same shape. ONNX \
          BitCast.",
    operands: &[value("x", TypeRule::Tensor)],
    results: &[value("result", TypeRule::Tensor)],
    axes: ".. -> ..",
    traits: Traits::PURE.with(Traits::ELEMENTWISE),
    infer: Infer::With(infer_requested_element),
    verify: Some(verify_bitcast),
    ..OpDef::DEFAULT
};

fn verify_bitcast(signature: &Signature) -> Result<(), String> {
    let x = signature.require_tensor(0)?;
    let result = requested(signature).ok_or("the result type must be given as a tensor type")?;
    if x.element.bits() == result.element.bits() {
        Ok(())
    } else {
        let (from, to) = (x.element, result.element);
        Err(format!("element widths differ: {from} has {} bits and {to} {}", from.bits(), to.bits()))
    }
}
