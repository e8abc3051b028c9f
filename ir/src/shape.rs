//! Shape rules shared by many ops, on symbolic dimensions.
//!
//! Two dimensions are equal when their canonical expressions are. Two that are different expressions do not broadcast: the
//! importer unifies symbols that a model takes to be equal before ops are made.

use crate::dim::Dim;
use crate::op_def::Signature;
use crate::types::{Shape, TensorType, Type};

/// numpy broadcasting of two shapes.
///
/// # Errors
/// Names both shapes and the pair of dimensions.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Shape, String> {
    let rank = a.len().max(b.len());
    let one = Dim::Known(1);
    let at = |shape: &[Dim], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(one.clone(), |index| shape[index].clone())
    };
    (0..rank)
        .map(|axis| {
            let (left, right) = (at(a, axis), at(b, axis));
            if left == right || right == one {
                Ok(left)
            } else if left == one {
                Ok(right)
            } else {
                Err(format!("shapes {} and {} do not broadcast: {left} and {right}", text(a), text(b)))
            }
        })
        .collect()
}

/// A shape as `[1, past + seq, 64]`.
pub fn text(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// Broadcasts all tensor operands of a signature; the element type is the first one's and must be shared by all.
///
/// # Errors
/// Names the operands and both types.
pub fn broadcast_operands(signature: &Signature) -> Result<Type, String> {
    let mut result: Option<TensorType> = None;
    for ty in signature.operands {
        let tensor = ty.as_tensor().ok_or_else(|| format!("expected a tensor, found {ty}"))?;
        result = Some(match result {
            None => tensor.clone(),
            Some(so_far) if so_far.element != tensor.element => {
                return Err(format!("element types differ: {} and {}", so_far.element, tensor.element));
            }
            Some(so_far) => {
                TensorType { shape: broadcast(&so_far.shape, &tensor.shape)?, element: so_far.element }
            }
        });
    }
    result.map(Type::Tensor).ok_or_else(|| format!("'{}' needs an operand", signature.def.name))
}
