//! Ops that choose elements by data: one command each.

use super::{HOST, HostRow, one_to_one};
use crate::lowering::LoweringContext;
use crate::view::View;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;

pub(super) static ROWS: &[HostRow] = &[
    HostRow::new(&core::GATHER, gather),
    HostRow::new(&core::GATHER_ELEMENTS, gather),
    HostRow::new(&core::GATHER_ND, gather_nd),
    HostRow::new(&core::SCATTER_ELEMENTS, scatter),
    HostRow::new(&core::SCATTER_ND, scatter),
    HostRow::new(&core::TOP_K, top_k),
    HostRow::new(&core::ARG_REDUCE, arg_reduce),
    HostRow::new(&core::NONZERO, nonzero),
];

/// Indices as the commands take them.
fn indices(context: &mut LoweringContext, op: OpId) -> Result<View, String> {
    let indices = context.operand(op, 1)?;
    match indices.element {
        Element::I64 | Element::I32 => Ok(indices),
        _ => context.host_cast(&indices, Element::I64),
    }
}

fn gather(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let def = if context.op(op).def == &core::GATHER { &tile::GATHER } else { &tile::GATHER_ELEMENTS };
    let indices = indices(context, op)?;
    let (destination, x) = one_to_one(context, op)?;
    let axis = context.fields(op).axis("axis", 0, x.rank())?;
    context.command(def, HOST).view(&destination).view(&x).view(&indices).attribute("axis", axis).emit()
}

fn gather_nd(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let indices = indices(context, op)?;
    let (destination, x) = one_to_one(context, op)?;
    let batch_dims = context.fields(op).int("batch_dims", 0);
    let command = context.command(&tile::GATHER_ND, HOST).view(&destination).view(&x).view(&indices);
    command.attribute("batch_dims", batch_dims).emit()
}

fn scatter(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let is_nd = context.op(op).def == &core::SCATTER_ND;
    let indices = indices(context, op)?;
    let updates = context.operand(op, 2)?;
    let (destination, x) = one_to_one(context, op)?;
    context.host_copy(&destination, &x)?;
    let fields = context.fields(op);
    let reduction = fields.text("reduction", "none");
    let axis = if is_nd { 0 } else { fields.axis("axis", 0, x.rank())? };
    let def = if is_nd { &tile::SCATTER_ND } else { &tile::SCATTER_ELEMENTS };
    let command = context.command(def, HOST).view(&destination).view(&indices).view(&updates);
    let command = command.attribute("reduction", reduction);
    if is_nd { command.emit() } else { command.attribute("axis", axis).emit() }
}

fn top_k(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (values, x) = one_to_one(context, op)?;
    let indices = context.destination(context.result(op, 1))?;
    let fields = context.fields(op);
    let axis = fields.axis("axis", -1, x.rank())?;
    let command = context.command(&tile::TOP_K, HOST).view(&values).view(&indices).view(&x);
    command.attribute("axis", axis).attribute("largest", fields.flag("largest", true)).emit()
}

/// Each true element writes its index where its rank among them says; the others write behind all. The result's length goes into
/// the register of its symbol.
fn nonzero(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let flags = context.operand(op, 0)?;
    let result = context.result(op, 0);
    let count = context.ty(result)?.shape[0].clone();
    let symbol = count.as_symbol().ok_or("the length of the result must be a symbol")?.clone();
    let most = context.maximum(&flags.dims[0])?;
    let numbers = context.host_buffer(Element::I64, &flags.dims)?;
    context.host_convert(&numbers, &flags)?;
    let ranks = context.host_buffer(Element::I64, &flags.dims)?;
    let command = context.command(&tile::CUMULATIVE, HOST).view(&ranks).view(&numbers);
    let command = command.attribute("function", "sum").attribute("axis", 0i64);
    command.attribute("exclusive", true).attribute("reverse", false).emit()?;
    let behind = context.scalar(Element::I64, most as f64)?.broadcast_to(&flags.dims);
    let places = context.host_buffer(Element::I64, &flags.dims)?;
    context.command(&tile::SELECT, HOST).view(&places).view(&flags).view(&ranks).view(&behind).emit()?;
    let indices = context.host_buffer(Element::I64, &flags.dims)?;
    context.command(&tile::IOTA, HOST).view(&indices).attribute("axis", 0i64).emit()?;
    let found = context.host_buffer(Element::I64, &[Dim::Known(most + 1)])?;
    context.host_fill(&found, 0.0)?;
    let command = context.command(&tile::SCATTER_ELEMENTS, HOST).view(&found).view(&places).view(&indices);
    command.attribute("reduction", "none").attribute("axis", 0usize).emit()?;
    let total = context.host_buffer(Element::I64, &[Dim::Known(1)])?;
    super::reduction::emit_reduce(context, "sum", &total, &numbers)?;
    let total = total.reshape(&[]).ok_or("one number")?;
    super::control::set_register(context, &symbol, &total)?;
    let destination = context.destination(result)?;
    context.host_copy(&destination, &View { dims: vec![count], ..found })
}

fn arg_reduce(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (mut destination, x) = one_to_one(context, op)?;
    let fields = context.fields(op);
    let axis = fields.axis("axis", 0, x.rank())?;
    if destination.rank() < x.rank() {
        destination = destination.with_axis(axis);
    }
    let command = context.command(&tile::ARG_REDUCE, HOST).view(&destination).view(&x);
    command
        .attribute("function", fields.text("function", "max"))
        .attribute("axis", axis)
        .attribute("select_last", fields.flag("select_last", false))
        .emit()
}
