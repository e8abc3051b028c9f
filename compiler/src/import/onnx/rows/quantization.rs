//! QuantizeLinear, DequantizeLinear and dynamic quantisation.

use super::super::context::NodeContext;
use super::super::emit::Quantization;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, microsoft, since};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::{Dim, Function};
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    since(10, "DequantizeLinear", dequantize_linear),
    since(11, "DynamicQuantizeLinear", dynamic_quantize_linear),
    since(10, "QuantizeLinear", quantize_linear),
    microsoft("DequantizeLinear", dequantize_linear),
    microsoft("QuantizeLinear", quantize_linear),
];

/// Scale, zero point, axis and block of a (de)quantisation of `of`.
fn parameters(node: &mut NodeContext, of: ValueId) -> Outcome<Quantization> {
    let (mut scale, mut zero_point) = (node.value(1)?, node.optional_value(2)?);
    let (rank, block) = (node.rank(of), node.int("block_size", 0)?);
    if block > 0 {
        let axis = node.axis("axis", 1, rank)?;
        return Ok(Quantization { scale, zero_point, axis: Some(axis), block });
    }
    let is_one = node.shape(scale).iter().all(|dim| *dim == Dim::Known(1));
    if is_one {
        // One value in a vector is one value for the whole tensor.
        scale = node.reshape(scale, &[])?;
        zero_point = zero_point.map(|zero| node.reshape(zero, &[])).transpose()?;
        return Ok(Quantization::per_tensor(scale, zero_point));
    }
    let axis = node.axis("axis", 1, rank)?;
    if node.rank(scale) == 1 {
        node.equate("scales do not fit their axis", &node.dim(of, axis)?, &node.dim(scale, 0)?)?;
        return Ok(Quantization { scale, zero_point, axis: Some(axis), block: 0 });
    }
    // Blocked without a block size: it follows from the shapes.
    let block = (node.rank(scale) == rank)
        .then(|| Dim::call(Function::FloorDiv, &node.shape(of)[axis], &node.shape(scale)[axis]).known());
    match block.flatten().filter(|block| *block > 0) {
        Some(block) => Ok(Quantization { scale, zero_point, axis: Some(axis), block }),
        None => Err(Fault::model(format!("scales {} do not fit {}", node.ty(scale), node.ty(of)))),
    }
}

fn dequantize_linear(node: &mut NodeContext) -> Made {
    let q = node.value(0)?;
    let with = parameters(node, q)?;
    let element = node.element_attribute("output_dtype", node.element(with.scale))?;
    let y = node.dequantize(q, &with, element)?;
    node.one(y)
}

fn quantize_linear(node: &mut NodeContext) -> Made {
    let mut x = node.value(0)?;
    let with = parameters(node, x)?;
    let element = match with.zero_point {
        Some(zero) => node.element(zero),
        None => node.element_attribute("output_dtype", Element::U8)?,
    };
    if !node.element(x).is_float() {
        x = node.cast_like(x, with.scale)?;
    }
    let y = node.quantize(x, &with, element)?;
    node.one(y)
}

fn dynamic_quantize_linear(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let parts = quantized_by_range(node, x)?;
    node.many(&parts)
}

/// Codes, scale and zero point from the range of the data, which is made to hold 0: u8 = round(x / scale) + zero.
pub(super) fn quantized_by_range(node: &mut NodeContext, x: ValueId) -> Outcome<[ValueId; 3]> {
    let element = node.element(x);
    let axes: Vec<usize> = (0..node.rank(x)).collect();
    let zero = node.scalar(element, 0.0)?;
    let largest = node.reduce(&core::REDUCE_MAX, x, &axes, false)?;
    let largest = node.binary(&core::MAX, largest, zero)?;
    let smallest = node.reduce(&core::REDUCE_MIN, x, &axes, false)?;
    let smallest = node.binary(&core::MIN, smallest, zero)?;
    let span = node.sub(largest, smallest)?;
    let steps = node.scalar(element, 255.0)?;
    let scale = node.binary(&core::DIV, span, steps)?;
    // All zeros: any scale will do, but not 0.
    let is_zero = node.compare("eq", scale, zero)?;
    let one = node.scalar(element, 1.0)?;
    let scale = node.select(is_zero, one, scale)?;
    let start = node.binary(&core::DIV, smallest, scale)?;
    let start = node.unary(&core::NEG, start)?;
    let rounded = node.make(&core::ROUND, |op| op.operand(start).attribute("mode", "half_even"))?;
    let clamped =
        node.make(&core::CLAMP, |op| op.operand(rounded).attribute("min", 0.0).attribute("max", 255.0))?;
    let zero_point = node.cast(clamped, Element::U8)?;
    let y = node.quantize(x, &Quantization::per_tensor(scale, Some(zero_point)), Element::U8)?;
    Ok([y, scale, zero_point])
}
