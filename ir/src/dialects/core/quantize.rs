//! Between real values and quantised storage: scale, optional zero point, per tensor, per axis or in blocks.
//!
//! ```text
//! %q = "core.quantize"(%x, %s, %z) <{operandSegmentSizes = array<i32: 1, 1, 1>}> : (tensor<4xf32>, tensor<f32>, tensor<i8>) -> tensor<4xi8>
//! %w = "core.dequantize"(%q, %s) <{axis = 0 : i64, block = 32 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}>
//!   : (tensor<64x32xi4>, tensor<2x32xf32>) -> tensor<64x32xf32>
//! ```

use super::support::{
    around, expect_dim, expect_element, floats, from_integers, infer_requested_element, integers, one,
    requested,
};
use crate::dim::{Dim, Function};
use crate::element::Element;
use crate::number::round_float;
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, normalize_axis, optional,
    optional_attribute, value,
};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};

const PARAMETERS: &[crate::op_def::AttributeDef] =
    &[optional_attribute("axis", AttributeRule::Int), optional_attribute("block", AttributeRule::Int)];

/// Real values to storage.
pub static QUANTIZE: OpDef = OpDef {
    name: "core.quantize",
    doc: "result = saturate(round_half_even(x / scale) + zero_point) in the element type of the given result type; the quotient is \
          rounded to x's element type first, to the scale's where x holds integers (sums of products); float results (f8) take x / scale \
          rounded and saturated. scale is a scalar, [dim] along \
          `axis`, or of x's rank in blocks of `block` along `axis`; zero_point has its shape. ONNX QuantizeLinear.",
    operands: &[
        value("x", TypeRule::NumberTensor),
        value("scale", TypeRule::FloatTensor),
        optional("zero_point", TypeRule::NumberTensor),
    ],
    results: &[value("result", TypeRule::NumberTensor)],
    attributes: PARAMETERS,
    axes: ".., @0, @0 -> ..",
    traits: Traits::PURE,
    infer: Infer::With(infer_quantize),
    verify: Some(verify_quantize),
    evaluate: Evaluate::With(evaluate_quantize),
    ..OpDef::DEFAULT
};

/// Storage to real values.
pub static DEQUANTIZE: OpDef = OpDef {
    name: "core.dequantize",
    doc: "result = (q - zero_point) * scale in the element type of the given result type (the scale's when none is given). scale is a \
          scalar, [dim] along `axis`, or of q's rank in blocks of `block` along `axis`; zero_point has its shape. ONNX \
          DequantizeLinear.",
    operands: &[
        value("q", TypeRule::NumberTensor),
        value("scale", TypeRule::FloatTensor),
        optional("zero_point", TypeRule::NumberTensor),
    ],
    results: &[value("result", TypeRule::FloatTensor)],
    attributes: PARAMETERS,
    axes: ".., @0, @0 -> ..",
    traits: Traits::PURE,
    infer: Infer::With(infer_dequantize),
    verify: Some(verify_dequantize),
    evaluate: Evaluate::With(evaluate_dequantize),
    ..OpDef::DEFAULT
};

fn infer_quantize(signature: &Signature) -> Result<Vec<Type>, String> {
    match signature.tensor(2) {
        Some(zero) if signature.results.is_empty() => {
            one(zero.element, signature.require_tensor(0)?.shape.iter().cloned())
        }
        _ => infer_requested_element(signature),
    }
}

fn infer_dequantize(signature: &Signature) -> Result<Vec<Type>, String> {
    let (q, scale) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    let element = requested(signature).map_or(scale.element, |ty| ty.element);
    one(element, q.shape.iter().cloned())
}

fn verify_quantize(signature: &Signature) -> Result<(), String> {
    let x = signature.require_tensor(0)?;
    if let (Some(zero), Some(result)) = (signature.tensor(2), requested(signature)) {
        expect_element("zero_point", result.element, zero)?;
    }
    verify_parameters(signature, x, 1, 2)
}

fn verify_dequantize(signature: &Signature) -> Result<(), String> {
    let q = signature.require_tensor(0)?;
    verify_parameters(signature, q, 1, 2)
}

/// Checks scale and zero point (operand definitions `scale`, `zero_point`) against the quantised tensor type `of`.
pub(super) fn verify_parameters(
    signature: &Signature,
    of: &TensorType,
    scale: usize,
    zero_point: usize,
) -> Result<(), String> {
    let scale = signature.require_tensor(scale)?;
    if let Some(zero) = signature.tensor(zero_point) {
        super::support::expect_shape("zero_point", &scale.shape, &zero.shape)?;
    }
    let block = signature.int("block", 0);
    if block < 0 {
        return Err(format!("attribute 'block' must not be negative, found {block}"));
    }
    if block == 0 && scale.rank() == 0 {
        return Ok(());
    }
    let axis = signature.int("axis", 1);
    let at = normalize_axis(axis, of.rank())
        .ok_or_else(|| format!("attribute 'axis' = {axis} is out of range for rank {}", of.rank()))?;
    if block == 0 {
        if scale.rank() != 1 {
            return Err(format!(
                "operand 'scale' must be a scalar or have rank 1 without blocks, found {scale}"
            ));
        }
        return if scale.shape[0] == Dim::Known(1) {
            Ok(())
        } else {
            expect_dim("operand 'scale' along the axis", &of.shape[at], &scale.shape[0])
        };
    }
    super::support::expect_rank("scale", scale, of.rank())?;
    for other in 0..of.rank() {
        let expected = if other == at {
            Dim::call(Function::FloorDiv, &(&of.shape[at] + &Dim::Known(block - 1)), &Dim::Known(block))
        } else {
            of.shape[other].clone()
        };
        expect_dim(&format!("dimension {other} of operand 'scale'"), &expected, &scale.shape[other])?;
    }
    Ok(())
}

/// For every element of `of`, the element of its scale.
fn parameter_places(call: &Invocation, of: &Tensor, scale: &Tensor) -> Result<Vec<usize>, String> {
    if scale.len() == 1 {
        return Ok(vec![0; of.len()]);
    }
    let axis = call.signature.axis("axis", 1, of.rank())?;
    let block = call.signature.int("block", 0).max(0) as usize;
    let (outer, dim, inner) = around(&of.shape, axis);
    let blocks = if block == 0 { dim } else { dim.div_ceil(block) };
    let expected = if block == 0 { dim } else { outer * blocks * inner };
    if scale.len() != expected {
        return Err(format!(
            "scale of shape {:?} does not fit {:?} along axis {axis}",
            scale.shape, of.shape
        ));
    }
    let mut places = Vec::with_capacity(of.len());
    for before in 0..outer {
        for at in 0..dim {
            match at.checked_div(block) {
                None => places.extend(std::iter::repeat_n(at, inner)),
                Some(row) => {
                    let start = (before * blocks + row) * inner;
                    places.extend(start..start + inner);
                }
            }
        }
    }
    Ok(places)
}

/// `(q - zero_point) * scale`, rounded to `element`, in f64. Attributes `axis` and `block` are the call's.
pub(super) fn dequantized(
    call: &Invocation,
    q: &Tensor,
    scale: &Tensor,
    zero_point: Option<&Tensor>,
    element: Element,
) -> Result<Vec<f64>, String> {
    let places = parameter_places(call, q, scale)?;
    let scales = floats(scale);
    let zeros = zero_point.map_or_else(|| vec![0.0; scales.len()], floats);
    let pairs = floats(q).into_iter().zip(places);
    Ok(pairs.map(|(value, at)| round_float(element, (value - zeros[at]) * scales[at])).collect())
}

fn evaluate_dequantize(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (q, element) = (call.operand(0), call.result_element(0));
    let values = dequantized(call, q, call.operand(1), call.get(2), element)?;
    Ok(vec![Tensor::from_floats(element, &q.shape, values)])
}

fn evaluate_quantize(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, scale, element) = (call.operand(0), call.operand(1), call.result_element(0));
    let places = parameter_places(call, x, scale)?;
    let scales = floats(scale);
    let rounded = if x.element.is_float() { x.element } else { scale.element };
    let quotients =
        floats(x).into_iter().zip(&places).map(|(value, at)| round_float(rounded, value / scales[*at]));
    let Some((low, high)) = element.integer_range() else {
        return Ok(vec![Tensor::from_floats(element, &x.shape, quotients.collect())]);
    };
    let zeros = call.get(2).map_or_else(|| vec![0; scales.len()], |zero| integers(zero).into_owned());
    let quantise = |value: f64, zero: i64| {
        if value.is_nan() {
            0
        } else {
            (value.round_ties_even() as i64).saturating_add(zero).clamp(low, high)
        }
    };
    let values = quotients.zip(&places).map(|(value, at)| quantise(value, zeros[*at])).collect();
    Ok(vec![from_integers(element, &x.shape, values)])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, call, f32s};
    use super::*;

    #[test]
    fn quantize_rounds_half_to_even_and_saturates() {
        let x = f32s(&[6], &[-1.25, -0.75, 0.25, 0.75, 1.25, 1000.0]);
        let found = call(&QUANTIZE).to("i8: 6").on(&[&x, &f32s(&[], &[0.5])]);
        // -2.5 -1.5 0.5 1.5 2.5
        assert_eq!(found.ints(), [-2, -2, 0, 2, 2, 127]);
        let zero = Tensor::from_ints(Element::U8, &[], vec![1]);
        let found = call(&QUANTIZE).on(&[&x, &f32s(&[], &[0.5]), &zero]);
        assert_eq!((found.element, found.ints()), (Element::U8, vec![0, 0, 1, 3, 3, 255]));
        let sums = Tensor::from_ints(Element::I32, &[3], vec![-3, 5, 1 << 30]);
        let found = call(&QUANTIZE).to("i8: 3").on(&[&sums, &f32s(&[], &[2.0])]);
        assert_eq!(found.ints(), [-2, 2, 127]);
        let found = call(&QUANTIZE).to("f8E4M3FN: 6").on(&[&x, &f32s(&[], &[0.5])]);
        assert_near(&found, &[-2.5, -1.5, 0.5, 1.5, 2.5, 448.0]);
    }

    #[test]
    fn dequantize_per_axis_and_in_blocks() {
        let q = Tensor::from_ints(Element::I8, &[2, 3], vec![1, 2, 3, 4, 5, 6]);
        let per_row = call(&DEQUANTIZE).with("axis", 0i64).on(&[&q, &f32s(&[2], &[1.0, 10.0])]);
        assert_near(&per_row, &[1.0, 2.0, 3.0, 40.0, 50.0, 60.0]);
        // Three columns in blocks of two: the last block is short.
        let scale = f32s(&[2, 2], &[1.0, 10.0, 100.0, 1000.0]);
        let blocked = call(&DEQUANTIZE).with("axis", 1i64).with("block", 2i64).on(&[&q, &scale]);
        assert_near(&blocked, &[1.0, 2.0, 30.0, 400.0, 500.0, 6000.0]);
        let nf4 = Tensor::from_floats(Element::NF4, &[2], vec![-1.0, 0.3]);
        let found = call(&DEQUANTIZE).to("f16: 2").on(&[&nf4, &f32s(&[], &[2.0])]);
        assert_eq!(found.floats(), [-2.0, 0.67578125]);
    }

    #[test]
    fn parameters_must_fit() {
        let call = call(&DEQUANTIZE).with("axis", 0i64).with("block", 32i64);
        let ok = call.infer(&["i8: 64, n", "f32: 2, n"]);
        assert_eq!(ok.unwrap(), "tensor<64x?xf32, [\"n\"]>");
        let error = call.infer(&["i8: 65, n", "f32: 2, n"]).unwrap_err();
        assert_eq!(error, "dimension 0 of operand 'scale': expected 3, found 2");
    }
}
