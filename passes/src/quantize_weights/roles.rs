//! Which constants are weights that can be quantised, and what part each plays, read from the graph: names say nothing here.
//!
//! Two sweeps over a function. Backwards: what a value reaches before any other product (attention's queries, keys, values, or any
//! product at all). Forwards: what it was made from (attention, the feed-forward's first half, the residual stream). A product then
//! is attention's when it reaches it or comes from it, the last one when nothing follows, and the feed-forward's otherwise.
//!
//! ```text
//! matmul(norm(x), w) -> reshape -> rope -> attention slot 0      attention.query
//! matmul(mul(silu(gate), up), w) -> add to the stream            feed_forward.down
//! ```

use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::attribute::{Attribute, Elements};
use tilewright_ir::dialects::core;
use tilewright_ir::location::Location;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::op_def::{OpDef, Traits};
use tilewright_ir::weight_format::Role;

/// A constant that products or look-ups of rows take as their weight.
#[derive(Clone, Debug)]
pub struct Weight {
    /// The constant.
    pub constant: ValueId,
    /// Its name in the model.
    pub name: String,
    /// The part it plays.
    pub role: Role,
    /// The axis of the constant that products sum over.
    pub depth_axis: usize,
    /// Where it is used.
    pub uses: Vec<Use>,
}

/// One use of a weight.
#[derive(Clone, Debug)]
pub struct Use {
    /// The op.
    pub op: OpId,
    /// The operand.
    pub slot: usize,
    /// Casts and transposes between the constant and the op, in order.
    pub chain: Vec<OpId>,
}

/// Weights of fewer elements stay as they are: they cost nothing.
const ELEMENTS_MIN: i64 = 256;

impl Weight {
    /// Its elements.
    pub fn elements<'m>(&self, module: &'m Module) -> &'m Elements {
        let op = module.producer(self.constant).expect("a weight is made by an op");
        module.op(op).attributes["value"].as_elements().expect("a constant holds elements")
    }

    /// Its dimensions: how many weights a channel has, and how many channels.
    pub fn extents(&self, module: &Module) -> (usize, usize) {
        let shape = self.elements(module).ty().known_shape().expect("a constant has a known shape");
        (shape[self.depth_axis] as usize, shape[1 - self.depth_axis] as usize)
    }

    /// Whether rows of it are looked up.
    pub fn is_gathered(&self, module: &Module) -> bool {
        self.uses.iter().any(|one| module.op(one.op).def == &core::GATHER)
    }

    /// The products that it is the right side of, of those that still stand.
    pub fn products(&self, module: &Module) -> Vec<OpId> {
        let is_product = |def: &OpDef| def == &core::MATMUL || def == &core::LINEAR;
        let products = self.uses.iter().filter(|one| one.slot == 1 && is_product(module.op(one.op).def));
        products.map(|one| one.op).collect()
    }

    /// The nodes that use it.
    pub fn location(&self, module: &Module) -> Location {
        Location::fuse(None, self.uses.iter().map(|one| module.op(one.op).location.clone()))
    }

    /// What products with it compute with: the element of its first use.
    pub fn compute(&self, module: &Module) -> tilewright_ir::element::Element {
        let first = &self.uses[0];
        let x = module.op(first.op).operands.first();
        let of =
            if module.op(first.op).def == &core::GATHER { module.op(first.op).results.first() } else { x };
        of.and_then(|value| module.tensor(*value))
            .map_or(tilewright_ir::element::Element::F32, |ty| ty.element)
    }
}

/// The weights of a function, in order of their constants.
pub fn weights(module: &Module, function: OpId) -> Vec<Weight> {
    let mut ops = Vec::new();
    module.walk(function, &mut |op| ops.push(op));
    let flow = Flow::of(module, &ops);
    let mut found: Vec<Weight> = Vec::new();
    for op in &ops {
        if module.op(*op).def == &core::CONSTANT
            && let Some(weight) = weight(module, &flow, module.result(*op))
        {
            found.push(weight);
        }
    }
    let depths: BTreeSet<usize> = found
        .iter()
        .filter(|weight| weight.uses.iter().any(|one| module.op(one.op).def != &core::GATHER))
        .map(|weight| weight.extents(module).0)
        .collect();
    // A table whose rows are as wide as products take them holds token vectors; others (rotary tables) are no weights.
    found.retain(|weight| {
        weight.role != Role::Embedding
            || depths.contains(&weight.extents(module).0) && !is_rotary(module, weight)
    });
    found
}

fn is_rotary(module: &Module, weight: &Weight) -> bool {
    weight.uses.iter().flat_map(|one| &module.op(one.op).results).any(|value| {
        module.value(*value).users.iter().any(|user| {
            let operation = module.op(*user);
            operation.def == &core::ROPE && operation.operands.first() != Some(value)
        })
    })
}

fn weight(module: &Module, flow: &Flow, constant: ValueId) -> Option<Weight> {
    let op = module.producer(constant)?;
    let elements = module.op(op).attributes.get("value")?.as_elements()?;
    let shape = elements.ty().known_shape()?;
    let is_matrix =
        shape.len() == 2 && elements.ty().element.is_float() && elements.ty().element.bits() >= 16;
    if !is_matrix || shape.iter().product::<i64>() < ELEMENTS_MIN {
        return None;
    }
    let mut uses = Vec::new();
    terminal_uses(module, constant, &mut Vec::new(), &mut uses);
    let axes: Option<BTreeSet<usize>> = uses.iter().map(|one| depth_axis(module, one)).collect();
    let axes = axes?;
    let depth_axis = *axes.first().filter(|_| axes.len() == 1)?;
    let roles = uses.iter().map(|one| flow.roles.get(&one.op).copied().unwrap_or(Role::Other));
    // The most sensitive use decides: the last product before the embedding that it is tied to.
    let role = roles.min_by_key(|role| (*role == Role::Embedding, *role != Role::Last, *role))?;
    let name = match elements {
        Elements::Resource(resource) => resource.name.to_string(),
        Elements::Dense(..) => {
            module.value(constant).name.as_ref().map_or("weight".into(), ToString::to_string)
        }
    };
    Some(Weight { constant, name, role, depth_axis, uses })
}

fn terminal_uses(module: &Module, value: ValueId, chain: &mut Vec<OpId>, into: &mut Vec<Use>) {
    let users: BTreeSet<OpId> = module.value(value).users.iter().copied().collect();
    for user in users {
        let operation = module.op(user);
        let is_renaming = operation.def == &core::TRANSPOSE || operation.def == &core::CAST;
        let stays_float = operation
            .results
            .first()
            .and_then(|value| module.tensor(*value))
            .is_some_and(|ty| ty.element.is_float());
        if is_renaming && stays_float && !module.value(operation.results[0]).users.is_empty() {
            chain.push(user);
            terminal_uses(module, operation.results[0], chain, into);
            chain.pop();
            continue;
        }
        for (slot, operand) in operation.operands.iter().enumerate() {
            if *operand == value {
                into.push(Use { op: user, slot, chain: chain.clone() });
            }
        }
    }
}

/// The axis of the constant that an op sums over, or looks up whole; `None` for uses that take no quantised weight.
fn depth_axis(module: &Module, one: &Use) -> Option<usize> {
    let operation = module.op(one.op);
    let def = operation.def;
    let mut axis = if def == &core::MATMUL && one.slot == 1 {
        0
    } else if def == &core::LINEAR && one.slot == 1 && module.operand_at(one.op, 3).is_none() {
        usize::from(operation.attributes.get("transpose_weight").and_then(Attribute::as_bool) == Some(true))
    } else if def == &core::GATHER && one.slot == 0 {
        let is_rows = operation.attributes.get("axis").and_then(Attribute::as_int) == Some(0);
        let is_plain = one.chain.iter().all(|op| module.op(*op).def != &core::TRANSPOSE);
        return (is_rows && is_plain).then_some(1);
    } else {
        return None;
    };
    for op in one.chain.iter().rev() {
        if let Some(permutation) = module.op(*op).attributes.get("permutation").and_then(Attribute::as_ints) {
            axis = usize::try_from(*permutation.get(axis)?).ok()?;
        }
    }
    Some(axis)
}

/// What is known of values, and the roles that follow.
struct Flow {
    roles: BTreeMap<OpId, Role>,
}

/// What a value reaches before another product.
mod reach {
    pub(super) const QUERY: u8 = 1;
    pub(super) const KEY: u8 = 2;
    pub(super) const VALUE: u8 = 4;
    pub(super) const ATTENTION: u8 = QUERY | KEY | VALUE;
    pub(super) const PRODUCT: u8 = 8;
}

/// What a value was made from since the last product.
mod made {
    pub(super) const BY_ATTENTION: u8 = 1;
    pub(super) const BY_FIRST_HALF: u8 = 2;
    pub(super) const BY_STREAM: u8 = 4;
}

const PRODUCTS: [&OpDef; 5] =
    [&core::MATMUL, &core::LINEAR, &core::MATMUL_INTEGER, &core::CONVOLUTION, &core::CONV_TRANSPOSE];
const ACTIVATIONS: [&OpDef; 6] =
    [&core::SIGMOID, &core::SILU, &core::GELU, &core::TANH, &core::ERF, &core::RELU];

/// How an op is seen.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A product with a constant.
    Weighted,
    /// A fused attention.
    Attention,
    /// A product of two activations: scores, or (from a softmax) what they weigh.
    Scores,
    Weighing,
    /// Rows of a constant table.
    Lookup,
    Other,
}

impl Flow {
    fn of(module: &Module, ops: &[OpId]) -> Flow {
        let constants = constants(module, ops);
        let kinds = kinds(module, ops, &constants);
        let reaches = reaches(module, ops, &kinds);
        let mut roles = BTreeMap::new();
        let mut made: BTreeMap<ValueId, u8> = BTreeMap::new();
        let has_attention = kinds.values().any(|kind| matches!(kind, Kind::Attention | Kind::Weighing));
        for op in ops {
            let operation = module.op(*op);
            let of = |value: &ValueId| {
                let is_argument = module.producer(*value).is_none();
                made.get(value).copied().unwrap_or(if is_argument { made::BY_STREAM } else { 0 })
            };
            let result = match kinds.get(op).copied().unwrap_or(Kind::Other) {
                Kind::Weighted => {
                    let x = operation.operands.first().map_or(0, of);
                    let reached =
                        operation.results.first().map_or(0, |value| reaches.get(value).copied().unwrap_or(0));
                    let (role, result) = role(reached, x, has_attention);
                    roles.insert(*op, role);
                    result
                }
                Kind::Attention | Kind::Weighing => made::BY_ATTENTION,
                Kind::Scores => 0,
                Kind::Lookup => {
                    roles.insert(*op, Role::Embedding);
                    made::BY_STREAM
                }
                Kind::Other => operation.operands.iter().map(of).fold(0, |all, one| all | one),
            };
            made.extend(operation.results.iter().map(|value| (*value, result)));
        }
        name_gates(module, ops, &mut roles);
        Flow { roles }
    }
}

/// The role of a product by what its result reaches and its operand was made from; and what its result is then made from.
fn role(reached: u8, x: u8, has_attention: bool) -> (Role, u8) {
    match reached & reach::ATTENTION {
        0 => {}
        reach::QUERY => return (Role::AttentionQuery, 0),
        reach::KEY => return (Role::AttentionKey, 0),
        reach::VALUE => return (Role::AttentionValue, 0),
        _ => return (Role::AttentionPacked, 0),
    }
    if reached & reach::PRODUCT == 0 {
        (Role::Last, made::BY_STREAM)
    } else if x & made::BY_ATTENTION != 0 {
        (Role::AttentionOutput, made::BY_STREAM)
    } else if !has_attention {
        (Role::Other, made::BY_STREAM)
    } else if x & made::BY_STREAM != 0 {
        (Role::FeedForwardUp, made::BY_FIRST_HALF)
    } else if x & made::BY_FIRST_HALF != 0 {
        (Role::FeedForwardDown, made::BY_STREAM)
    } else {
        (Role::Other, made::BY_STREAM)
    }
}

/// Of two first halves on one operand, the one that is activated gates the other.
fn name_gates(module: &Module, ops: &[OpId], roles: &mut BTreeMap<OpId, Role>) {
    let is_up = |op: &OpId, roles: &BTreeMap<OpId, Role>| roles.get(op) == Some(&Role::FeedForwardUp);
    let mut by_operand: BTreeMap<ValueId, usize> = BTreeMap::new();
    for op in ops.iter().filter(|op| is_up(op, roles)) {
        *by_operand.entry(module.op(*op).operands[0]).or_default() += 1;
    }
    let gates: Vec<OpId> = ops
        .iter()
        .copied()
        .filter(|op| is_up(op, roles) && by_operand[&module.op(*op).operands[0]] > 1)
        .filter(|op| is_activated(module, module.op(*op).results[0], 2))
        .collect();
    roles.extend(gates.into_iter().map(|op| (op, Role::FeedForwardGate)));
}

/// Whether an activation takes a value, at most `steps` additions or casts later.
fn is_activated(module: &Module, value: ValueId, steps: usize) -> bool {
    module.value(value).users.iter().any(|user| {
        let operation = module.op(*user);
        let passes = operation.def == &core::ADD || operation.def == &core::CAST;
        ACTIVATIONS.contains(&operation.def)
            || steps > 0
                && passes
                && operation.results.iter().any(|next| is_activated(module, *next, steps - 1))
    })
}

/// Values that follow from constants alone.
fn constants(module: &Module, ops: &[OpId]) -> BTreeSet<ValueId> {
    let mut constants = BTreeSet::new();
    for op in ops {
        let operation = module.op(*op);
        let follows = operation.def.is(Traits::CONSTANT)
            || operation.def.is(Traits::PURE)
                && !operation.operands.is_empty()
                && operation.operands.iter().all(|value| constants.contains(value));
        if follows {
            constants.extend(operation.results.iter().copied());
        }
    }
    constants
}

fn kinds(module: &Module, ops: &[OpId], constants: &BTreeSet<ValueId>) -> BTreeMap<OpId, Kind> {
    let mut kinds = BTreeMap::new();
    let mut from_softmax: BTreeSet<ValueId> = BTreeSet::new();
    for op in ops {
        let operation = module.op(*op);
        let is_constant =
            |slot: usize| operation.operands.get(slot).is_some_and(|value| constants.contains(value));
        let is_weighing = operation.operands.first().is_some_and(|value| from_softmax.contains(value));
        let kind = if PRODUCTS.contains(&operation.def) {
            match (is_constant(1), is_weighing) {
                (true, _) => Kind::Weighted,
                (false, true) => Kind::Weighing,
                (false, false) => Kind::Scores,
            }
        } else if operation.def == &core::ATTENTION {
            Kind::Attention
        } else if operation.def == &core::GATHER && is_constant(0) {
            Kind::Lookup
        } else {
            let passes = operation.operands.iter().any(|value| from_softmax.contains(value));
            if operation.def == &core::SOFTMAX || passes {
                from_softmax.extend(operation.results.iter().copied());
            }
            Kind::Other
        };
        kinds.insert(*op, kind);
    }
    kinds
}

/// What each value reaches, by one sweep from the end.
fn reaches(module: &Module, ops: &[OpId], kinds: &BTreeMap<OpId, Kind>) -> BTreeMap<ValueId, u8> {
    let mut reaches: BTreeMap<ValueId, u8> = BTreeMap::new();
    for op in ops.iter().rev() {
        let operation = module.op(*op);
        let kind = kinds.get(op).copied().unwrap_or(Kind::Other);
        let after: u8 = operation
            .results
            .iter()
            .map(|value| reaches.get(value).copied().unwrap_or(0))
            .fold(0, |a, b| a | b);
        for (slot, value) in operation.operands.iter().enumerate() {
            let found = match (kind, slot) {
                (Kind::Attention | Kind::Scores, 0) => reach::QUERY,
                (Kind::Attention | Kind::Scores, 1) => reach::KEY,
                (Kind::Attention, 2) | (Kind::Weighing, 1) => reach::VALUE,
                (Kind::Other, _) => after,
                _ => reach::PRODUCT,
            };
            *reaches.entry(*value).or_default() |=
                found | if found & reach::ATTENTION != 0 { reach::PRODUCT } else { 0 };
        }
    }
    reaches
}
