//! If, Loop and Scan: subgraphs become regions that see outer values.

use super::super::context::NodeContext;
use super::super::emit::axis_of;
use super::super::fault::{Fault, Outcome};
use super::super::fold;
use super::super::operand::Operand;
use super::super::schema::GraphProto;
use super::super::table::{Row, listing, since};
use super::lists::{Form, regroup};
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{OpId, ValueId};
use tilewright_ir::types::{Shape, TensorType, Type};

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    listing(1, "If", branch).refuses("branches whose results differ in rank or type"),
    listing(1, "Loop", repeat)
        .refuses("carried values whose rank or type changes; sequences over more than 1,024 rounds"),
    since(8, "Scan", scan).refuses("opset 8: sequences of different lengths"),
];

/// How often a loop's body is imported until the shapes of what it carries are stable.
const ROUNDS_MAX: usize = 4;

/// Imports a subgraph as the next region of an op; gives what it yields, all of them tensors.
fn region(
    node: &mut NodeContext,
    op: OpId,
    index: usize,
    graph: &GraphProto,
    arguments: &[TensorType],
) -> Outcome<Vec<ValueId>> {
    let values = node.open_region(op, index, arguments);
    let operands: Vec<Operand> = values.iter().map(|value| node.operand(*value)).collect();
    let outputs = node.importer.subgraph(graph, &operands)?;
    outputs.iter().map(|output| node.data(output)).collect()
}

/// Imports a branch as the next region of an op; gives what it yields, sequences taken apart, and how to put them together.
fn branch_region(
    node: &mut NodeContext,
    op: OpId,
    index: usize,
    graph: &GraphProto,
) -> Outcome<(Vec<ValueId>, Vec<Form>)> {
    node.open_region(op, index, &[]);
    let outputs = node.importer.subgraph(graph, &[])?;
    let forms = outputs.iter().map(Form::of).collect();
    let parts: Vec<Operand> = outputs.iter().flat_map(Form::parts).collect();
    let values = parts.iter().map(|part| node.data(part)).collect::<Outcome<Vec<_>>>()?;
    Ok((values, forms))
}

/// A symbol of its own for a dimension that depends on data.
fn open_dim(node: &mut NodeContext, output: usize, axis: usize) -> Dim {
    let name = node.node.output.get(output).filter(|name| !name.is_empty());
    let name =
        name.cloned().unwrap_or_else(|| format!("{}_{output}", node.node.name.as_deref().unwrap_or("loop")));
    node.symbols.open(&format!("{name}_{axis}"))
}

fn scalar(node: &mut NodeContext, value: ValueId) -> Outcome<ValueId> {
    node.reshape(value, &[])
}

fn branch(node: &mut NodeContext) -> Made {
    let (then, other) = (node.graph("then_branch")?, node.graph("else_branch")?);
    let condition = node.input(0)?;
    if let Some(known) = fold::constant(&node.module, &condition)
        && known.len() == 1
    {
        let taken = if known.int(0) != 0 { then } else { other };
        return node.importer.subgraph(taken, &[]);
    }
    let condition = node.data(&condition)?;
    let condition = scalar(node, condition)?;
    let count = node.output_count();
    if then.output.len() != count || other.output.len() != count {
        let counts = [then.output.len(), other.output.len()];
        return Err(Fault::model(format!("branches give {counts:?} outputs, expected {count}")));
    }
    // How many values sequences are taken apart into is known after the branches: they are imported into an op without results first.
    let op = node.begin_region_op(&core::IF, &[condition], Attributes::new(), 0);
    let (mut types, mut forms): (Vec<Vec<TensorType>>, Vec<Vec<Form>>) = (Vec::new(), Vec::new());
    for (index, graph) in [then, other].into_iter().enumerate() {
        let (values, form) = branch_region(node, op, index, graph)?;
        types.push(values.iter().map(|value| node.ty(*value).clone()).collect());
        forms.push(form);
        node.close_region(&values)?;
    }
    if forms[0] != forms[1] {
        let what = "branches give sequences of other lengths, or only one gives a value";
        return Err(Fault::unsupported(what, node.way_to_freeze(&node.operand(condition))));
    }
    for _ in &types[0] {
        node.module.add_result(op, Type::tensor(Element::F32, &[]));
    }
    let mut results = Vec::new();
    for (output, (a, b)) in types[0].iter().zip(&types[1]).enumerate() {
        if a.element != b.element || a.rank() != b.rank() {
            return Err(Fault::unsupported(
                format!("branches give {a} and {b} for output {output}"),
                "make both branches give one rank and type",
            ));
        }
        let mut shape = Shape::new();
        for (axis, (x, y)) in a.shape.iter().zip(&b.shape).enumerate() {
            shape.push(if x == y { x.clone() } else { open_dim(node, output, axis) });
        }
        results.push(TensorType { element: a.element, shape });
    }
    let values = node.end_region_op(op, &results);
    Ok(regroup(node, &forms[0], &values))
}

fn segments(sizes: &[usize]) -> Attributes {
    let sizes: Vec<i32> = sizes.iter().map(|size| *size as i32).collect();
    Attributes::from([("operandSegmentSizes".into(), Attribute::Segments(sizes.into()))])
}

/// Body: (iteration, condition, carried..) -> (condition, carried.., scanned..).
fn repeat(node: &mut NodeContext) -> Made {
    let body = node.graph("body")?;
    if (2..node.input_count()).any(|at| node.optional(at).is_some_and(|carried| !carried.is_tensor())) {
        return super::lists::unrolled(node, body);
    }
    let trip = node.optional_value(0)?.map(|trip| scalar(node, trip)).transpose()?;
    let condition = node.optional_value(1)?.map(|condition| scalar(node, condition)).transpose()?;
    let initial: Vec<ValueId> = (2..node.input_count()).map(|at| node.value(at)).collect::<Outcome<_>>()?;
    let carried = initial.len();
    let Some(scanned) = body.output.len().checked_sub(carried + 1) else {
        return Err(Fault::model(format!(
            "the body gives {} outputs for {carried} carried values",
            body.output.len()
        )));
    };
    if node.output_count() > carried + scanned {
        return Err(Fault::model(format!(
            "{} outputs, the body makes {}",
            node.output_count(),
            carried + scanned
        )));
    }
    let operands: Vec<ValueId> = trip.iter().chain(&condition).chain(&initial).copied().collect();
    let sizes = segments(&[usize::from(trip.is_some()), usize::from(condition.is_some()), carried]);
    let mut types: Vec<TensorType> = initial.iter().map(|value| node.ty(*value).clone()).collect();
    for _ in 0..ROUNDS_MAX {
        let reported = node.importer.diagnostics.len();
        let op = node.begin_region_op(&core::LOOP, &operands, sizes.clone(), carried + scanned);
        let mut arguments = vec![TensorType::of(Element::I64, &[]), TensorType::of(Element::Bool, &[])];
        arguments.extend(types.iter().cloned());
        let depth = node.importer.depth();
        let attempt = region(node, op, 0, body, &arguments);
        if node.importer.diagnostics.len() > reported
            && !matches!(attempt, Err(Fault::Unify(..)))
            && can_unroll(node)
        {
            // The body needs values that differ in each iteration: it is imported for each.
            node.importer.unwind(depth);
            node.module.erase(op);
            node.importer.diagnostics.truncate(reported);
            return super::lists::unrolled(node, body);
        }
        let mut values = attempt?;
        values[0] = scalar(node, values[0])?;
        let found: Vec<TensorType> = values[1..].iter().map(|value| node.ty(*value).clone()).collect();
        let runs_on = keeps_on(node, op, values[0]);
        node.close_region(&values)?;
        if let Some(wider) = widened(node, &types, &found[..carried])? {
            // What is carried changes its shape: import the body again with open dimensions.
            node.module.erase(op);
            node.importer.diagnostics.truncate(reported);
            types = wider;
            continue;
        }
        let rounds = if runs_on && condition.is_none_or(|condition| is_true(node, condition)) {
            node.optional(0)
                .and_then(|trip| node.symbolic_of(&trip))
                .and_then(|trip| trip.values.first().cloned())
        } else {
            None
        };
        let mut results = types;
        for (at, ty) in found[carried..].iter().enumerate() {
            let length = match &rounds {
                Some(rounds) => super::super::dims::larger(rounds, &Dim::Known(0)),
                None => None,
            };
            let length = length.unwrap_or_else(|| open_dim(node, carried + at, 0));
            let shape = std::iter::once(length).chain(ty.shape.iter().cloned()).collect();
            results.push(TensorType { element: ty.element, shape });
        }
        let values = node.end_region_op(op, &results);
        return node.many(&values);
    }
    Err(Fault::unsupported(
        "the shapes of what the loop carries do not settle",
        "give the body values of stable shapes",
    ))
}

/// True if a loop's count is known and small.
fn can_unroll(node: &mut NodeContext) -> bool {
    let count = node.optional(0).and_then(|trip| node.symbolic_of(&trip)).and_then(|trip| trip.known());
    count.is_some_and(|count| count.first().is_some_and(|count| *count <= super::lists::ROUNDS_MAX))
}

/// True if the condition that a body yields is its own argument or the constant true.
fn keeps_on(node: &NodeContext, op: OpId, condition: ValueId) -> bool {
    let block = node.module.entry(op, 0);
    node.module.block(block).arguments.get(1) == Some(&condition) || is_true(node, condition)
}

fn is_true(node: &NodeContext, value: ValueId) -> bool {
    let known = fold::constant(&node.module, &node.operand(value));
    known.is_some_and(|known| known.len() == 1 && known.int(0) != 0)
}

/// Types with a symbol for every dimension that the body changes; `None` when it changes none.
fn widened(
    node: &mut NodeContext,
    from: &[TensorType],
    to: &[TensorType],
) -> Outcome<Option<Vec<TensorType>>> {
    let mut changed = false;
    let mut types = Vec::new();
    for (at, (before, after)) in from.iter().zip(to).enumerate() {
        if before.element != after.element || before.rank() != after.rank() {
            return Err(Fault::unsupported(
                format!("carried value {at} begins as {before} and continues as {after}"),
                "give the body values of one rank and type",
            ));
        }
        let mut ty = before.clone();
        for axis in 0..ty.rank() {
            if before.shape[axis] != after.shape[axis] {
                ty.shape[axis] = open_dim(node, at, axis);
                changed |= ty.shape[axis] != before.shape[axis];
            }
        }
        types.push(ty);
    }
    Ok(changed.then_some(types))
}

/// How the inputs and outputs of a scan lie.
struct ScanAxes {
    from: Vec<i64>,
    reversed: Vec<i64>,
    to: Vec<i64>,
    to_reversed: Vec<i64>,
}

/// Body: (carried.., slices..) -> (carried.., scanned..).
fn scan(node: &mut NodeContext) -> Made {
    let body = node.graph("body")?;
    let first = usize::from(node.version < 9);
    let scan_count = usize::try_from(node.required_int("num_scan_inputs")?).unwrap_or(0);
    let given = node.input_count().saturating_sub(first);
    let Some(carried) = given.checked_sub(scan_count).filter(|_| scan_count > 0) else {
        return Err(Fault::model(format!("{given} inputs, {scan_count} of them scanned")));
    };
    let Some(scanned) = body.output.len().checked_sub(carried) else {
        let outputs = body.output.len();
        return Err(Fault::model(format!("the body gives {outputs} outputs for {carried} carried values")));
    };
    let list = |name: &str, count: usize| -> Outcome<Vec<i64>> {
        let list = node.ints_attribute(name)?.map_or(vec![0; count], <[i64]>::to_vec);
        if list.len() == count {
            Ok(list)
        } else {
            Err(Fault::model(format!("attribute '{name}' must have {count} entries")))
        }
    };
    let directions = if first == 1 { "directions" } else { "scan_input_directions" };
    let axes = ScanAxes {
        from: list("scan_input_axes", scan_count)?,
        reversed: list(directions, scan_count)?,
        to: list("scan_output_axes", scanned)?,
        to_reversed: list("scan_output_directions", scanned)?,
    };
    let operands: Vec<ValueId> = (first..first + given).map(|at| node.value(at)).collect::<Outcome<_>>()?;
    let values = if first == 1 {
        scan_batches(node, carried, &operands, &axes)?
    } else {
        scan_once(node, carried, &operands, &axes)?
    };
    node.many(&values)
}

/// Before opset 9 all values have a batch dimension in front; each batch is scanned on its own.
fn scan_batches(
    node: &mut NodeContext,
    carried: usize,
    operands: &[ValueId],
    axes: &ScanAxes,
) -> Outcome<Vec<ValueId>> {
    if node.optional(0).is_some() {
        let help = "convert the model to opset 9";
        return Err(Fault::unsupported("sequences of different lengths are not supported", help));
    }
    let batch = node.dim(operands[0], 0)?;
    let count = batch.known().filter(|count| (1..=super::lists::ROUNDS_MAX).contains(count));
    let count = count.ok_or_else(|| {
        Fault::unsupported(
            format!("a known number of batches is needed, found {batch}"),
            "convert the model to opset 9",
        )
    })?;
    let mut lists: Vec<Vec<ValueId>> = Vec::new();
    for at in 0..count {
        let mut parts = Vec::new();
        for value in operands {
            let part = node.slice_axis(*value, 0, &Dim::Known(at), &Dim::Known(1))?;
            let shape = node.shape(part);
            parts.push(node.reshape(part, &shape[1..])?);
        }
        let made = scan_once(node, carried, &parts, axes)?;
        lists.resize(made.len(), Vec::new());
        for (list, value) in lists.iter_mut().zip(made) {
            let shape = [&[Dim::Known(1)], node.shape(value).as_slice()].concat();
            list.push(node.reshape(value, &shape)?);
        }
    }
    lists.iter().map(|list| node.concat(list, 0)).collect()
}

fn scan_once(
    node: &mut NodeContext,
    carried: usize,
    operands: &[ValueId],
    axes: &ScanAxes,
) -> Outcome<Vec<ValueId>> {
    let body = node.graph("body")?;
    let mut arguments: Vec<TensorType> =
        operands[..carried].iter().map(|value| node.ty(*value).clone()).collect();
    let mut length = None;
    let mut plain_axes = Vec::new();
    for (value, axis) in operands[carried..].iter().zip(&axes.from) {
        let mut ty = node.ty(*value).clone();
        let axis = axis_of(*axis, ty.rank())?;
        let dim = ty.shape.remove(axis);
        if let Some(length) = &length {
            node.equate("scanned inputs differ in length", length, &dim)?;
        }
        length = Some(dim);
        plain_axes.push(axis as i64);
        arguments.push(ty);
    }
    let length = length.unwrap_or(Dim::Known(0));
    let attributes = Attributes::from([
        ("carried_count".into(), carried.into()),
        ("axes".into(), plain_axes.into()),
        ("reverse".into(), axes.reversed.clone().into()),
    ]);
    let scanned = axes.to.len();
    let op = node.begin_region_op(&core::SCAN, operands, attributes, carried + scanned);
    let values = region(node, op, 0, body, &arguments)?;
    let found: Vec<TensorType> = values.iter().map(|value| node.ty(*value).clone()).collect();
    for (at, (before, after)) in arguments[..carried].iter().zip(&found).enumerate() {
        let same = before.element == after.element && before.rank() == after.rank();
        let what = format!("carried value {at} begins as {before} and continues as {after}");
        if !same {
            return Err(Fault::model(what));
        }
        for (x, y) in before.shape.iter().zip(&after.shape) {
            node.equate(&what, x, y)?;
        }
    }
    node.close_region(&values)?;
    let mut results = found;
    for ty in &mut results[carried..] {
        ty.shape.insert(0, length.clone());
    }
    let mut values = node.end_region_op(op, &results);
    for at in 0..scanned {
        let is_reversed = axes.to_reversed[at] != 0;
        values[carried + at] = placed(node, values[carried + at], axes.to[at], is_reversed, &length)?;
    }
    Ok(values)
}

/// A stacked result with its new axis where it is asked for, last first when reversed.
fn placed(
    node: &mut NodeContext,
    value: ValueId,
    axis: i64,
    reversed: bool,
    length: &Dim,
) -> Outcome<ValueId> {
    let rank = node.rank(value);
    let axis = axis_of(axis, rank)?;
    let mut value = value;
    if reversed {
        value = reverse(node, value, 0, length)?;
    }
    let mut permutation: Vec<usize> = (1..rank).collect();
    permutation.insert(axis, 0);
    node.transpose(value, &permutation)
}

/// The elements of an axis, last first.
pub(super) fn reverse(node: &mut NodeContext, value: ValueId, axis: usize, length: &Dim) -> Outcome<ValueId> {
    let shape = node.shape(value);
    let mut starts = vec![Dim::Known(0); shape.len()];
    let mut steps = vec![1; shape.len()];
    starts[axis] = length - &Dim::Known(1);
    steps[axis] = -1;
    node.slice(value, starts, steps, shape)
}
