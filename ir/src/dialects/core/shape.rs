//! Ops that rename or move elements and do no arithmetic: reshape, transpose, broadcast, slice, concat, pad.
//!
//! ```text
//! %a = "core.reshape"(%x) : (tensor<1x?x64xf32, ["seq"]>) -> tensor<1x?x4x16xf32, ["seq"]>
//! %b = "core.transpose"(%a) <{permutation = array<i64: 0, 2, 1, 3>}> : (..) -> tensor<1x4x?x16xf32, ["seq"]>
//! %c = "core.slice"(%b) <{starts = [0, 0, 0, 8], steps = array<i64: 1, 1, 1, 1>}> : (..) -> tensor<1x4x?x8xf32, ["seq"]>
//! ```

use super::packed;
use super::support::{
    broadcast_to, differ, dims_attribute, expect_broadcast, expect_dim, expect_element, one, requested,
    signature_dims, strided,
};
use crate::dim::Dim;
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute,
    normalize_axis, optional, optional_attribute, value, variadic,
};
use crate::tensor::{Data, Tensor, strides_of};
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
    evaluate: Evaluate::With(evaluate_reshape),
    evaluate_packed: Some(packed::reshape),
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
    evaluate: Evaluate::With(evaluate_transpose),
    evaluate_packed: Some(packed::transpose),
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
    evaluate: Evaluate::With(evaluate_broadcast),
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
    evaluate: Evaluate::With(evaluate_slice),
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
    evaluate: Evaluate::With(evaluate_concat),
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
    evaluate: Evaluate::With(evaluate_pad),
    evaluate_packed: Some(packed::pad),
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

fn evaluate_reshape(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, shape) = (call.operand(0), call.result_shape(0)?);
    if x.len() != shape.iter().product::<usize>() {
        return Err(format!("element counts differ: {} and {shape:?}", x.len()));
    }
    Ok(vec![Tensor { element: x.element, shape, data: x.data.clone() }])
}

fn evaluate_transpose(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, permutation) = (call.operand(0), call.signature.ints("permutation"));
    let strides = strides_of(&x.shape);
    let shape: Vec<usize> = permutation.iter().map(|axis| x.shape[*axis as usize]).collect();
    let steps: Vec<isize> = permutation.iter().map(|axis| strides[*axis as usize] as isize).collect();
    let indices = strided(&shape, &steps, 0);
    Ok(vec![x.pick(&shape, |index| indices[index])])
}

fn evaluate_broadcast(call: &Invocation) -> Result<Vec<Tensor>, String> {
    Ok(vec![broadcast_to(call.operand(0), &call.result_shape(0)?)?.into_owned()])
}

fn evaluate_slice(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, shape) = (call.operand(0), call.result_shape(0)?);
    let (starts, steps) = (dims_attribute(call, "starts")?, call.signature.ints("steps"));
    let strides = strides_of(&x.shape);
    if !shape.contains(&0) {
        for axis in 0..x.rank() {
            let last = starts[axis] + (shape[axis] as i64 - 1) * steps[axis];
            for index in [starts[axis], last] {
                if !(0..x.shape[axis] as i64).contains(&index) {
                    let dim = x.shape[axis];
                    return Err(format!("index {index} is out of range for dimension {axis} of {dim}"));
                }
            }
        }
    }
    let offset = (0..x.rank()).map(|axis| starts[axis] as isize * strides[axis] as isize).sum();
    let strides: Vec<isize> =
        (0..x.rank()).map(|axis| steps[axis] as isize * strides[axis] as isize).collect();
    let indices = strided(&shape, &strides, offset);
    Ok(vec![x.pick(&shape, |index| indices[index])])
}

fn evaluate_concat(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let parts = call.all(0);
    let first = *parts.first().ok_or("'core.concat' needs an operand")?;
    let axis = call.signature.axis("axis", 0, first.rank())?;
    let mut shape = first.shape.clone();
    for part in &parts[1..] {
        let others = (0..first.rank()).filter(|at| *at != axis);
        if part.rank() != first.rank() || others.into_iter().any(|at| part.shape[at] != first.shape[at]) {
            return Err(format!("shapes {:?} and {:?} do not join on axis {axis}", first.shape, part.shape));
        }
        shape[axis] += part.shape[axis];
    }
    let outer = first.shape[..axis].iter().product();
    let widths: Vec<usize> = parts.iter().map(|part| part.shape[axis..].iter().product()).collect();
    fn join<T: Copy>(parts: Vec<&[T]>, outer: usize, widths: &[usize]) -> Vec<T> {
        let mut joined = Vec::with_capacity(outer * widths.iter().sum::<usize>());
        for row in 0..outer {
            for (part, width) in parts.iter().zip(widths) {
                joined.extend_from_slice(&part[row * width..(row + 1) * width]);
            }
        }
        joined
    }
    macro_rules! joined {
        ($variant:ident) => {{
            let slices = parts.iter().map(|part| match &part.data {
                Data::$variant(values) => Ok(values.as_slice()),
                _ => Err(format!("element types differ: {} and {}", first.element, part.element)),
            });
            Data::$variant(join(slices.collect::<Result<_, _>>()?, outer, &widths))
        }};
    }
    let data = match &first.data {
        Data::F32(_) => joined!(F32),
        Data::F64(_) => joined!(F64),
        Data::I64(_) => joined!(I64),
    };
    Ok(vec![Tensor { element: first.element, shape, data }])
}

/// Where element `at` of a padded axis comes from, `at` counted from the first element of x; `None` for the fill value.
fn pad_source(mode: &str, at: i64, dim: i64) -> Option<usize> {
    if (0..dim).contains(&at) {
        return Some(at as usize);
    }
    let source = match mode {
        "edge" => at.clamp(0, dim - 1),
        "wrap" => at.rem_euclid(dim),
        "reflect" if dim == 1 => 0,
        "reflect" => {
            let folded = at.rem_euclid(2 * (dim - 1));
            if folded < dim { folded } else { 2 * (dim - 1) - folded }
        }
        _ => return None,
    };
    Some(source as usize)
}

fn evaluate_pad(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    let (low, high) = (dims_attribute(call, "low")?, dims_attribute(call, "high")?);
    let mode = call.signature.str("mode", "constant");
    let strides = strides_of(&x.shape);
    // One past the end stands for the fill value.
    let fill_index = x.len();
    let (mut shape, mut indices) = (Vec::new(), vec![0usize]);
    for axis in 0..x.rank() {
        let dim = x.shape[axis] as i64;
        let padded = usize::try_from(dim + low[axis] + high[axis])
            .map_err(|_| format!("padding removes more than dimension {axis} of {dim} has"))?;
        if dim == 0 && padded > 0 && mode != "constant" {
            return Err(format!("dimension {axis} is empty: there is nothing to pad it with by '{mode}'"));
        }
        let sources: Vec<Option<usize>> =
            (0..padded as i64).map(|at| pad_source(mode, at - low[axis], dim)).collect();
        let step = |base: usize, source: &Option<usize>| match source {
            Some(at) if base != fill_index => base + at * strides[axis],
            _ => fill_index,
        };
        indices = indices.iter().flat_map(|base| sources.iter().map(move |at| step(*base, at))).collect();
        shape.push(padded);
    }
    let mut extended = x.clone();
    match (&mut extended.data, call.get(1)) {
        (Data::F32(values), fill) => values.push(fill.map_or(0.0, |fill| fill.float(0) as f32)),
        (Data::F64(values), fill) => values.push(fill.map_or(0.0, |fill| fill.float(0))),
        (Data::I64(values), fill) => values.push(fill.map_or(0, |fill| fill.int(0))),
    }
    Ok(vec![extended.pick(&shape, |index| indices[index])])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, f32s, i64s, ramp};
    use super::*;

    #[test]
    fn reshape_keeps_the_count() {
        let call_to = |text: &str| call(&RESHAPE).to(text);
        assert_eq!(call_to("f32: 3, 2").on(&[&ramp(&[2, 3])]).floats(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let heads = call_to("f32: 1, seq, 4, 16").infer(&["f32: 1, seq, 64"]).unwrap();
        assert_eq!(heads, "tensor<1x?x4x16xf32, [\"seq\"]>");
        let error = call_to("f32: 1, seq, 4, 16").infer(&["f32: 1, seq + 1, 64"]).unwrap_err();
        // 64 more elements: provably not equal.
        assert!(error.starts_with("element counts differ"), "{error}");
        assert!(call_to("i64: 6").infer(&["f32: 6"]).unwrap_err().contains("f32 and i64"));
    }

    #[test]
    fn transpose_permutes() {
        let permutation: Attribute = vec![2i64, 0, 1].into();
        let found = call(&TRANSPOSE).with("permutation", permutation.clone()).on(&[&ramp(&[2, 3, 2])]);
        assert_eq!((found.shape.clone(), found.float(1), found.float(6)), (vec![2, 2, 3], 2.0, 1.0));
        let symbolic = call(&TRANSPOSE).with("permutation", permutation).infer(&["f32: a, b, 4"]).unwrap();
        assert_eq!(symbolic, "tensor<4x?x?xf32, [\"a\", \"b\"]>");
        assert!(call(&TRANSPOSE).with("permutation", vec![0i64, 0]).infer(&["f32: 2, 2"]).is_err());
    }

    #[test]
    fn broadcast_repeats() {
        let found = call(&BROADCAST).to("f32: 2, 2, 3").on(&[&ramp(&[2, 1])]);
        assert_eq!(found.floats(), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        assert!(
            call(&BROADCAST).to("f32: 2, 3").infer(&["f32: 2"]).unwrap_err().contains("does not broadcast")
        );
    }

    #[test]
    fn slice_steps_both_ways() {
        let slice =
            |start: i64, step: i64| call(&SLICE).with("starts", vec![start]).with("steps", vec![step]);
        assert_eq!(slice(1, 2).to("f32: 3").on(&[&ramp(&[6])]).floats(), [1.0, 3.0, 5.0]);
        assert_eq!(slice(5, -3).to("f32: 2").on(&[&ramp(&[6])]).floats(), [5.0, 2.0]);
        assert_eq!(slice(6, 1).to("f32: 0").on(&[&ramp(&[6])]).len(), 0);
        assert!(slice(2, 2).to("f32: 3").infer(&["f32: 6"]).unwrap_err().contains("index 6 is outside"));
        let last =
            call(&SLICE).with("starts", vec!["seq - 1".parse::<Dim>().unwrap()]).with("steps", vec![1i64]);
        assert_eq!(last.to("f32: 1").infer(&["f32: seq"]).unwrap(), "tensor<1xf32>");
    }

    #[test]
    fn concat_adds_dimensions() {
        let found = call(&CONCAT).with("axis", -1i64).on(&[&ramp(&[2, 1]), &ramp(&[2, 2])]);
        assert_eq!(found.floats(), [0.0, 0.0, 1.0, 1.0, 2.0, 3.0]);
        let cache = call(&CONCAT).with("axis", 1i64);
        let types = ["f32: 1, past, 8", "f32: 1, seq, 8"];
        assert_eq!(cache.infer(&types).unwrap(), "tensor<1x?x8xf32, [\"past + seq\"]>");
        assert!(
            cache.infer(&["f32: 1, past, 8", "f32: 1, seq, 9"]).unwrap_err().contains("expected 8, found 9")
        );
    }

    #[test]
    fn pad_in_four_modes() {
        let pad = |mode: &str, low: i64, high: i64| {
            let call = call(&PAD).with("low", vec![low]).with("high", vec![high]).with("mode", mode);
            call.on(&[&ramp(&[3])]).floats()
        };
        assert_eq!(pad("constant", 1, 2), [0.0, 0.0, 1.0, 2.0, 0.0, 0.0]);
        assert_eq!(pad("edge", 1, 2), [0.0, 0.0, 1.0, 2.0, 2.0, 2.0]);
        assert_eq!(pad("reflect", 2, 2), [2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0]);
        assert_eq!(pad("wrap", 2, 1), [1.0, 2.0, 0.0, 1.0, 2.0, 0.0]);
        assert_eq!(pad("constant", -1, 0), [1.0, 2.0]);
        let filled = call(&PAD).with("low", vec![0i64, 1]).with("high", vec![1i64, 0]);
        let found = filled.on(&[&i64s(&[1, 1], &[5]), &i64s(&[], &[7])]);
        assert_eq!((found.shape.clone(), found.ints()), (vec![2, 2], vec![7, 5, 7, 7]));
        let empty = call(&PAD).with("low", vec![1i64]).with("high", vec![0i64]).with("mode", "edge");
        assert!(empty.try_on(&[Some(&f32s(&[0], &[])), None]).unwrap_err().contains("empty"));
    }

    use crate::attribute::Attribute;
}
