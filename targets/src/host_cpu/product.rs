//! Products by weights that are known when the artifact is written, and look-ups in them: both read the packed form.

use super::layout::COLUMNS;
use super::weights::{packed, rows_of_table};
use crate::host::linear_with;
use crate::lowering::{Lowering, LoweringContext, PlaceContext, Subject, engine};
use crate::view::View;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;
use tilewright_ir::op_def::normalize_axis;

pub(super) static LOWERINGS: &[Lowering] = &[
    Lowering { subject: Subject::Op(&core::LINEAR), place: place_product, lower: lower_product },
    Lowering { subject: Subject::Op(&core::MATMUL), place: place_product, lower: lower_product },
    Lowering { subject: Subject::Op(&core::GATHER), place: place_gather, lower: lower_gather },
];

/// What can be told from types; what the weight is, says the lowering.
fn place_product(context: &PlaceContext) -> Result<(), String> {
    let (a, b) = (context.operand(0), context.operand(1));
    let (a, b) = a.zip(b).ok_or("its operands are no tensors")?;
    let is_scaled = context.operation().def == &core::LINEAR && context.operand(3).is_some();
    let is_rows = match a.element {
        Element::F32 | Element::F16 | Element::BF16 => true,
        Element::I8 | Element::U8 => is_scaled,
        _ => false,
    };
    if !is_rows || b.rank() != 2 || a.rank() == 0 {
        return Err(format!("products of {a} by {b} are not packed"));
    }
    Ok(())
}

fn lower_product(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    linear_with(context, op, packed)
}

fn place_gather(context: &PlaceContext) -> Result<(), String> {
    let axis = context.operation().attributes.get("axis").and_then(|axis| axis.as_int()).unwrap_or(0);
    let table = context.operand(0).ok_or("its table is no tensor")?;
    match normalize_axis(axis, table.rank()) {
        Some(0) if table.rank() == 2 => Ok(()),
        _ => Err("it is no look-up of rows".into()),
    }
}

/// Rows of a packed table: row `j` is in tile `j >> 4`, at place `j & 15`, also where `j` counts from the end.
fn lower_gather(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let table = rows_of_table(context, context.op(op).operands[0])?;
    let indices = context.operand(op, 1)?;
    let destination = context.destination(context.result(op, 0))?;
    let mut dims = indices.dims.clone();
    dims.push(Dim::Known(2));
    let places = context.buffer(crate::lowering::space::DRAM, indices.element, &dims)?;
    let steps = [("shr", i64::from(COLUMNS.ilog2())), ("and", COLUMNS - 1)];
    for (part, (function, number)) in steps.into_iter().enumerate() {
        let place = places.at(indices.rank(), &Dim::Known(part as i64));
        let number = context.scalar(indices.element, number as f64)?.broadcast_to(&place.dims);
        let command = context.command(&tile::BINARY, engine::HOST).view(&place).view(&indices).view(&number);
        command.attribute("function", function).emit()?;
    }
    let mut dims = indices.dims.clone();
    dims.extend_from_slice(&table.dims[2..]);
    let rows: View = destination.reshape(&dims).ok_or("rows of the result lie apart")?;
    let command = context.command(&tile::GATHER_ND, engine::HOST).view(&rows).view(&table).view(&places);
    command.attribute("batch_dims", 0i64).emit()
}
