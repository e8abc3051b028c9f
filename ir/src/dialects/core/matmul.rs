//! Matrix products: plain, integer, and the fused linear and gated forms. Floats accumulate in f64 and are rounded once.
//!
//! ```text
//! %y = "core.matmul"(%x, %w) : (tensor<1x?x64xf32, ["seq"]>, tensor<64x32xf32>) -> tensor<1x?x32xf32, ["seq"]>
//! %z = "core.linear"(%x, %w, %b) <{activation = "silu", operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, transpose_weight = false}>
//!   : (tensor<4x64xf32>, tensor<64x32xf32>, tensor<32xf32>) -> tensor<4x32xf32>
//! ```

use super::numeric::ACTIVATIONS;
use super::quantize::verify_parameters;
use super::support::{differ, expect_element, expect_shape, one};
use crate::dim::Dim;
use crate::element::Element;
use crate::op_def::{
    AttributeRule, Infer, OpDef, Signature, Traits, TypeRule, attribute, optional, optional_attribute, value,
};
use crate::shape::broadcast;
use crate::types::{TensorType, Type};

/// Matrix product.
pub static MATMUL: OpDef = OpDef {
    name: "core.matmul",
    doc: "result[.., i, j] = sum over l of a[.., i, l] * b[.., l, j]; a [.., m, k], b [.., k, n]; leading dimensions broadcast. Both \
          have rank 2 or more. ONNX MatMul; numpy.matmul.",
    operands: &[value("a", TypeRule::NumberTensor), value("b", TypeRule::NumberTensor)],
    results: &[value("result", TypeRule::NumberTensor)],
    axes: ".. m k, .. k n -> .. m n; reduce k",
    traits: Traits::PURE,
    infer: Infer::With(infer_matmul),
    ..OpDef::DEFAULT
};

/// Matrix product of integers.
pub static MATMUL_INTEGER: OpDef = OpDef {
    name: "core.matmul_integer",
    doc: "result[.., i, j] = sum over l of (a[.., i, l] - a_zero[i]) * (b[.., l, j] - b_zero[j]) in i32, wrapping; zero points are \
          scalars, or [m] for a and [n] for b, and 0 when left out. ONNX MatMulInteger.",
    operands: &[
        value("a", TypeRule::IntegerTensor),
        value("b", TypeRule::IntegerTensor),
        optional("a_zero", TypeRule::IntegerTensor),
        optional("b_zero", TypeRule::IntegerTensor),
    ],
    results: &[value("result", TypeRule::IntegerTensor)],
    axes: ".. m k, .. k n, @0, @1 -> .. m n; reduce k",
    traits: Traits::PURE,
    infer: Infer::With(infer_matmul_integer),
    ..OpDef::DEFAULT
};

/// Matrix product with a weight, bias and activation.
pub static LINEAR: OpDef = OpDef {
    name: "core.linear",
    doc: "result = `activation`(x * w + bias); x [.., k], w [k, n], or [n, k] when `transpose_weight`; bias [n]. With scale, w is first \
          dequantised as by core.dequantize with `axis` and `block` (axes of w as it is stored), in the scale's element type. The \
          sum, bias and activation are in f64 and rounded once to x's element type. ONNX Gemm, MatMulNBits.",
    operands: &[
        value("x", TypeRule::FloatTensor),
        value("w", TypeRule::NumberTensor),
        optional("bias", TypeRule::FloatTensor),
        optional("scale", TypeRule::FloatTensor),
        optional("zero_point", TypeRule::NumberTensor),
    ],
    results: &[value("result", TypeRule::FloatTensor)],
    attributes: &[
        attribute("activation", AttributeRule::OneOf(ACTIVATIONS)),
        attribute("transpose_weight", AttributeRule::Bool),
        optional_attribute("axis", AttributeRule::Int),
        optional_attribute("block", AttributeRule::Int),
    ],
    axes: ".. k, k n, n, @1, @1 -> .. n; reduce k | transpose_weight: .. k, n k, n, @1, @1 -> .. n; reduce k",
    traits: Traits::PURE,
    infer: Infer::With(infer_linear),
    ..OpDef::DEFAULT
};

/// Gated linear unit.
pub static GLU: OpDef = OpDef {
    name: "core.glu",
    doc: "result = `activation`(gate) * up, of one shape (Shazeer 2020, arXiv:2002.05202: silu is SwiGLU, gelu GeGLU). ONNX SwiGLU.",
    operands: &[value("gate", TypeRule::FloatTensor), value("up", TypeRule::FloatTensor)],
    results: &[value("result", TypeRule::FloatTensor)],
    attributes: &[attribute("activation", AttributeRule::OneOf(ACTIVATIONS))],
    axes: ".., .. -> ..",
    traits: Traits::PURE.with(Traits::ELEMENTWISE),
    infer: Infer::Broadcast,
    ..OpDef::DEFAULT
};

/// The result shape of a batched product, with both values in the message when it does not fit.
fn product_shape(a: &TensorType, b: &TensorType) -> Result<Vec<Dim>, String> {
    for (name, ty) in [("a", a), ("b", b)] {
        if ty.rank() < 2 {
            return Err(format!("operand '{name}' must have rank 2 or more, found {} ({ty})", ty.rank()));
        }
    }
    let (a_batch, a_matrix) = a.shape.split_at(a.rank() - 2);
    let (b_batch, b_matrix) = b.shape.split_at(b.rank() - 2);
    inner(&a_matrix[1], &b_matrix[0])?;
    let mut shape = broadcast(a_batch, b_batch)?.to_vec();
    shape.extend([a_matrix[0].clone(), b_matrix[1].clone()]);
    Ok(shape)
}

fn inner(a: &Dim, b: &Dim) -> Result<(), String> {
    if differ(a, b) { Err(format!("inner dimensions differ: {a} and {b}")) } else { Ok(()) }
}

fn infer_matmul(signature: &Signature) -> Result<Vec<Type>, String> {
    let (a, b) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    expect_element("b", a.element, b)?;
    one(a.element, product_shape(a, b)?)
}

fn infer_matmul_integer(signature: &Signature) -> Result<Vec<Type>, String> {
    let (a, b) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    let shape = product_shape(a, b)?;
    for (slot, of, dim) in [(2, a, &shape[shape.len() - 2]), (3, b, &shape[shape.len() - 1])] {
        if let Some(zero) = signature.tensor(slot) {
            let name = signature.def.operands[slot].name;
            expect_element(name, of.element, zero)?;
            if zero.rank() > 0 && zero.shape[..] != [Dim::Known(1)] {
                expect_shape(name, std::slice::from_ref(dim), &zero.shape)?;
            }
        }
    }
    one(Element::I32, shape)
}

fn infer_linear(signature: &Signature) -> Result<Vec<Type>, String> {
    let (x, w) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    let Some((k, leading)) = x.shape.split_last() else {
        return Err(format!("operand 'x' must have rank 1 or more, found {x}"));
    };
    super::support::expect_rank("w", w, 2)?;
    let transposed = usize::from(signature.bool("transpose_weight", false));
    let n = &w.shape[1 - transposed];
    inner(k, &w.shape[transposed])?;
    if let Some(bias) = signature.tensor(2) {
        expect_shape("bias", std::slice::from_ref(n), &bias.shape)?;
    }
    match signature.tensor(3) {
        Some(_) => verify_parameters(signature, w, 3, 4)?,
        None if !w.element.is_float() => {
            return Err(format!("operand 'w' of {} needs operand 'scale'", w.element));
        }
        None => {}
    }
    one(x.element, leading.iter().chain([n]).cloned())
}
