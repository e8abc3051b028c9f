//! Reductions, running reductions, softmax and normalisation on the host.

use super::{HOST, HostRow, one_to_one};
use crate::lowering::LoweringContext;
use crate::view::View;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::module::OpId;
use tilewright_ir::op_def::normalize_axis;

pub(super) static ROWS: &[HostRow] = &[
    HostRow::new(&core::REDUCE_SUM, reduce),
    HostRow::new(&core::REDUCE_MEAN, reduce),
    HostRow::new(&core::REDUCE_MAX, reduce),
    HostRow::new(&core::REDUCE_MIN, reduce),
    HostRow::new(&core::REDUCE_PROD, reduce),
    HostRow::new(&core::CUMULATIVE, cumulative),
    HostRow::new(&core::SOFTMAX, softmax),
    HostRow::new(&core::LOG_SOFTMAX, softmax),
    HostRow::new(&core::RMS_NORM, normalize),
    HostRow::new(&core::LAYER_NORM, normalize),
];

fn reduce(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (mut destination, x) = one_to_one(context, op)?;
    let function = context.op(op).def.short_name().trim_start_matches("reduce_");
    let axes: Vec<usize> =
        context.fields(op).ints("axes").iter().filter_map(|axis| normalize_axis(*axis, x.rank())).collect();
    if axes.is_empty() {
        return context.host_copy(&destination, &x);
    }
    if destination.rank() < x.rank() {
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        for axis in sorted {
            destination = destination.with_axis(axis);
        }
    }
    emit_reduce(context, function, &destination, &x)
}

/// Reduces what the destination has 1 of. Of nothing, what the function has for nothing.
pub(super) fn emit_reduce(
    context: &mut LoweringContext,
    function: &str,
    destination: &View,
    x: &View,
) -> Result<(), String> {
    if x.dims.contains(&Dim::Known(0)) || x.dims.iter().any(|dim| dim.known().is_none()) {
        let (low, high) = destination.element.limits();
        let nothing = match function {
            "prod" => 1.0,
            "max" => low,
            "min" => high,
            "mean" => f64::NAN,
            _ => 0.0,
        };
        context.host_fill(destination, nothing)?;
    }
    if x.dims.contains(&Dim::Known(0)) {
        return Ok(());
    }
    context.command(&tile::REDUCE, HOST).view(destination).view(x).attribute("function", function).emit()
}

fn cumulative(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (destination, x) = one_to_one(context, op)?;
    let fields = context.fields(op);
    let axis = fields.axis("axis", 0, x.rank())?;
    context
        .command(&tile::CUMULATIVE, HOST)
        .view(&destination)
        .view(&x)
        .attribute("function", fields.text("function", "sum"))
        .attribute("axis", axis)
        .attribute("exclusive", fields.flag("exclusive", false))
        .attribute("reverse", fields.flag("reverse", false))
        .emit()
}

fn softmax(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let log = context.op(op).def == &core::LOG_SOFTMAX;
    let (destination, x) = one_to_one(context, op)?;
    let axis = context.fields(op).axis("axis", -1, x.rank())?;
    let (destination, x) = (destination.axis_last(axis), x.axis_last(axis));
    context.command(&tile::SOFTMAX, HOST).view(&destination).view(&x).attribute("log", log).emit()
}

fn normalize(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let kind = if context.op(op).def == &core::RMS_NORM { "rms" } else { "layer" };
    let epsilon = context.fields(op).float("epsilon", 0.0);
    let (destination, x) = one_to_one(context, op)?;
    let gain = context.operand(op, 1)?.broadcast_to(&x.dims);
    let bias = context.optional(op, 2)?.map(|bias| bias.broadcast_to(&x.dims));
    context
        .command(&tile::NORMALIZE, HOST)
        .view(&destination)
        .view(&x)
        .maybe(Some(&gain))
        .maybe(bias.as_ref())
        .attribute("kind", kind)
        .attribute("epsilon", epsilon)
        .emit()
}
