//! Elementwise ops on the host: one command each, broadcasts as strides.

use super::{HOST, HostRow, one_to_one};
use crate::lowering::LoweringContext;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;

pub(super) static ROWS: &[HostRow] = &[
    HostRow::new(&core::NEG, unary),
    HostRow::new(&core::ABS, unary),
    HostRow::new(&core::EXP, unary),
    HostRow::new(&core::LOG, unary),
    HostRow::new(&core::SQRT, unary),
    HostRow::new(&core::RSQRT, unary),
    HostRow::new(&core::RECIPROCAL, unary),
    HostRow::new(&core::TANH, unary),
    HostRow::new(&core::SIGMOID, unary),
    HostRow::new(&core::ERF, unary),
    HostRow::new(&core::RELU, unary),
    HostRow::new(&core::SILU, unary),
    HostRow::new(&core::GELU, unary),
    HostRow::new(&core::NOT, unary),
    HostRow::new(&core::BITWISE_NOT, unary),
    HostRow::new(&core::IS_NAN, unary),
    HostRow::new(&core::SIGN, unary),
    HostRow::new(&core::ROUND, unary),
    HostRow::new(&core::MATH, unary),
    HostRow::new(&core::LEAKY_RELU, unary),
    HostRow::new(&core::ELU, unary),
    HostRow::new(&core::HARD_SIGMOID, unary),
    HostRow::new(&core::CLAMP, unary),
    HostRow::new(&core::ADD, binary),
    HostRow::new(&core::SUB, binary),
    HostRow::new(&core::MUL, binary),
    HostRow::new(&core::DIV, binary),
    HostRow::new(&core::POW, binary),
    HostRow::new(&core::MAX, binary),
    HostRow::new(&core::MIN, binary),
    HostRow::new(&core::REMAINDER, binary),
    HostRow::new(&core::COMPARE, binary),
    HostRow::new(&core::LOGICAL, binary),
    HostRow::new(&core::BITWISE, binary),
    HostRow::new(&core::SELECT, select),
    HostRow::new(&core::CAST, cast),
    HostRow::free(&core::BITCAST, bitcast),
];

/// The command's function and its constants for a one-operand op; shared with targets that run the same functions.
pub(crate) fn unary_function(context: &LoweringContext, op: OpId) -> (&'static str, f64, f64) {
    let fields = context.fields(op);
    let def = context.op(op).def;
    let word = |name: &str| fields.text(name, "").to_string();
    let (alpha, beta) = (fields.float("alpha", 0.0), fields.float("beta", 0.0));
    if def == &core::CLAMP {
        return ("clamp", fields.float("min", f64::NEG_INFINITY), fields.float("max", f64::INFINITY));
    }
    let name = if def == &core::GELU {
        if word("approximate") == "tanh" { "gelu_tanh" } else { "gelu" }
    } else if def == &core::ROUND {
        match word("mode").as_str() {
            "floor" => "floor",
            "ceil" => "ceil",
            "trunc" => "trunc",
            _ => "round_half_even",
        }
    } else if def == &core::MATH {
        let known = tilewright_runtime::commands::UnaryFunction::ALL.iter().map(|function| function.name());
        known.into_iter().find(|name| *name == word("function")).unwrap_or("")
    } else {
        def.short_name()
    };
    (name, alpha, beta)
}

/// The command's function for a two-operand op.
pub(crate) fn binary_function(context: &LoweringContext, op: OpId) -> &'static str {
    let fields = context.fields(op);
    let def = context.op(op).def;
    let word = if def == &core::COMPARE {
        fields.text("predicate", "")
    } else if def == &core::LOGICAL || def == &core::BITWISE {
        fields.text("function", "")
    } else if def == &core::REMAINDER {
        if fields.text("mode", "") == "floor" { "rem_floor" } else { "rem_trunc" }
    } else {
        def.short_name()
    };
    let known = tilewright_runtime::commands::BinaryFunction::ALL.iter().map(|function| function.name());
    known.into_iter().find(|name| *name == word).unwrap_or("")
}

fn unary(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (function, alpha, beta) = unary_function(context, op);
    let (destination, x) = one_to_one(context, op)?;
    context
        .command(&tile::UNARY, HOST)
        .view(&destination)
        .view(&x)
        .attribute("function", function)
        .attribute("alpha", alpha)
        .attribute("beta", beta)
        .emit()
}

fn binary(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let function = binary_function(context, op);
    let (destination, a) = one_to_one(context, op)?;
    let b = context.operand(op, 1)?;
    context.host_binary(function, &destination, &a, &b)
}

fn select(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (destination, condition) = one_to_one(context, op)?;
    let (a, b) = (context.operand(op, 1)?, context.operand(op, 2)?);
    let [condition, a, b] = [condition, a, b].map(|view| view.broadcast_to(&destination.dims));
    context.command(&tile::SELECT, HOST).view(&destination).view(&condition).view(&a).view(&b).emit()
}

fn cast(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let fields = context.fields(op);
    let (destination, x) = one_to_one(context, op)?;
    let is_f8 = matches!(destination.element, Element::F8E4M3FN | Element::F8E5M2);
    let saturate = if is_f8 { fields.flag("saturate", true) } else { x.element.is_float() };
    context.command(&tile::CONVERT, HOST).view(&destination).view(&x).attribute("saturate", saturate).emit()
}

fn bitcast(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let x = context.operand(op, 0)?;
    let result = context.result(op, 0);
    let element = context.ty(result)?.element;
    context.define(result, x.with_element(element))
}
