//! One core op on tiles in SRAM: the commands of the vector engine for views that have one rank.
//!
//! Operands broadcast to the result along dimensions where they have length 1. Axes that an op works along come last. It must not
//! know loops or DRAM.
//!
//! ```text
//! core.glu(gate, up){silu}  =>  unary silu(y, gate); binary mul(y, y, up)
//! ```

use crate::lowering::{LoweringContext, engine};
use crate::op_command::{OpCommand, activation_function, cast_command, op_command};
use crate::view::View;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::module::OpId;
use tilewright_ir::op_def::{OpDef, Traits};

/// Whether [`emit`] computes an op.
pub fn is_supported(def: &OpDef) -> bool {
    def.is(Traits::ELEMENTWISE) || ALONG_AXES.contains(&def)
}

/// Ops that work along axes.
pub static ALONG_AXES: &[&OpDef] = &[
    &core::SOFTMAX,
    &core::LOG_SOFTMAX,
    &core::RMS_NORM,
    &core::LAYER_NORM,
    &core::ROPE,
    &core::REDUCE_SUM,
    &core::REDUCE_MEAN,
    &core::REDUCE_MAX,
    &core::REDUCE_MIN,
    &core::REDUCE_PROD,
    &core::CUMULATIVE,
    &core::ARG_REDUCE,
    &core::QUANTIZE,
    &core::DEQUANTIZE,
];

/// Writes an op's commands.
///
/// # Errors
/// When there is no command for the op.
pub fn emit(
    context: &mut LoweringContext,
    op: OpId,
    result: &View,
    operands: &[Option<View>],
) -> Result<(), String> {
    let operation = context.op(op);
    let def = operation.def;
    let x = operands.first().and_then(Option::as_ref).ok_or("an op without operands has no tile form")?;
    if def == &core::GLU {
        let name = operation.attributes.get("activation").and_then(Attribute::as_str).unwrap_or("none");
        let up = operands.get(1).and_then(Option::as_ref).ok_or("glu needs two operands")?;
        let gate = match activation_function(name) {
            Some(function) => {
                unary(context, function, result, &x.broadcast_to(&result.dims))?;
                result.clone()
            }
            None => x.broadcast_to(&result.dims),
        };
        return binary(context, "mul", result, &gate, &up.broadcast_to(&result.dims));
    }
    if def == &core::BITCAST {
        return unary(context, "copy", result, &x.with_element(result.element));
    }
    let command = if def == &core::CAST {
        cast_command(operation, x.element.is_float())
    } else {
        op_command(operation, result.rank()).ok_or_else(|| format!("'{}' has no command", def.name))?
    };
    let operands: Vec<Option<View>> = if def == &core::ROPE {
        // The tables keep their last length, which may be half of x's.
        let table = |view: &View| {
            let mut dims = result.dims.clone();
            if let (Some(last), Some(length)) = (dims.last_mut(), view.dims.last()) {
                *last = length.clone();
            }
            view.broadcast_to(&dims)
        };
        operands
            .iter()
            .enumerate()
            .map(|(at, view)| view.as_ref().map(|view| if at == 0 { view.clone() } else { table(view) }))
            .collect()
    } else if command.def == &tile::REDUCE || command.def == &tile::ARG_REDUCE {
        operands.to_vec()
    } else {
        operands.iter().map(|view| view.as_ref().map(|view| view.broadcast_to(&result.dims))).collect()
    };
    command.emit(context, engine::VECTOR, result, &operands)
}

/// An elementwise function of one view.
pub fn unary(context: &mut LoweringContext, function: &str, result: &View, x: &View) -> Result<(), String> {
    OpCommand::unary(function).emit(context, engine::VECTOR, result, &[Some(x.clone())])
}

/// An elementwise function of two views.
pub fn binary(
    context: &mut LoweringContext,
    function: &str,
    result: &View,
    a: &View,
    b: &View,
) -> Result<(), String> {
    OpCommand::binary(function).emit(context, engine::VECTOR, result, &[Some(a.clone()), Some(b.clone())])
}

/// The same values in the result's element type: floats to floats round to nearest.
pub fn convert(context: &mut LoweringContext, result: &View, x: &View) -> Result<(), String> {
    if result.element == x.element {
        return unary(context, "copy", result, x);
    }
    let command = context.command(&tile::CONVERT, engine::VECTOR).view(result).view(x);
    command.attribute("saturate", false).attribute("rounding", "half_even").emit()
}
