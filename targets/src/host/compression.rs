//! Compressed weights on the host: what a 2:4 sparse one stands for, where no target reads it in parts.

use super::{HOST, HostRow, one_to_one};
use crate::lowering::LoweringContext;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;

pub(super) static ROWS: &[HostRow] = &[
    HostRow::new(&core::SPARSE_EXPAND, sparse_expand),
    HostRow::new(&core::COMPRESS_WEIGHT, compress_weight),
];

/// Rows that two stored rows stand for.
const GROUP: i64 = 4;

fn sparse_expand(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (destination, values) = one_to_one(context, op)?;
    let indices = context.operand(op, 1)?;
    let axis = context.fields(op).axis("axis", 0, values.rank())?;
    context.host_fill(&destination, 0.0)?;
    // The place of each value: four for every pair before it, and its own index.
    let places = context.host_buffer(Element::I64, &values.dims)?;
    let firsts = context.host_buffer(Element::I64, &values.dims)?;
    let pairs = firsts.split(axis, 2).ok_or("2:4 sparse values come in pairs")?;
    let command = context.command(&tile::IOTA, HOST).view(&pairs).attribute("axis", axis);
    command.attribute("step", GROUP).emit()?;
    context.host_convert(&places, &indices)?;
    context.host_binary("add", &places, &places, &firsts)?;
    let command =
        context.command(&tile::SCATTER_ELEMENTS, HOST).view(&destination).view(&places).view(&values);
    command.attribute("reduction", "none").attribute("axis", axis).emit()
}

fn compress_weight(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let ty = context.ty(context.op(op).operands[0])?;
    Err(format!("the weight of {ty} is computed at run time: only constants are compressed"))
}
