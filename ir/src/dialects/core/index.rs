//! Ops that choose elements by data: gathers, scatters, top-k and arg-reduce. Negative indices count from the end; an index out
//! of range is an error of the evaluation.
//!
//! ```text
//! %h = "core.gather"(%table, %ids) <{axis = 0 : i64}> : (tensor<512x64xf32>, tensor<1x?xi64, ["seq"]>) -> tensor<1x?x64xf32, ["seq"]>
//! ```

use super::support::{expect_dim, expect_element, expect_rank, one};
use crate::attribute::Attribute;
use crate::dim::Dim;
use crate::element::Element;
use crate::op_def::{
    AttributeRule, Infer, OpDef, Signature, Traits, TypeRule, attribute, optional_attribute, value,
};
use crate::types::{Shape, TensorType, Type};

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
    ..OpDef::DEFAULT
};

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
