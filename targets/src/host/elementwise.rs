//! Elementwise ops on the host: one command each, broadcasts as strides.

use super::{HOST, HostRow, one_to_one};
use crate::lowering::LoweringContext;
use crate::op_command::op_command;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;

pub(super) static ROWS: &[HostRow] = &[
    HostRow::new(&core::NEG, elementwise),
    HostRow::new(&core::ABS, elementwise),
    HostRow::new(&core::EXP, elementwise),
    HostRow::new(&core::LOG, elementwise),
    HostRow::new(&core::SQRT, elementwise),
    HostRow::new(&core::RSQRT, elementwise),
    HostRow::new(&core::RECIPROCAL, elementwise),
    HostRow::new(&core::TANH, elementwise),
    HostRow::new(&core::SIGMOID, elementwise),
    HostRow::new(&core::ERF, elementwise),
    HostRow::new(&core::RELU, elementwise),
    HostRow::new(&core::SILU, elementwise),
    HostRow::new(&core::GELU, elementwise),
    HostRow::new(&core::NOT, elementwise),
    HostRow::new(&core::BITWISE_NOT, elementwise),
    HostRow::new(&core::IS_NAN, elementwise),
    HostRow::new(&core::SIGN, elementwise),
    HostRow::new(&core::ROUND, elementwise),
    HostRow::new(&core::MATH, elementwise),
    HostRow::new(&core::LEAKY_RELU, elementwise),
    HostRow::new(&core::ELU, elementwise),
    HostRow::new(&core::HARD_SIGMOID, elementwise),
    HostRow::new(&core::CLAMP, elementwise),
    HostRow::new(&core::ADD, elementwise),
    HostRow::new(&core::SUB, elementwise),
    HostRow::new(&core::MUL, elementwise),
    HostRow::new(&core::DIV, elementwise),
    HostRow::new(&core::POW, elementwise),
    HostRow::new(&core::MAX, elementwise),
    HostRow::new(&core::MIN, elementwise),
    HostRow::new(&core::REMAINDER, elementwise),
    HostRow::new(&core::COMPARE, elementwise),
    HostRow::new(&core::LOGICAL, elementwise),
    HostRow::new(&core::BITWISE, elementwise),
    HostRow::new(&core::SELECT, elementwise),
    HostRow::new(&core::CAST, cast),
    HostRow::free(&core::BITCAST, bitcast),
];

/// One command; operands broadcast to the result.
fn elementwise(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let operation = context.op(op);
    let destination = context.destination(operation.results[0])?;
    let command = op_command(operation, destination.rank());
    let command = command.ok_or_else(|| format!("no command computes {}", operation.def.name))?;
    let mut operands = Vec::new();
    for value in &operation.operands {
        operands.push(Some(context.view(*value)?.broadcast_to(&destination.dims)));
    }
    command.emit(context, HOST, &destination, &operands)
}

fn cast(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let fields = context.fields(op);
    let (destination, x) = one_to_one(context, op)?;
    let is_small = destination.element.is_float() && destination.element.bits() <= 8;
    let saturate = if is_small { fields.flag("saturate", true) } else { x.element.is_float() };
    let command = context.command(&tile::CONVERT, HOST).view(&destination).view(&x);
    let command = command.attribute("saturate", saturate);
    match fields.text("rounding", "nearest") {
        "up" => command.attribute("rounding", "ceil"),
        "down" => command.attribute("rounding", "floor"),
        _ if destination.element == Element::F8E8M0 => command.attribute("rounding", "half_even"),
        _ => command,
    }
    .emit()
}

fn bitcast(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let x = context.operand(op, 0)?;
    let result = context.result(op, 0);
    let element = context.ty(result)?.element;
    context.define(result, x.with_element(element))
}
