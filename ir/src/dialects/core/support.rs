//! What the families share: type checks on symbolic dimensions, and index arithmetic for evaluation.
//!
//! Knows no op. A check on dimensions fails only where the dimensions are provably different: symbols that a model takes to be
//! equal were unified at import.

use crate::dim::Dim;
use crate::element::Element;
use crate::op_def::{Invocation, Signature};
use crate::tensor::{Data, Tensor};
use crate::types::{Shape, TensorType, Type};

/// One tensor result.
pub(super) fn one(element: Element, shape: impl IntoIterator<Item = Dim>) -> Result<Vec<Type>, String> {
    Ok(vec![Type::Tensor(TensorType::new(element, shape))])
}

/// The first result type that the maker asked for.
pub(super) fn requested<'a>(signature: &Signature<'a>) -> Option<&'a TensorType> {
    signature.results.first()?.as_tensor()
}

/// The shape of an operand with the element type that the maker asked for.
pub(super) fn infer_requested_element(signature: &Signature) -> Result<Vec<Type>, String> {
    let from = signature.require_tensor(0)?;
    let to = requested(signature).ok_or("the result type must be given as a tensor type")?;
    one(to.element, from.shape.iter().cloned())
}

/// True if no values of the symbols make the two equal.
pub(super) fn differ(a: &Dim, b: &Dim) -> bool {
    matches!(a - b, Dim::Known(distance) if distance != 0)
}

/// Checks that two dimensions can be equal.
pub(super) fn expect_dim(what: &str, expected: &Dim, found: &Dim) -> Result<(), String> {
    if differ(expected, found) { Err(format!("{what}: expected {expected}, found {found}")) } else { Ok(()) }
}

/// Checks a rank.
pub(super) fn expect_rank(name: &str, ty: &TensorType, rank: usize) -> Result<(), String> {
    if ty.rank() == rank {
        Ok(())
    } else {
        Err(format!("operand '{name}' must have rank {rank}, found {} ({ty})", ty.rank()))
    }
}

/// Checks that two operands have one element type.
pub(super) fn expect_element(name: &str, expected: Element, ty: &TensorType) -> Result<(), String> {
    if ty.element == expected {
        Ok(())
    } else {
        Err(format!("operand '{name}' must have element type {expected}, found {}", ty.element))
    }
}

/// Checks a shape against an expected one, dimension by dimension.
pub(super) fn expect_shape(name: &str, expected: &[Dim], found: &Shape) -> Result<(), String> {
    let fits = expected.len() == found.len() && expected.iter().zip(found).all(|(a, b)| !differ(a, b));
    if fits {
        Ok(())
    } else {
        let (expected, found) = (crate::shape::text(expected), crate::shape::text(found));
        Err(format!("operand '{name}' must have shape {expected}, found {found}"))
    }
}

/// Checks that `from` broadcasts to `to` in numpy's way.
pub(super) fn expect_broadcast(name: &str, from: &[Dim], to: &[Dim]) -> Result<(), String> {
    let fits = from.len() <= to.len()
        && from.iter().zip(&to[to.len() - from.len()..]).all(|(a, b)| *a == Dim::Known(1) || !differ(a, b));
    if fits {
        Ok(())
    } else {
        let (from, to) = (crate::shape::text(from), crate::shape::text(to));
        Err(format!("operand '{name}' of shape {from} does not broadcast to {to}"))
    }
}

/// Row-major elements of a strided walk: `offset + sum(index[axis] * strides[axis])` for every index of `shape`, in order.
pub(super) fn strided(shape: &[usize], strides: &[isize], offset: isize) -> Vec<usize> {
    let count: usize = shape.iter().product();
    let mut indices = Vec::with_capacity(count);
    if count == 0 {
        return indices;
    }
    let (inner, inner_stride) = match shape.last() {
        Some(dim) => (*dim, strides[shape.len() - 1]),
        None => (1, 0),
    };
    let outer = shape.len().saturating_sub(1);
    let mut at = vec![0usize; outer];
    let mut base = offset;
    loop {
        indices.extend((0..inner).map(|step| (base + step as isize * inner_stride) as usize));
        let mut axis = outer;
        loop {
            if axis == 0 {
                return indices;
            }
            axis -= 1;
            at[axis] += 1;
            base += strides[axis];
            if at[axis] < shape[axis] {
                break;
            }
            base -= strides[axis] * shape[axis] as isize;
            at[axis] = 0;
        }
    }
}

/// Strides for reading `from` as if it had the shape `to` (numpy broadcasting; zero where it repeats).
pub(super) fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<isize> {
    let strides = crate::tensor::strides_of(from);
    let offset = to.len() - from.len();
    (0..to.len())
        .map(
            |axis| {
                if axis < offset || from[axis - offset] == 1 { 0 } else { strides[axis - offset] as isize }
            },
        )
        .collect()
}

/// `x` broadcast to `shape`; borrowed when it has it already.
pub(super) fn broadcast_to<'a>(
    x: &'a Tensor,
    shape: &[usize],
) -> Result<std::borrow::Cow<'a, Tensor>, String> {
    if x.shape == shape {
        return Ok(std::borrow::Cow::Borrowed(x));
    }
    if x.rank() > shape.len() || crate::tensor::broadcast_shapes(&x.shape, shape)? != shape {
        return Err(format!("shape {:?} does not broadcast to {shape:?}", x.shape));
    }
    let indices = strided(shape, &broadcast_strides(&x.shape, shape), 0);
    Ok(std::borrow::Cow::Owned(x.pick(shape, |index| indices[index])))
}

/// The numpy-broadcast shape of several values.
pub(super) fn common_shape(values: &[&Tensor]) -> Result<Vec<usize>, String> {
    values.iter().try_fold(Vec::new(), |shape, value| crate::tensor::broadcast_shapes(&shape, &value.shape))
}

/// All values as f64, in order.
pub(super) fn floats(x: &Tensor) -> Vec<f64> {
    match &x.data {
        Data::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Data::F64(values) => values.clone(),
        Data::I64(_) => x.floats(),
    }
}

/// All values as integers, borrowed where they are kept so.
pub(super) fn integers(x: &Tensor) -> std::borrow::Cow<'_, [i64]> {
    match &x.data {
        Data::I64(values) => std::borrow::Cow::Borrowed(values),
        _ => std::borrow::Cow::Owned(x.ints()),
    }
}

/// An integer tensor of a known shape.
pub(super) fn from_integers(element: Element, shape: &[usize], values: Vec<i64>) -> Tensor {
    let dims: Vec<i64> = shape.iter().map(|dim| *dim as i64).collect();
    Tensor::from_ints(element, &dims, values)
}

/// A shape seen as `[outer, axis, inner]`: products before, at and after one axis.
pub(super) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// `index` counted from the end when negative; an error when out of range.
pub(super) fn wrap_index(index: i64, dim: usize) -> Result<usize, String> {
    crate::op_def::normalize_axis(index, dim)
        .ok_or_else(|| format!("index {index} is out of range for a dimension of {dim}"))
}

/// The values of a dimension-list attribute.
pub(super) fn dims_attribute(call: &Invocation, name: &str) -> Result<Vec<i64>, String> {
    signature_dims(&call.signature, name)?
        .iter()
        .map(|dim| dim.evaluate(call.bindings).ok_or_else(|| format!("dimension '{dim}' has no value")))
        .collect()
}

/// A dimension-list attribute.
pub(super) fn signature_dims(signature: &Signature, name: &str) -> Result<Vec<Dim>, String> {
    signature
        .attribute(name)
        .and_then(crate::attribute::Attribute::as_dims)
        .ok_or_else(|| format!("attribute '{name}' must be a list of dimensions"))
}
