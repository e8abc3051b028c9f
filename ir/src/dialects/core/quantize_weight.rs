//! Weights to storage, scale and zero point: a recipe over a mapped weight that is carried out when the artifact is written.
//!
//! ```text
//! %q, %s = "core.quantize_weight"(%w) <{axis = 0 : i64, block = 32 : i64, method = "max", operandSegmentSizes = array<i32: 1, 0>}>
//!   : (tensor<64x32xf32>) -> (tensor<64x32xi4>, tensor<2x32xf16>)
//! ```

use super::support::floats;
use crate::attribute::Elements;
use crate::dim::{Dim, Function};
use crate::element::Element;
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute,
    normalize_axis, optional, optional_attribute, value,
};
use crate::quantizer::{METHODS, Quantized, Sharing, Spec, Weights, quantize};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};
use bytes::Bytes;

/// Chooses scales for a weight and rounds it.
pub static QUANTIZE_WEIGHT: OpDef = OpDef {
    name: "core.quantize_weight",
    doc: "(q, scale[, zero_point]) with core.dequantize(q, scale, zero_point) near w. The element types are those of the result types \
          asked for: q an integer, nf4 or float of at most 8 bits; scale a float (f8E8M0FNU: powers of two); zero_point as q. With \
          `block`, weights share a scale in blocks along `axis` and scale has w's rank; without it, one per index of `axis` (the first \
          or last) when scale has rank 1, one for all when it is a scalar. `method` says how scales are chosen: `max` by the largest \
          magnitude, `squared_error` by the least squared error, in which each place along the dimension that a product sums over (the \
          axis of the blocks; without blocks all dimensions but `axis`) weighs as much as `importance` says: [k] of non-negative \
          numbers, such as the diagonal of a Hessian. Weights that are not finite are an error.",
    operands: &[value("w", TypeRule::FloatTensor), optional("importance", TypeRule::FloatTensor)],
    results: &[
        value("q", TypeRule::NumberTensor),
        value("scale", TypeRule::FloatTensor),
        optional("zero_point", TypeRule::NumberTensor),
    ],
    attributes: &[
        optional_attribute("axis", AttributeRule::Int),
        optional_attribute("block", AttributeRule::Int),
        attribute("method", AttributeRule::OneOf(METHODS)),
    ],
    traits: Traits::PURE,
    infer: Infer::With(infer),
    verify: Some(verify),
    evaluate: Evaluate::With(evaluate),
    evaluate_packed: Some(evaluate_packed),
    ..OpDef::DEFAULT
};

fn asked<'a>(signature: &Signature<'a>, index: usize) -> Option<&'a TensorType> {
    signature.results.get(index)?.as_tensor()
}

fn infer(signature: &Signature) -> Result<Vec<Type>, String> {
    let w = signature.require_tensor(0)?;
    let what = "the types of 'q' and 'scale' must be given as tensor types";
    let (q, scale) = (asked(signature, 0).ok_or(what)?, asked(signature, 1).ok_or(what)?);
    let shape: Vec<Dim> = match (signature.int("block", 0), scale.rank()) {
        (0, 0) => Vec::new(),
        (0, _) => vec![w.shape[axis(signature, w)?].clone()],
        (block, _) if block > 0 => {
            let at = axis(signature, w)?;
            let blocks =
                Dim::call(Function::FloorDiv, &(&w.shape[at] + &Dim::Known(block - 1)), &Dim::Known(block));
            w.shape
                .iter()
                .enumerate()
                .map(|(i, dim)| if i == at { blocks.clone() } else { dim.clone() })
                .collect()
        }
        (block, _) => return Err(format!("attribute 'block' must not be negative, found {block}")),
    };
    let mut types: Vec<Type> = vec![
        TensorType::new(q.element, w.shape.iter().cloned()).into(),
        TensorType::new(scale.element, shape.iter().cloned()).into(),
    ];
    if signature.results.len() > 2 {
        types.push(TensorType::new(q.element, shape).into());
    }
    Ok(types)
}

fn axis(signature: &Signature, w: &TensorType) -> Result<usize, String> {
    let axis = signature.int("axis", 0);
    normalize_axis(axis, w.rank())
        .ok_or_else(|| format!("attribute 'axis' = {axis} is out of range for rank {}", w.rank()))
}

fn verify(signature: &Signature) -> Result<(), String> {
    let w = signature.require_tensor(0)?;
    let spec = spec(signature)?;
    if spec.storage.bits() > 8 || spec.storage == Element::F8E8M0 {
        return Err(format!("weights are not stored as {}", spec.storage));
    }
    if !matches!(spec.scale, Element::F32 | Element::F16 | Element::BF16 | Element::F8E8M0) {
        return Err(format!("scales are not stored as {}", spec.scale));
    }
    if spec.has_zero_point && (!spec.storage.is_integer() || spec.scale == Element::F8E8M0) {
        return Err(format!("{} with scales of {} takes no zero points", spec.storage, spec.scale));
    }
    if let Sharing::Channel(axis) = spec.sharing {
        let is_one = |dims: &[Dim]| dims.iter().all(|dim| *dim == Dim::Known(1));
        if !is_one(&w.shape[..axis]) && !is_one(&w.shape[axis + 1..]) {
            return Err(format!(
                "a scale per index of axis {axis} of {w}: it must be the first or the last axis"
            ));
        }
    }
    match signature.tensor(1) {
        Some(importance) if importance.rank() != 1 => {
            Err(format!("operand 'importance' must have rank 1, found {importance}"))
        }
        _ => Ok(()),
    }
}

fn spec(signature: &Signature) -> Result<Spec, String> {
    let w = signature.require_tensor(0)?;
    let (q, scale) = asked(signature, 0).zip(asked(signature, 1)).ok_or("results are not tensors")?;
    let sharing = match (usize::try_from(signature.int("block", 0)).unwrap_or(0), scale.rank()) {
        (0, 0) => Sharing::Tensor,
        (0, _) => Sharing::Channel(axis(signature, w)?),
        (block, _) => Sharing::Blocks(axis(signature, w)?, block),
    };
    let method = signature.str("method", "max");
    let method = METHODS.iter().find(|known| **known == method).copied().unwrap_or("max");
    Ok(Spec {
        storage: q.element,
        scale: scale.element,
        has_zero_point: signature.results.len() > 2,
        sharing,
        method,
    })
}

fn quantized(signature: &Signature, w: Weights, importance: Option<&[f32]>) -> Result<Vec<Bytes>, String> {
    let Quantized { storage, scale, zero_point } =
        quantize(w, &spec(signature)?, importance).map_err(|error| error.to_string())?;
    let mut parts = vec![storage.into(), scale.into()];
    if signature.results.len() > 2 {
        parts.push(zero_point.into());
    }
    Ok(parts)
}

fn evaluate_packed(signature: &Signature, operands: &[&Elements]) -> Result<Vec<Bytes>, String> {
    let shape = operands[0].ty().known_shape().ok_or("a weight of unknown shape")?;
    let shape: Vec<usize> = shape.into_iter().map(|dim| dim.max(0) as usize).collect();
    let w = Weights { element: operands[0].ty().element, shape: &shape, bytes: operands[0].bytes() };
    let importance = operands.get(1).map(|elements| Tensor::from_elements(elements)).transpose()?;
    let importance: Option<Vec<f32>> = importance.map(|values| narrow(&values));
    quantized(signature, w, importance.as_deref())
}

fn narrow(values: &Tensor) -> Vec<f32> {
    floats(values).into_iter().map(|value| value as f32).collect()
}

fn evaluate(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let w = call.operand(0);
    let bytes = w.to_bytes();
    let importance = call.get(1).map(narrow);
    let weights = Weights { element: w.element, shape: &w.shape, bytes: &bytes };
    let parts = quantized(&call.signature, weights, importance.as_deref())?;
    let with_type = |(index, bytes): (usize, Bytes)| {
        let shape: Vec<i64> = call.result_shape(index)?.into_iter().map(|dim| dim as i64).collect();
        Tensor::from_bytes(&TensorType::of(call.result_element(index), &shape), &bytes)
    };
    parts.into_iter().enumerate().map(with_type).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, call, f32s, ramp};
    use super::super::{DEQUANTIZE, QUANTIZE_WEIGHT};

    #[test]
    fn blocks_and_channels() {
        let w = f32s(&[2, 4], &[-7.0, 3.5, 0.4, 0.0, 14.0, 1.0, -28.0, 2.0]);
        let blocks = call(&QUANTIZE_WEIGHT).with("axis", 1i64).with("block", 2i64).with("method", "max");
        let found = blocks.to("i4: 2, 4").to("f16: 2, 2").try_on(&[Some(&w), None]).unwrap();
        assert_near(&found[1], &[1.0, 0.057_128_906_25, 2.0, 4.0]);
        // 3.5 is a tie between 3 and 4: to the even one. 0.4 is 7 steps of its own block.
        assert_eq!(found[0].ints(), [-7, 4, 7, 0, 7, 0, -7, 0]);
        let channels = call(&QUANTIZE_WEIGHT).with("axis", 0i64).with("method", "max");
        let found = channels.to("i8: 2, 4").to("f32: 2").try_on(&[Some(&w), None]).unwrap();
        assert_near(&found[1], &[7.0 / 127.0, 28.0 / 127.0]);
        assert_eq!(found[0].ints(), [-127, 64, 7, 0, 64, 5, -127, 9]);
    }

    #[test]
    fn zero_points_keep_zero_exact() {
        let w = f32s(&[4], &[0.0, 1.0, 2.0, 15.0]);
        let call_of = call(&QUANTIZE_WEIGHT).with("method", "max");
        let found = call_of.to("ui4: 4").to("f32: ").to("ui4: ").try_on(&[Some(&w), None]).unwrap();
        assert_eq!((found[0].ints(), found[2].ints()), (vec![0, 1, 2, 15], vec![0]));
        let restored =
            call(&DEQUANTIZE).try_on(&[Some(&found[0]), Some(&found[1]), Some(&found[2])]).unwrap();
        assert_near(&restored[0], &[0.0, 1.0, 2.0, 15.0]);
    }

    #[test]
    fn what_cannot_be_is_said() {
        let call_of = || call(&QUANTIZE_WEIGHT).with("axis", 1i64).with("method", "max");
        let error = call_of().to("i8: 2, 3, 4").to("f32: 3").infer(&["f32: 2, 3, 4"]).unwrap_err();
        assert!(error.contains("the first or the last axis"), "{error}");
        let w = f32s(&[2], &[1.0, f64::NAN]);
        let error = call(&QUANTIZE_WEIGHT).with("method", "max").to("i8: 2").to("f32: ");
        let error = error.try_on(&[Some(&w), None]).unwrap_err();
        assert_eq!(error, "weight 1 is NaN, expected finite numbers");
        let error = call_of().to("!core.nf4: 4, 4").to("f16: 4").to("!core.nf4: 4");
        assert!(error.try_on(&[Some(&ramp(&[4, 4])), None]).is_err());
    }
}
