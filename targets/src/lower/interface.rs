//! The function's border: registers for its symbols, inputs, outputs, and states that stay in place.
//!
//! A state is an argument and a result tied by `tw.state`. When the program is compiled with a context window and the argument's
//! length is symbolic, `concat(past, new)` lies where `past` lies, and only `new` is copied; any other state is replaced as a
//! whole when the run ends. Without a window both are plain input and output.
//!
//! ```text
//! %past = "tile.argument"() {growing_axis = 2, name = "past.0.key", output_name = "present.0.key", role = "state", ..} : () -> ..
//! ```

use super::Options;
use crate::lowering::{LoweringContext, space};
use crate::range::Ranges;
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::module::{Module, OpId, Source, ValueId};
use tilewright_ir::op_def::normalize_axis;
use tilewright_ir::types::{TensorType, Type};

const ARGUMENTS: &str = "arg_attrs";
const RESULTS: &str = "res_attrs";

/// Most iterations whose results a loop may stack when nothing says how many there are.
const LOOP_LENGTH_MAX: i64 = 1024;

/// What is left to do at the end: results, in order, and where each has to be.
pub(super) struct Ends(Vec<(ValueId, View)>);

pub(super) fn tile_function_attributes(name: &str) -> Attributes {
    Attributes::from([
        ("function_type".into(), Attribute::Type(Type::Function(Vec::new(), Vec::new()))),
        ("sym_name".into(), Attribute::str(name)),
    ])
}

/// Ranges of the symbols in the types of a function's arguments and values.
pub(super) fn symbol_ranges(
    module: &Module,
    function: OpId,
    options: &Options,
) -> Result<Ranges, Diagnostic> {
    let mut symbols: BTreeSet<Arc<str>> = BTreeSet::new();
    let arguments = &module.block(module.entry(function, 0)).arguments;
    for argument in arguments {
        for dim in module.tensor(*argument).into_iter().flat_map(|ty| &ty.shape) {
            dim.collect_symbols(&mut symbols);
        }
    }
    // Symbols that occur in attributes alone (sizes as data) are known by their range only.
    symbols.extend(options.symbols.keys().map(|name| name.as_str().into()));
    let mut ranges = Ranges::default();
    for name in symbols {
        let given = options.symbols.get(&*name).copied();
        let range = given.or_else(|| window_range(module, function, &name, options));
        let Some((minimum, maximum)) = range.filter(|range| range.0 <= range.1) else {
            let location = module.op(function).location.clone();
            return Err(Diagnostic::error(location, format!("the size of dimension '{name}' is not known"))
                .with_help(format!("bind it (--bind {name}=..), or give it a largest value")));
        };
        ranges.insert(&name, minimum, maximum);
    }
    for (name, lengths) in counted_symbols(module, function) {
        if ranges.get(&name).is_none() {
            let most = lengths.iter().map(|dim| ranges.maximum(dim)).max().flatten();
            let range = options.symbols.get(&*name).copied();
            let (minimum, maximum) = range.unwrap_or((0, most.unwrap_or(LOOP_LENGTH_MAX)));
            ranges.insert(&name, minimum, maximum);
        }
    }
    Ok(ranges)
}

/// The symbols of lengths that only a run can tell (what a loop stacks, what a branch gives, how many elements are true), in program
/// order, each with the lengths that it is one of; none for loops.
fn counted_symbols(module: &Module, function: OpId) -> Vec<(Arc<str>, Vec<Dim>)> {
    let mut symbols: Vec<(Arc<str>, Vec<Dim>)> = Vec::new();
    let mut count = |dim: &Dim, lengths: Vec<Dim>| {
        if let Some(name) = dim.as_symbol()
            && symbols.iter().all(|(known, _)| known != name)
        {
            symbols.push((name.clone(), lengths));
        }
    };
    let shape = |value: &ValueId| module.tensor(*value).map(|ty| ty.shape.clone()).unwrap_or_default();
    module.walk(function, &mut |op| {
        let operation = module.op(op);
        if operation.def == &core::LOOP {
            let carried = module.operands_at(op, 2).len();
            for value in &operation.results[carried..] {
                shape(value).first().into_iter().for_each(|dim| count(dim, Vec::new()));
            }
        } else if operation.def == &core::NONZERO {
            count(&shape(&operation.results[0])[0], shape(&operation.operands[0]).to_vec());
        } else if operation.def == &core::IF {
            let yielded = [0, 1].map(|region| {
                let end = module.terminator(module.entry(op, region));
                end.map(|end| module.op(end).operands.to_vec()).unwrap_or_default()
            });
            for (at, value) in operation.results.iter().enumerate() {
                let branches = yielded.each_ref().map(|values| values.get(at).map(shape).unwrap_or_default());
                for (axis, dim) in shape(value).iter().enumerate() {
                    let lengths: Vec<Dim> =
                        branches.iter().filter_map(|shape| shape.get(axis).cloned()).collect();
                    if lengths.iter().any(|length| length != dim) {
                        count(dim, lengths);
                    }
                }
            }
        }
    });
    for argument in &module.block(module.entry(function, 0)).arguments {
        let dims = module.tensor(*argument).into_iter().flat_map(|ty| &ty.shape);
        dims.filter_map(Dim::as_symbol).for_each(|name| symbols.retain(|(known, _)| known != name));
    }
    symbols
}

/// The range of a growing state's past length under a context window: past + new may reach the window.
fn window_range(module: &Module, function: OpId, name: &str, options: &Options) -> Option<(i64, i64)> {
    let window = options.context_window?;
    for pair in state_pairs(module, function) {
        let (past, present) = (module.tensor(pair.argument)?, module.tensor(pair.result)?);
        let axis = past.shape.iter().position(|dim| dim.as_symbol().is_some_and(|symbol| &**symbol == name));
        if let Some(axis) = axis
            && let Dim::Known(new) = present.shape.get(axis)? - &past.shape[axis]
        {
            return Some((0, window - new));
        }
    }
    None
}

struct Pair {
    argument: ValueId,
    input: usize,
    result: ValueId,
    output: usize,
}

fn attribute_at<'a>(
    module: &'a Module,
    function: OpId,
    list: &str,
    index: usize,
    name: &str,
) -> Option<&'a str> {
    attribute_of(module, function, list, index, name).and_then(Attribute::as_str)
}

fn attribute_of<'a>(
    module: &'a Module,
    function: OpId,
    list: &str,
    index: usize,
    name: &str,
) -> Option<&'a Attribute> {
    let Some(Attribute::Array(items)) = module.op(function).attributes.get(list) else { return None };
    match items.get(index)? {
        Attribute::Dict(entries) => entries.get(name),
        _ => None,
    }
}

/// The name of an input or output; without one `input_K` or `output_K`.
fn name_of(module: &Module, function: OpId, list: &str, index: usize) -> String {
    let stem = if list == ARGUMENTS { "input" } else { "output" };
    attribute_at(module, function, list, index, "tw.name")
        .map_or_else(|| format!("{stem}_{index}"), String::from)
}

fn results(module: &Module, function: OpId) -> Vec<ValueId> {
    let end = module.terminator(module.entry(function, 0));
    end.map(|end| module.op(end).operands.to_vec()).unwrap_or_default()
}

/// The pairs tied by `tw.state`: on the argument it names the result, on the result the argument; either is enough.
fn state_pairs(module: &Module, function: OpId) -> Vec<Pair> {
    let results = results(module, function);
    let arguments = module.block(module.entry(function, 0)).arguments.clone();
    let mut pairs = Vec::new();
    for (input, argument) in arguments.iter().enumerate() {
        let name = name_of(module, function, ARGUMENTS, input);
        let tie = attribute_at(module, function, ARGUMENTS, input, "tw.state");
        let output = (0..results.len()).find(|output| {
            let result_name = name_of(module, function, RESULTS, *output);
            let result_tie = attribute_at(module, function, RESULTS, *output, "tw.state");
            tie == Some(result_name.as_str()) || result_tie == Some(name.as_str())
        });
        if let Some(output) = output {
            pairs.push(Pair { argument: *argument, input, result: results[output], output });
        }
    }
    pairs
}

/// The dimension of tokens in a cache that is quantised in blocks.
const BLOCKS_AXIS: usize = 2;

/// How a state's result comes about where it is updated in place, by a concat or as a part of a cache in blocks: the values that are
/// the same result through kernels' borders, outermost first, and the dimension that grows.
fn updated_in_place(module: &Module, pair: &Pair) -> Option<(Vec<ValueId>, Option<usize>)> {
    let mut chain = vec![pair.result];
    let mut value = pair.result;
    let mut past = pair.argument;
    loop {
        let Source::Result(op, index) = module.value(value).source else { return None };
        let operation = module.op(op);
        if operation.def == &core::KERNEL {
            let block = module.entry(op, 0);
            let at = operation.operands.iter().position(|operand| *operand == past)?;
            past = module.block(block).arguments[at];
            value = module.op(module.terminator(block)?).operands[index];
            chain.push(value);
        } else if operation.def == &core::APPEND_BLOCKS && operation.operands.get(index + 1) == Some(&past) {
            // Its lowering updates each part where it lies; the body alone gets longer.
            return Some((chain, (index == 0).then_some(BLOCKS_AXIS)));
        } else if operation.def == &core::CONCAT && operation.operands.first() == Some(&past) {
            let rank = module.tensor(value)?.rank();
            let axis = operation.attributes.get("axis").and_then(Attribute::as_int)?;
            return Some((chain, Some(normalize_axis(axis, rank)?)));
        } else {
            return None;
        }
    }
}

/// Declares registers, arguments, and where results are to be written.
pub(super) fn declare(
    context: &mut LoweringContext,
    function: OpId,
    options: &Options,
) -> Result<Ends, String> {
    let module = context.source;
    let ranges: Vec<(Arc<str>, (i64, i64))> =
        context.ranges.iter().map(|(name, range)| (name.clone(), range)).collect();
    context.counted = counted_symbols(module, function).into_iter().map(|(name, _)| name).collect();
    for (name, (minimum, maximum)) in ranges {
        let role = if context.counted.contains(&name) { "scratch" } else { "bound" };
        context.declare_register(&name, minimum, maximum, role)?;
    }
    let pairs = if options.context_window.is_some() { state_pairs(module, function) } else { Vec::new() };
    let results = results(module, function);
    let mut outputs: BTreeMap<usize, View> = BTreeMap::new();
    for (index, argument) in module.block(module.entry(function, 0)).arguments.clone().into_iter().enumerate()
    {
        let name = name_of(module, function, ARGUMENTS, index);
        let view = match pairs.iter().find(|pair| pair.input == index) {
            None => declare_tensor(context, &name, "input", context.ty(argument)?, Attributes::new())?,
            Some(pair) => {
                let output_name = name_of(module, function, RESULTS, pair.output);
                let (input, output) = declare_state(context, function, pair, &name, &output_name)?;
                outputs.insert(pair.output, output);
                input
            }
        };
        context.tile.value_mut(view.buffer).name = module.value(argument).name.clone();
        context.views.insert(argument, view);
    }
    let mut ends = Vec::new();
    for (index, result) in results.iter().enumerate() {
        let place = match outputs.remove(&index) {
            Some(place) => place,
            None => {
                let name = name_of(module, function, RESULTS, index);
                declare_tensor(context, &name, "output", context.ty(*result)?, Attributes::new())?
            }
        };
        if can_reserve(module, *result, &place, context) {
            context.reserved.entry(*result).or_insert_with(|| place.clone());
        }
        ends.push((*result, place));
    }
    Ok(Ends(ends))
}

/// A result is written in place when an op makes it. A state that is replaced still holds its old value then, and is left to the
/// end.
fn can_reserve(module: &Module, result: ValueId, place: &View, context: &LoweringContext) -> bool {
    let is_state = matches!(context.tile.ty(place.buffer), Type::View(view) if view.space == "state");
    matches!(module.value(result).source, Source::Result(..))
        && !is_state
        && !context.folded.contains(&result)
}

fn declare_tensor(
    context: &mut LoweringContext,
    name: &str,
    role: &str,
    ty: &TensorType,
    mut attributes: Attributes,
) -> Result<View, String> {
    let capacity = ty.shape.iter().map(|dim| context.maximum(dim)).collect::<Result<Vec<i64>, String>>()?;
    attributes.insert("name".into(), Attribute::str(name));
    attributes.insert("role".into(), Attribute::str(role));
    attributes.entry("capacity".into()).or_insert_with(|| Attribute::ints(&capacity));
    let space = if role == "state" { "state" } else { "io" };
    context.declare(&tile::ARGUMENT, attributes, ty.element, &ty.shape, space)
}

/// Declares a state; gives the views of the argument and of the result, and reserves the concat's place.
fn declare_state(
    context: &mut LoweringContext,
    function: OpId,
    pair: &Pair,
    name: &str,
    output_name: &str,
) -> Result<(View, View), String> {
    let (past, present) = (context.ty(pair.argument)?, context.ty(pair.result)?);
    let capacity =
        present.shape.iter().map(|dim| context.maximum(dim)).collect::<Result<Vec<i64>, String>>()?;
    if past.rank() != present.rank() || past.element != present.element {
        return Err(format!(
            "state '{name}' is {past} before a run and {present} ('{output_name}') after it"
        ));
    }
    let updated = updated_in_place(context.source, pair);
    // A state that grows by something else than a concat is replaced as a whole, under its new length.
    let longer = (0..past.rank()).find(|axis| past.shape[*axis] != present.shape[*axis]);
    let growing_axis = updated.as_ref().map_or(longer, |(_, axis)| *axis);
    let mut attributes = Attributes::from([
        ("capacity".into(), Attribute::ints(&capacity)),
        ("output_name".into(), Attribute::str(output_name)),
        ("output_dims".into(), Attribute::dims(&present.shape)),
    ]);
    if let Some(axis) = growing_axis {
        attributes.insert("growing_axis".into(), Attribute::Int(axis as i64));
    }
    if let Some(recent) = attribute_of(context.source, function, ARGUMENTS, pair.input, "tw.recent") {
        attributes.insert("recent".into(), recent.clone());
    }
    let input = declare_tensor(context, name, "state", past, attributes)?;
    let output = View { dims: present.shape.to_vec(), ..input.clone() };
    if let Some((chain, axis)) = &updated {
        for value in chain {
            context.reserved.insert(*value, output.clone());
        }
        if let (Some(last), Some(axis)) = (chain.last(), axis) {
            reserve_appended(context, *last, *axis, &output);
        }
    }
    Ok((input, output))
}

/// What is appended to a state, and read by nothing else, is written where it will lie: behind the past.
fn reserve_appended(context: &mut LoweringContext, result: ValueId, axis: usize, place: &View) {
    let module = context.source;
    let Some(concat) = module.producer_of(result, &core::CONCAT) else { return };
    let &[past, appended] = &module.op(concat).operands[..] else { return };
    let (Some(before), Some(new)) = (module.tensor(past), module.tensor(appended)) else { return };
    let is_made = matches!(module.value(appended).source, Source::Result(..));
    if is_made && module.value(appended).users.len() == 1 && !context.folded.contains(&appended) {
        let place = place.slice(axis, &before.shape[axis], &new.shape[axis], 1);
        context.reserved.insert(appended, place);
    }
}

/// Copies results that do not lie in their place yet. States that are replaced go last, through a copy when another result reads them.
pub(super) fn finish(context: &mut LoweringContext, _function: OpId, ends: &Ends) -> Result<(), String> {
    let mut states = Vec::new();
    for (value, place) in &ends.0 {
        let view = context.view(*value)?;
        if view == *place {
            continue;
        }
        let in_state = |context: &LoweringContext, view: &View| matches!(context.tile.ty(view.buffer), Type::View(ty) if ty.space == "state");
        if !in_state(context, place) {
            context.transfer(context.copy_engine, place, &view)?;
        } else if in_state(context, &view) {
            // The value lies in a state, perhaps one that is about to be replaced.
            let copy = context.buffer(space::DRAM, view.element, &view.dims)?;
            context.transfer(context.copy_engine, &copy, &view)?;
            states.push((place, copy));
        } else {
            states.push((place, view));
        }
    }
    for (place, view) in states {
        context.transfer(context.copy_engine, place, &view)?;
    }
    Ok(())
}
