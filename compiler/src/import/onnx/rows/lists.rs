//! Sequences and optionals: lists whose length is known while importing. They leave no ops behind but those on their items.
//!
//! ```text
//! SequenceAt(SplitToSequence(x, axis = 0), 1)  ->  a slice of x
//! ```

use super::super::context::NodeContext;
use super::super::emit::axis_of;
use super::super::fault::{Fault, Outcome};
use super::super::fold;
use super::super::operand::Operand;
use super::super::schema::GraphProto;
use super::super::table::{Row, listing};
use tilewright_ir::attribute::Elements;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    listing(11, "ConcatFromSequence", concat_from_sequence),
    listing(15, "Optional", optional),
    listing(15, "OptionalGetElement", optional_get_element),
    listing(15, "OptionalHasElement", optional_has_element),
    listing(11, "SequenceAt", sequence_at).refuses("positions that depend on data"),
    listing(11, "SequenceConstruct", sequence_construct),
    listing(11, "SequenceEmpty", |_| Ok(vec![Operand::list(Vec::new())])),
    listing(11, "SequenceErase", sequence_erase).refuses("positions that depend on data"),
    listing(11, "SequenceInsert", sequence_insert).refuses("positions that depend on data"),
    listing(11, "SequenceLength", sequence_length),
    listing(17, "SequenceMap", sequence_map),
    listing(11, "SplitToSequence", split_to_sequence)
        .refuses("equal parts of a symbol; more than 65,536 parts"),
];

/// The most iterations of a loop over sequences, each of which is imported on its own.
pub(super) const ROUNDS_MAX: i64 = 1024;

/// The most parts that a tensor is split in.
const PARTS_MAX: i64 = 65536;

/// How values that stand in one place of a graph are made of tensors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Form {
    Tensor,
    Strings,
    Empty,
    List(Vec<Form>),
}

impl Form {
    /// The form of a value.
    pub(crate) fn of(operand: &Operand) -> Form {
        match operand.as_list() {
            Some(items) => Form::List(items.iter().map(Form::of).collect()),
            None if operand.is_empty() => Form::Empty,
            None if operand.as_strings().is_some() => Form::Strings,
            None => Form::Tensor,
        }
    }

    /// The tensors that a value is made of.
    pub(crate) fn parts(operand: &Operand) -> Vec<Operand> {
        match operand.as_list() {
            Some(items) => items.iter().flat_map(Form::parts).collect(),
            None if operand.is_empty() => Vec::new(),
            None => vec![operand.as_strings().unwrap_or(operand).clone()],
        }
    }

    /// Whether each of these tensors is code points.
    pub(crate) fn strings(&self) -> Vec<bool> {
        match self {
            Form::Tensor => vec![false],
            Form::Strings => vec![true],
            Form::Empty => Vec::new(),
            Form::List(forms) => forms.iter().flat_map(Form::strings).collect(),
        }
    }

    fn take(&self, parts: &mut impl Iterator<Item = Operand>) -> Operand {
        match self {
            Form::Tensor => parts.next().unwrap_or_else(Operand::empty),
            Form::Strings => parts.next().map_or_else(Operand::empty, Operand::strings),
            Form::Empty => Operand::empty(),
            Form::List(forms) => Operand::list(forms.iter().map(|form| form.take(parts)).collect()),
        }
    }
}

/// Values of these forms from the tensors that they are made of.
pub(super) fn regroup(node: &NodeContext, forms: &[Form], values: &[ValueId]) -> Vec<Operand> {
    let mut parts = values.iter().map(|value| node.operand(*value));
    forms.iter().map(|form| form.take(&mut parts)).collect()
}

fn items(node: &NodeContext, at: usize) -> Outcome<Vec<Operand>> {
    let operand = node.input(at)?;
    let items = operand.as_list().map(<[Operand]>::to_vec);
    items.ok_or_else(|| Fault::model(format!("input {at} must be a sequence, found {}", operand.ty())))
}

fn truth(value: bool) -> Operand {
    Operand::constant(Elements::from_ints(Element::Bool, &[], &[i64::from(value)]))
}

/// A position in a list, counted from the end when negative; `None` when it is left out. `extra` positions follow the last item.
fn position(node: &mut NodeContext, at: usize, count: usize, extra: usize) -> Outcome<Option<usize>> {
    if node.optional(at).is_none() {
        return Ok(None);
    }
    let given = node.known_ints(at)?;
    let [given] = given.as_slice() else { return Err(Fault::model("the position must be one number")) };
    let place = if *given < 0 { given.checked_add(count as i64) } else { Some(*given) };
    let place = place.and_then(|place| usize::try_from(place).ok()).filter(|place| *place < count + extra);
    place.map(Some).ok_or_else(|| Fault::model(format!("position {given} is outside a sequence of {count}")))
}

fn sequence_construct(node: &mut NodeContext) -> Made {
    let items = (0..node.input_count()).map(|at| node.input(at)).collect::<Outcome<Vec<_>>>()?;
    Ok(vec![Operand::list(items)])
}

fn sequence_at(node: &mut NodeContext) -> Made {
    let items = items(node, 0)?;
    let place = position(node, 1, items.len(), 0)?.ok_or_else(|| Fault::model("input 1 is missing"))?;
    Ok(vec![items[place].clone()])
}

fn sequence_insert(node: &mut NodeContext) -> Made {
    let mut items = items(node, 0)?;
    let place = position(node, 2, items.len(), 1)?.unwrap_or(items.len());
    items.insert(place, node.input(1)?);
    Ok(vec![Operand::list(items)])
}

fn sequence_erase(node: &mut NodeContext) -> Made {
    let mut items = items(node, 0)?;
    let last =
        items.len().checked_sub(1).ok_or_else(|| Fault::model("nothing to erase from an empty sequence"))?;
    let place = position(node, 1, items.len(), 0)?.unwrap_or(last);
    items.remove(place);
    Ok(vec![Operand::list(items)])
}

fn sequence_length(node: &mut NodeContext) -> Made {
    let count = items(node, 0)?.len() as i64;
    Ok(vec![Operand::constant(Elements::from_ints(Element::I64, &[], &[count]))])
}

fn concat_from_sequence(node: &mut NodeContext) -> Made {
    let items = items(node, 0)?;
    let mut values = items.iter().map(|item| node.data(item)).collect::<Outcome<Vec<_>>>()?;
    let first = *values.first().ok_or_else(|| Fault::model("nothing to concatenate in an empty sequence"))?;
    let adds = node.flag("new_axis", false)?;
    let axis = axis_of(node.required_int("axis")?, node.rank(first) + usize::from(adds))?;
    if adds {
        for value in &mut values {
            let mut shape = node.shape(*value).to_vec();
            shape.insert(axis, Dim::Known(1));
            *value = node.reshape(*value, &shape)?;
        }
    }
    let y = node.concat(&values, axis)?;
    node.one(y)
}

fn split_to_sequence(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let axis = node.axis("axis", 0, node.rank(x))?;
    let dim = node.dim(x, axis)?;
    let (sizes, squeezes) = match node.optional(1) {
        // The parts say how long the whole is.
        Some(split) if split.rank() > 0 => (node.known_ints(1)?, false),
        split => {
            let total = dim.known().ok_or_else(|| {
                let what = format!("a dimension that is split in equal parts must be known, found {dim}");
                Fault::unsupported(what, "bind it with --bind NAME=VALUE, or give the lengths of the parts")
            })?;
            let size = match split {
                None => 1,
                Some(_) => *node
                    .known_ints(1)?
                    .first()
                    .filter(|size| **size > 0)
                    .ok_or_else(|| Fault::model("parts must have elements"))?,
            };
            let count = (total.max(0) as u64).div_ceil(size as u64) as i64;
            if count > PARTS_MAX {
                return Err(Fault::unsupported(format!("a split in {count} parts, at most {PARTS_MAX}"), ""));
            }
            let sizes = (0..count).map(|at| size.min(total - at * size)).collect();
            (sizes, node.optional(1).is_none() && !node.flag("keepdims", true)?)
        }
    };
    let total = sizes.iter().try_fold(0i64, |sum, size| sum.checked_add(*size).filter(|_| *size >= 0));
    let total = total.ok_or_else(|| Fault::model(format!("the parts {sizes:?} are no lengths")))?;
    node.equate(&format!("parts {sizes:?} do not add up"), &dim, &Dim::Known(total))?;
    let (mut items, mut start) = (Vec::new(), 0);
    for size in sizes {
        let mut part = node.slice_axis(x, axis, &Dim::Known(start), &Dim::Known(size))?;
        if squeezes {
            let mut shape = node.shape(part).to_vec();
            shape.remove(axis);
            part = node.reshape(part, &shape)?;
        }
        items.push(node.operand(part));
        start += size;
    }
    Ok(vec![Operand::list(items)])
}

fn optional(node: &mut NodeContext) -> Made {
    Ok(vec![node.optional(0).unwrap_or_else(Operand::empty)])
}

fn optional_has_element(node: &mut NodeContext) -> Made {
    Ok(vec![truth(node.optional(0).is_some_and(|value| !value.is_empty()))])
}

fn optional_get_element(node: &mut NodeContext) -> Made {
    let value = node.input(0)?;
    if value.is_empty() { Err(Fault::model("the optional has no value")) } else { Ok(vec![value]) }
}

/// The body once for each item; inputs that are tensors are the same for all.
fn sequence_map(node: &mut NodeContext) -> Made {
    let body = node.graph("body")?;
    let count = items(node, 0)?.len();
    let inputs = (0..node.input_count()).map(|at| node.input(at)).collect::<Outcome<Vec<_>>>()?;
    let mut lists = vec![Vec::new(); body.output.len()];
    for at in 0..count {
        let item = |input: &Operand| match input.as_list() {
            Some(items) => items.get(at).cloned(),
            None => Some(input.clone()),
        };
        let arguments: Option<Vec<Operand>> = inputs.iter().map(item).collect();
        let arguments = arguments.ok_or_else(|| Fault::model("the sequences differ in length"))?;
        let made = node.importer.subgraph(body, &arguments)?;
        lists.iter_mut().zip(made).for_each(|(list, value)| list.push(value));
    }
    Ok(lists.into_iter().map(Operand::list).collect())
}

/// A loop that carries sequences, each iteration imported on its own. Its count and its condition must be known.
pub(super) fn unrolled(node: &mut NodeContext, body: &GraphProto) -> Made {
    let trip = match node.optional(0) {
        Some(_) => node.known_ints(0)?.first().copied().unwrap_or(0),
        None => i64::MAX,
    };
    let mut carried = (2..node.input_count()).map(|at| node.input(at)).collect::<Outcome<Vec<_>>>()?;
    let scanned = body.output.len().checked_sub(carried.len() + 1);
    let scanned =
        scanned.ok_or_else(|| Fault::model(format!("the body gives {} outputs", body.output.len())))?;
    let mut stacks: Vec<Vec<Operand>> = vec![Vec::new(); scanned];
    let mut proceed = match node.optional(1) {
        Some(condition) => known_truth(node, &condition)?,
        None => true,
    };
    let mut iteration = 0;
    while proceed && iteration < trip {
        if iteration == ROUNDS_MAX {
            return Err(Fault::unsupported(
                format!("a loop over sequences runs more than {ROUNDS_MAX} times"),
                "use tensors",
            ));
        }
        let number = Operand::constant(Elements::from_ints(Element::I64, &[], &[iteration]));
        let arguments: Vec<Operand> = [number, truth(true)].into_iter().chain(carried).collect();
        let mut made = node.importer.subgraph(body, &arguments)?.into_iter();
        let condition = made.next().ok_or_else(|| Fault::model("the body gives no condition"))?;
        proceed = known_truth(node, &condition)?;
        carried = made.by_ref().take(arguments.len() - 2).collect();
        stacks.iter_mut().zip(made).for_each(|(stack, value)| stack.push(value));
        iteration += 1;
    }
    for stack in stacks {
        let mut rows = Vec::new();
        for item in stack {
            let value = node.data(&item)?;
            let shape = [&[Dim::Known(1)], node.shape(value).as_slice()].concat();
            rows.push(node.reshape(value, &shape)?);
        }
        let joined = node.concat(&rows, 0)?;
        carried.push(node.operand(joined));
    }
    Ok(carried)
}

fn known_truth(node: &NodeContext, condition: &Operand) -> Outcome<bool> {
    let known = fold::constant(&node.module, condition).filter(|known| known.len() == 1);
    known.map(|known| known.int(0) != 0).ok_or_else(|| {
        let what = "the condition of a loop over sequences must be known";
        Fault::unsupported(what, node.way_to_freeze(condition))
    })
}
