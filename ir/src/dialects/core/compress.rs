//! Weights in fewer bytes: the recipe that makes them so when the artifact is written, and what a 2:4 sparse weight stands for. (A
//! palette stands for `core.gather` of its levels.)
//!
//! ```text
//! %v, %i = "core.compress_weight"(%w) <{axis = 0 : i64, scheme = "sparse_2_4"}> : (tensor<64x32xf16>) -> (tensor<32x32xf16>, tensor<32x32xui2>)
//! %d = "core.sparse_expand"(%v, %i) <{axis = 0 : i64}> : (tensor<32x32xf16>, tensor<32x32xui2>) -> tensor<64x32xf16>
//! ```

use super::support::{around, expect_element, expect_shape, one};
use crate::attribute::Elements;
use crate::compressor::{self, PALETTE};
use crate::dim::{Dim, Function};
use crate::element::Element;
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute, optional,
    optional_attribute, value,
};
use crate::quantizer::Weights;
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};
use bytes::Bytes;

/// The schemes.
const SCHEMES: &[&str] = &["prune", "sparse_2_4", "palette"];

/// Makes a weight smaller.
pub static COMPRESS_WEIGHT: OpDef = OpDef {
    name: "core.compress_weight",
    doc: "By `scheme`. `prune`: values = w with the `fraction` of smallest magnitude set to 0. `sparse_2_4`: of every 4 neighbours along \
          `axis` the 2 of largest magnitude, in order (values, half as long), and their places 0 to 3 (side, u2 of the same shape): w \
          is near core.sparse_expand(values, side). `palette`: 16 levels by k-means (side, [16] of the type asked for) and each \
          weight's nearest one (values, u4): w is near core.gather(side, values). Weights that are not finite are an error. Pool et \
          al. 2021, arXiv:2104.08378; Han et al. 2016, arXiv:1510.00149.",
    operands: &[value("w", TypeRule::FloatTensor)],
    results: &[value("values", TypeRule::NumberTensor), optional("side", TypeRule::NumberTensor)],
    attributes: &[
        attribute("scheme", AttributeRule::OneOf(SCHEMES)),
        optional_attribute("axis", AttributeRule::Int),
        optional_attribute("fraction", AttributeRule::Float),
    ],
    traits: Traits::PURE,
    infer: Infer::With(infer_compress),
    verify: Some(verify_compress),
    evaluate: Evaluate::With(evaluate_compress),
    evaluate_packed: Some(compress_packed),
    ..OpDef::DEFAULT
};

/// Dense values of a 2:4 sparse tensor.
pub static SPARSE_EXPAND: OpDef = OpDef {
    name: "core.sparse_expand",
    doc: "result, twice as long along `axis` as values: neighbours 2 g and 2 g + 1 of values go to places 4 g + indices of the result, \
          which is 0 elsewhere. indices is u2 of values' shape and ascends within each pair.",
    operands: &[value("values", TypeRule::NumberTensor), value("indices", TypeRule::IntegerTensor)],
    results: &[value("result", TypeRule::NumberTensor)],
    attributes: &[attribute("axis", AttributeRule::Int)],
    traits: Traits::PURE,
    infer: Infer::With(infer_expand),
    evaluate: Evaluate::With(evaluate_expand),
    ..OpDef::DEFAULT
};

/// The shape of `ty` with its dimension `axis` times `by` over `over`.
fn scaled(ty: &TensorType, axis: usize, by: i64, over: i64) -> Vec<Dim> {
    let mut shape = ty.shape.to_vec();
    shape[axis] = Dim::call(Function::FloorDiv, &(&shape[axis] * &Dim::Known(by)), &Dim::Known(over));
    shape
}

fn divides(ty: &TensorType, axis: usize, by: i64) -> Result<(), String> {
    match ty.shape[axis].known() {
        Some(length) if length % by != 0 => {
            Err(format!("2:4 sparsity needs dimension {axis} of {ty} to be a multiple of {by}"))
        }
        _ => Ok(()),
    }
}

fn infer_compress(signature: &Signature) -> Result<Vec<Type>, String> {
    let w = signature.require_tensor(0)?;
    let tensor = |element: Element, shape: Vec<Dim>| Type::Tensor(TensorType::new(element, shape));
    match signature.str("scheme", "") {
        "sparse_2_4" => {
            let axis = signature.axis("axis", 0, w.rank())?;
            divides(w, axis, 4)?;
            let shape = scaled(w, axis, 1, 2);
            Ok(vec![tensor(w.element, shape.clone()), tensor(Element::U2, shape)])
        }
        "palette" => {
            let level = signature.results.get(1).and_then(Type::as_tensor).map_or(w.element, |ty| ty.element);
            Ok(vec![tensor(Element::U4, w.shape.to_vec()), tensor(level, vec![Dim::Known(PALETTE as i64)])])
        }
        _ => one(w.element, w.shape.iter().cloned()),
    }
}

fn verify_compress(signature: &Signature) -> Result<(), String> {
    let fraction = signature.float("fraction", 0.0);
    if !(0.0..1.0).contains(&fraction) {
        return Err(format!("attribute 'fraction' must be from 0 to below 1, found {fraction}"));
    }
    Ok(())
}

fn compress(signature: &Signature, w: Weights) -> Result<Vec<Bytes>, String> {
    match signature.str("scheme", "") {
        "sparse_2_4" => {
            let axis = signature.axis("axis", 0, w.shape.len())?;
            let sparse = compressor::sparse_2_4(w, axis)?;
            Ok(vec![sparse.values.into(), sparse.places.into()])
        }
        "palette" => {
            let level = signature.results.get(1).and_then(Type::as_tensor).map_or(w.element, |ty| ty.element);
            let palette = compressor::palette(w, level)?;
            let levels = palette.levels.iter().map(|level| f64::from(*level)).collect();
            let levels = Tensor::from_floats(level, &[PALETTE], levels);
            Ok(vec![palette.codes.into(), levels.to_bytes().into()])
        }
        _ => Ok(vec![compressor::prune(w, signature.float("fraction", 0.0))?.into()]),
    }
}

fn compress_packed(signature: &Signature, operands: &[&Elements]) -> Result<Vec<Bytes>, String> {
    let shape = operands[0].ty().known_shape().ok_or("a weight of unknown shape")?;
    let shape: Vec<usize> = shape.into_iter().map(|dim| dim.max(0) as usize).collect();
    compress(
        signature,
        Weights { element: operands[0].ty().element, shape: &shape, bytes: operands[0].bytes() },
    )
}

fn evaluate_compress(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let w = call.operand(0);
    let bytes = w.to_bytes();
    let parts = compress(&call.signature, Weights { element: w.element, shape: &w.shape, bytes: &bytes })?;
    let with_type = |(index, bytes): (usize, Bytes)| {
        let shape: Vec<i64> = call.result_shape(index)?.into_iter().map(|dim| dim as i64).collect();
        Tensor::from_bytes(&TensorType::of(call.result_element(index), &shape), &bytes)
    };
    parts.into_iter().enumerate().map(with_type).collect()
}

fn infer_expand(signature: &Signature) -> Result<Vec<Type>, String> {
    let (values, indices) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    expect_element("indices", Element::U2, indices)?;
    expect_shape("indices", &values.shape, &indices.shape)?;
    let axis = signature.axis("axis", 0, values.rank())?;
    divides(values, axis, 2)?;
    one(values.element, scaled(values, axis, 2, 1))
}

fn evaluate_expand(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (values, indices) = (call.operand(0), call.operand(1));
    let axis = call.signature.axis("axis", 0, values.rank())?;
    let (_, length, inner) = around(&values.shape, axis);
    let mut shape = values.shape.clone();
    shape[axis] *= 2;
    // Where each element of the result comes from; the last one, which is zero, where nothing does.
    let nothing = values.len();
    let mut from = vec![nothing; 2 * nothing];
    for index in 0..nothing {
        let (outer, at, column) = (index / (length * inner), index / inner % length, index % inner);
        let place = indices.int(index) as usize;
        if at % 2 == 1 && indices.int(index - inner) as usize >= place {
            return Err(format!(
                "indices {} and {place} do not ascend at element {index}",
                indices.int(index - inner)
            ));
        }
        from[(outer * 2 * length + at / 2 * 4 + place) * inner + column] = index;
    }
    let with_zero = padded(values);
    Ok(vec![with_zero.pick(&shape, |index| from[index])])
}

/// The elements of a tensor and one zero.
fn padded(values: &Tensor) -> Tensor {
    use crate::tensor::Data;
    let data = match &values.data {
        Data::F32(values) => Data::F32([&values[..], &[0.0]].concat()),
        Data::F64(values) => Data::F64([&values[..], &[0.0]].concat()),
        Data::I64(values) => Data::I64([&values[..], &[0]].concat()),
    };
    Tensor { element: values.element, shape: vec![values.len() + 1], data }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, call, f32s};
    use super::super::{COMPRESS_WEIGHT, GATHER, SPARSE_EXPAND};
    use crate::element::Element;
    use crate::tensor::Tensor;

    #[test]
    fn thinned_weights_expand_to_what_was_kept() {
        let w = f32s(&[4, 2], &[1.0, 5.0, -2.0, 0.0, 3.0, 0.5, 0.0, -6.0]);
        let made = call(&COMPRESS_WEIGHT)
            .with("axis", 0i64)
            .with("scheme", "sparse_2_4")
            .try_on(&[Some(&w)])
            .unwrap();
        assert_eq!(made[1].ints(), [1, 0, 2, 3]);
        let back = call(&SPARSE_EXPAND).with("axis", 0i64).on(&[&made[0], &made[1]]);
        assert_near(&back, &[0.0, 5.0, -2.0, 0.0, 3.0, 0.0, 0.0, -6.0]);
        let wrong = Tensor::from_ints(Element::U2, &[2, 2], vec![1, 1, 1, 0]);
        let error =
            call(&SPARSE_EXPAND).with("axis", 0i64).try_on(&[Some(&made[0]), Some(&wrong)]).unwrap_err();
        assert_eq!(error, "indices 1 and 1 do not ascend at element 2");
        let error =
            call(&COMPRESS_WEIGHT).with("axis", 1i64).with("scheme", "sparse_2_4").infer(&["f32: 4, 6"]);
        assert!(error.unwrap_err().contains("dimension 1 of tensor<4x6xf32> to be a multiple of 4"));
    }

    #[test]
    fn palettes_are_gathers_of_their_levels() {
        let w = f32s(&[2, 4], &[-1.0, 0.5, 0.5, 2.0, -1.0, 2.0, 2.0, 0.5]);
        let made = call(&COMPRESS_WEIGHT).with("scheme", "palette").try_on(&[Some(&w)]).unwrap();
        assert_eq!(made[1].shape, [16]);
        let back = call(&GATHER).with("axis", 0i64).on(&[&made[1], &made[0]]);
        assert_near(&back, &w.floats());
    }

    #[test]
    fn pruned_weights_stay_dense() {
        let w = f32s(&[4], &[0.1, -4.0, 0.2, 3.0]);
        let made =
            call(&COMPRESS_WEIGHT).with("scheme", "prune").with("fraction", 0.5).try_on(&[Some(&w)]).unwrap();
        assert_near(&made[0], &[0.0, -4.0, 0.0, 3.0]);
    }
}
