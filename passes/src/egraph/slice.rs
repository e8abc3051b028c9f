//! A slice: a piece of a pure block, cut free of its module, with weights abstracted to numbered inputs. Two slices that compare
//! equal compute the same function of their inputs, so N identical layers are optimised once.
//!
//! ```text
//! inputs: tensor<1x?x64xf32>, weight tensor<64x64xf32>    ops: matmul(input0, input1), silu(op0)    outputs: op1
//! ```

use super::analysis::is_slotted;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::attribute::{Attribute, Attributes, Elements};
use tilewright_ir::dialects::core;
use tilewright_ir::module::{Module, OpId, Source, ValueId};
use tilewright_ir::op_def::{OpDef, Traits};
use tilewright_ir::types::Type;

/// Constants of at most this many elements stay in the slice by value; rules may look at them. Larger ones are weights.
pub const CONSTANT_ELEMENTS_MAX: i64 = 16;

/// Where a slice op takes an operand from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ref {
    /// An input of the slice.
    Input(usize),
    /// Result `.1` of op `.0`.
    Result(usize, usize),
}

/// A value from outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Input {
    /// Its type.
    pub ty: Type,
    /// True for weights.
    pub constant: bool,
}

/// One op of a slice.
#[derive(Clone, Debug)]
pub struct SliceOp {
    /// Its definition.
    pub def: &'static OpDef,
    /// Attributes without `operandSegmentSizes`.
    pub attributes: Attributes,
    /// Operands: one per slot (`None` when left out), or a plain list for variadic ops.
    pub operands: SmallVec<[Option<Ref>; 4]>,
    /// Result types.
    pub results: SmallVec<[Type; 1]>,
}

impl SliceOp {
    fn key(&self) -> (&'static str, &Attributes, &[Option<Ref>], &[Type]) {
        (self.def.name, &self.attributes, &self.operands, &self.results)
    }
}

impl PartialEq for SliceOp {
    fn eq(&self, other: &SliceOp) -> bool {
        self.key() == other.key()
    }
}
impl Eq for SliceOp {}
impl std::hash::Hash for SliceOp {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// A slice without its module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slice {
    /// Values from outside, numbered by first use.
    pub inputs: Vec<Input>,
    /// Ops in order. Small constants are ops of the slice.
    pub ops: Vec<SliceOp>,
    /// What others use.
    pub outputs: Vec<Ref>,
}

/// Which values and ops of a module a slice stands for.
#[derive(Clone, Debug, Default)]
pub struct Binding {
    /// Values for the inputs.
    pub inputs: Vec<ValueId>,
    /// Op of each slice op.
    pub ops: Vec<OpId>,
    /// Values that the outputs replace.
    pub outputs: Vec<ValueId>,
}

/// The value of a small constant op, if that is what makes `value`.
pub fn small_constant(module: &Module, value: ValueId) -> Option<(OpId, &Elements)> {
    let op = module.producer_of(value, &core::CONSTANT)?;
    let elements = module.op(op).attributes.get("value")?.as_elements()?;
    let count: i64 = elements.ty().known_shape()?.iter().product();
    (count <= CONSTANT_ELEMENTS_MAX && matches!(elements, Elements::Dense(..))).then_some((op, elements))
}

/// The operands of an op by slot, or as a plain list for variadic ops.
pub fn slots(module: &Module, op: OpId) -> SmallVec<[Option<ValueId>; 4]> {
    let operation = module.op(op);
    if is_slotted(operation.def) {
        (0..operation.def.operands.len()).map(|slot| module.operand_at(op, slot)).collect()
    } else {
        operation.operands.iter().copied().map(Some).collect()
    }
}

/// Cuts ops out as a slice. `ops` are pure, in order, of one block, and hold no constants.
pub fn take(module: &Module, ops: &[OpId]) -> (Slice, Binding) {
    let mut slice = Slice::default();
    let mut binding = Binding::default();
    let mut known: BTreeMap<ValueId, Ref> = BTreeMap::new();
    for op in ops {
        let mut operands = SmallVec::new();
        for operand in slots(module, *op) {
            operands.push(operand.map(|value| refer(module, value, &mut slice, &mut binding, &mut known)));
        }
        push(module, *op, operands, &mut slice, &mut binding, &mut known);
    }
    let inside: BTreeSet<OpId> = ops.iter().copied().collect();
    for op in ops {
        for result in &module.op(*op).results {
            if module.value(*result).users.iter().any(|user| !inside.contains(user)) {
                slice.outputs.push(known[result]);
                binding.outputs.push(*result);
            }
        }
    }
    (slice, binding)
}

fn push(
    module: &Module,
    op: OpId,
    operands: SmallVec<[Option<Ref>; 4]>,
    slice: &mut Slice,
    binding: &mut Binding,
    known: &mut BTreeMap<ValueId, Ref>,
) {
    let operation = module.op(op);
    let mut attributes = operation.attributes.clone();
    attributes.remove("operandSegmentSizes");
    let results = operation.results.iter().map(|value| module.ty(*value).clone()).collect();
    for (index, value) in operation.results.iter().enumerate() {
        known.insert(*value, Ref::Result(slice.ops.len(), index));
    }
    slice.ops.push(SliceOp { def: operation.def, attributes, operands, results });
    binding.ops.push(op);
}

fn refer(
    module: &Module,
    value: ValueId,
    slice: &mut Slice,
    binding: &mut Binding,
    known: &mut BTreeMap<ValueId, Ref>,
) -> Ref {
    if let Some(found) = known.get(&value) {
        return *found;
    }
    if let Some((op, _)) = small_constant(module, value) {
        push(module, op, SmallVec::new(), slice, binding, known);
        return known[&value];
    }
    if let Some(op) = module.producer(value).filter(|op| is_derived(module, *op)) {
        let mut operands = SmallVec::new();
        for operand in slots(module, op) {
            operands.push(operand.map(|inner| refer(module, inner, slice, binding, known)));
        }
        push(module, op, operands, slice, binding, known);
        return known[&value];
    }
    let found = Ref::Input(slice.inputs.len());
    let constant = module.producer_of(value, &core::CONSTANT).is_some();
    slice.inputs.push(Input { ty: module.ty(value).clone(), constant });
    binding.inputs.push(value);
    known.insert(value, found);
    found
}

/// Longest chain of ops over constants that is followed.
const DERIVED_DEPTH_MAX: usize = 8;

/// Whether an op follows from constants alone (a weight's dequantisation, say). Such ops are taken into every slice that uses them,
/// wherever they stand.
pub fn is_derived(module: &Module, op: OpId) -> bool {
    fn derived(module: &Module, op: OpId, depth: usize) -> bool {
        let operation = module.op(op);
        let plain = operation.def.is(Traits::PURE) && operation.regions.is_empty();
        let from_constants = |value: &ValueId| {
            module
                .producer(*value)
                .is_some_and(|op| module.op(op).def.is(Traits::CONSTANT) || derived(module, op, depth + 1))
        };
        depth < DERIVED_DEPTH_MAX
            && plain
            && !operation.operands.is_empty()
            && operation.operands.iter().all(from_constants)
    }
    derived(module, op, 0)
}

/// Whether an op may enter an e-graph: pure, with no regions and no successors, and not a constant.
pub fn is_sliceable(module: &Module, op: OpId) -> bool {
    let operation = module.op(op);
    operation.def.is(Traits::PURE)
        && !operation.def.is(Traits::CONSTANT)
        && !is_derived(module, op)
        && operation.regions.is_empty()
        && operation.results.iter().all(|value| module.tensor(*value).is_some())
}

/// The op of `block_ops` that holds a use: the user itself or the ancestor that is in the same block.
pub fn ancestor_in(module: &Module, user: OpId, block: tilewright_ir::module::BlockId) -> Option<OpId> {
    let mut at = user;
    loop {
        let parent = module.op(at).parent?;
        if parent == block {
            return Some(at);
        }
        at = module.region(module.block(parent).parent?).parent?;
    }
}

/// Whether a value is made by an op of this block that is no constant.
pub fn is_local(module: &Module, value: ValueId, block: tilewright_ir::module::BlockId) -> bool {
    match module.value(value).source {
        Source::Result(op, _) => {
            module.op(op).parent == Some(block) && !module.op(op).def.is(Traits::CONSTANT)
        }
        Source::Argument(..) => false,
    }
}

/// Attributes with `operandSegmentSizes` put back for the given operand presence.
pub fn with_segments(def: &OpDef, mut attributes: Attributes, operands: &[Option<Ref>]) -> Attributes {
    if def.needs_segments() {
        let sizes: Vec<i32> = operands.iter().map(|operand| i32::from(operand.is_some())).collect();
        attributes.insert("operandSegmentSizes".into(), Attribute::Segments(sizes.into()));
    }
    attributes
}
