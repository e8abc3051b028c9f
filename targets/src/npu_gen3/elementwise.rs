//! Single ops of the vector engine: elementwise, conversions, normalisations, reductions, running sums, rotary embedding.
//!
//! ```text
//! core.softmax(x){axis = 1}  =>  tiles of x with axis 1 whole; softmax on views with axis 1 last
//! ```

use super::group::{Group, Node};
use super::kernel::Kernel;
use crate::emit::runtime_element;
use crate::lowering::{Lowering, LoweringContext, PlaceContext, Subject};
use crate::view::View;
use std::collections::BTreeMap;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::{OpId, ValueId};
use tilewright_ir::op_def::{OpDef, Traits, normalize_axis};
use tilewright_passes::machine::Engine;

/// Rows for all ops of this file.
pub static LOWERINGS: &[Lowering] = &[
    row(&core::NEG),
    row(&core::ABS),
    row(&core::EXP),
    row(&core::LOG),
    row(&core::SQRT),
    row(&core::RSQRT),
    row(&core::RECIPROCAL),
    row(&core::TANH),
    row(&core::SIGMOID),
    row(&core::ERF),
    row(&core::RELU),
    row(&core::SILU),
    row(&core::GELU),
    row(&core::NOT),
    row(&core::IS_NAN),
    row(&core::SIGN),
    row(&core::ROUND),
    row(&core::MATH),
    row(&core::LEAKY_RELU),
    row(&core::ELU),
    row(&core::HARD_SIGMOID),
    row(&core::CLAMP),
    row(&core::BITWISE_NOT),
    row(&core::ADD),
    row(&core::SUB),
    row(&core::MUL),
    row(&core::DIV),
    row(&core::POW),
    row(&core::MAX),
    row(&core::MIN),
    row(&core::REMAINDER),
    row(&core::COMPARE),
    row(&core::LOGICAL),
    row(&core::BITWISE),
    row(&core::SELECT),
    row(&core::CAST),
    row(&core::BITCAST),
    row(&core::GLU),
    row(&core::SOFTMAX),
    row(&core::LOG_SOFTMAX),
    row(&core::RMS_NORM),
    row(&core::LAYER_NORM),
    row(&core::ROPE),
    row(&core::REDUCE_SUM),
    row(&core::REDUCE_MEAN),
    row(&core::REDUCE_MAX),
    row(&core::REDUCE_MIN),
    row(&core::REDUCE_PROD),
    row(&core::CUMULATIVE),
    row(&core::ARG_REDUCE),
    row(&core::QUANTIZE),
    row(&core::DEQUANTIZE),
    Lowering { subject: Subject::Kernel("elementwise"), place: place_kernel, lower: lower_kernel },
];

const fn row(def: &'static OpDef) -> Lowering {
    Lowering { subject: Subject::Op(def), place, lower }
}

/// Whether the vector engine takes an op: element types with a command form, packed elements in whole bytes.
///
/// # Errors
/// The reason why not.
pub fn place(context: &PlaceContext) -> Result<(), String> {
    let operation = context.operation();
    // Scales of sums of integers are parameters of the output stage, whatever the lanes compute on.
    let stores_sums =
        operation.def == &core::QUANTIZE && context.operand(0).is_some_and(|ty| !ty.element.is_float());
    let operands = if stores_sums { &operation.operands[..1] } else { &operation.operands[..] };
    let values = operands.iter().chain(&operation.results);
    for ty in values.filter_map(|value| context.module.tensor(*value)) {
        if runtime_element(ty.element).is_none() {
            return Err(format!("the vector engine has no element type {}", ty.element));
        }
        // Packed elements are unpacked on their way in.
        if ty.element.bits() >= 8 && !context.machine.supports(Engine::Vector, ty.element) {
            return Err(format!(
                "the vector engine of {} does not compute {}",
                context.machine.name, ty.element
            ));
        }
        let row_bits = ty.shape.last().and_then(Dim::known).unwrap_or(1) * ty.element.bits() as i64;
        if ty.element.bits() < 8 && row_bits % 8 != 0 {
            return Err(format!("rows of {ty} do not begin at whole bytes"));
        }
    }
    if operation.def == &core::CAST && operation.attributes.contains_key("rounding") {
        return Err("the vector engine rounds casts to nearest only".into());
    }
    let block = operation.attributes.get("block").and_then(Attribute::as_int).unwrap_or(0);
    if block > 0 {
        let x = context.operand(0).ok_or("the operand is no tensor")?;
        let axis = operation.attributes.get("axis").and_then(Attribute::as_int).unwrap_or(1);
        let axis = normalize_axis(axis, x.rank()).ok_or("the axis is out of range")?;
        if x.shape[axis].divide_exactly(&Dim::Known(block)).is_none() {
            return Err(format!("blocks of {block} do not divide {}", x.shape[axis]));
        }
    }
    Ok(())
}

/// Writes a single op as a group of one.
///
/// # Errors
/// When the smallest tiles do not fit SRAM.
pub fn lower(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let operation = context.op(op);
    let def = operation.def;
    let operands: Vec<Option<View>> =
        (0..def.operands.len()).map(|slot| context.optional(op, slot)).collect::<Result<_, _>>()?;
    let result = context.destination(context.result(op, 0))?;
    let x = operands[0].clone().ok_or("the op has no operand")?;
    let shape = Shape::of(context, op, &x, &result)?;
    let mut group = Group { extents: shape.extents.clone(), ..Group::default() };
    let mut members = Vec::new();
    for (slot, operand) in operands.iter().enumerate() {
        let member = match operand {
            None => None,
            Some(view) if def == &core::ROPE && slot > 0 => Some(group.table(view)),
            Some(view) if shape.is_parameter(slot) => Some(group.input(&shape.parameter(view)?)),
            Some(view) => Some(group.input(&shape.align(view)?)),
        };
        members.push(member);
    }
    let result = group.output(&shape.align_result(&result)?);
    group.nodes.push(Node { op, operands: members, result, along: shape.along.clone(), part: None });
    group.run(context)
}

/// How an op's views meet its iteration space.
struct Shape {
    extents: Vec<Dim>,
    /// Axes that the op works along.
    along: Vec<usize>,
    /// Axes that the result lacks.
    dropped: Vec<usize>,
    /// Quantisation: operands from slot 1 on are parameters along this axis, in blocks of this length (0: none).
    parameters: Option<(usize, i64)>,
}

impl Shape {
    fn of(context: &LoweringContext, op: OpId, x: &View, result: &View) -> Result<Shape, String> {
        let operation = context.op(op);
        let def = operation.def;
        let int = |name: &str| operation.attributes.get(name).and_then(Attribute::as_int);
        let axis = |default: i64| {
            normalize_axis(int("axis").unwrap_or(default), x.rank())
                .ok_or("the axis is out of range".to_string())
        };
        let mut shape = Shape { extents: x.dims.clone(), along: vec![], dropped: vec![], parameters: None };
        if def == &core::QUANTIZE || def == &core::DEQUANTIZE {
            let block = int("block").unwrap_or(0);
            let at = if x.rank() == 0 {
                0
            } else {
                normalize_axis(int("axis").unwrap_or(1), x.rank()).unwrap_or(0)
            };
            shape.parameters = Some((at, block));
            if block > 0 {
                shape.extents = x.split(at, block).ok_or("blocks do not divide the axis")?.dims;
            }
        } else if def.is(Traits::ELEMENTWISE) {
            shape.extents = result.dims.clone();
        } else if def == &core::SOFTMAX || def == &core::LOG_SOFTMAX || def == &core::CUMULATIVE {
            shape.along = vec![axis(-1)?];
        } else if def == &core::ARG_REDUCE {
            shape.along = vec![axis(0)?];
            shape.dropped = if result.rank() < x.rank() { shape.along.clone() } else { vec![] };
        } else if let Some(axes) = operation.attributes.get("axes").and_then(Attribute::as_ints) {
            let axes: Option<Vec<usize>> = axes.iter().map(|axis| normalize_axis(*axis, x.rank())).collect();
            shape.along = axes.ok_or("an axis is out of range")?;
            shape.along.sort_unstable();
            shape.dropped = if result.rank() < x.rank() { shape.along.clone() } else { vec![] };
        } else {
            shape.along = vec![x.rank().checked_sub(1).ok_or("a scalar has no last axis")?];
        }
        Ok(shape)
    }

    fn is_parameter(&self, slot: usize) -> bool {
        self.parameters.is_some() && slot > 0
    }

    fn align(&self, view: &View) -> Result<View, String> {
        match self.parameters {
            Some((axis, block)) if block > 0 => {
                view.split(axis, block).ok_or_else(|| "blocks do not divide the axis".into())
            }
            _ => Ok(view.clone()),
        }
    }

    fn align_result(&self, view: &View) -> Result<View, String> {
        let mut view = self.align(view)?;
        for axis in &self.dropped {
            view = view.with_axis(*axis);
        }
        Ok(view)
    }

    /// A scale or zero point as it meets the iteration space.
    fn parameter(&self, view: &View) -> Result<View, String> {
        let Some((axis, block)) = self.parameters else { return Ok(view.clone()) };
        if block > 0 {
            return Ok(view.with_axis(axis + 1));
        }
        let mut view = view.clone();
        if view.rank() == 1 {
            for _ in axis + 1..self.extents.len() {
                view = view.with_axis(view.rank());
            }
        }
        Ok(view)
    }
}

/// Adds the values of a kernel's elementwise ops to a group over `dims`; gives the member of each value.
///
/// # Errors
/// When an operand was not lowered.
pub fn add_to_group(
    context: &mut LoweringContext,
    kernel: &Kernel,
    ops: &[OpId],
    group: &mut Group,
    members: &mut BTreeMap<ValueId, usize>,
) -> Result<(), String> {
    for op in ops {
        let mut operands = Vec::new();
        for value in Kernel::operands(context, *op) {
            operands.push(match value {
                None => None,
                Some(value) => Some(member(context, kernel, group, members, value)?),
            });
        }
        let result = member(context, kernel, group, members, context.result(*op, 0))?;
        group.nodes.push(Node { op: *op, operands, result, along: vec![], part: None });
    }
    Ok(())
}

fn member(
    context: &mut LoweringContext,
    kernel: &Kernel,
    group: &mut Group,
    members: &mut BTreeMap<ValueId, usize>,
    value: ValueId,
) -> Result<usize, String> {
    if let Some(member) = members.get(&value) {
        return Ok(*member);
    }
    let member = if let Some(output) = kernel.outputs.get(&value) {
        group.output(&output.clone().broadcast_to(&group.extents))
    } else if kernel.makes(context, value) {
        let ty = context.ty(value)?;
        let lead = group.extents.len() - ty.rank();
        let one = Dim::Known(1);
        let extends = (0..group.extents.len())
            .map(|axis| axis.checked_sub(lead).is_some_and(|from| ty.shape[from] != one))
            .collect();
        group.inner(ty.element, extends)
    } else {
        let view = context.view(value)?;
        group.input(&view)
    };
    members.insert(value, member);
    Ok(member)
}

fn lower_kernel(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let kernel = Kernel::open(context, op)?;
    let first = *kernel.ops.first().ok_or("a kernel without ops")?;
    let extents = context.ty(context.result(first, 0))?.shape.to_vec();
    let mut group = Group { extents, ..Group::default() };
    add_to_group(context, &kernel, &kernel.ops, &mut group, &mut BTreeMap::new())?;
    group.run(context)
}

fn place_kernel(context: &PlaceContext) -> Result<(), String> {
    let block = context.module.entry(context.op, 0);
    place_all(context, context.module.block(block).ops.iter())
}

/// Whether the vector engine takes all of some ops, leaving out those that compute nothing.
///
/// # Errors
/// The first reason why not.
pub(super) fn place_all<'a>(
    context: &PlaceContext,
    mut ops: impl Iterator<Item = &'a OpId>,
) -> Result<(), String> {
    ops.try_for_each(|op| {
        let def = context.module.op(*op).def;
        let computes = !def.is(Traits::TERMINATOR) && !def.is(Traits::CONSTANT);
        if computes { place(&PlaceContext { op: *op, ..*context }) } else { Ok(()) }
    })
}
