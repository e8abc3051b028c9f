//! Changes of element type: by value (cast) and by bits (bitcast).
//!
//! ```text
//! %y = "core.cast"(%x) : (tensor<4xf32>) -> tensor<4xf16>
//! %z = "core.bitcast"(%x) : (tensor<4xf32>) -> tensor<4xi32>
//! ```

use super::support::{floats, infer_requested_element, requested};
use crate::element::Element;
use crate::number;
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, optional_attribute, value,
};
use crate::tensor::{Data, Tensor};
use crate::types::TensorType;

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
    evaluate: Evaluate::With(evaluate_cast),
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
    evaluate: Evaluate::With(evaluate_bitcast),
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

fn evaluate_cast(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, element) = (call.operand(0), call.result_element(0));
    let saturate = call.signature.bool("saturate", true);
    Ok(vec![match (&x.data, element) {
        (_, Element::F8E8M0) if x.element != element => {
            let rounding = call.signature.str("rounding", "nearest");
            Tensor { element, ..narrow(x, |value| power_of_two(value, rounding, saturate)) }
        }
        (_, _) if !saturate && element.is_float() && element.bits() == 8 => Tensor {
            element,
            ..narrow(x, |value| number::decode(element, number::encode(element, value, false)))
        },
        // Straight from the integer: through f64 it would be rounded twice.
        (Data::I64(values), Element::F32) if x.element != Element::U64 => Tensor {
            element,
            shape: x.shape.clone(),
            data: Data::F32(values.iter().map(|value| *value as f32).collect()),
        },
        (Data::I64(values), Element::F32) => Tensor {
            element,
            shape: x.shape.clone(),
            data: Data::F32(values.iter().map(|value| *value as u64 as f32).collect()),
        },
        _ => x.cast(element),
    }])
}

/// All values through a function, kept as f32: for formats whose values are given in full by the function.
fn narrow(x: &Tensor, f: impl Fn(f64) -> f64) -> Tensor {
    let values = floats(x).into_iter().map(|value| f(value) as f32).collect();
    Tensor { element: x.element, shape: x.shape.clone(), data: Data::F32(values) }
}

/// The power of two that f8E8M0 holds for a value: exponents from -127 to 127; NaN for NaN and negative values.
fn power_of_two(value: f64, rounding: &str, saturate: bool) -> f64 {
    if value.is_nan() || value < 0.0 {
        return f64::NAN;
    }
    let bits = value.to_bits();
    let (mut exponent, fraction) = ((bits >> 52) as i32 - 1023, bits & ((1 << 52) - 1));
    let up = match rounding {
        "down" => false,
        "up" => fraction > 0,
        _ => fraction >= 1 << 51,
    };
    exponent += i32::from(up);
    if exponent > 127 && !saturate {
        return f64::NAN;
    }
    2f64.powi(exponent.clamp(-127, 127))
}

fn evaluate_bitcast(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    let ty = TensorType { element: call.result_element(0), shape: x.ty().shape };
    Ok(vec![Tensor::from_bytes(&ty, &x.to_bytes())?])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, call, f32s, i64s};
    use super::*;

    fn cast(x: &Tensor, element: Element) -> Tensor {
        let dims: Vec<String> = x.shape.iter().map(ToString::to_string).collect();
        call(&CAST).to(&format!("{}: {}", element.text(), dims.join(", "))).on(&[x])
    }

    #[test]
    fn floats_truncate_and_saturate_to_integers() {
        let x = f32s(&[4], &[-1.9, 300.0, f64::NAN, 1.9]);
        assert_eq!(cast(&x, Element::I8).ints(), [-1, 127, 0, 1]);
        assert_eq!(cast(&x, Element::U4).ints(), [0, 15, 0, 1]);
        assert_eq!(cast(&x, Element::Bool).ints(), [1, 1, 1, 1]);
    }

    #[test]
    fn integers_wrap_and_are_rounded_once_to_floats() {
        assert_eq!(cast(&i64s(&[2], &[200, -1]), Element::I8).ints(), [-56, -1]);
        assert_eq!(cast(&i64s(&[1], &[-1]), Element::U8).ints(), [255]);
        // Halfway in f64 only: through f64 this would become 2^60.
        let tricky = i64s(&[1], &[(1 << 60) + (1 << 36) + 1]);
        assert_eq!(cast(&tricky, Element::F32).floats(), [((1u64 << 60) + (1 << 37)) as f64]);
        assert_eq!(
            cast(&Tensor::from_ints(Element::U64, &[1], vec![-1]), Element::F32).floats(),
            [2f64.powi(64)]
        );
    }

    #[test]
    fn small_floats_saturate_or_not() {
        let x = f32s(&[2], &[1000.0, 0.3]);
        assert_near(&cast(&x, Element::F8E4M3FN), &[448.0, 0.3125]);
        let open = call(&CAST).to("f8E4M3FN: 2").with("saturate", false).on(&[&x]);
        assert_near(&open, &[f64::NAN, 0.3125]);
        let scale = |rounding: &str| call(&CAST).to("f8E8M0FNU: 3").with("rounding", rounding);
        let x = f32s(&[3], &[1.25, 3.0, 4.0]);
        assert_eq!(scale("nearest").on(&[&x]).floats(), [1.0, 4.0, 4.0]);
        assert_eq!(scale("up").on(&[&x]).floats(), [2.0, 4.0, 4.0]);
        assert_eq!(scale("down").on(&[&x]).floats(), [1.0, 2.0, 4.0]);
    }

    #[test]
    fn bits_are_read_anew() {
        let found = call(&BITCAST).to("i32: 1").on(&[&f32s(&[1], &[1.0])]);
        assert_eq!(found.ints(), [0x3f80_0000]);
        let error = call(&BITCAST).to("i64: 1").infer(&["f32: 1"]).unwrap_err();
        assert_eq!(error, "element widths differ: f32 has 32 bits and i64 64");
    }
}
