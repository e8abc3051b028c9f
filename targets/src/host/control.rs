//! Control flow on the host: conditions and loops of commands, carried values in buffers that outlive an iteration.

use super::HostRow;
use crate::lowering::LoweringContext;
use crate::view::View;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{BlockId, OpId, Source, ValueId};
use tilewright_ir::op_def::normalize_axis;

pub(super) static ROWS: &[HostRow] = &[
    HostRow::regions(&core::IF, condition),
    HostRow::regions(&core::LOOP, repeat),
    HostRow::regions(&core::SCAN, scan),
];

/// Iterations that a loop without a known trip count may run.
const TRIPS_MAX: i64 = i32::MAX as i64;

fn yielded(context: &LoweringContext, block: BlockId) -> Vec<ValueId> {
    let end = context.source.terminator(block);
    end.map(|end| context.op(end).operands.to_vec()).unwrap_or_default()
}

/// Lowers a kernel's ops in place: its arguments are the operands, its results what it yields.
pub(crate) fn inline_kernel(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let block = context.source.entry(op, 0);
    let operation = context.op(op);
    for (argument, operand) in context.source.block(block).arguments.iter().zip(&operation.operands) {
        context.pass_argument(*argument, *operand)?;
    }
    let values = yielded(context, block);
    for (value, result) in values.iter().zip(&operation.results) {
        let place = context.reserved.get(result).cloned();
        if let Some(place) = place
            && is_made_in(context, *value, block)
        {
            context.reserved.entry(*value).or_insert(place);
        }
    }
    context.lower_block(block);
    for (value, result) in values.iter().zip(&operation.results) {
        let view = context.view(*value)?;
        context.define(*result, view)?;
    }
    Ok(())
}

fn is_made_in(context: &LoweringContext, value: ValueId, block: BlockId) -> bool {
    match context.source.value(value).source {
        Source::Result(op, _) => context.op(op).parent == Some(block) && !context.folded.contains(&value),
        Source::Argument(..) => false,
    }
}

/// One truth value or number as a scalar view.
fn scalar(view: &View) -> Result<View, String> {
    view.reshape(&[]).ok_or_else(|| "a condition or trip count must be one element".to_string())
}

fn is_counted(context: &LoweringContext, dim: &Dim) -> bool {
    dim.as_symbol().is_some_and(|name| context.counted.contains(name))
}

/// Where the length of a place is only known at run time, puts that of `view` into its register.
fn say_lengths(context: &mut LoweringContext, place: &View, view: &View) -> Result<(), String> {
    for (dim, length) in place.dims.iter().zip(&view.dims) {
        if let Some(name) = dim.as_symbol().filter(|_| dim != length && is_counted(context, dim)) {
            let number = context.host_buffer(Element::I64, &[])?;
            store_expression(context, &number, length)?;
            set_register(context, name, &number)?;
        }
    }
    Ok(())
}

fn condition(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let condition = scalar(&context.operand(op, 0)?)?;
    let results = context.op(op).results.clone();
    let places = results.iter().map(|result| context.destination(*result)).collect::<Result<Vec<_>, _>>()?;
    let condition = context.value(&condition)?;
    let branch = context.builder().op(&tile::IF).operand(condition).build()?;
    for region in 0..2 {
        let block = context.source.entry(op, region);
        context.in_region(branch, region, |context| {
            let values = yielded(context, block);
            for (value, place) in values.iter().zip(&places) {
                let is_settled = place.dims.iter().all(|dim| !is_counted(context, dim));
                if is_settled && is_made_in(context, *value, block) {
                    context.reserved.entry(*value).or_insert_with(|| place.clone());
                }
            }
            context.lower_block(block);
            for (value, place) in values.iter().zip(&places) {
                let view = context.view(*value)?;
                say_lengths(context, place, &view)?;
                context.host_copy(place, &view)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Carried values of a loop: buffers that start with the initial values.
fn carried_places(
    context: &mut LoweringContext,
    results: &[ValueId],
    initial: &[ValueId],
) -> Result<Vec<View>, String> {
    let mut places = Vec::new();
    for (result, initial) in results.iter().zip(initial) {
        let place = context.destination(*result)?;
        let view = context.view(*initial)?;
        context.host_copy(&place, &view)?;
        places.push(place);
    }
    Ok(places)
}

/// Brings yielded values to the carried places, all at once: one that lies in a carried buffer is copied aside first.
fn carry(context: &mut LoweringContext, values: &[ValueId], places: &[View]) -> Result<(), String> {
    let mut moves = Vec::new();
    for (value, place) in values.iter().zip(places) {
        let mut view = context.view(*value)?;
        if view == *place {
            continue;
        }
        if places.iter().any(|other| other.buffer == view.buffer) {
            let aside = context.host_buffer(view.element, &view.dims)?;
            context.host_copy(&aside, &view)?;
            view = aside;
        }
        moves.push((place, view));
    }
    for (place, view) in moves {
        context.host_copy(place, &view)?;
    }
    Ok(())
}

/// Stacks what an iteration yields along axis 0.
fn stack(
    context: &mut LoweringContext,
    values: &[ValueId],
    places: &[View],
    index: &Dim,
) -> Result<(), String> {
    for (value, place) in values.iter().zip(places) {
        let view = context.view(*value)?;
        context.host_copy(&place.at(0, index), &view)?;
    }
    Ok(())
}

/// How often a loop runs at most.
struct Trips {
    limit: Dim,
    /// Largest value of the limit.
    maximum: i64,
    /// One boolean: the model asks for more iterations than the maximum. None when it cannot.
    wants_more: Option<View>,
}

/// The trip count as a loop limit of at most `maximum`. A count in memory is clamped and read into a register.
fn trips(context: &mut LoweringContext, op: OpId, maximum: i64) -> Result<Trips, String> {
    let known = |limit: i64| Trips { limit: Dim::Known(limit), maximum: limit, wants_more: None };
    let value = context.source.operand_at(op, 0);
    let elements = value.and_then(|value| context.elements(value));
    if value.is_none() || elements.is_some() {
        let count = match elements {
            Some(elements) => tilewright_ir::tensor::Tensor::from_elements(elements)?,
            None => return without_count(context, maximum),
        };
        let count = if count.is_empty() { 0 } else { count.int(0).max(0) };
        return if count <= maximum { Ok(known(count)) } else { without_count(context, maximum) };
    }
    let value = value.ok_or("a loop's trip count is missing")?;
    if let Some(size) = context.source.producer_of(value, &core::SIZE) {
        let count = context.fields(size).dim("value")?;
        let largest = context.maximum(&count)?;
        if largest <= maximum {
            return Ok(Trips { limit: count, maximum: largest, wants_more: None });
        }
    }
    let count = scalar(&context.view(value)?)?;
    let clamped = context.host_buffer(count.element, &[])?;
    let (low, high) = (context.scalar(count.element, 0.0)?, context.scalar(count.element, maximum as f64)?);
    context.host_binary("max", &clamped, &count, &low)?;
    context.host_binary("min", &clamped, &clamped, &high)?;
    let register = context.new_symbol("trips");
    context.declare_register(&register, 0, maximum, "scratch")?;
    set_register(context, &register, &clamped)?;
    let wants_more = if maximum < TRIPS_MAX {
        let more = context.host_buffer(Element::Bool, &[])?;
        context.host_binary("gt", &more, &count, &high)?;
        Some(more)
    } else {
        None
    };
    Ok(Trips { limit: Dim::symbol(&register), maximum, wants_more })
}

/// A loop that only its condition ends.
fn without_count(context: &mut LoweringContext, maximum: i64) -> Result<Trips, String> {
    let wants_more = if maximum < TRIPS_MAX { Some(context.scalar(Element::Bool, 1.0)?) } else { None };
    Ok(Trips { limit: Dim::Known(maximum), maximum, wants_more })
}

pub(super) fn set_register(
    context: &mut LoweringContext,
    register: &str,
    source: &View,
) -> Result<(), String> {
    let source = context.value(source)?;
    context
        .builder()
        .op(&tile::SET_REGISTER)
        .operand(source)
        .attribute("register", register)
        .build()
        .map(|_| ())
}

fn store_expression(context: &mut LoweringContext, destination: &View, value: &Dim) -> Result<(), String> {
    let name = context.value(destination)?;
    let op = context
        .builder()
        .op(&tile::STORE_EXPRESSION)
        .operand(name)
        .attribute("value", Attribute::dim(value))
        .build();
    op.map(|_| ())
}

/// What a loop has besides its body.
struct Loop {
    carried: Vec<View>,
    scanned: Vec<View>,
    keep_going: View,
    /// Iterations done, when somebody asks.
    count: Option<View>,
}

fn repeat(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let initial = context.source.operands_at(op, 2).to_vec();
    let results = context.op(op).results.to_vec();
    let (carried, scanned) = results.split_at(initial.len());
    let lengths = scanned.iter().filter_map(|value| context.source.tensor(*value)?.shape.first().cloned());
    let lengths: Vec<Dim> = lengths.collect();
    let room = lengths.iter().filter_map(|dim| context.ranges.maximum(dim)).min().unwrap_or(TRIPS_MAX);
    let trips = trips(context, op, room)?;
    let counted = |dim: &&Dim| dim.as_symbol().is_some_and(|name| context.counted.contains(name));
    let length = lengths.iter().find(counted).and_then(Dim::as_symbol).cloned();
    let carried = carried_places(context, carried, &initial)?;
    let scanned = scanned.iter().map(|result| context.destination(*result)).collect::<Result<Vec<_>, _>>()?;
    let keep_going = context.host_buffer(Element::Bool, &[])?;
    match context.optional(op, 1)? {
        Some(condition) => context.host_copy(&keep_going, &scalar(&condition)?)?,
        None => context.host_fill(&keep_going, 1.0)?,
    }
    let needs_count = length.is_some() || trips.wants_more.is_some();
    let count = if needs_count { Some(context.host_buffer(Element::I64, &[])?) } else { None };
    if let Some(count) = &count {
        store_expression(context, count, &Dim::Known(0))?;
    }
    let parts = Loop { carried, scanned, keep_going, count };
    let variable = context.new_symbol("i");
    context.ranges.insert(&variable, 0, (trips.maximum - 1).max(0));
    let outer = context
        .builder()
        .op(&tile::LOOP)
        .attribute("variable", variable.as_str())
        .attribute("limit", Attribute::dim(&trips.limit))
        .build()?;
    context.in_region(outer, 0, |context| iteration(context, op, &parts, &Dim::symbol(&variable)))?;
    if let (Some(length), Some(count)) = (&length, &parts.count) {
        set_register(context, length, count)?;
    }
    if let (Some(wants_more), Some(count)) = (&trips.wants_more, &parts.count) {
        refuse_overflow(context, wants_more, count, &parts.keep_going, trips.maximum)?;
    }
    Ok(())
}

fn iteration(context: &mut LoweringContext, op: OpId, parts: &Loop, index: &Dim) -> Result<(), String> {
    let block = context.source.entry(op, 0);
    let arguments = context.source.block(block).arguments.clone();
    let condition = context.value(&parts.keep_going)?;
    context.builder().op(&tile::BREAK_UNLESS).operand(condition).build()?;
    let counter = context.host_buffer(Element::I64, &[])?;
    store_expression(context, &counter, index)?;
    let given = [counter, parts.keep_going.clone()].into_iter().chain(parts.carried.iter().cloned());
    for (argument, view) in arguments.iter().zip(given) {
        // Some exporters give the counter or the condition a dimension of 1.
        let dims = context.ty(*argument)?.shape.to_vec();
        let reshaped = if view.dims == dims { Some(view) } else { view.reshape(&dims) };
        context.views.insert(*argument, reshaped.ok_or("a loop argument has another shape")?);
    }
    context.lower_block(block);
    let values = yielded(context, block);
    stack(context, &values[1 + parts.carried.len()..], &parts.scanned, index)?;
    let condition = scalar(&context.view(values[0])?)?;
    let mut places = parts.carried.clone();
    places.push(parts.keep_going.clone());
    // The condition moves with the carried values: it may be read from one.
    let mut all = values[1..1 + parts.carried.len()].to_vec();
    all.push(values[0]);
    context.views.insert(values[0], condition);
    carry(context, &all, &places)?;
    match &parts.count {
        Some(count) => store_expression(context, count, &(index + &Dim::Known(1))),
        None => Ok(()),
    }
}

/// A loop that wants to go on where its scanned results are full is a run error: a register that holds only 0 is set to 1.
fn refuse_overflow(
    context: &mut LoweringContext,
    wants_more: &View,
    count: &View,
    keep_going: &View,
    maximum: i64,
) -> Result<(), String> {
    let is_full = context.host_buffer(Element::Bool, &[])?;
    let full = context.scalar(Element::I64, maximum as f64)?;
    context.host_binary("eq", &is_full, count, &full)?;
    context.host_binary("and", &is_full, &is_full, keep_going)?;
    context.host_binary("and", &is_full, &is_full, wants_more)?;
    let number = context.host_cast(&is_full, Element::I64)?;
    let register = context.new_symbol("loop_overflow");
    context.declare_register(&register, 0, 0, "scratch")?;
    set_register(context, &register, &number)
}

fn scan(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let fields = context.fields(op);
    let operands = context.op(op).operands.to_vec();
    let carried_count = (fields.int("carried_count", 0).max(0) as usize).min(operands.len());
    let results = context.op(op).results.to_vec();
    let carried = carried_places(context, &results[..carried_count], &operands[..carried_count])?;
    let stacked = results[carried_count..]
        .iter()
        .map(|result| context.destination(*result))
        .collect::<Result<Vec<_>, _>>()?;
    let mut sliced = Vec::new();
    for (at, value) in operands[carried_count..].iter().enumerate() {
        let view = context.view(*value)?;
        let axis = fields.ints("axes").get(at).copied().unwrap_or(0);
        let axis =
            normalize_axis(axis, view.rank()).ok_or_else(|| format!("scan axis {axis} is out of range"))?;
        let reversed = fields.ints("reverse").get(at).copied().unwrap_or(0) != 0;
        sliced.push((if reversed { view.reversed(axis) } else { view }, axis));
    }
    let (first, axis) = sliced.first().ok_or("a scan needs something to scan")?;
    let limit = first.dims[*axis].clone();
    let block = context.source.entry(op, 0);
    let arguments = context.source.block(block).arguments.clone();
    context.for_loop(&limit, 1, |context, index| {
        let given = carried.iter().cloned().chain(sliced.iter().map(|(view, axis)| view.at(*axis, index)));
        for (argument, view) in arguments.iter().zip(given) {
            context.views.insert(*argument, view);
        }
        context.lower_block(block);
        let values = yielded(context, block);
        stack(context, &values[carried_count..], &stacked, index)?;
        carry(context, &values[..carried_count], &carried)
    })
}
