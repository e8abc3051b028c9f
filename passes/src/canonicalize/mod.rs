//! Greedy clean-up: small constants are folded, identities go, data movement is merged, operands and attributes get one form, so that
//! rules need one left side instead of many. Never makes a model slower or less exact.
//!
//! `movement`, `arithmetic` and `control` hold one function per op, listed in `TABLE`; this file drives them.
//!
//! ```text
//! "core.add"(%x, %zero) => %x      "core.transpose"("core.transpose"(%x)) => one      "core.pow"(%x, %two) => "core.mul"(%x, %x)
//! ```

mod arithmetic;
mod control;
mod fold;
mod movement;

use crate::pass::{Pass, PassContext, PassDef};
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::builder;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::dialects::core;
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::op_def::{OpDef, Signature, Traits, normalize_axis};
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::{TensorType, Type};

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "canonicalize",
    doc: "Folds small constants, removes identities, merges data movement, and gives operands and attributes one form.",
    options: &[],
    make: |_| Ok(Box::new(Canonicalize)),
};

struct Canonicalize;

impl Pass for Canonicalize {
    fn run(&self, module: &mut Module, _context: &mut PassContext) -> Result<(), Diagnostics> {
        run(module);
        Ok(())
    }
}

/// Most sweeps over a block; each op settles after few.
const SWEEPS_MAX: usize = 12;

/// Canonicalises all functions.
pub fn run(module: &mut Module) {
    for function in module.functions() {
        let block = module.entry(function, 0);
        for _ in 0..SWEEPS_MAX {
            if !sweep(module, block) {
                break;
            }
            crate::dce::remove_dead(module);
        }
    }
}

/// What a simplification returns: values for the op's results, or `None` to leave it.
type Simplified = Option<Vec<ValueId>>;

/// One op's simplification.
type Simplify = fn(&mut Rewriter, OpId) -> Simplified;

/// Simplifications by op; an op may have several, tried in order.
const TABLE: &[(&OpDef, Simplify)] = &[
    (&core::SIZE, fold::size),
    (&core::RESHAPE, movement::reshape),
    (&core::TRANSPOSE, movement::transpose),
    (&core::BROADCAST, movement::broadcast),
    (&core::SLICE, movement::slice),
    (&core::CONCAT, movement::concat),
    (&core::PAD, movement::pad),
    (&core::GATHER, movement::gather),
    (&core::CAST, movement::cast),
    (&core::ADD, arithmetic::add),
    (&core::SUB, arithmetic::sub),
    (&core::MUL, arithmetic::mul),
    (&core::DIV, arithmetic::div),
    (&core::POW, arithmetic::pow),
    (&core::NEG, arithmetic::involution),
    (&core::NOT, arithmetic::involution),
    (&core::RECIPROCAL, arithmetic::reciprocal),
    (&core::LOGICAL, arithmetic::logical),
    (&core::SELECT, arithmetic::select),
    (&core::REDUCE_SUM, arithmetic::reduce),
    (&core::REDUCE_MEAN, arithmetic::reduce),
    (&core::REDUCE_MAX, arithmetic::reduce),
    (&core::REDUCE_MIN, arithmetic::reduce),
    (&core::REDUCE_PROD, arithmetic::reduce),
    (&core::IF, control::if_constant),
];

/// Optional attributes whose default is not written.
const DEFAULTS: &[(&OpDef, &str, Attribute)] = &[
    (&core::ATTENTION, "causal", Attribute::Bool(false)),
    (&core::ATTENTION, "window", Attribute::Int(-1)),
    (&core::CONVOLUTION, "groups", Attribute::Int(1)),
    (&core::CONVOLUTION_INTEGER, "groups", Attribute::Int(1)),
    (&core::CONVOLUTION_INTEGER, "x_zero", Attribute::Int(0)),
    (&core::CONVOLUTION_INTEGER, "w_zero", Attribute::Int(0)),
    (&core::CUMULATIVE, "exclusive", Attribute::Bool(false)),
    (&core::CUMULATIVE, "reverse", Attribute::Bool(false)),
    (&core::ARG_REDUCE, "select_last", Attribute::Bool(false)),
    (&core::GATHER_ND, "batch_dims", Attribute::Int(0)),
];

fn sweep(module: &mut Module, block: BlockId) -> bool {
    let mut changed = false;
    let mut list = Vec::new();
    let ops = module.block(block).ops.clone();
    let mut gone = Vec::new();
    for op in ops {
        normalize_attributes(module, op);
        changed |= order_operands(module, op);
        for region in module.op(op).regions.clone() {
            for inner in module.region(region).blocks.clone() {
                changed |= sweep(module, inner);
            }
        }
        let location = module.op(op).location.clone();
        let mut rewriter = Rewriter { module, location, made: Vec::new() };
        let replaced = rewriter.simplify(op);
        let made = rewriter.made;
        // Ops made for an attempt that was given up have no users and go with the dead.
        list.extend(made);
        match replaced {
            Some(values) => {
                changed = true;
                for (old, new) in module.op(op).results.clone().into_iter().zip(values) {
                    module.replace_all_uses(old, new);
                }
                gone.push(op);
            }
            None => list.push(op),
        }
    }
    // Before the erased ones are dropped, so that they are not searched for in a long list.
    module.set_block_ops(block, list);
    for op in gone {
        module.erase(op);
    }
    changed
}

fn normalize_attributes(module: &mut Module, op: OpId) {
    let operation = module.op(op);
    let Some(rank) = operation.operands.first().and_then(|value| module.tensor(*value)).map(TensorType::rank)
    else {
        return;
    };
    let def = operation.def;
    if !def.is(Traits::PURE) {
        return;
    }
    let fix = |axis: i64| normalize_axis(axis, rank).map_or(axis, |axis| axis as i64);
    let attributes = &mut module.op_mut(op).attributes;
    if let Some(Attribute::Int(axis)) = attributes.get_mut("axis") {
        *axis = fix(*axis);
    }
    if let Some(Attribute::Ints(axes)) = attributes.get_mut("axes") {
        let mut sorted: Vec<i64> = axes.iter().copied().map(fix).collect();
        sorted.sort_unstable();
        if **axes != *sorted {
            *axes = sorted.into();
        }
    }
    for (owner, name, default) in DEFAULTS {
        if *owner == def && attributes.get(*name) == Some(default) {
            attributes.remove(*name);
        }
    }
    let no_cap = attributes.get("softcap").and_then(Attribute::as_float) == Some(0.0);
    if no_cap && def == &core::ATTENTION {
        attributes.remove("softcap");
    }
}

/// Constants come last in commutative ops.
fn order_operands(module: &mut Module, op: OpId) -> bool {
    let operation = module.op(op);
    if !operation.def.is(Traits::COMMUTATIVE) || operation.operands.len() != 2 {
        return false;
    }
    let (a, b) = (operation.operands[0], operation.operands[1]);
    let is_constant = |value| module.producer_of(value, &core::CONSTANT).is_some();
    if is_constant(a) && !is_constant(b) {
        module.set_operands(op, &[b, a]);
        return true;
    }
    false
}

/// Makes ops in front of the one being simplified.
pub(crate) struct Rewriter<'a> {
    pub(crate) module: &'a mut Module,
    location: Location,
    made: Vec<OpId>,
}

impl Rewriter<'_> {
    fn simplify(&mut self, op: OpId) -> Simplified {
        let def = self.module.op(op).def;
        if let Some(values) = fold::fold(self, op) {
            return Some(values);
        }
        if def.is(Traits::ELEMENTWISE)
            && let Some(values) = movement::drop_broadcasts(self, op)
        {
            return Some(values);
        }
        TABLE.iter().filter(|row| row.0 == def).find_map(|row| (row.1)(self, op))
    }

    /// Makes an op whose result has type `ty`; `None` if its definition disagrees.
    pub(crate) fn make(
        &mut self,
        def: &'static OpDef,
        operands: &[ValueId],
        attributes: Attributes,
        ty: &TensorType,
    ) -> Option<ValueId> {
        let types: Vec<Type> = operands.iter().map(|value| self.module.ty(*value).clone()).collect();
        let wanted = [Type::Tensor(ty.clone())];
        let signature = Signature { def, operands: &types, attributes: &attributes, results: &wanted };
        let inferred = builder::infer(&signature).ok()?;
        if inferred != wanted {
            return None;
        }
        tilewright_ir::verify::verify_signature(&signature).ok()?;
        let op = self.module.create_op(def, operands, attributes, &inferred, self.location.clone());
        self.made.push(op);
        Some(self.module.result(op))
    }

    pub(crate) fn constant(&mut self, value: &Tensor) -> ValueId {
        let elements = value.to_elements();
        let ty = Type::Tensor(elements.ty().clone());
        let attributes = Attributes::from([("value".into(), elements.into())]);
        let op = self.module.create_op(&core::CONSTANT, &[], attributes, &[ty], self.location.clone());
        self.made.push(op);
        self.module.result(op)
    }

    pub(crate) fn operand(&self, op: OpId, at: usize) -> ValueId {
        self.module.op(op).operands[at]
    }

    pub(crate) fn tensor(&self, value: ValueId) -> Option<TensorType> {
        self.module.tensor(value).cloned()
    }

    pub(crate) fn result_type(&self, op: OpId) -> Option<TensorType> {
        self.tensor(*self.module.op(op).results.first()?)
    }

    /// The number that a small constant holds everywhere.
    pub(crate) fn splat(&self, value: ValueId) -> Option<f64> {
        let tensor = fold::small_constant(self.module, value)?;
        let first = (!tensor.is_empty()).then(|| tensor.float(0))?;
        (1..tensor.len()).all(|at| tensor.float(at).to_bits() == first.to_bits()).then_some(first)
    }

    /// `Some([value])` if it has the type of the op's result: then it may take its place.
    pub(crate) fn same_type(&self, op: OpId, value: ValueId) -> Simplified {
        (self.tensor(value)? == self.result_type(op)?).then(|| vec![value])
    }
}

/// Whether an element type computes in floats.
fn is_float(element: Element) -> bool {
    element.is_float()
}
