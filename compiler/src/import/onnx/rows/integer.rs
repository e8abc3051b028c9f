//! Operators on quantised numbers with integer semantics: MatMulInteger, QLinear* and QGemm.
//!
//! Sums are exact integers; what follows is scaled in f32, rounded half to even and saturated, as the operators define it.

use super::super::context::NodeContext;
use super::super::emit::{Quantization, axis_of};
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, microsoft, since};
use super::convolution::{convolve, kernel_of, pooled, window};
use super::fused::{channels_first, channels_last};
use super::normalization::softmax_from;
use super::quantization::quantized_by_range;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::op_def::OpDef;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    since(10, "ConvInteger", conv_integer),
    since(10, "MatMulInteger", matmul_integer).refuses("vectors"),
    since(10, "QLinearConv", qlinear_conv),
    since(10, "QLinearMatMul", qlinear_matmul),
    microsoft("DynamicQuantizeMatMul", dynamic_quantize_matmul),
    microsoft("MatMulIntegerToFloat", matmul_integer_to_float),
    microsoft("QGemm", qgemm),
    microsoft("QLinearAdd", |node| qlinear_binary(node, &core::ADD)),
    microsoft("QLinearAveragePool", qlinear_average_pool),
    microsoft("QLinearConcat", qlinear_concat),
    microsoft("QLinearConv", qlinear_conv),
    microsoft("QLinearGlobalAveragePool", qlinear_global_average_pool),
    microsoft("QLinearLeakyRelu", qlinear_leaky_relu),
    microsoft("QLinearMul", |node| qlinear_binary(node, &core::MUL)),
    microsoft("QLinearReduceMean", qlinear_reduce_mean),
    microsoft("QLinearSigmoid", qlinear_sigmoid),
    microsoft("QLinearSoftmax", qlinear_softmax),
    microsoft("QLinearWhere", qlinear_where),
];

/// The integer product with zero points taken off, i32.
fn product(node: &mut NodeContext, a: ValueId, b: ValueId, zeros: [Option<ValueId>; 2]) -> Outcome<ValueId> {
    if node.rank(a) < 2 || node.rank(b) < 2 {
        return Err(Fault::unsupported(
            "integer products of vectors are not supported",
            "reshape them to matrices",
        ));
    }
    node.matmul_dims(a, b)?;
    let mut zeros = zeros;
    for zero in &mut zeros {
        // A vector of one is one for all.
        if let Some(value) = *zero
            && node.shape(value).iter().all(|dim| *dim == Dim::Known(1))
        {
            *zero = Some(node.reshape(value, &[])?);
        }
    }
    let [a_zero, b_zero] = zeros;
    node.make(&core::MATMUL_INTEGER, |op| op.operands(&[a, b]).maybe(a_zero).maybe(b_zero))
}

fn matmul_integer(node: &mut NodeContext) -> Made {
    let (a, b) = (node.value(0)?, node.value(1)?);
    let zeros = [node.optional_value(2)?, node.optional_value(3)?];
    let y = product(node, a, b, zeros)?;
    node.one(y)
}

fn matmul_integer_to_float(node: &mut NodeContext) -> Made {
    let y = scaled_product(node, [0, 2, 4], [1, 3, 5], Some(6))?;
    node.one(y)
}

/// A product of quantised matrices as real numbers; inputs by index: matrix, scale and zero point of each side, and a bias.
pub(super) fn scaled_product(
    node: &mut NodeContext,
    a: [usize; 3],
    b: [usize; 3],
    bias: Option<usize>,
) -> Outcome<ValueId> {
    let zeros = [node.optional_value(a[2])?, node.optional_value(b[2])?];
    let (a_scale, b_scale) = (node.value(a[1])?, node.value(b[1])?);
    let scale = node.mul(a_scale, b_scale)?;
    let (a, b) = (node.value(a[0])?, node.value(b[0])?);
    let y = product(node, a, b, zeros)?;
    let y = node.cast_like(y, scale)?;
    let y = node.mul(y, scale)?;
    match bias.map(|bias| node.optional_value(bias)).transpose()?.flatten() {
        Some(bias) => node.add(y, bias),
        None => Ok(y),
    }
}

/// The activations quantised to u8 by their own range, then as [`scaled_product`].
fn dynamic_quantize_matmul(node: &mut NodeContext) -> Made {
    let (x, codes, scale) = (node.value(0)?, node.value(1)?, node.value(2)?);
    let zero = node.optional_value(3)?;
    let mut y = dynamic_product(node, x, codes, scale, zero)?;
    if let Some(bias) = node.optional_value(4)? {
        y = node.add(y, bias)?;
    }
    node.one(y)
}

/// x, quantised to u8 by its own range, times a stored quantised matrix.
pub(super) fn dynamic_product(
    node: &mut NodeContext,
    x: ValueId,
    codes: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
) -> Outcome<ValueId> {
    let [a, a_scale, a_zero] = quantized_by_range(node, x)?;
    let scale = node.mul(a_scale, scale)?;
    let y = product(node, a, codes, [Some(a_zero), zero])?;
    let y = node.cast_like(y, scale)?;
    node.mul(y, scale)
}

/// Scales an exact sum and stores it: saturate(round(sum * factor) + zero).
fn requantize(node: &mut NodeContext, sum: ValueId, factor: ValueId, zero: ValueId) -> Outcome<ValueId> {
    let sum = node.cast(sum, Element::F32)?;
    let factor = node.cast(factor, Element::F32)?;
    let scaled = node.mul(sum, factor)?;
    let one = node.scalar(Element::F32, 1.0)?;
    let element = node.element(zero);
    let zero = node.reshape(zero, &[])?;
    node.quantize(scaled, &Quantization::per_tensor(one, Some(zero)), element)
}

/// a * b / y of three scales.
fn factor_of(node: &mut NodeContext, a: ValueId, b: ValueId, y: ValueId) -> Outcome<ValueId> {
    let both = node.mul(a, b)?;
    node.binary(&core::DIV, both, y)
}

/// An input that holds one number, as a scalar.
fn scalar_input(node: &mut NodeContext, index: usize) -> Outcome<ValueId> {
    let value = node.value(index)?;
    node.reshape(value, &[])
}

fn qlinear_matmul(node: &mut NodeContext) -> Made {
    let (a, b) = (node.value(0)?, node.value(3)?);
    let zeros = [Some(node.value(2)?), Some(node.value(5)?)];
    let (a_scale, b_scale) = (node.value(1)?, node.value(4)?);
    let (y_scale, y_zero) = (scalar_input(node, 6)?, scalar_input(node, 7)?);
    let a_scale = if node.rank(a_scale) == 1 && node.dim(a_scale, 0)? != Dim::Known(1) {
        // One scale per row.
        let shape = [node.dim(a_scale, 0)?, Dim::Known(1)];
        node.reshape(a_scale, &shape)?
    } else {
        node.reshape(a_scale, &[])?
    };
    let sum = product(node, a, b, zeros)?;
    let factor = factor_of(node, a_scale, b_scale, y_scale)?;
    let y = requantize(node, sum, factor, y_zero)?;
    node.one(y)
}

/// A quantised tensor less its zero point, as f32 integers; the zero point is one or per `axis`.
fn centered(node: &mut NodeContext, q: ValueId, zero: Option<ValueId>, axis: usize) -> Outcome<ValueId> {
    let q = node.cast(q, Element::I32)?;
    let q = match zero {
        Some(zero) => {
            let zero = node.cast(zero, Element::I32)?;
            let zero = along_axis(node, zero, axis, node.rank(q))?;
            node.sub(q, zero)?
        }
        None => q,
    };
    node.cast(q, Element::F32)
}

/// One number, or a vector along an axis of a tensor of `rank`.
fn along_axis(node: &mut NodeContext, value: ValueId, axis: usize, rank: usize) -> Outcome<ValueId> {
    let shape = node.shape(value);
    if shape.iter().all(|dim| *dim == Dim::Known(1)) {
        return node.reshape(value, &[]);
    }
    let (1, true) = (shape.len(), axis < rank) else {
        return Err(Fault::model(format!(
            "{} does not fit an axis of a tensor of rank {rank}",
            node.ty(value)
        )));
    };
    let mut spread = vec![Dim::Known(1); rank];
    spread[axis] = shape[0].clone();
    node.reshape(value, &spread)
}

fn qlinear_conv(node: &mut NodeContext) -> Made {
    let (mut x, weight) = (node.value(0)?, node.value(3)?);
    // ONNX Runtime's own form; its weights keep their channels first.
    let is_last = node.flag("channels_last", false)?;
    if is_last {
        x = channels_first(node, x)?;
    }
    let (x_zero, w_zero) = (node.value(2)?, node.value(5)?);
    let kernel = kernel_of(node, weight)?;
    let spatial: Vec<Dim> = node.shape(x).iter().skip(2).cloned().collect();
    let window = window(node, &spatial, &kernel)?;
    let groups = node.int("group", 1)?;
    let rank = node.rank(x);
    if rank < 3 {
        return Err(Fault::model(format!("input 0 must have rank 3 or more, found {}", node.ty(x))));
    }
    let x = centered(node, x, Some(x_zero), 1)?;
    let weight = centered(node, weight, Some(w_zero), 0)?;
    let mut sum = convolve(node, x, weight, None, &window, groups)?;
    if let Some(bias) = node.optional_value(8)? {
        let bias = node.cast(bias, Element::F32)?;
        let bias = along_axis(node, bias, 1, rank)?;
        sum = node.add(sum, bias)?;
    }
    let (x_scale, w_scale) = (scalar_input(node, 1)?, node.value(4)?);
    let w_scale = along_axis(node, w_scale, 1, rank)?;
    let (y_scale, y_zero) = (scalar_input(node, 6)?, scalar_input(node, 7)?);
    let factor = factor_of(node, x_scale, w_scale, y_scale)?;
    let y = requantize(node, sum, factor, y_zero)?;
    let y = if is_last { channels_last(node, y)? } else { y };
    node.one(y)
}

fn conv_integer(node: &mut NodeContext) -> Made {
    let (x, weight) = (node.value(0)?, node.value(1)?);
    let kernel = kernel_of(node, weight)?;
    let spatial: Vec<Dim> = node.shape(x).iter().skip(2).cloned().collect();
    let window = window(node, &spatial, &kernel)?;
    let groups = node.int("group", 1)?;
    let (x_zero, w_zero) = (node.optional_value(2)?, node.optional_value(3)?);
    let x = centered(node, x, x_zero, 1)?;
    let weight = centered(node, weight, w_zero, 0)?;
    let y = convolve(node, x, weight, None, &window, groups)?;
    let y = node.cast(y, Element::I32)?;
    node.one(y)
}

/// alpha * A B + C with A, B quantised and C in units of alpha * a_scale * b_scale; the result is float without an output scale.
fn qgemm(node: &mut NodeContext) -> Made {
    let (mut a, mut b) = (node.value(0)?, node.value(3)?);
    if node.flag("transA", false)? {
        a = node.transpose_last(a)?;
    }
    if node.flag("transB", false)? {
        b = node.transpose_last(b)?;
    }
    let zeros = [Some(node.value(2)?), Some(node.value(5)?)];
    let mut sum = product(node, a, b, zeros)?;
    if let Some(bias) = node.optional_value(6)? {
        sum = node.add(sum, bias)?;
    }
    let (a_scale, b_scale) = (scalar_input(node, 1)?, node.value(4)?);
    let b_scale = along_axis(node, b_scale, 1, 2)?;
    let alpha = node.float("alpha", 1.0)?;
    let both = node.mul(a_scale, b_scale)?;
    let both = node.scale(both, alpha)?;
    let y = match node.optional_value(7)? {
        Some(y_scale) => {
            let y_scale = node.reshape(y_scale, &[])?;
            let factor = node.binary(&core::DIV, both, y_scale)?;
            let zero = match node.optional_value(8)? {
                Some(zero) => zero,
                None => node.scalar_like(a, 0.0)?,
            };
            requantize(node, sum, factor, zero)?
        }
        None => {
            let sum = node.cast(sum, Element::F32)?;
            node.mul(sum, both)?
        }
    };
    node.one(y)
}

/// A quantised input as real numbers: the tensor at `at`, its scale after it, its zero point after that (if any).
fn real(node: &mut NodeContext, at: usize) -> Outcome<ValueId> {
    let q = node.value(at)?;
    let scale = scalar_input(node, at + 1)?;
    let zero = node.optional_value(at + 2)?;
    let zero = zero.map(|zero| node.reshape(zero, &[])).transpose()?;
    node.dequantize(q, &Quantization::per_tensor(scale, zero), Element::F32)
}

/// Real numbers stored with the scale and zero point at `at`.
fn stored(node: &mut NodeContext, x: ValueId, at: usize, default: Element) -> Outcome<ValueId> {
    let scale = scalar_input(node, at)?;
    let zero = node.optional_value(at + 1)?;
    let zero = zero.map(|zero| node.reshape(zero, &[])).transpose()?;
    let element = zero.map_or(default, |zero| node.element(zero));
    node.quantize(x, &Quantization::per_tensor(scale, zero), element)
}

fn qlinear_binary(node: &mut NodeContext, def: &'static OpDef) -> Made {
    let element = node.input(0)?.element();
    let (a, b) = (real(node, 0)?, real(node, 3)?);
    let y = node.binary(def, a, b)?;
    let y = stored(node, y, 6, element)?;
    node.one(y)
}

/// Inputs: output scale, output zero point, then (tensor, scale, zero point) for each part.
fn qlinear_concat(node: &mut NodeContext) -> Made {
    let count = node.input_count().saturating_sub(2) / 3;
    let first = node.input(2)?;
    let axis = node.axis("axis", 0, first.rank())?;
    let mut parts = Vec::new();
    for part in 0..count {
        let x = real(node, 2 + 3 * part)?;
        parts.push(stored(node, x, 0, first.element())?);
    }
    let y = node.concat(&parts, axis)?;
    node.one(y)
}

fn qlinear_unary(node: &mut NodeContext, f: impl Fn(&mut NodeContext, ValueId) -> Outcome<ValueId>) -> Made {
    let element = node.input(0)?.element();
    let x = real(node, 0)?;
    let y = f(node, x)?;
    let y = stored(node, y, 3, element)?;
    node.one(y)
}

fn qlinear_sigmoid(node: &mut NodeContext) -> Made {
    qlinear_unary(node, |node, x| node.unary(&core::SIGMOID, x))
}

fn qlinear_leaky_relu(node: &mut NodeContext) -> Made {
    let alpha = node.float("alpha", 0.01)?;
    qlinear_unary(node, |node, x| node.make(&core::LEAKY_RELU, |op| op.operand(x).attribute("alpha", alpha)))
}

fn qlinear_global_average_pool(node: &mut NodeContext) -> Made {
    let first = if node.flag("channels_last", false)? { 1 } else { 2 };
    qlinear_unary(node, |node, x| {
        let axes: Vec<usize> = (first..(node.rank(x) + first).saturating_sub(2)).collect();
        node.reduce(&core::REDUCE_MEAN, x, &axes, true)
    })
}

fn qlinear_average_pool(node: &mut NodeContext) -> Made {
    let is_last = node.flag("channels_last", false)?;
    qlinear_unary(node, |node, x| {
        let x = if is_last { channels_first(node, x)? } else { x };
        let y = pooled(node, x, "average")?;
        if is_last { channels_last(node, y) } else { Ok(y) }
    })
}

fn qlinear_reduce_mean(node: &mut NodeContext) -> Made {
    let rank = node.input(0)?.rank();
    let axes = node.ints_attribute("axes")?.unwrap_or_default();
    let axes: Vec<usize> = axes.iter().map(|axis| axis_of(*axis, rank)).collect::<Outcome<_>>()?;
    let keeps = node.flag("keepdims", true)?;
    qlinear_unary(node, |node, x| node.reduce(&core::REDUCE_MEAN, x, &axes, keeps))
}

fn qlinear_where(node: &mut NodeContext) -> Made {
    let (condition, element) = (node.value(0)?, node.input(1)?.element());
    let (x, y) = (real(node, 1)?, real(node, 4)?);
    let z = node.select(condition, x, y)?;
    let z = stored(node, z, 7, element)?;
    node.one(z)
}

fn qlinear_softmax(node: &mut NodeContext) -> Made {
    let rank = node.input(0)?.rank();
    let axis = node.axis("axis", -1, rank)?;
    let is_flat = node.int("opset", 13)? < 13;
    qlinear_unary(node, |node, x| match is_flat {
        true => softmax_from(node, &core::SOFTMAX, x, axis),
        false => node.along(&core::SOFTMAX, x, axis),
    })
}
