//! Operators that rename or move elements: reshape and its kin, transpose, slice, split, concat, expand, tile, pad and more.

use super::super::context::NodeContext;
use super::super::dims;
use super::super::emit::axis_of;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::symbolic::Symbolic;
use super::super::table::{Row, microsoft, newest, since, standard};
use super::sizes::as_shape;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::{Dim, Function};
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::shape::text;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::{Shape, TensorType};

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    standard("Concat", concat).moving_strings(),
    standard("DepthToSpace", depth_to_space),
    since(8, "Expand", expand).moving_strings(),
    standard("Flatten", flatten).moving_strings(),
    standard("Pad", pad),
    standard("Reshape", reshape).moving_strings(),
    standard("Slice", slice).moving_strings(),
    standard("SpaceToDepth", space_to_depth),
    standard("Split", split).moving_strings(),
    standard("Squeeze", squeeze).moving_strings(),
    standard("Tile", tile).moving_strings(),
    standard("Transpose", transpose).moving_strings(),
    since(14, "Trilu", trilu),
    standard("Unsqueeze", unsqueeze).moving_strings(),
    microsoft("ExpandDims", |node| newest(node, unsqueeze)),
    microsoft("Pad", |node| newest(node, pad)),
    microsoft("Trilu", trilu),
];

/// An operand under another shape: stored and symbolic ones stay so.
pub(super) fn reshaped(node: &mut NodeContext, x: &Operand, shape: &[Dim]) -> Outcome<Operand> {
    let known: Option<Vec<usize>> = shape.iter().map(|dim| usize::try_from(dim.known()?).ok()).collect();
    if let Some(known) = known {
        if let Some(constant) = x.reinterpret(TensorType::new(x.element(), shape.iter().cloned())) {
            return Ok(constant);
        }
        if let Some(result) = x.as_symbolic().and_then(|symbolic| symbolic.reshape(&known)) {
            return Ok(Operand::symbolic(result));
        }
    }
    let value = node.data(x)?;
    let y = node.reshape(value, shape)?;
    Ok(node.operand(y))
}

fn reshape(node: &mut NodeContext) -> Made {
    let x = node.input(0)?;
    let wanted = match node.ints_attribute("shape")? {
        Some(shape) if node.version < 5 => {
            Symbolic::vector(shape.iter().map(|dim| Dim::Known(*dim)).collect())
        }
        _ => Some(node.dims(1)?),
    };
    let wanted = wanted.ok_or_else(|| Fault::model("the shape has too many dimensions"))?;
    if wanted.shape.len() != 1 {
        return Err(Fault::model(format!("the shape must be a vector, found {:?}", wanted.shape)));
    }
    let copies_zero = !node.flag("allowzero", false)?;
    let mut shape = Vec::new();
    let mut open = None;
    for (at, dim) in wanted.values.iter().enumerate() {
        shape.push(match dim.known() {
            Some(0) if copies_zero => x.shape().get(at).cloned().ok_or_else(|| {
                Fault::model(format!("dimension {at} of the shape copies from an input of rank {}", x.rank()))
            })?,
            Some(-1) if open.is_none() => {
                open = Some(at);
                Dim::Known(1)
            }
            Some(value) if value < 0 => {
                return Err(Fault::model(format!("the shape {} is not valid", text(&wanted.values))));
            }
            _ => dim.clone(),
        });
    }
    if let Some(at) = open {
        shape[at] = rest_of(x.shape(), &shape)?;
    }
    Ok(vec![reshaped(node, &x, &shape)?])
}

/// The dimension that makes the element counts equal.
fn rest_of(from: &Shape, shape: &[Dim]) -> Outcome<Dim> {
    let too_long = || Fault::unsupported("the element count is too long an expression", "bind dimensions");
    let mut from: Vec<Dim> = from.to_vec();
    let mut to: Vec<Dim> = shape.to_vec();
    // Dimensions that both sides share need no division: batch, seq and the like.
    to.retain(|dim| match from.iter().position(|other| other == dim) {
        Some(at) if dim.known() != Some(0) => {
            from.remove(at);
            false
        }
        _ => true,
    });
    let total = dims::product(&from).ok_or_else(too_long)?;
    let others = dims::product(&to).ok_or_else(too_long)?;
    if let Some(exact) = total.divide_exactly(&others) {
        return Ok(exact);
    }
    match (total.known(), others.known()) {
        (_, Some(0)) => Err(Fault::model(format!("cannot infer a dimension of shape {}", text(shape)))),
        (Some(total), Some(others)) => Err(Fault::model(format!(
            "{total} elements cannot be divided by {others} (shape {})",
            text(shape)
        ))),
        _ => dims::call(Function::FloorDiv, &total, &others).ok_or_else(too_long),
    }
}

fn squeeze(node: &mut NodeContext) -> Made {
    let x = node.input(0)?;
    let axes = match node.axes(1, x.rank())? {
        Some(axes) => axes,
        None => (0..x.rank()).filter(|axis| x.shape()[*axis] == Dim::Known(1)).collect(),
    };
    for axis in &axes {
        let what = format!("cannot squeeze axis {axis} of {}", x.ty());
        node.equate(&what, &x.shape()[*axis], &Dim::Known(1))?;
    }
    let shape: Vec<Dim> = x
        .shape()
        .iter()
        .enumerate()
        .filter(|(axis, _)| !axes.contains(axis))
        .map(|(_, dim)| dim.clone())
        .collect();
    Ok(vec![reshaped(node, &x, &shape)?])
}

fn unsqueeze(node: &mut NodeContext) -> Made {
    let x = node.input(0)?;
    let count = match node.ints_attribute("axes")? {
        Some(axes) => axes.len(),
        None => node.known_ints(1)?.len(),
    };
    let mut axes = node.axes(1, x.rank() + count)?.unwrap_or_default();
    axes.sort_unstable();
    if axes.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Fault::model(format!("the axes {axes:?} name one twice")));
    }
    let mut shape = x.shape().to_vec();
    for axis in axes {
        shape.insert(axis, Dim::Known(1));
    }
    Ok(vec![reshaped(node, &x, &shape)?])
}

fn flatten(node: &mut NodeContext) -> Made {
    let x = node.input(0)?;
    let axis = node.int("axis", 1)?;
    let axis = if axis == x.rank() as i64 { x.rank() } else { axis_of(axis, x.rank())? };
    let part = |dims: &[Dim]| {
        dims::product(dims).ok_or_else(|| Fault::model("the element count is too long an expression"))
    };
    let shape = [part(&x.shape()[..axis])?, part(&x.shape()[axis..])?];
    Ok(vec![reshaped(node, &x, &shape)?])
}

fn transpose(node: &mut NodeContext) -> Made {
    let x = node.input(0)?;
    let rank = x.rank();
    let permutation: Vec<usize> = match node.ints_attribute("perm")? {
        Some(axes) => axes.iter().map(|axis| axis_of(*axis, rank)).collect::<Outcome<_>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = permutation.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Err(Fault::model(format!(
            "attribute 'perm' = {permutation:?} is no permutation of {rank} axes"
        )));
    }
    if let Some(result) = x.as_symbolic().and_then(|symbolic| symbolic.transpose(&permutation)) {
        return Ok(vec![Operand::symbolic(result)]);
    }
    let x = node.value(0)?;
    let y = node.transpose(x, &permutation)?;
    node.one(y)
}

fn concat(node: &mut NodeContext) -> Made {
    let first = node.input(0)?;
    let axis = node.axis("axis", 1, first.rank())?;
    if let Some(parts) = node.all_symbolic()
        && parts.iter().all(|part| part.shape.len() == first.rank() && part.element == first.element())
        && let Some(result) = Symbolic::concat(&parts, axis)
    {
        return Ok(vec![Operand::symbolic(result)]);
    }
    let parts: Vec<ValueId> = (0..node.input_count()).map(|at| node.value(at)).collect::<Outcome<_>>()?;
    let y = node.concat(&parts, axis)?;
    node.one(y)
}

fn expand(node: &mut NodeContext) -> Made {
    let x = node.input(0)?;
    let shape = as_shape(&node.dims(1)?)?;
    // The shape broadcasts with x in both directions.
    let result = node.broadcast_shape(x.shape(), &shape)?;
    let known: Option<Vec<usize>> = result.iter().map(|dim| usize::try_from(dim.known()?).ok()).collect();
    if let (Some(symbolic), Some(known)) = (x.as_symbolic(), known)
        && let Some(result) = symbolic.broadcast(&known)
    {
        return Ok(vec![Operand::symbolic(result)]);
    }
    let x = node.value(0)?;
    let y = node.broadcast(x, &result)?;
    node.one(y)
}

/// Repeats along every axis: a new axis before each repeated one, broadcast, and folded in.
fn tile(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let repeats = as_shape(&node.dims(1)?)?;
    let shape = node.shape(x);
    if repeats.len() != shape.len() {
        return Err(Fault::model(format!("{} repeats for an input of rank {}", repeats.len(), shape.len())));
    }
    let (mut apart, mut spread, mut joined) = (Vec::new(), Vec::new(), Vec::new());
    for (dim, repeat) in shape.iter().zip(&repeats) {
        if *repeat != Dim::Known(1) {
            apart.push(Dim::Known(1));
            spread.push(repeat.clone());
        }
        apart.push(dim.clone());
        spread.push(dim.clone());
        joined.push(
            dims::multiply(dim, repeat)
                .ok_or_else(|| Fault::model("a dimension is too long an expression"))?,
        );
    }
    let y = node.reshape(x, &apart)?;
    let y = node.broadcast(y, &spread)?;
    let y = node.reshape(y, &joined)?;
    node.one(y)
}

fn depth_to_space(node: &mut NodeContext) -> Made {
    let (x, block) = (node.value(0)?, node.required_int("blocksize")?);
    let shape = image_shape(node, x)?;
    let is_column_first = node.text("mode", "DCR")? == "CRD";
    let b = Dim::Known(block);
    let depth = shape[1].divide_exactly(&Dim::Known(block.saturating_mul(block)));
    let depth = depth
        .ok_or_else(|| Fault::model(format!("{} channels do not split into blocks of {block}", shape[1])))?;
    let (height, width) = (shape[2].clone(), shape[3].clone());
    let (apart, permutation) = if is_column_first {
        (
            [shape[0].clone(), depth.clone(), b.clone(), b.clone(), height.clone(), width.clone()],
            [0, 1, 4, 2, 5, 3],
        )
    } else {
        (
            [shape[0].clone(), b.clone(), b.clone(), depth.clone(), height.clone(), width.clone()],
            [0, 3, 4, 1, 5, 2],
        )
    };
    let y = node.reshape(x, &apart)?;
    let y = node.transpose(y, &permutation)?;
    let y = node.reshape(y, &[shape[0].clone(), depth, &height * &b, &width * &b])?;
    node.one(y)
}

fn space_to_depth(node: &mut NodeContext) -> Made {
    let (x, block) = (node.value(0)?, node.required_int("blocksize")?);
    let shape = image_shape(node, x)?;
    let b = Dim::Known(block);
    let split = |dim: &Dim| {
        dim.divide_exactly(&b)
            .ok_or_else(|| Fault::model(format!("dimension {dim} does not split into blocks of {block}")))
    };
    let (height, width) = (split(&shape[2])?, split(&shape[3])?);
    let apart = [shape[0].clone(), shape[1].clone(), height.clone(), b.clone(), width.clone(), b.clone()];
    let y = node.reshape(x, &apart)?;
    let is_column_first = node.text("mode", "DCR")? == "CRD";
    let y = node.transpose(y, if is_column_first { &[0, 1, 3, 5, 2, 4] } else { &[0, 3, 5, 1, 2, 4] })?;
    let depth = &shape[1] * &Dim::Known(block.saturating_mul(block));
    let y = node.reshape(y, &[shape[0].clone(), depth, height, width])?;
    node.one(y)
}

fn image_shape(node: &NodeContext, x: ValueId) -> Outcome<Shape> {
    let shape = node.shape(x);
    if shape.len() == 4 {
        Ok(shape)
    } else {
        Err(Fault::model(format!("an image of rank 4 is needed, found {}", node.ty(x))))
    }
}

/// The smaller of an index and a length. An index that follows from symbols is taken to lie within a known length: `table[:seq]` of 512 rows
/// asks for sequences of at most 512, and a longer one is an error of the run, not a short result.
fn within(index: &Dim, length: &Dim) -> Option<Dim> {
    if length.known().is_some() && index.known().is_none() {
        Some(index.clone())
    } else {
        dims::smaller_present(index, length)
    }
}

/// What a slice takes of one axis: its start counted from 0, and how many.
fn clamp_slice(dim: &Dim, start: &Dim, end: &Dim, step: i64) -> Option<(Dim, Dim)> {
    let (zero, one) = (Dim::Known(0), Dim::Known(1));
    // Ends far beyond any dimension mean "to the end".
    let is_far = |at: &Dim| at.known().is_some_and(|value| value.unsigned_abs() >= 1 << 31);
    let from_end = |at: &Dim| match dims::is_less(at, &zero) {
        _ if is_far(at) => Some(if at.known()? > 0 { dim.clone() } else { Dim::Known(-1) }),
        Some(true) => dims::add(at, dim),
        Some(false) => Some(at.clone()),
        None => None,
    };
    if step > 0 {
        let low = |at: &Dim| {
            if is_far(at) && at.known()? < 0 {
                Some(zero.clone())
            } else {
                dims::larger(&from_end(at)?, &zero)
            }
        };
        let start = within(&low(start)?, dim)?;
        let end = within(&low(end)?, dim)?;
        let span = dims::larger(&dims::subtract(&end, &start)?, &zero)?;
        let raised = dims::add(&span, &Dim::Known(step.checked_sub(1)?))?;
        return Some((start, dims::call(Function::FloorDiv, &raised, &Dim::Known(step))?));
    }
    let last = dims::subtract(dim, &one)?;
    let start = dims::smaller(&dims::larger(&from_end(start)?, &zero)?, &last)?;
    let end = dims::smaller(&dims::larger(&from_end(end)?, &Dim::Known(-1))?, &last)?;
    let span = dims::larger(&dims::subtract(&start, &end)?, &zero)?;
    let size = step.checked_neg()?;
    let raised = dims::add(&span, &Dim::Known(size - 1))?;
    Some((start, dims::call(Function::FloorDiv, &raised, &Dim::Known(size))?))
}

fn slice(node: &mut NodeContext) -> Made {
    let x = node.input(0)?;
    let rank = x.rank();
    let vector = |values: &[i64]| -> Vec<Dim> { values.iter().map(|value| Dim::Known(*value)).collect() };
    let (starts, ends, axes, steps) = if node.version < 10 {
        let list = |name: &str| node.ints_attribute(name);
        let missing = || Fault::model("attributes 'starts' and 'ends' are missing");
        let starts = vector(list("starts")?.ok_or_else(missing)?);
        (starts, vector(list("ends")?.ok_or_else(missing)?), list("axes")?.map(<[i64]>::to_vec), None)
    } else {
        let axes = node.optional(3).map(|_| node.known_ints(3)).transpose()?;
        let steps = node.optional(4).map(|_| node.known_ints(4)).transpose()?;
        (node.dims(1)?.values, node.dims(2)?.values, axes, steps)
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        let counts = [starts.len(), ends.len(), axes.len(), steps.len()];
        return Err(Fault::model(format!("starts, ends, axes and steps have {counts:?} entries")));
    }
    let mut all_starts = vec![Dim::Known(0); rank];
    let mut all_steps = vec![1i64; rank];
    let mut shape = x.shape().clone();
    for (at, axis) in axes.iter().enumerate() {
        let axis = axis_of(*axis, rank)?;
        if steps[at] == 0 {
            return Err(Fault::model("a step is 0"));
        }
        let (start, length) =
            clamp_slice(&shape[axis], &starts[at], &ends[at], steps[at]).ok_or_else(|| {
                let what =
                    format!("slice {}..{} of dimension {} is undecided", starts[at], ends[at], shape[axis]);
                Fault::unsupported(what, "bind the dimensions with --bind NAME=VALUE")
            })?;
        all_starts[axis] = start;
        all_steps[axis] = steps[at];
        shape[axis] = length;
    }
    if shape == *x.shape() && all_steps.iter().all(|step| *step == 1) {
        return Ok(vec![x]);
    }
    if let Some(result) = slice_symbolic(&x, &all_starts, &shape, &all_steps) {
        return Ok(vec![Operand::symbolic(result)]);
    }
    let x = node.value(0)?;
    let y = node.slice(x, all_starts, all_steps, shape)?;
    node.one(y)
}

fn slice_symbolic(x: &Operand, starts: &[Dim], shape: &Shape, steps: &[i64]) -> Option<Symbolic> {
    let symbolic = x.as_symbolic()?;
    let starts: Option<Vec<i64>> = starts.iter().map(Dim::known).collect();
    let counts: Option<Vec<usize>> = shape.iter().map(|dim| usize::try_from(dim.known()?).ok()).collect();
    symbolic.slice(&starts?, &counts?, steps)
}

fn split(node: &mut NodeContext) -> Made {
    let x = node.input(0)?;
    let axis = node.axis("axis", 0, x.rank())?;
    let dim = x.shape()[axis].clone();
    let sizes: Vec<Dim> = match node.ints_attribute("split")? {
        Some(sizes) => sizes.iter().map(|size| Dim::Known(*size)).collect(),
        None if node.optional(1).is_some() => as_shape(&node.dims(1)?)?,
        None => {
            let count = node.int("num_outputs", node.output_count() as i64)?;
            even_sizes(&dim, count)?
        }
    };
    let mut start = Dim::Known(0);
    let mut parts = Vec::new();
    for size in &sizes {
        let mut shape = x.shape().clone();
        shape[axis] = size.clone();
        let mut starts = vec![Dim::Known(0); x.rank()];
        starts[axis] = start.clone();
        let steps = vec![1; x.rank()];
        parts.push(match slice_symbolic(&x, &starts, &shape, &steps) {
            Some(result) => Operand::symbolic(result),
            None => {
                let value = node.value(0)?;
                let part = node.slice_axis(value, axis, &start, size)?;
                node.operand(part)
            }
        });
        start =
            dims::add(&start, size).ok_or_else(|| Fault::model("the parts are too long an expression"))?;
    }
    node.equate(&format!("the parts of a split along dimension {dim} do not add up"), &start, &dim)?;
    Ok(parts)
}

/// Parts of equal size; the last one takes what is left.
fn even_sizes(dim: &Dim, count: i64) -> Outcome<Vec<Dim>> {
    if !(1..=65536).contains(&count) {
        return Err(Fault::model(format!("cannot split into {count} parts")));
    }
    if let Some(exact) = dim.divide_exactly(&Dim::Known(count)) {
        return Ok(vec![exact; count as usize]);
    }
    let Some(total) = dim.known() else {
        return Err(Fault::unsupported(
            format!("cannot split dimension {dim} into {count} equal parts"),
            "bind it",
        ));
    };
    let size = total.saturating_add(count - 1) / count;
    Ok((0..count)
        .map(|at| Dim::Known(total.saturating_sub(at.saturating_mul(size)).clamp(0, size)))
        .collect())
}

fn pad(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let rank = node.rank(x);
    let mode = node.text("mode", "constant")?;
    let (pads, fill) = if node.version < 11 {
        let pads = node.ints_attribute("pads")?.ok_or_else(|| Fault::model("attribute 'pads' is missing"))?;
        let value = node.float("value", 0.0)?;
        let fill = if mode == "constant" && value != 0.0 { Some(node.scalar_like(x, value)?) } else { None };
        (pads.iter().map(|pad| Dim::Known(*pad)).collect::<Vec<_>>(), fill)
    } else {
        let fill = node.optional_value(2)?;
        let fill = fill.map(|fill| node.reshape(fill, &[])).transpose()?;
        (node.dims(1)?.values, fill.filter(|_| mode == "constant"))
    };
    let axes = match node.optional(3) {
        Some(_) => {
            node.known_ints(3)?.into_iter().map(|axis| axis_of(axis, rank)).collect::<Outcome<Vec<_>>>()?
        }
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Fault::model(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let (mut low, mut high) = (vec![Dim::Known(0); rank], vec![Dim::Known(0); rank]);
    for (at, axis) in axes.iter().enumerate() {
        low[*axis] = pads[at].clone();
        high[*axis] = pads[at + axes.len()].clone();
    }
    if low.iter().chain(&high).all(|pad| *pad == Dim::Known(0)) {
        return node.one(x);
    }
    let y = node.make(&core::PAD, |op| {
        let op = op.operand(x).maybe(fill).attribute("low", low).attribute("high", high);
        op.attribute("mode", mode.as_str())
    })?;
    node.one(y)
}

/// The upper or lower triangle, zeros elsewhere.
fn trilu(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let (shape, element) = (node.shape(x), node.element(x));
    let rank = shape.len();
    if rank < 2 {
        return Err(Fault::model(format!("a matrix is needed, found {}", node.ty(x))));
    }
    let matrix = &shape[rank - 2..];
    let (rows, columns) = (node.iota(Element::I64, matrix, 0)?, node.iota(Element::I64, matrix, 1)?);
    let diagonal = match node.optional_value(1)? {
        Some(offset) => {
            let offset = node.reshape(offset, &[])?;
            node.add(rows, offset)?
        }
        None => rows,
    };
    let predicate = if node.flag("upper", true)? { "ge" } else { "le" };
    let keeps = node.compare(predicate, columns, diagonal)?;
    let zero = node.tensor(&Tensor::splat(element, &[], 0.0))?;
    let y = node.select(keeps, x, zero)?;
    node.one(y)
}
