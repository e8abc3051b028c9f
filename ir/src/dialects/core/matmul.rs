//! Matrix products: plain, integer, and the fused linear and gated forms. Floats accumulate in f64 and are rounded once.
//!
//! ```text
//! %y = "core.matmul"(%x, %w) : (tensor<1x?x64xf32, ["seq"]>, tensor<64x32xf32>) -> tensor<1x?x32xf32, ["seq"]>
//! %z = "core.linear"(%x, %w, %b) <{activation = "silu", operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, transpose_weight = false}>
//!   : (tensor<4x64xf32>, tensor<64x32xf32>, tensor<32xf32>) -> tensor<4x32xf32>
//! ```

use super::numeric::{ACTIVATIONS, activation};
use super::quantize::{dequantized, verify_parameters};
use super::support::{
    broadcast_strides, broadcast_to, common_shape, differ, expect_element, expect_shape, floats,
    from_integers, integers, one, requested, strided,
};
use crate::dim::Dim;
use crate::element::Element;
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute, optional,
    optional_attribute, value,
};
use crate::shape::broadcast;
use crate::tensor::Tensor;
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
    evaluate: Evaluate::With(evaluate_matmul),
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
    axes: ".. m k, .. k n, m, n -> .. m n; reduce k",
    traits: Traits::PURE,
    infer: Infer::With(infer_matmul_integer),
    evaluate: Evaluate::With(evaluate_matmul_integer),
    ..OpDef::DEFAULT
};

/// Matrix product with a weight, bias and activation.
pub static LINEAR: OpDef = OpDef {
    name: "core.linear",
    doc: "result = `activation`(x * w + bias); x [.., k], w [k, n], or [n, k] when `transpose_weight`; bias [n]. With scale, w is first \
          dequantised as by core.dequantize with `axis` and `block` (axes of w as it is stored), to x's element type. The \
          sum, bias and activation are in f64 and rounded once to x's element type. x may also be 8-bit integers, then w has a \
          scale and the result is of the float type asked for, or of the scale's: quantised activations, whose own scale is \
          multiplied in behind, and w is not rounded at all. ONNX Gemm, MatMulNBits.",
    operands: &[
        value("x", TypeRule::NumberTensor),
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
    evaluate: Evaluate::With(evaluate_linear),
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
    evaluate: Evaluate::With(evaluate_glu),
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
    let element = match signature.tensor(3) {
        _ if x.element.is_float() => x.element,
        Some(scale) if x.element.is_integer() && x.element.bits() == 8 => {
            requested(signature).map_or(scale.element, |ty| ty.element)
        }
        Some(_) => return Err(format!("operand 'x' must be of floats or 8-bit integers, found {x}")),
        None => return Err(format!("operand 'x' of {} needs operand 'scale'", x.element)),
    };
    if !element.is_float() {
        return Err(format!("the result must be of floats, found {element}"));
    }
    one(element, leading.iter().chain([n]).cloned())
}

/// Columns of the right side that are worked on at a time, so that they stay in a first- or second-level cache.
const COLUMNS_AT_ONCE: usize = 256;

/// `out[m, n] += a[m, k] * b[k, n]`, summed over k in order for every element.
pub(super) fn product<T: Copy>(
    a: &[T],
    b: &[T],
    (m, k, n): (usize, usize, usize),
    out: &mut [T],
    multiply_add: impl Fn(T, T, T) -> T,
) {
    for first in (0..n).step_by(COLUMNS_AT_ONCE) {
        let last = (first + COLUMNS_AT_ONCE).min(n);
        for row in 0..m {
            let sums = &mut out[row * n + first..row * n + last];
            for (at, factor) in a[row * k..(row + 1) * k].iter().enumerate() {
                let right = &b[at * n + first..at * n + last];
                for (sum, value) in sums.iter_mut().zip(right) {
                    *sum = multiply_add(*sum, *factor, *value);
                }
            }
        }
    }
}

/// Batched product of row-major values with leading dimensions broadcast.
fn batched<T: Copy>(
    (a, a_shape): (&[T], &[usize]),
    (b, b_shape): (&[T], &[usize]),
    zero: T,
    multiply_add: impl Fn(T, T, T) -> T + Copy,
) -> Result<(Vec<usize>, Vec<T>), String> {
    let (a_batch, a_matrix) = a_shape.split_at(a_shape.len() - 2);
    let (b_batch, b_matrix) = b_shape.split_at(b_shape.len() - 2);
    let (m, k, n) = (a_matrix[0], a_matrix[1], b_matrix[1]);
    if k != b_matrix[0] {
        return Err(format!("inner dimensions differ: {k} and {}", b_matrix[0]));
    }
    let batch = crate::tensor::broadcast_shapes(a_batch, b_batch)?;
    let a_starts = strided(&batch, &broadcast_strides(a_batch, &batch), 0);
    let b_starts = strided(&batch, &broadcast_strides(b_batch, &batch), 0);
    let mut out = vec![zero; a_starts.len() * m * n];
    for (at, (left, right)) in a_starts.into_iter().zip(b_starts).enumerate() {
        let (left, right) = (&a[left * m * k..(left + 1) * m * k], &b[right * k * n..(right + 1) * k * n]);
        product(left, right, (m, k, n), &mut out[at * m * n..(at + 1) * m * n], multiply_add);
    }
    Ok(([&batch[..], &[m, n]].concat(), out))
}

fn real_product(a: &Tensor, b: &Tensor) -> Result<(Vec<usize>, Vec<f64>), String> {
    batched((&floats(a), &a.shape), (&floats(b), &b.shape), 0.0, |sum, a, b| sum + a * b)
}

fn evaluate_matmul(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (a, b) = (call.operand(0), call.operand(1));
    if a.element.is_float() {
        let (shape, values) = real_product(a, b)?;
        return Ok(vec![Tensor::from_floats(a.element, &shape, values)]);
    }
    let add = |sum: i64, a: i64, b: i64| sum.wrapping_add(a.wrapping_mul(b));
    let (shape, values) = batched((&integers(a), &a.shape), (&integers(b), &b.shape), 0, add)?;
    Ok(vec![from_integers(a.element, &shape, values)])
}

/// Values of x minus a zero point: a scalar, or one per index along `axis`.
fn minus_zero(x: &Tensor, zero: Option<&Tensor>, axis: usize) -> Vec<i64> {
    let values = integers(x);
    let Some(zero) = zero else { return values.into_owned() };
    let (_, dim, inner) = super::support::around(&x.shape, axis);
    let zeros = integers(zero);
    let at = |index: usize| if zeros.len() == 1 { 0 } else { index / inner % dim };
    values.iter().enumerate().map(|(index, value)| value - zeros[at(index)]).collect()
}

fn evaluate_matmul_integer(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (a, b) = (call.operand(0), call.operand(1));
    let left = minus_zero(a, call.get(2), a.rank() - 2);
    let right = minus_zero(b, call.get(3), b.rank() - 1);
    let add = |sum: i64, a: i64, b: i64| sum.wrapping_add(a.wrapping_mul(b));
    let (shape, values) = batched((&left, &a.shape), (&right, &b.shape), 0, add)?;
    Ok(vec![from_integers(Element::I32, &shape, values)])
}

fn evaluate_linear(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, w) = (call.operand(0), call.operand(1));
    let mut weight = match call.get(3) {
        // Integers by integers: what is scaled is their sum, not rounded weights.
        Some(scale) if x.element.is_integer() => dequantized(call, w, scale, call.get(4), Element::F64)?,
        Some(scale) => dequantized(call, w, scale, call.get(4), x.element)?,
        None => floats(w),
    };
    let (mut k, mut n) = (w.shape[0], w.shape[1]);
    if call.signature.bool("transpose_weight", false) {
        weight = strided(&[n, k], &[1, n as isize], 0).into_iter().map(|index| weight[index]).collect();
        (k, n) = (n, k);
    }
    let inner = x.shape.last().copied().unwrap_or(1);
    if inner != k {
        return Err(format!("inner dimensions differ: {inner} and {k}"));
    }
    let rows = x.shape[..x.rank() - 1].iter().product();
    let mut values = vec![0.0; rows * n];
    product(&floats(x), &weight, (rows, k, n), &mut values, |sum, a, b| sum + a * b);
    if let Some(bias) = call.get(2).map(floats) {
        values.iter_mut().enumerate().for_each(|(index, value)| *value += bias[index % n]);
    }
    let activation = activation(call.signature.str("activation", "none"))?;
    values.iter_mut().for_each(|value| *value = activation(*value));
    let mut shape = x.shape.clone();
    shape[x.rank() - 1] = n;
    Ok(vec![Tensor::from_floats(call.result_element(0), &shape, values)])
}

fn evaluate_glu(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (gate, up) = (call.operand(0), call.operand(1));
    let shape = common_shape(&[gate, up])?;
    let activation = activation(call.signature.str("activation", "none"))?;
    let (gate, up) = (broadcast_to(gate, &shape)?, broadcast_to(up, &shape)?);
    let values = floats(&gate).into_iter().zip(floats(&up)).map(|(gate, up)| activation(gate) * up).collect();
    Ok(vec![Tensor::from_floats(gate.element, &shape, values)])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, call, f32s, i64s, ramp};
    use super::*;

    #[test]
    fn batches_broadcast() {
        let found = call(&MATMUL).on(&[&ramp(&[2, 1, 2]), &ramp(&[2, 2])]);
        // [0 1] and [2 3] times [[0 1] [2 3]]
        assert_near(&found, &[2.0, 3.0, 6.0, 11.0]);
        assert_eq!(call(&MATMUL).on(&[&i64s(&[1, 2], &[2, 3]), &i64s(&[2, 1], &[5, 7])]).ints(), [31]);
        let types = ["f32: b, 4, seq, 16", "f32: b, 4, 16, past + seq"];
        assert_eq!(
            call(&MATMUL).infer(&types).unwrap(),
            "tensor<?x4x?x?xf32, [\"b\", \"seq\", \"past + seq\"]>"
        );
        let error = call(&MATMUL).infer(&["f32: 4, 8", "f32: 9, 2"]).unwrap_err();
        assert_eq!(error, "inner dimensions differ: 8 and 9");
    }

    #[test]
    fn wide_products_are_cut_into_columns() {
        let (a, b) = (f32s(&[2, 1], &[1.0, 2.0]), ramp(&[1, 600]));
        let found = call(&MATMUL).on(&[&a, &b]);
        assert_eq!((found.float(599), found.float(600 + 300)), (599.0, 600.0));
    }

    #[test]
    fn integer_products_subtract_zero_points() {
        let a = Tensor::from_ints(Element::U8, &[2, 2], vec![1, 2, 3, 4]);
        let b = Tensor::from_ints(Element::I8, &[2, 1], vec![10, -10]);
        let zero = Tensor::from_ints(Element::U8, &[2], vec![1, 2]);
        let found = call(&MATMUL_INTEGER).try_on(&[Some(&a), Some(&b), Some(&zero), None]).unwrap();
        // rows minus 1 and 2: [0 1], [1 2]
        assert_eq!((found[0].element, found[0].ints()), (Element::I32, vec![-10, -10]));
    }

    #[test]
    fn linear_adds_bias_and_activates() {
        let (x, w, bias) = (f32s(&[1, 2], &[1.0, 2.0]), ramp(&[2, 3]), f32s(&[3], &[-7.0, 0.0, 1.0]));
        let linear =
            |transposed: bool| call(&LINEAR).with("activation", "relu").with("transpose_weight", transposed);
        let found = linear(false).try_on(&[Some(&x), Some(&w), Some(&bias), None, None]).unwrap();
        assert_near(&found[0], &[0.0, 9.0, 13.0]);
        let stored = f32s(&[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let found = linear(true).try_on(&[Some(&x), Some(&stored), Some(&bias), None, None]).unwrap();
        assert_near(&found[0], &[0.0, 9.0, 13.0]);
    }

    #[test]
    fn linear_dequantises_in_blocks() {
        let x = f32s(&[1, 4], &[1.0, 1.0, 1.0, 1.0]);
        let w = Tensor::from_ints(Element::U4, &[1, 4], vec![8, 9, 10, 15]);
        let scale = f32s(&[1, 2], &[1.0, 10.0]);
        let zero = Tensor::from_ints(Element::U4, &[1, 2], vec![8, 9]);
        let linear = || {
            let call = call(&LINEAR).with("activation", "none").with("transpose_weight", true);
            call.with("axis", 1i64).with("block", 2i64)
        };
        let found = linear().try_on(&[Some(&x), Some(&w), None, Some(&scale), Some(&zero)]).unwrap();
        // (0 + 1) * 1 + (1 + 6) * 10
        assert_near(&found[0], &[71.0]);
        let error = linear().try_on(&[Some(&x), Some(&w), None, None, None]).unwrap_err();
        assert_eq!(error, "operand 'w' of ui4 needs operand 'scale'");
    }

    #[test]
    fn linear_takes_quantised_activations() {
        let x = Tensor::from_ints(Element::I8, &[1, 4], vec![1, -2, 3, 127]);
        let w = Tensor::from_ints(Element::I4, &[4, 1], vec![7, 1, -8, 2]);
        let scale = f32s(&[2, 1], &[0.5, 2.0]);
        let linear = || {
            let call = call(&LINEAR).with("activation", "none").with("transpose_weight", false);
            call.with("axis", 0i64).with("block", 2i64)
        };
        let found = linear().to("f32: 1, 1").try_on(&[Some(&x), Some(&w), None, Some(&scale), None]).unwrap();
        // (7 - 2) / 2 + (-24 + 254) * 2
        assert_near(&found[0], &[462.5]);
        let error = linear().to("f32: 1, 1").try_on(&[Some(&x), Some(&ramp(&[4, 1])), None, None, None]);
        assert_eq!(error.unwrap_err(), "operand 'x' of i8 needs operand 'scale'");
    }

    #[test]
    fn gates_multiply() {
        let (gate, up) = (f32s(&[2], &[-1.0, 2.0]), f32s(&[2], &[5.0, 5.0]));
        assert_near(&call(&GLU).with("activation", "relu").on(&[&gate, &up]), &[0.0, 10.0]);
    }
}
