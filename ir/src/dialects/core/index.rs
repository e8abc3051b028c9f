//! Ops that choose elements by data: gathers, scatters, top-k and arg-reduce. Negative indices count from the end; an index out
//! of range is an error of the evaluation.
//!
//! ```text
//! %h = "core.gather"(%table, %ids) <{axis = 0 : i64}> : (tensor<512x64xf32>, tensor<1x?xi64, ["seq"]>) -> tensor<1x?x64xf32, ["seq"]>
//! ```

use super::support::{
    around, expect_dim, expect_element, expect_rank, floats, from_integers, integers, one, strided,
    wrap_index,
};
use crate::attribute::Attribute;
use crate::dim::Dim;
use crate::element::Element;
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute,
    optional_attribute, value,
};
use crate::tensor::{Data, Tensor, strides_of};
use crate::types::{Shape, TensorType, Type};
use std::cmp::Ordering;

/// How a scatter joins an update with what is there.
pub const REDUCTIONS: &[&str] = &["none", "add", "mul", "max", "min"];

/// Takes slices along an axis.
pub static GATHER: OpDef = OpDef {
    name: "core.gather",
    doc: "result[p.., i.., q..] = x[p.., indices[i..], q..] with p before `axis` and q after. ONNX Gather; numpy.take.",
    operands: &[value("x", TypeRule::Tensor), value("indices", TypeRule::IntegerTensor)],
    results: &[value("result", TypeRule::Tensor)],
    attributes: &[attribute("axis", AttributeRule::Int)],
    traits: Traits::PURE.with(Traits::DATA_MOVEMENT),
    infer: Infer::With(infer_gather),
    evaluate: Evaluate::With(evaluate_gather),
    ..OpDef::DEFAULT
};

/// Takes one element per index.
pub static GATHER_ELEMENTS: OpDef = OpDef {
    name: "core.gather_elements",
    doc: "result[i..] = x[i.. with the `axis` coordinate replaced by indices[i..]]; the shape of indices. ONNX GatherElements.",
    operands: &[value("x", TypeRule::Tensor), value("indices", TypeRule::IntegerTensor)],
    results: &[value("result", TypeRule::Tensor)],
    attributes: &[attribute("axis", AttributeRule::Int)],
    traits: Traits::PURE.with(Traits::DATA_MOVEMENT),
    infer: Infer::With(infer_gather_elements),
    evaluate: Evaluate::With(evaluate_gather_elements),
    ..OpDef::DEFAULT
};

/// Takes slices by coordinate tuples.
pub static GATHER_ND: OpDef = OpDef {
    name: "core.gather_nd",
    doc: "result[b.., i.., q..] = x[b.., indices[b.., i.., :].., q..] with `batch_dims` shared leading axes b (0 when left out). \
          ONNX GatherND.",
    operands: &[value("x", TypeRule::Tensor), value("indices", TypeRule::IntegerTensor)],
    results: &[value("result", TypeRule::Tensor)],
    attributes: &[optional_attribute("batch_dims", AttributeRule::Int)],
    traits: Traits::PURE.with(Traits::DATA_MOVEMENT),
    infer: Infer::With(infer_gather_nd),
    evaluate: Evaluate::With(evaluate_gather_nd),
    ..OpDef::DEFAULT
};

/// Writes one element per index.
pub static SCATTER_ELEMENTS: OpDef = OpDef {
    name: "core.scatter_elements",
    doc: "result = x, then result[i.. with the `axis` coordinate replaced by indices[i..]] joined with updates[i..] by \
          `reduction` (none when left out: the last write stays). ONNX ScatterElements.",
    operands: &[
        value("x", TypeRule::Tensor),
        value("indices", TypeRule::IntegerTensor),
        value("updates", TypeRule::Tensor),
    ],
    results: &[value("result", TypeRule::Tensor)],
    attributes: &[
        attribute("axis", AttributeRule::Int),
        optional_attribute("reduction", AttributeRule::OneOf(REDUCTIONS)),
    ],
    traits: Traits::PURE,
    infer: Infer::LikeOperand(0),
    verify: Some(verify_scatter_elements),
    evaluate: Evaluate::With(evaluate_scatter_elements),
    ..OpDef::DEFAULT
};

/// Writes slices by coordinate tuples.
pub static SCATTER_ND: OpDef = OpDef {
    name: "core.scatter_nd",
    doc: "result = x, then result[indices[i.., :].., q..] joined with updates[i.., q..] by `reduction` (none when left out). \
          ONNX ScatterND.",
    operands: &[
        value("x", TypeRule::Tensor),
        value("indices", TypeRule::IntegerTensor),
        value("updates", TypeRule::Tensor),
    ],
    results: &[value("result", TypeRule::Tensor)],
    attributes: &[optional_attribute("reduction", AttributeRule::OneOf(REDUCTIONS))],
    traits: Traits::PURE,
    infer: Infer::LikeOperand(0),
    verify: Some(verify_scatter_nd),
    evaluate: Evaluate::With(evaluate_scatter_nd),
    ..OpDef::DEFAULT
};

/// The largest or smallest elements of an axis.
pub static TOP_K: OpDef = OpDef {
    name: "core.top_k",
    doc: "values, indices = the `k` `largest` (else smallest) elements along `axis`, best first; of equal elements the lower \
          index first; NaN counts as largest. k may be a dimension expression. indices are i64. ONNX TopK.",
    operands: &[value("x", TypeRule::NumberTensor)],
    results: &[value("values", TypeRule::NumberTensor), value("indices", TypeRule::IntegerTensor)],
    attributes: &[
        attribute("k", AttributeRule::Dim),
        attribute("axis", AttributeRule::Int),
        attribute("largest", AttributeRule::Bool),
    ],
    axes: ".. -> .., ..; whole {axis}",
    traits: Traits::PURE,
    infer: Infer::With(infer_top_k),
    evaluate: Evaluate::With(evaluate_top_k),
    ..OpDef::DEFAULT
};

/// The places of true elements.
pub static NONZERO: OpDef = OpDef {
    name: "core.nonzero",
    doc: "result = the indices of the true elements of x (rank 1), ascending, as i64. How many there are is known only when it has run: the \
          result type is given, [count] with a symbol of its own. numpy.flatnonzero; ONNX NonZero, Compress.",
    operands: &[value("x", TypeRule::BoolTensor)],
    results: &[value("result", TypeRule::IntegerTensor)],
    infer: Infer::Explicit,
    verify: Some(verify_nonzero),
    evaluate: Evaluate::With(evaluate_nonzero),
    ..OpDef::DEFAULT
};

/// The place of the largest or smallest element of an axis.
pub static ARG_REDUCE: OpDef = OpDef {
    name: "core.arg_reduce",
    doc: "result = index of the `function` (max, min) along `axis`, as i64; the first of equal ones, or the last when \
          `select_last`; the axis stays as 1 when `keep_dims`. NaN counts as the extreme (numpy). ONNX ArgMax, ArgMin.",
    operands: &[value("x", TypeRule::NumberTensor)],
    results: &[value("result", TypeRule::IntegerTensor)],
    attributes: &[
        attribute("function", AttributeRule::OneOf(&["max", "min"])),
        attribute("axis", AttributeRule::Int),
        attribute("keep_dims", AttributeRule::Bool),
        optional_attribute("select_last", AttributeRule::Bool),
    ],
    axes: ".. -> ..; reduce {axis}",
    traits: Traits::PURE,
    infer: Infer::With(infer_arg_reduce),
    evaluate: Evaluate::With(evaluate_arg_reduce),
    ..OpDef::DEFAULT
};

fn verify_nonzero(signature: &Signature) -> Result<(), String> {
    expect_rank("x", signature.require_tensor(0)?, 1)?;
    match super::support::requested(signature) {
        Some(result) if result.element == Element::I64 && result.rank() == 1 => Ok(()),
        _ => Err("the result type must be given as a vector of i64".into()),
    }
}

fn evaluate_nonzero(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    let places: Vec<i64> = (0..x.len()).filter(|at| x.int(*at) != 0).map(|at| at as i64).collect();
    Ok(vec![from_integers(Element::I64, &[places.len()], places)])
}

fn infer_gather(signature: &Signature) -> Result<Vec<Type>, String> {
    let (x, indices) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    let axis = signature.axis("axis", 0, x.rank())?;
    let parts = [&x.shape[..axis], &indices.shape[..], &x.shape[axis + 1..]];
    one(x.element, parts.concat())
}

fn same_rank(x: &TensorType, indices: &TensorType) -> Result<(), String> {
    expect_rank("indices", indices, x.rank())
}

fn infer_gather_elements(signature: &Signature) -> Result<Vec<Type>, String> {
    let (x, indices) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    same_rank(x, indices)?;
    signature.axis("axis", 0, x.rank())?;
    one(x.element, indices.shape.clone())
}

/// The length of the coordinate tuples of an `_nd` op, checked.
fn tuple_length(x: &TensorType, indices: &TensorType, batch_dims: usize) -> Result<usize, String> {
    let last = indices.shape.last().ok_or("operand 'indices' must have rank 1 or more")?;
    let length =
        last.known().ok_or_else(|| format!("the last dimension of 'indices' must be known, found {last}"))?;
    match usize::try_from(length) {
        Ok(length) if batch_dims + length <= x.rank() && batch_dims < indices.rank() => Ok(length),
        _ => Err(format!(
            "indices of {length} coordinates and {batch_dims} batch dimensions do not fit x of rank {}",
            x.rank()
        )),
    }
}

fn infer_gather_nd(signature: &Signature) -> Result<Vec<Type>, String> {
    let (x, indices) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    let batch_dims = usize::try_from(signature.int("batch_dims", 0))
        .map_err(|_| "attribute 'batch_dims' must not be negative".to_string())?;
    let length = tuple_length(x, indices, batch_dims)?;
    for axis in 0..batch_dims {
        expect_dim(&format!("batch dimension {axis} of 'indices'"), &x.shape[axis], &indices.shape[axis])?;
    }
    let parts = [&indices.shape[..indices.rank() - 1], &x.shape[batch_dims + length..]];
    one(x.element, parts.concat())
}

fn verify_scatter_elements(signature: &Signature) -> Result<(), String> {
    let (x, indices) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    let updates = signature.require_tensor(2)?;
    same_rank(x, indices)?;
    signature.axis("axis", 0, x.rank())?;
    expect_element("updates", x.element, updates)?;
    super::support::expect_shape("updates", &indices.shape, &updates.shape)
}

fn verify_scatter_nd(signature: &Signature) -> Result<(), String> {
    let (x, indices) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    let updates = signature.require_tensor(2)?;
    expect_element("updates", x.element, updates)?;
    let length = tuple_length(x, indices, 0)?;
    let expected = [&indices.shape[..indices.rank() - 1], &x.shape[length..]].concat();
    super::support::expect_shape("updates", &expected, &updates.shape)
}

fn infer_top_k(signature: &Signature) -> Result<Vec<Type>, String> {
    let x = signature.require_tensor(0)?;
    let axis = signature.axis("axis", -1, x.rank())?;
    let k = signature.attribute("k").and_then(Attribute::as_dim);
    let k = k.ok_or("attribute 'k' must be a dimension")?;
    let too_many = matches!(&k - &x.shape[axis], Dim::Known(distance) if distance > 0);
    if too_many || matches!(k, Dim::Known(value) if value < 0) {
        return Err(format!("cannot take k = {k} of a dimension of {}", x.shape[axis]));
    }
    let mut shape = x.shape.clone();
    shape[axis] = k;
    let of = |element| Type::Tensor(TensorType { element, shape: shape.clone() });
    Ok(vec![of(x.element), of(Element::I64)])
}

/// The shape after reducing the axes.
pub(super) fn reduced_shape(shape: &Shape, axes: &[usize], keep_dims: bool) -> Shape {
    let kept = shape.iter().enumerate().filter(|(axis, _)| keep_dims || !axes.contains(axis));
    kept.map(|(axis, dim)| if axes.contains(&axis) { Dim::Known(1) } else { dim.clone() }).collect()
}

fn infer_arg_reduce(signature: &Signature) -> Result<Vec<Type>, String> {
    let x = signature.require_tensor(0)?;
    let axis = signature.axis("axis", 0, x.rank())?;
    one(Element::I64, reduced_shape(&x.shape, &[axis], signature.bool("keep_dims", true)))
}

fn evaluate_gather(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, indices) = (call.operand(0), call.operand(1));
    let axis = call.signature.axis("axis", 0, x.rank())?;
    let (outer, dim, inner) = around(&x.shape, axis);
    let rows = integers(indices);
    let rows = rows.iter().map(|row| wrap_index(*row, dim)).collect::<Result<Vec<_>, _>>()?;
    let shape = [&x.shape[..axis], &indices.shape[..], &x.shape[axis + 1..]].concat();
    let mut sources = Vec::with_capacity(outer * rows.len() * inner);
    for before in 0..outer {
        for row in &rows {
            let start = (before * dim + row) * inner;
            sources.extend(start..start + inner);
        }
    }
    Ok(vec![x.pick(&shape, |index| sources[index])])
}

/// For every element of `indices`, the element of `x` at its own coordinates but with the axis coordinate read from `indices`.
fn element_places(x: &Tensor, indices: &Tensor, axis: usize) -> Result<Vec<usize>, String> {
    let fits = (0..x.rank()).all(|at| at == axis || indices.shape[at] <= x.shape[at]);
    if !fits {
        return Err(format!("indices of shape {:?} reach outside {:?}", indices.shape, x.shape));
    }
    let mut strides: Vec<isize> = strides_of(&x.shape).into_iter().map(|stride| stride as isize).collect();
    let axis_stride = std::mem::take(&mut strides[axis]) as usize;
    let bases = strided(&indices.shape, &strides, 0);
    let coordinates = integers(indices);
    let pairs = bases.into_iter().zip(coordinates.iter());
    pairs.map(|(base, at)| Ok(base + wrap_index(*at, x.shape[axis])? * axis_stride)).collect()
}

fn evaluate_gather_elements(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, indices) = (call.operand(0), call.operand(1));
    let axis = call.signature.axis("axis", 0, x.rank())?;
    let places = element_places(x, indices, axis)?;
    Ok(vec![x.pick(&indices.shape, |index| places[index])])
}

/// For every tuple of `indices`, the first element of the slice of `x` it names, and the length of a slice.
fn tuple_places(x: &Tensor, indices: &Tensor, batch_dims: usize) -> Result<(Vec<usize>, usize), String> {
    let length = *indices.shape.last().ok_or("operand 'indices' must have rank 1 or more")?;
    let strides = strides_of(&x.shape);
    let inner: usize = x.shape[batch_dims + length..].iter().product();
    let batch_stride: usize = x.shape[batch_dims..].iter().product();
    let tuples: usize = indices.shape[..indices.rank() - 1].iter().product();
    let batches: usize = indices.shape[..batch_dims].iter().product();
    let coordinates = integers(indices);
    let mut places = Vec::with_capacity(tuples);
    for tuple in 0..tuples {
        let mut place = tuple / (tuples / batches.max(1)).max(1) * batch_stride;
        for at in 0..length {
            let axis = batch_dims + at;
            place += wrap_index(coordinates[tuple * length + at], x.shape[axis])? * strides[axis];
        }
        places.push(place);
    }
    Ok((places, inner))
}

fn evaluate_gather_nd(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, indices) = (call.operand(0), call.operand(1));
    let batch_dims = call.signature.int("batch_dims", 0).max(0) as usize;
    let (places, inner) = tuple_places(x, indices, batch_dims)?;
    let length = indices.shape[indices.rank() - 1];
    let shape = [&indices.shape[..indices.rank() - 1], &x.shape[batch_dims + length..]].concat();
    Ok(vec![x.pick(&shape, |index| places[index / inner] + index % inner)])
}

/// Joins `updates[i]` into `x[places[i]]`, in order. Sums of floats are rounded once at the end.
fn scatter(call: &Invocation, places: impl Iterator<Item = usize>) -> Result<Vec<Tensor>, String> {
    let (x, updates) = (call.operand(0), call.operand(2));
    let reduction = call.signature.str("reduction", "none");
    if x.element.is_float() {
        let mut values = floats(x);
        for (place, update) in places.zip(floats(updates)) {
            let old = values[place];
            values[place] = match reduction {
                "add" => old + update,
                "mul" => old * update,
                "max" if !old.is_nan() && (update > old || update.is_nan()) => update,
                "min" if !old.is_nan() && (update < old || update.is_nan()) => update,
                "max" | "min" => old,
                _ => update,
            };
        }
        return Ok(vec![Tensor::from_floats(x.element, &x.shape, values)]);
    }
    let mut values = integers(x).into_owned();
    // Flipping the top bit makes the signed order of two u64 their unsigned order.
    let flip = if x.element == Element::U64 { i64::MIN } else { 0 };
    for (place, update) in places.zip(integers(updates).iter().copied()) {
        let old = values[place];
        values[place] = match reduction {
            "add" => old.wrapping_add(update),
            "mul" => old.wrapping_mul(update),
            "max" => (old ^ flip).max(update ^ flip) ^ flip,
            "min" => (old ^ flip).min(update ^ flip) ^ flip,
            _ => update,
        };
    }
    Ok(vec![from_integers(x.element, &x.shape, values)])
}

fn evaluate_scatter_elements(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, indices) = (call.operand(0), call.operand(1));
    let axis = call.signature.axis("axis", 0, x.rank())?;
    scatter(call, element_places(x, indices, axis)?.into_iter())
}

fn evaluate_scatter_nd(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (places, inner) = tuple_places(call.operand(0), call.operand(1), 0)?;
    scatter(call, places.into_iter().flat_map(|place| place..place + inner))
}

/// Order of two elements; NaN is the largest.
fn order(x: &Tensor, a: usize, b: usize) -> Ordering {
    match &x.data {
        Data::I64(values) if x.element == Element::U64 => (values[a] as u64).cmp(&(values[b] as u64)),
        Data::I64(values) => values[a].cmp(&values[b]),
        _ => {
            let (a, b) = (x.float(a), x.float(b));
            a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        }
    }
}

fn evaluate_top_k(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    let axis = call.signature.axis("axis", -1, x.rank())?;
    let largest = call.signature.bool("largest", true);
    let shape = call.result_shape(0)?;
    let (outer, dim, inner) = around(&x.shape, axis);
    let k = shape[axis];
    if k > dim {
        return Err(format!("cannot take k = {k} of a dimension of {dim}"));
    }
    let (mut sources, mut indices) = (vec![0; outer * k * inner], vec![0; outer * k * inner]);
    for (before, after) in (0..outer).flat_map(|before| (0..inner).map(move |after| (before, after))) {
        let place = |at: usize| (before * dim + at) * inner + after;
        let mut ranked: Vec<usize> = (0..dim).collect();
        // A stable sort keeps the lower index first among equals.
        ranked.sort_by(|a, b| {
            let order = order(x, place(*a), place(*b));
            if largest { order.reverse() } else { order }
        });
        for (at, source) in ranked.into_iter().take(k).enumerate() {
            let to = (before * k + at) * inner + after;
            (sources[to], indices[to]) = (place(source), source as i64);
        }
    }
    let values = x.pick(&shape, |index| sources[index]);
    Ok(vec![values, from_integers(Element::I64, &shape, indices)])
}

fn evaluate_arg_reduce(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    let axis = call.signature.axis("axis", 0, x.rank())?;
    let (largest, last) =
        (call.signature.str("function", "max") == "max", call.signature.bool("select_last", false));
    let (outer, dim, inner) = around(&x.shape, axis);
    if dim == 0 && outer * inner > 0 {
        return Err(format!("dimension {axis} is empty: there is no index to give"));
    }
    let better = |a: usize, b: usize| {
        let order = match (x.float(a).is_nan(), x.float(b).is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ if largest => order(x, a, b),
            _ => order(x, b, a),
        };
        order == Ordering::Greater || (last && order == Ordering::Equal)
    };
    let mut indices = Vec::with_capacity(outer * inner);
    for (before, after) in (0..outer).flat_map(|before| (0..inner).map(move |after| (before, after))) {
        let place = |at: usize| (before * dim + at) * inner + after;
        let best = (1..dim).fold(0, |best, at| if better(place(at), place(best)) { at } else { best });
        indices.push(best as i64);
    }
    Ok(vec![from_integers(Element::I64, &call.result_shape(0)?, indices)])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, f32s, i64s, ramp};
    use super::*;

    #[test]
    fn gather_takes_rows_and_wraps_negative_indices() {
        let found = call(&GATHER).with("axis", 0i64).on(&[&ramp(&[3, 2]), &i64s(&[2], &[-1, 0])]);
        assert_eq!(found.floats(), [4.0, 5.0, 0.0, 1.0]);
        let scalar = call(&GATHER).with("axis", 1i64).on(&[&ramp(&[3, 2]), &i64s(&[], &[1])]);
        assert_eq!((scalar.shape.clone(), scalar.floats()), (vec![3], vec![1.0, 3.0, 5.0]));
        let operands = [Some(&ramp(&[3, 2])), Some(&i64s(&[1], &[3]))];
        let error = call(&GATHER).with("axis", 0i64).try_on(&operands).unwrap_err();
        assert_eq!(error, "index 3 is out of range for a dimension of 3");
        let types = ["f32: 512, 64", "i64: 1, seq"];
        let embedding = call(&GATHER).with("axis", 0i64).infer(&types).unwrap();
        assert_eq!(embedding, "tensor<1x?x64xf32, [\"seq\"]>");
    }

    #[test]
    fn gather_elements_and_nd() {
        let x = ramp(&[2, 3]);
        let found = call(&GATHER_ELEMENTS).with("axis", 1i64).on(&[&x, &i64s(&[2, 1], &[2, 0])]);
        assert_eq!(found.floats(), [2.0, 3.0]);
        let found = call(&GATHER_ND).on(&[&x, &i64s(&[2, 2], &[0, 1, 1, -1])]);
        assert_eq!(found.floats(), [1.0, 5.0]);
        let found = call(&GATHER_ND).on(&[&x, &i64s(&[1, 1], &[1])]);
        assert_eq!((found.shape.clone(), found.floats()), (vec![1, 3], vec![3.0, 4.0, 5.0]));
        let found = call(&GATHER_ND).with("batch_dims", 1i64).on(&[&x, &i64s(&[2, 1], &[2, 0])]);
        assert_eq!(found.floats(), [2.0, 3.0]);
    }

    #[test]
    fn scatters_join_updates() {
        let scatter = |reduction: &'static str| {
            let call = call(&SCATTER_ELEMENTS).with("axis", 0i64).with("reduction", reduction);
            call.on(&[&ramp(&[3]), &i64s(&[3], &[1, 1, -1]), &f32s(&[3], &[5.0, 7.0, -1.0])]).floats()
        };
        assert_eq!(scatter("none"), [0.0, 7.0, -1.0]);
        assert_eq!(scatter("add"), [0.0, 13.0, 1.0]);
        assert_eq!(scatter("mul"), [0.0, 35.0, -2.0]);
        assert_eq!(scatter("max"), [0.0, 7.0, 2.0]);
        assert_eq!(scatter("min"), [0.0, 1.0, -1.0]);
        let found =
            call(&SCATTER_ND).on(&[&ramp(&[2, 2]), &i64s(&[1, 1], &[1]), &f32s(&[1, 2], &[8.0, 9.0])]);
        assert_eq!(found.floats(), [0.0, 1.0, 8.0, 9.0]);
        let large = Tensor::from_ints(Element::U64, &[1], vec![-1]);
        let one = Tensor::from_ints(Element::U64, &[1], vec![1]);
        let max = call(&SCATTER_ELEMENTS).with("axis", 0i64).with("reduction", "max");
        assert_eq!(max.on(&[&large, &i64s(&[1], &[0]), &one]), large);
    }

    #[test]
    fn top_k_orders_and_breaks_ties_low() {
        let x = f32s(&[1, 5], &[1.0, 3.0, 3.0, f64::NAN, -1.0]);
        let top = |largest: bool| {
            let call = call(&TOP_K).with("k", 3i64).with("axis", -1i64).with("largest", largest);
            call.try_on(&[Some(&x)]).unwrap()[1].ints()
        };
        assert_eq!(top(true), [3, 1, 2]);
        assert_eq!(top(false), [4, 0, 1]);
        let call = call(&TOP_K).with("k", 6i64).with("axis", 1i64).with("largest", true);
        assert_eq!(call.infer(&["f32: 1, 5"]).unwrap_err(), "cannot take k = 6 of a dimension of 5");
    }

    #[test]
    fn arg_reduce_takes_the_first_or_last() {
        let find = |function: &str, last: bool, values: &[f64]| {
            let call =
                call(&ARG_REDUCE).with("function", function).with("axis", 0i64).with("keep_dims", false);
            call.with("select_last", last).on(&[&f32s(&[values.len()], values)]).ints()
        };
        assert_eq!(find("max", false, &[1.0, 2.0, 2.0]), [1]);
        assert_eq!(find("max", true, &[1.0, 2.0, 2.0]), [2]);
        assert_eq!(find("min", false, &[1.0, 0.0, 2.0]), [1]);
        assert_eq!(find("min", false, &[1.0, f64::NAN, 0.0]), [1]);
    }
}
