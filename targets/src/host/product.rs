//! Matrix products on the host: the product, then bias and activation, rounded once to the result's element.

use super::quantization::{Parameters, dequantize_into};
use super::{HOST, HostRow, one_to_one};
use crate::lower::Stored;
use crate::lowering::LoweringContext;
use crate::view::View;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;

pub(super) static ROWS: &[HostRow] = &[
    HostRow::new(&core::MATMUL, matmul),
    HostRow::new(&core::MATMUL_INTEGER, matmul_integer),
    HostRow::new(&core::LINEAR, linear),
    HostRow::new(&core::GLU, glu),
];

/// A matrix operand under the batch dimensions of the result.
fn batched(x: &View, batch: &[Dim]) -> View {
    let mut dims = batch.to_vec();
    dims.extend_from_slice(&x.dims[x.rank() - 2..]);
    x.broadcast_to(&dims)
}

fn emit_matmul(context: &mut LoweringContext, destination: &View, a: &View, b: &View) -> Result<(), String> {
    let batch = &destination.dims[..destination.rank() - 2];
    let (a, b) = (batched(a, batch), batched(b, batch));
    context.command(&tile::MATMUL, HOST).view(destination).view(&a).view(&b).maybe(None).maybe(None).emit()
}

fn matmul(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (destination, a) = one_to_one(context, op)?;
    let Stored { w: b, codebook, .. } = context.weight(op, 1)?;
    if let Some(codebook) = codebook {
        let batch = &destination.dims[..destination.rank() - 2];
        let (a, b) = (batched(&a, batch), batched(&b, batch));
        let command = context.command(&tile::MATMUL, HOST).view(&destination).view(&a).view(&b);
        return command.maybe(None).maybe(None).maybe(Some(&codebook)).emit();
    }
    if a.element.is_float() {
        return emit_matmul(context, &destination, &a, &b);
    }
    // The command multiplies floats: integers go through f64, which is exact up to 2^53.
    let (a, b) = (context.host_cast(&a, Element::F64)?, context.host_cast(&b, Element::F64)?);
    let product = context.host_buffer(Element::F64, &destination.dims)?;
    emit_matmul(context, &product, &a, &b)?;
    context.host_convert(&destination, &product)
}

fn matmul_integer(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (destination, a) = one_to_one(context, op)?;
    let b = context.operand(op, 1)?;
    let batch = destination.dims[..destination.rank() - 2].to_vec();
    let (a, b) = (batched(&a, &batch), batched(&b, &batch));
    // A scalar, or one number per row of a, per column of b.
    let per_row = |zero: View| if zero.rank() == 1 { zero.with_axis(1) } else { zero };
    let a_zero = context.optional(op, 2)?.map(|zero| per_row(zero).broadcast_to(&a.dims));
    let b_zero = context.optional(op, 3)?.map(|zero| zero.broadcast_to(&b.dims));
    let command = context.command(&tile::MATMUL_INTEGER, HOST).view(&destination).view(&a).view(&b);
    command.maybe(a_zero.as_ref()).maybe(b_zero.as_ref()).emit()
}

/// x and the destination as matrices, when their leading dimensions merge; else under batch dimensions.
fn as_matrix(x: &View) -> Option<View> {
    let last = x.dims.last()?.clone();
    let rows = x.dims[..x.rank() - 1].iter().fold(Dim::Known(1), |product, dim| &product * dim);
    x.reshape(&[rows, last])
}

fn linear(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    linear_with(context, op, weight)
}

/// A product with bias and activation; `weight` says where its right side lies, and whether that is `[n, k]`.
pub(crate) fn linear_with(
    context: &mut LoweringContext,
    op: OpId,
    weight: fn(&mut LoweringContext, OpId, bool) -> Result<Weight, String>,
) -> Result<(), String> {
    let fields = context.fields(op);
    let (activation, transposed) =
        (fields.text("activation", "none"), fields.flag("transpose_weight", false));
    let (result, x) = one_to_one(context, op)?;
    let bias = if context.op(op).def == &core::LINEAR { context.optional(op, 2)? } else { None };
    // Bias and activation take part before the one rounding, so narrow floats go through f32.
    let is_plain = activation == "none" && bias.is_none();
    let wide = if is_plain || result.element == Element::F64 { result.element } else { Element::F32 };
    let sum =
        if wide == result.element { result.clone() } else { context.host_buffer(wide, &result.dims)? };
    let (x, sum) = match (as_matrix(&x), as_matrix(&sum)) {
        (Some(x), Some(sum)) => (x, sum),
        _ => (x, sum),
    };
    let weight = weight(context, op, transposed)?;
    let batch = sum.dims[..sum.rank() - 2].to_vec();
    let under = |view: &View| view.broadcast_to(&[&batch, &view.dims[..]].concat());
    let a = batched(&x, &batch);
    let command = context.command(&tile::MATMUL, HOST).view(&sum).view(&a).view(&under(&weight.w));
    command
        .maybe(weight.scale.as_ref().map(under).as_ref())
        .maybe(weight.zero_point.as_ref().map(under).as_ref())
        .maybe(weight.codebook.as_ref())
        .maybe(None)
        .attribute("block", weight.block)
        .emit()?;
    // The last of them rounds.
    let result = match as_matrix(&result) {
        Some(matrix) if sum.rank() == 2 => matrix,
        _ => result,
    };
    if let Some(bias) = bias {
        let bias = context.host_cast(&bias, wide)?;
        let to = if activation == "none" { &result } else { &sum };
        context.host_binary("add", to, &sum, &bias)?;
    }
    if activation != "none" {
        context.host_unary(activation, &result, &sum)?;
    }
    Ok(())
}

/// A weight as the matmul command takes it.
pub(crate) struct Weight {
    /// `[k, n]`, or packed.
    pub(crate) w: View,
    /// `[blocks, n]`, or packed.
    pub(crate) scale: Option<View>,
    /// As scale.
    pub(crate) zero_point: Option<View>,
    /// What codes stand for.
    pub(crate) codebook: Option<View>,
    /// Rows of k that share a scale; 0 for all.
    pub(crate) block: i64,
}

fn weight(context: &mut LoweringContext, op: OpId, transposed: bool) -> Result<Weight, String> {
    // Sparse weights stay so for a target only.
    let Stored { w, codebook, .. } = context.weight(op, 1)?;
    let order: &[usize] = if transposed { &[1, 0] } else { &[0, 1] };
    let (scale, zero_point) = (context.optional(op, 3)?, context.optional(op, 4)?);
    let Some(scale) = scale else {
        let w = w.permute(order);
        return Ok(Weight { w, scale: None, zero_point: None, codebook, block: 0 });
    };
    let zero_dims = zero_point.as_ref().map(|zero| &zero.dims[..]);
    let parameters = Parameters::of(context.fields(op), w.rank(), &scale.dims, zero_dims)?;
    let k_axis = usize::from(transposed);
    let same_zero = zero_point.as_ref().is_none_or(|zero| zero.element == w.element);
    // The command scales by blocks of k. Blocks along n, and zero points of another type, are dequantised first.
    let block = match &parameters {
        Parameters::Tensor => Some(0),
        Parameters::Axis(axis) => Some(i64::from(*axis == k_axis)),
        Parameters::Blocks(axis, block) if *axis == k_axis => Some(*block),
        Parameters::Blocks(..) => None,
    };
    let Some(block) = block.filter(|_| same_zero) else {
        if codebook.is_some() {
            return Err("a palette with scales in blocks of its columns".into());
        }
        let whole = context.host_buffer(scale.element, &w.dims)?;
        dequantize_into(context, &whole, &w, &scale, zero_point.as_ref(), &parameters)?;
        return Ok(Weight {
            w: whole.permute(order),
            scale: None,
            zero_point: None,
            codebook: None,
            block: 0,
        });
    };
    let n = w.dims[1 - k_axis].clone();
    let rows = match &parameters {
        Parameters::Axis(axis) if *axis == k_axis => w.dims[k_axis].clone(),
        Parameters::Blocks(..) => scale.dims[k_axis].clone(),
        _ => Dim::Known(1),
    };
    let shaped = |view: &View| -> Result<View, String> {
        let view = match &parameters {
            Parameters::Tensor => view.reshape(&[]).ok_or("a scale of one element must be a scalar")?,
            Parameters::Axis(axis) if *axis == k_axis => view.with_axis(1),
            Parameters::Axis(_) => view.clone(),
            Parameters::Blocks(..) => view.permute(order),
        };
        Ok(view.broadcast_to(&[rows.clone(), n.clone()]))
    };
    let zero_point = zero_point.as_ref().map(shaped).transpose()?;
    Ok(Weight { w: w.permute(order), scale: Some(shaped(&scale)?), zero_point, codebook, block })
}

fn glu(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let activation = context.fields(op).text("activation", "none");
    let (destination, gate) = one_to_one(context, op)?;
    let up = context.operand(op, 1)?;
    if activation == "none" {
        return context.host_binary("mul", &destination, &gate, &up);
    }
    if matches!(destination.element, Element::F32 | Element::F64) {
        let gate = gate.broadcast_to(&destination.dims);
        context.host_unary(activation, &destination, &gate)?;
        return context.host_binary("mul", &destination, &destination, &up);
    }
    // Widened where it is read, rounded where the product is written.
    let up = context.host_cast(&up, Element::F32)?;
    let wide = context.host_buffer(Element::F32, &destination.dims)?;
    context.host_unary(activation, &wide, &gate.broadcast_to(&destination.dims))?;
    context.host_binary("mul", &destination, &wide, &up)
}
