//! Operators that choose elements by data.

use super::super::context::NodeContext;
use super::super::emit::axis_of;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, microsoft, since, standard};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    standard("Gather", gather).moving_strings(),
    since(11, "GatherElements", gather_elements).moving_strings(),
    since(11, "GatherND", gather_nd).moving_strings(),
    since(9, "OneHot", one_hot),
    since(9, "Scatter", scatter_elements),
    since(11, "ScatterElements", scatter_elements),
    since(11, "ScatterND", scatter_nd),
    since(24, "TensorScatter", tensor_scatter),
    microsoft("GatherND", gather_nd).moving_strings(),
];

fn gather(node: &mut NodeContext) -> Made {
    let (x, indices) = (node.input(0)?, node.input(1)?);
    let axis = node.axis("axis", 0, x.rank())?;
    if let (Some(from), Some(at)) = (x.as_symbolic(), indices.as_symbolic())
        && let Some(result) = from.gather(&at, axis)
    {
        return Ok(vec![Operand::symbolic(result)]);
    }
    let (x, indices) = (node.value(0)?, node.value(1)?);
    let y = node.gather(x, indices, axis)?;
    node.one(y)
}

fn gather_elements(node: &mut NodeContext) -> Made {
    let (x, indices) = (node.value(0)?, node.value(1)?);
    let axis = node.axis("axis", 0, node.rank(x))?;
    let y = node.make(&core::GATHER_ELEMENTS, |op| op.operands(&[x, indices]).attribute("axis", axis))?;
    node.one(y)
}

fn gather_nd(node: &mut NodeContext) -> Made {
    let (x, indices) = (node.value(0)?, node.value(1)?);
    let batch_dims = node.int("batch_dims", 0)?;
    for axis in 0..usize::try_from(batch_dims).unwrap_or(0).min(node.rank(x)).min(node.rank(indices)) {
        let (a, b) = (node.dim(x, axis)?, node.dim(indices, axis)?);
        node.equate(&format!("batch dimension {axis} differs"), &a, &b)?;
    }
    let y =
        node.make(&core::GATHER_ND, |op| op.operands(&[x, indices]).attribute("batch_dims", batch_dims))?;
    node.one(y)
}

fn reduction(node: &NodeContext) -> Outcome<String> {
    node.text("reduction", "none")
}

fn scatter_elements(node: &mut NodeContext) -> Made {
    let (x, indices, updates) = (node.value(0)?, node.value(1)?, node.value(2)?);
    let (axis, reduction) = (node.axis("axis", 0, node.rank(x))?, reduction(node)?);
    let y = node.make(&core::SCATTER_ELEMENTS, |op| {
        op.operands(&[x, indices, updates]).attribute("axis", axis).attribute("reduction", reduction.as_str())
    })?;
    node.one(y)
}

fn scatter_nd(node: &mut NodeContext) -> Made {
    let (x, indices, updates) = (node.value(0)?, node.value(1)?, node.value(2)?);
    let reduction = reduction(node)?;
    let (from, to) = (node.shape(updates), node.shape(indices));
    for axis in 0..to.len().saturating_sub(1).min(from.len()) {
        node.equate(&format!("dimension {axis} of indices and updates differs"), &to[axis], &from[axis])?;
    }
    let y = node.make(&core::SCATTER_ND, |op| {
        op.operands(&[x, indices, updates]).attribute("reduction", reduction.as_str())
    })?;
    node.one(y)
}

/// values[1] where index == position along a new axis, else values[0]; negative indices count from the end.
fn one_hot(node: &mut NodeContext) -> Made {
    let (indices, values) = (node.value(0)?, node.value(2)?);
    let depth = if node.input(1)?.element().is_float() {
        node.known_tensor(1)?.ints().first().copied().map(Dim::Known)
    } else {
        node.dims(1)?.values.first().cloned()
    };
    let depth = depth.ok_or_else(|| Fault::model("input 1 (depth) is empty"))?;
    let rank = node.rank(indices) + 1;
    let axis = axis_of(node.int("axis", -1)?, rank)?;
    let indices = if node.element(indices).is_float() { node.cast(indices, Element::I64)? } else { indices };
    let element = node.element(indices);
    let wrapped = wrap(node, indices, &depth)?;
    let mut shape = node.shape(wrapped).to_vec();
    shape.insert(axis, Dim::Known(1));
    let indices = node.reshape(wrapped, &shape)?;
    let mut places = vec![Dim::Known(1); rank];
    places[axis] = depth;
    let places = node.iota(element, &places, axis)?;
    let is_hot = node.compare("eq", indices, places)?;
    let pick = |node: &mut NodeContext, at: i64| -> Outcome<ValueId> {
        let part = node.slice_axis(values, 0, &Dim::Known(at), &Dim::Known(1))?;
        node.reshape(part, &[])
    };
    if node.rank(values) != 1 || node.dim(values, 0)? != Dim::Known(2) {
        return Err(Fault::model(format!(
            "input 2 (values) must hold off and on, found {}",
            node.ty(values)
        )));
    }
    let (off, on) = (pick(node, 0)?, pick(node, 1)?);
    let y = node.select(is_hot, on, off)?;
    node.one(y)
}

fn wrap(node: &mut NodeContext, indices: ValueId, depth: &Dim) -> Outcome<ValueId> {
    let element = node.element(indices);
    let size = node.size(depth)?;
    let size = node.cast(size, element)?;
    let zero = node.scalar(element, 0.0)?;
    let is_negative = node.compare("lt", indices, zero)?;
    let moved = node.add(indices, size)?;
    node.select(is_negative, moved, indices)
}

/// The cache with rows written at `write_indices[b]` along the sequence axis.
fn tensor_scatter(node: &mut NodeContext) -> Made {
    let (past, update) = (node.value(0)?, node.value(1)?);
    let axis = node.axis("axis", -2, node.rank(past))?;
    let mode = node.text("mode", "linear")?;
    let shape = node.shape(update);
    if shape.len() != node.rank(past) {
        return Err(Fault::model(format!("update {} does not fit cache {}", node.ty(update), node.ty(past))));
    }
    let mut at = node.iota(Element::I64, &shape, axis)?;
    if let Some(start) = node.optional_value(2)? {
        let mut spread = vec![Dim::Known(1); shape.len()];
        spread[0] = shape[0].clone();
        let start = node.reshape(start, &spread)?;
        at = node.add(at, start)?;
    }
    if mode == "circular" {
        let size = node.dim(past, axis)?;
        let size = node.size(&size)?;
        at = node.make(&core::REMAINDER, |op| op.operands(&[at, size]).attribute("mode", "floor"))?;
    }
    let y = node.make(&core::SCATTER_ELEMENTS, |op| {
        op.operands(&[past, at, update]).attribute("axis", axis).attribute("reduction", "none")
    })?;
    node.one(y)
}
