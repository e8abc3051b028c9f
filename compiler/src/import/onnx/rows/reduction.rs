//! Reductions, arg-reductions, cumulative operators and top-k.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::symbolic::{Binary, Symbolic};
use super::super::table::{Row, since, standard};
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::ValueId;
use tilewright_ir::op_def::OpDef;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    standard("ArgMax", |node| arg_reduce(node, "max")),
    standard("ArgMin", |node| arg_reduce(node, "min")),
    since(26, "CumProd", |node| cumulative(node, "prod")),
    since(11, "CumSum", |node| cumulative(node, "sum")),
    standard("ReduceL1", |node| reduce(node, Some(&core::ABS), &core::REDUCE_SUM, None)),
    standard("ReduceL2", |node| composed(node, square, &core::REDUCE_SUM, Some(&core::SQRT))),
    standard("ReduceLogSum", |node| reduce(node, None, &core::REDUCE_SUM, Some(&core::LOG))),
    standard("ReduceLogSumExp", log_sum_exp),
    standard("ReduceMax", |node| folded(node, &core::REDUCE_MAX, Binary::Max)),
    standard("ReduceMean", |node| reduce(node, None, &core::REDUCE_MEAN, None)),
    standard("ReduceMin", |node| folded(node, &core::REDUCE_MIN, Binary::Min)),
    standard("ReduceProd", |node| folded(node, &core::REDUCE_PROD, Binary::Mul)),
    standard("ReduceSum", |node| folded(node, &core::REDUCE_SUM, Binary::Add)),
    standard("ReduceSumSquare", |node| composed(node, square, &core::REDUCE_SUM, None)),
    standard("TopK", top_k),
];

/// The axes of a reduction and whether they stay as 1; no axes means all, or none with `noop_with_empty_axes`.
pub(super) fn reduction_axes(node: &mut NodeContext, rank: usize) -> Outcome<(Vec<usize>, bool)> {
    let keep_dims = node.flag("keepdims", true)?;
    let axes = node.axes(1, rank)?.unwrap_or_default();
    if !axes.is_empty() {
        return Ok((axes, keep_dims));
    }
    if node.flag("noop_with_empty_axes", false)? {
        return Ok((Vec::new(), true));
    }
    Ok(((0..rank).collect(), keep_dims))
}

fn square(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    node.mul(x, x)
}

fn composed(
    node: &mut NodeContext,
    before: fn(&mut NodeContext, ValueId) -> Outcome<ValueId>,
    def: &'static OpDef,
    after: Option<&'static OpDef>,
) -> Made {
    let x = node.value(0)?;
    let (axes, keep_dims) = reduction_axes(node, node.rank(x))?;
    let x = before(node, x)?;
    let mut y = if axes.is_empty() { x } else { node.reduce(def, x, &axes, keep_dims)? };
    if let Some(after) = after {
        y = node.unary(after, y)?;
    }
    node.one(y)
}

fn reduce(
    node: &mut NodeContext,
    before: Option<&'static OpDef>,
    def: &'static OpDef,
    after: Option<&'static OpDef>,
) -> Made {
    let x = node.value(0)?;
    let (axes, keep_dims) = reduction_axes(node, node.rank(x))?;
    let mut y = match before {
        Some(before) => node.unary(before, x)?,
        None => x,
    };
    if !axes.is_empty() {
        y = node.reduce(def, y, &axes, keep_dims)?;
    }
    if let Some(after) = after {
        y = node.unary(after, y)?;
    }
    node.one(y)
}

/// A reduction that shapes go through: the product of dimensions, the longest of them.
fn folded(node: &mut NodeContext, def: &'static OpDef, function: Binary) -> Made {
    if let Some(x) = node.input(0)?.as_symbolic()
        && x.shape.len() == 1
        && let Some((first, rest)) = x.values.split_first()
    {
        let (axes, keep_dims) = reduction_axes(node, 1)?;
        let rest = Symbolic { values: rest.to_vec(), shape: vec![rest.len()], ..x.clone() };
        if axes == [0]
            && let Some(value) = rest.fold(first.clone(), function)
        {
            let shape: &[usize] = if keep_dims { &[1] } else { &[] };
            let result = Symbolic { element: x.element, shape: shape.to_vec(), values: vec![value] };
            return Ok(vec![Operand::symbolic(result)]);
        }
    }
    reduce(node, None, def, None)
}

/// ln(sum(exp(x))) with the largest taken out, so that it cannot overflow.
fn log_sum_exp(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let (axes, keep_dims) = reduction_axes(node, node.rank(x))?;
    if axes.is_empty() {
        return node.one(x);
    }
    let largest = node.reduce(&core::REDUCE_MAX, x, &axes, true)?;
    let shifted = node.sub(x, largest)?;
    let raised = node.unary(&core::EXP, shifted)?;
    let sum = node.reduce(&core::REDUCE_SUM, raised, &axes, true)?;
    let log = node.unary(&core::LOG, sum)?;
    let mut y = node.add(log, largest)?;
    if !keep_dims {
        let shape = node.shape(y);
        let kept: Vec<Dim> = shape
            .iter()
            .enumerate()
            .filter(|(at, _)| !axes.contains(at))
            .map(|(_, dim)| dim.clone())
            .collect();
        y = node.reshape(y, &kept)?;
    }
    node.one(y)
}

fn arg_reduce(node: &mut NodeContext, function: &'static str) -> Made {
    let x = node.value(0)?;
    let axis = node.axis("axis", 0, node.rank(x))?;
    let (keep_dims, last) = (node.flag("keepdims", true)?, node.flag("select_last_index", false)?);
    let y = node.make(&core::ARG_REDUCE, |op| {
        let op = op.operand(x).attribute("function", function).attribute("axis", axis);
        let op = op.attribute("keep_dims", keep_dims);
        if last { op.attribute("select_last", true) } else { op }
    })?;
    node.one(y)
}

fn cumulative(node: &mut NodeContext, function: &'static str) -> Made {
    let x = node.value(0)?;
    let axis = node.known_ints(1)?;
    let [axis] = axis.as_slice() else { return Err(Fault::model("the axis must be one number")) };
    let axis = super::super::emit::axis_of(*axis, node.rank(x))?;
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    let y = node.make(&core::CUMULATIVE, |op| {
        let op = op.operand(x).attribute("function", function).attribute("axis", axis);
        op.attribute("exclusive", exclusive).attribute("reverse", reverse)
    })?;
    node.one(y)
}

fn top_k(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let axis = node.axis("axis", -1, node.rank(x))?;
    let k = if node.version < 10 {
        Dim::Known(node.required_int("k")?)
    } else {
        let k = node.dims(1)?;
        k.values.first().cloned().ok_or_else(|| Fault::model("input 1 (k) is empty"))?
    };
    // Unsorted results may come in any order; sorted ones do as well.
    let largest = node.flag("largest", true)?;
    let op = node.op(&core::TOP_K, |op| {
        op.operand(x).attribute("k", Attribute::dim(&k)).attribute("axis", axis).attribute("largest", largest)
    })?;
    let results = node.module.op(op).results.to_vec();
    node.many(&results)
}
