//! Quantise and dequantise on the host: scales and zero points under the extents of what they scale, by strides.

use super::{HOST, HostRow, one_to_one};
use crate::fields::Fields;
use crate::lowering::LoweringContext;
use crate::view::View;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;
use tilewright_ir::op_def::normalize_axis;

pub(super) static ROWS: &[HostRow] = &[
    HostRow::new(&core::QUANTIZE, quantize),
    HostRow::new(&core::DEQUANTIZE, dequantize),
    HostRow::new(&core::QUANTIZE_WEIGHT, quantize_weight),
];

/// How scales lie over a tensor.
pub(crate) enum Parameters {
    /// One for all.
    Tensor,
    /// One per index of an axis.
    Axis(usize),
    /// One per block of an axis, of the tensor's rank.
    Blocks(usize, i64),
}

impl Parameters {
    /// From the attributes `axis` and `block`, as `core.dequantize` reads them.
    pub(crate) fn of(
        fields: Fields,
        rank: usize,
        scale: &[Dim],
        zero: Option<&[Dim]>,
    ) -> Result<Parameters, String> {
        let block = fields.int("block", 0);
        let is_one = |dims: &[Dim]| dims.iter().all(|dim| *dim == Dim::Known(1));
        if is_one(scale) && zero.is_none_or(is_one) {
            return Ok(Parameters::Tensor);
        }
        let axis = fields.int("axis", 1);
        let axis = normalize_axis(axis, rank)
            .ok_or_else(|| format!("attribute 'axis' = {axis} is out of range for rank {rank}"))?;
        Ok(if block == 0 { Parameters::Axis(axis) } else { Parameters::Blocks(axis, block) })
    }

    /// The tensor in parts over each of which the scales are a view.
    fn parts(&self, x: &View) -> Result<Vec<View>, String> {
        let Parameters::Blocks(axis, block) = self else { return Ok(vec![x.clone()]) };
        if let Some(split) = x.split(*axis, *block) {
            return Ok(vec![split]);
        }
        let dim = x.dims[*axis].known();
        let dim = dim.ok_or("a blocked dimension that follows a register must be a multiple of the block")?;
        let whole = dim / block * block;
        let main = x.slice(*axis, &Dim::Known(0), &Dim::Known(whole), 1);
        let tail = x.slice(*axis, &Dim::Known(whole), &Dim::Known(dim - whole), 1);
        let main = main.split(*axis, *block).ok_or("a whole number of blocks divides")?;
        Ok(if whole == 0 { vec![tail.with_axis(*axis)] } else { vec![main, tail.with_axis(*axis)] })
    }

    /// The scales (or zero points) under the extents of each part.
    fn under(&self, parameter: &View, parts: &[View]) -> Result<Vec<View>, String> {
        let mut start = Dim::Known(0);
        parts
            .iter()
            .map(|part| {
                Ok(match self {
                    Parameters::Tensor => {
                        let one = parameter.reshape(&[]).ok_or("a scale of one element must be a scalar")?;
                        one.broadcast_to(&part.dims)
                    }
                    Parameters::Axis(axis) => {
                        let after = part.rank() - axis - 1;
                        let column =
                            (0..after).fold(parameter.clone(), |view, _| view.with_axis(view.rank()));
                        column.broadcast_to(&part.dims)
                    }
                    Parameters::Blocks(axis, _) => {
                        let blocks = parameter.slice(*axis, &start, &part.dims[*axis], 1);
                        start = &start + &part.dims[*axis];
                        blocks.with_repeated_axis(axis + 1, &part.dims[axis + 1])
                    }
                })
            })
            .collect()
    }
}

/// Writes `(x - zero) * scale`.
pub(super) fn dequantize_into(
    context: &mut LoweringContext,
    destination: &View,
    x: &View,
    scale: &View,
    zero_point: Option<&View>,
    parameters: &Parameters,
) -> Result<(), String> {
    let (to, from) = (parameters.parts(destination)?, parameters.parts(x)?);
    let scales = parameters.under(scale, &from)?;
    let zeros = zero_point.map(|zero| parameters.under(zero, &from)).transpose()?;
    for (at, (to, from)) in to.iter().zip(&from).enumerate() {
        match zeros.as_ref().map(|zeros| &zeros[at]) {
            // The command wants one type for both; a zero point of another (a float) is taken in f32.
            Some(zero) if zero.element != from.element => {
                let wide = context.host_buffer(Element::F32, &from.dims)?;
                context.host_convert(&wide, from)?;
                let zero = context.host_cast(zero, Element::F32)?;
                context.host_binary("sub", &wide, &wide, &zero)?;
                let scale = context.host_cast(&scales[at], Element::F32)?;
                context.host_binary("mul", &wide, &wide, &scale)?;
                context.host_convert(to, &wide)?;
            }
            zero => {
                let command = context.command(&tile::DEQUANTIZE, HOST).view(to).view(from).view(&scales[at]);
                command.maybe(zero).emit()?;
            }
        }
    }
    Ok(())
}

fn dequantize(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (destination, q) = one_to_one(context, op)?;
    let (scale, zero_point) = (context.operand(op, 1)?, context.optional(op, 2)?);
    let zero_dims = zero_point.as_ref().map(|zero| &zero.dims[..]);
    let parameters = Parameters::of(context.fields(op), q.rank(), &scale.dims, zero_dims)?;
    dequantize_into(context, &destination, &q, &scale, zero_point.as_ref(), &parameters)
}

/// A weight is quantised when the artifact is written, never while it runs.
fn quantize_weight(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let ty = context.ty(context.op(op).operands[0])?;
    Err(format!("the weight of {ty} is computed at run time: only constants are quantised"))
}

fn quantize(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (destination, x) = one_to_one(context, op)?;
    let (scale, zero_point) = (context.operand(op, 1)?, context.optional(op, 2)?);
    let zero_dims = zero_point.as_ref().map(|zero| &zero.dims[..]);
    let parameters = Parameters::of(context.fields(op), x.rank(), &scale.dims, zero_dims)?;
    let (to, from) = (parameters.parts(&destination)?, parameters.parts(&x)?);
    let scales = parameters.under(&scale, &from)?;
    let zeros = zero_point.as_ref().map(|zero| parameters.under(zero, &from)).transpose()?;
    for (at, (to, from)) in to.iter().zip(&from).enumerate() {
        let command = context.command(&tile::QUANTIZE, HOST).view(to).view(from).view(&scales[at]);
        command.maybe(zeros.as_ref().map(|zeros| &zeros[at])).emit()?;
    }
    Ok(())
}
