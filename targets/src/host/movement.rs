//! Ops that only rename or move elements: views where strides allow it, copies where they do not.

use super::{HOST, HostRow};
use crate::lowering::LoweringContext;
use crate::view::View;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::module::OpId;

pub(super) static ROWS: &[HostRow] = &[
    HostRow::free(&core::RESHAPE, reshape),
    HostRow::free(&core::TRANSPOSE, transpose),
    HostRow::free(&core::BROADCAST, broadcast),
    HostRow::free(&core::SLICE, slice),
    HostRow::new(&core::CONCAT, concat),
    HostRow::new(&core::SIZE, size),
    HostRow::new(&core::IOTA, iota),
];

/// Most copies that one reshape may take.
const RESHAPE_COPIES_MAX: i64 = 4096;

fn reshape(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let x = context.operand(op, 0)?;
    let result = context.result(op, 0);
    let dims = context.ty(result)?.shape.to_vec();
    if let Some(view) = x.reshape(&dims) {
        return context.define(result, view);
    }
    let destination = context.destination(result)?;
    // Copied through the one of the two layouts that the other can be seen as.
    if let Some(view) = destination.reshape(&x.dims) {
        return context.host_copy(&view, &x);
    }
    let packed = context.host_buffer(x.element, &x.dims)?;
    if let Some(view) = packed.reshape(&dims) {
        context.host_copy(&packed, &x)?;
        return context.host_copy(&destination, &view);
    }
    copy_rows(context, &destination, &x)
}

/// A reshape between layouts with gaps (dimensions that follow registers): copied row by row of the source, each to its place
/// in a packed buffer.
fn copy_rows(context: &mut LoweringContext, destination: &View, x: &View) -> Result<(), String> {
    let count = x.element_count();
    let flat = context.host_buffer(x.element, &[count])?;
    pack(context, x, &flat, &Dim::Known(0), &mut 0)?;
    unpack(context, destination, &flat, &Dim::Known(0), &mut 0)
}

fn pack(
    context: &mut LoweringContext,
    x: &View,
    flat: &View,
    at: &Dim,
    copies: &mut i64,
) -> Result<(), String> {
    rows(context, x, at, copies, &mut |context, row, at| {
        let place = flat.slice(0, at, &row.element_count(), 1);
        let place = place.reshape(&row.dims).ok_or("a row of a reshape is not packed")?;
        context.host_copy(&place, row)
    })
}

fn unpack(
    context: &mut LoweringContext,
    to: &View,
    flat: &View,
    at: &Dim,
    copies: &mut i64,
) -> Result<(), String> {
    rows(context, to, at, copies, &mut |context, row, at| {
        let place = flat.slice(0, at, &row.element_count(), 1);
        let place = place.reshape(&row.dims).ok_or("a row of a reshape is not packed")?;
        context.host_copy(row, &place)
    })
}

/// What is done with a row and its packed place.
type RowAction<'f> = &'f mut dyn FnMut(&mut LoweringContext, &View, &Dim) -> Result<(), String>;

/// Calls `f` with the largest parts of a view whose packed form has known strides, and their packed places.
fn rows(
    context: &mut LoweringContext,
    x: &View,
    at: &Dim,
    copies: &mut i64,
    f: RowAction,
) -> Result<(), String> {
    if x.dims.iter().skip(1).all(|dim| dim.known().is_some()) {
        *copies += 1;
        if *copies > RESHAPE_COPIES_MAX {
            return Err(format!(
                "a reshape between register-dependent layouts takes more than {RESHAPE_COPIES_MAX} copies"
            ));
        }
        return f(context, x, at);
    }
    let outer = x.dims[0].known().ok_or_else(|| {
        format!(
            "a reshape of dimensions '{}' and '{}' that both follow registers is not supported",
            x.dims[0], x.dims[1]
        )
    })?;
    for index in 0..outer {
        let row = x.at(0, &Dim::Known(index));
        let place = at + &(&row.element_count() * &Dim::Known(index));
        rows(context, &row, &place, copies, f)?;
    }
    Ok(())
}

fn transpose(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let x = context.operand(op, 0)?;
    let permutation: Vec<usize> =
        context.fields(op).ints("permutation").iter().map(|axis| *axis as usize).collect();
    let result = context.result(op, 0);
    context.define(result, x.permute(&permutation))
}

fn broadcast(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let x = context.operand(op, 0)?;
    let result = context.result(op, 0);
    let dims = context.ty(result)?.shape.to_vec();
    context.define(result, x.broadcast_to(&dims))
}

fn slice(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let mut view = context.operand(op, 0)?;
    let fields = context.fields(op);
    let (starts, steps) = (fields.dims("starts")?, fields.ints("steps"));
    let result = context.result(op, 0);
    let dims = context.ty(result)?.shape.to_vec();
    for axis in 0..view.rank() {
        view = view.slice(axis, &starts[axis], &dims[axis], steps[axis]);
    }
    context.define(result, view)
}

fn concat(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let result = context.result(op, 0);
    let destination = context.destination(result)?;
    let axis = context.fields(op).axis("axis", 0, destination.rank())?;
    let mut start = Dim::Known(0);
    for value in context.op(op).operands.clone() {
        let part = context.view(value)?;
        let place = destination.slice(axis, &start, &part.dims[axis], 1);
        // A growing state's past lies there already.
        context.host_copy(&place, &part)?;
        start = &start + &part.dims[axis];
    }
    Ok(())
}

fn size(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let value = context.fields(op).dim("value")?;
    let destination = context.destination(context.result(op, 0))?;
    let name = context.value(&destination)?;
    context
        .builder()
        .op(&tile::STORE_EXPRESSION)
        .operand(name)
        .attribute("value", Attribute::dim(&value))
        .build()?;
    Ok(())
}

fn iota(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let destination = context.destination(context.result(op, 0))?;
    let axis = context.fields(op).axis("axis", 0, destination.rank())?;
    context
        .command(&tile::IOTA, HOST)
        .view(&destination)
        .attribute("axis", axis)
        .attribute("step", 1i64)
        .emit()
}
