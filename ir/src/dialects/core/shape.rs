//! Ops that rename or move elements and do no arithmetic: reshape, transpose, broadcast, slice, concat, pad.
//!
//! ```text
//! %a = "core.reshape"(%x) : (tensor<1x?x64xf32, ["seq"]>) -> tensor<1x?x4x16xf32, ["seq"]>
//! %b = "core.transpose"(%a) <{permutation = array<i64: 0, 2, 1, 3>}> : (..) -> tensor<1x4x?x16xf32, ["seq"]>
//! %c = "core.slice"(%b) <{starts = [0, 0, 0, 8], steps = array<i64: 1, 1, 1, 1>}> : (..) -> tensor<1x4x?x8xf32, ["seq"]>
//! ```

use super::support::{differ, expect_broadcast, expect_dim, expect_element, one, requested, signature_dims};
use crate::dim::Dim;
use crate::op_def::{
    AttributeRule, Infer, OpDef, Signature, Traits, TypeRule, attribute, normalize_axis, optional,
    optional_attribute, value, variadic,
};
use crate::types::{TensorType, Type};

const MOVEMENT: Traits = Traits::PURE.with(Traits::DATA_MOVEMENT);

/// The same elements in row-major order under another shape.
pub static RESHAPE: OpDef = OpDef {
    name: "core.reshape",
    doc: "result = the elements of x in row-major order under the given result type: same element type, same element count. \
          ONNX Reshape, Squeeze, Unsqueeze, Flatten.",
    operands: &[value("x", TypeRule::Tensor)],
    results: &[value("result", TypeRule::Tensor)],
    traits: MOVEMENT,
    verify: Some(verify_reshape),
    ..OpDef::DEFAULT
};

/// Reorders dimensions.
pub static TRANSPOSE: OpDef = OpDef {
    name: "core.transpose",
    doc: "result dimension i = x dimension `permutation`[i]. ONNX Transpose; numpy.transpose.",
    operands: &[value("x", TypeRule::Tensor)],
    results: &[value("result", TypeRule::Tensor)],
    attributes: &[attribute("permutation", AttributeRule::Ints)],
    traits: MOVEMENT,
    infer: Infer::With(infer_transpose),
    ..OpDef::DEFAULT
};

/// Repeats along dimensions of one.
pub static BROADCAST: OpDef = OpDef {
    name: "core.broadcast",
    doc: "result = x repeated to the given result type, dimensions aligned at the end (numpy.broadcast_to). ONNX Expand.",
    operands: &[value("x", TypeRule::Tensor)],
    results: &[value("result", TypeRule::Tensor)],
    traits: MOVEMENT,
    verify: Some(verify_broadcast),
    ..OpDef::DEFAULT
};

/// Takes a regular part.
pub static SLICE: OpDef = OpDef {
    name: "core.slice",
    doc: "result[i0, ..] = x[`starts`[0] + i0 * `steps`[0], ..] for the given result type. Starts are counted from 0 and may \
          be dimension expressions; negative steps reverse. Every index read lies inside x. ONNX Slice, Split.",
    operands: &[value("x", TypeRule::Tensor)],
    results: &[value("result", TypeRule::Tensor)],
    attributes: &[attribute("starts", AttributeRule::Dims), attribute("steps", AttributeRule::Ints)],
    traits: MOVEMENT,
    verify: Some(verify_slice),
    ..OpDef::DEFAULT
};

/// Joins along one axis.
pub static CONCAT: OpDef = OpDef {
    name: "core.concat",
    doc: "result = the operands one after another along `axis`; the other dimensions are equal. ONNX Concat.",
    operands: &[variadic("x", TypeRule::Tensor)],
    results: &[value("result", TypeRule::Tensor)],
    attributes: &[attribute("axis", AttributeRule::Int)],
    traits: MOVEMENT,
    infer: Infer::With(infer_concat),
    ..OpDef::DEFAULT
};

/// Adds a border.
pub static PAD: OpDef = OpDef {
    name: "core.pad",
    doc: "result = x with `low`[axis] elements added before and `high`[axis] after along every axis; negative counts remove. \
          `mode` says what is added: constant (value, or 0), edge, reflect (without the edge), wrap. ONNX Pad.",
    operands: &[value("x", TypeRule::Tensor), optional("value", TypeRule::Tensor)],
    results: &[value("result", TypeRule::Tensor)],
    attributes: &[
        attribute("low", AttributeRule::Dims),
        attribute("high", AttributeRule::Dims),
        optional_attribute("mode", AttributeRule::OneOf(&["constant", "edge", "reflect", "wrap"])),
    ],
    traits: MOVEMENT,
    infer: Infer::With(infer_pad),
    ..OpDef::DEFAULT
};

fn operand_and_result<'a>(signature: &Signature<'a>) -> Result<(&'a TensorType, &'a TensorType), String> {
    let x = signature.require_tensor(0)?;
    let result = requested(signature).ok_or("the result type must be given as a tensor type")?;
    if x.element != result.element {
        return Err(format!("element types differ: {} and {}", x.element, result.element));
    }
    Ok((x, result))
}

fn verify_reshape(signature: &Signature) -> Result<(), String> {
    let (x, result) = operand_and_result(signature)?;
    let (from, to) = (x.element_count(), result.element_count());
    if differ(&from, &to) {
        return Err(format!("element counts differ: {from} ({x}) and {to} ({result})"));
    }
    Ok(())
}

fn infer_transpose(signature: &Signature) -> Result<Vec<Type>, String> {
    let x = signature.require_tensor(0)?;
    let permutation = signature.ints("permutation");
    let mut sorted = permutation.to_vec();
    sorted.sort_unstable();
    if sorted != (0..x.rank() as i64).collect::<Vec<_>>() {
        return Err(format!(
            "attribute 'permutation' = {permutation:?} is no permutation of {} axes",
            x.rank()
        ));
    }
    one(x.element, permutation.iter().map(|axis| x.shape[*axis as usize].clone()))
}

fn verify_broadcast(signature: &Signature) -> Result<(), String> {
    let (x, result) = operand_and_result(signature)?;
    expect_broadcast("x", &x.shape, &result.shape)
}

fn verify_slice(signature: &Signature) -> Result<(), String> {
    let (x, result) = operand_and_result(signature)?;
    let (starts, steps) = (signature_dims(signature, "starts")?, signature.ints("steps"));
    for (what, found) in [("result", result.rank()), ("starts", starts.len()), ("steps", steps.len())] {
        if found != x.rank() {
            return Err(format!("'{what}' has {found} entries or dimensions, but x has rank {}", x.rank()));
        }
    }
    for axis in 0..x.rank() {
        let (start, step, dim) = (&starts[axis], steps[axis], &result.shape[axis]);
        if step == 0 {
            return Err(format!("attribute 'steps' is 0 on axis {axis}"));
        }
        if *dim == Dim::Known(0) {
            continue;
        }
        let last = start + &(&Dim::Known(step) * &(dim - &Dim::Known(1)));
        for index in [start, &last] {
            let below = matches!(index, Dim::Known(value) if *value < 0);
            let above = matches!(index - &x.shape[axis], Dim::Known(distance) if distance >= 0);
            if below || above {
                return Err(format!("index {index} is outside dimension {axis} of {}", x.shape[axis]));
            }
        }
    }
    Ok(())
}

fn infer_concat(signature: &Signature) -> Result<Vec<Type>, String> {
    let first = signature.require_tensor(0)?;
    let axis = signature.axis("axis", 0, first.rank())?;
    let mut shape = first.shape.clone();
    for ty in &signature.operands[1..] {
        let ty = ty.as_tensor().ok_or_else(|| format!("expected a tensor, found {ty}"))?;
        expect_element("x", first.element, ty)?;
        if ty.rank() != first.rank() {
            return Err(format!("ranks differ: {} and {}", first.rank(), ty.rank()));
        }
        for other in 0..ty.rank() {
            if other == axis {
                shape[axis] = &shape[axis] + &ty.shape[axis];
            } else {
                expect_dim(&format!("dimension {other}"), &shape[other], &ty.shape[other])?;
                // Of two spellings that cannot be told apart the known one says more.
                if shape[other].known().is_none() && ty.shape[other].known().is_some() {
                    shape[other] = ty.shape[other].clone();
                }
            }
        }
    }
    one(first.element, shape)
}

fn infer_pad(signature: &Signature) -> Result<Vec<Type>, String> {
    let x = signature.require_tensor(0)?;
    let (low, high) = (signature_dims(signature, "low")?, signature_dims(signature, "high")?);
    if low.len() != x.rank() || high.len() != x.rank() {
        return Err(format!(
            "'low' has {} and 'high' {} entries for rank {}",
            low.len(),
            high.len(),
            x.rank()
        ));
    }
    if let Some(fill) = signature.tensor(1) {
        expect_element("value", x.element, fill)?;
        expect_dim("operand 'value' must hold one element", &Dim::Known(1), &fill.element_count())?;
    }
    let shape: Vec<Dim> = (0..x.rank()).map(|axis| &(&x.shape[axis] + &low[axis]) + &high[axis]).collect();
    if let Some(dim) = shape.iter().find(|dim| matches!(dim, Dim::Known(value) if *value < 0)) {
        return Err(format!("padding removes more than there is: a dimension becomes {dim}"));
    }
    one(x.element, shape)
}

/// Checks that an axis list names axes of `rank`, each once.
pub(super) fn axis_list(name: &str, axes: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut found = Vec::new();
    for axis in axes {
        let at = normalize_axis(*axis, rank)
            .ok_or_else(|| format!("attribute '{name}' holds {axis}, out of range for rank {rank}"))?;
        if found.contains(&at) {
            return Err(format!("attribute '{name}' names axis {at} twice"));
        }
        found.push(at);
    }
    Ok(found)
}
