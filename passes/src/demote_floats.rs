//! Computes f32 in a narrower float where the machine's engines have no f32, or where that is preferred: products by the rates of its
//! matrix engine, the rest by the element types of its vector engine. What they have stays f32 where nothing is preferred, and so do the
//! module's border and its states.
//!
//! Every op is offered the narrower type; one whose definition refuses it stays, and so do the steps of a norm that nothing fused and
//! what takes constants beyond the narrower type. Numbers from there, from arguments and in masks saturate instead of becoming infinite.
//!
//! ```text
//! %y = "core.matmul"(%x, %w) : f32   =>   "core.matmul"(cast %x, cast %w) : f16, cast to f32 where somebody still wants that
//! ```

use crate::egraph::cost::MATRIX_OPS;
use crate::machine::{Engine, Machine};
use crate::pass::{Pass, PassContext, PassDef};
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::attribute::Elements;
use tilewright_ir::builder::Builder;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dialects::core;
use tilewright_ir::edit;
use tilewright_ir::element::Element;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::op_def::{OpDef, Traits};
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::Type;
use tilewright_ir::verify::verify_signature;

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "demote-floats",
    doc: "Computes f32 in f16 or bf16 where the machine's engines have no f32.",
    options: &[],
    make: |_| Ok(Box::new(DemoteFloats)),
};

/// Largest finite numbers of the narrower types (IEEE 754-2019; bfloat16 is the upper half of binary32).
const LARGEST: [(Element, f64); 2] = [(Element::F16, 65504.0), (Element::BF16, 3.389_531_389_251_535_4e38)];

/// Operands that keep f32 beside narrower ones: scales of stored weights, which the matrix engine takes in with them.
const KEPT: &[(&OpDef, usize)] = &[(&core::LINEAR, 3)];
/// Steps of a norm that nothing fused: squares and their means span twice the exponents of what they are made of, which a narrower type
/// has not. They stay, and so do sums with constants between them.
const SENSITIVE: &[&OpDef] =
    &[&core::POW, &core::REDUCE_SUM, &core::REDUCE_MEAN, &core::SQRT, &core::RSQRT, &core::RECIPROCAL];
/// Operands whose numbers may be beyond the narrower type on purpose.
const MASKS: &[(&OpDef, usize)] = &[(&core::ATTENTION, 3)];

/// The pass.
pub struct DemoteFloats;

impl Pass for DemoteFloats {
    fn run(&self, module: &mut Module, context: &mut PassContext) -> Result<(), Diagnostics> {
        let narrower = context.machine.narrower_float();
        let row = LARGEST.into_iter().find(|row| Some(row.0) == narrower);
        let Some((element, largest)) = row else { return Ok(()) };
        let mut work = Demotion {
            element,
            largest,
            narrow: BTreeMap::new(),
            beyond: BTreeSet::new(),
            constant: BTreeSet::new(),
        };
        let mut problems = Diagnostics::new();
        for op in module.all_ops() {
            let (is_constant, is_beyond) = (work.is_constant(module, op), work.goes_beyond(module, op));
            let results = module.op(op).results.iter().copied();
            work.constant.extend(results.clone().filter(|_| is_constant));
            work.beyond.extend(results.filter(|_| is_beyond));
            if !is_constant
                && !is_beyond
                && work.is_wanted(module, op, &context.machine)
                && let Err(what) = work.demote(module, op)
            {
                let operation = module.op(op);
                let what = format!("'{}' in {element}: {what}", operation.def.name);
                problems.push(Diagnostic::error(operation.location.clone(), what));
            }
        }
        edit::erase_dead(module, module.root());
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

struct Demotion {
    element: Element,
    largest: f64,
    /// The narrower form of an f32 value.
    narrow: BTreeMap<ValueId, ValueId>,
    /// Values that may be finite and not fit the narrower type.
    beyond: BTreeSet<ValueId>,
    /// Values that follow from constants.
    constant: BTreeSet<ValueId>,
}

fn is_float(module: &Module, value: ValueId) -> bool {
    module.tensor(value).is_some_and(|ty| ty.element.is_float())
}

fn is_f32(module: &Module, value: ValueId) -> bool {
    module.tensor(value).is_some_and(|ty| ty.element == Element::F32)
}

impl Demotion {
    /// Whether an op would be better off in the narrower type.
    fn is_wanted(&self, module: &Module, op: OpId, machine: &Machine) -> bool {
        let operation = module.op(op);
        let def = operation.def;
        let is_plain = def.is(Traits::PURE) && !def.is(Traits::CONSTANT) && operation.regions.is_empty();
        let mut values = operation.operands.iter().chain(&operation.results);
        if !is_plain
            || def == &core::CAST
            || def == &core::BITCAST
            // The output stage of the matrix engine scales integers as it stores them.
            || def == &core::QUANTIZE && !is_float(module, operation.operands[0])
            || !values.any(|value| is_f32(module, *value))
        {
            return false;
        }
        // A step of 16-bit storage is below the narrower type's.
        let steps = [operation.operands.first(), operation.results.first()].into_iter().flatten();
        let is_fine = |value: &ValueId| {
            module.tensor(*value).is_some_and(|ty| ty.element.is_integer() && ty.element.bits() > 8)
        };
        if (def == &core::QUANTIZE || def == &core::DEQUANTIZE) && steps.clone().any(is_fine) {
            return false;
        }
        let has = |element| machine.supports(Engine::Vector, element);
        let computes_narrow = machine.preferred_float.is_some_and(has) || !has(Element::F32);
        if def.is(Traits::DATA_MOVEMENT) {
            // Movement follows what it moves; rows of a table are taken from a narrower one, which a product reads too where they are tied.
            let is_lookup = def == &core::GATHER && self.constant.contains(&operation.operands[0]);
            return is_lookup && computes_narrow
                || operation.operands.iter().any(|value| self.narrow.contains_key(value));
        }
        if self.is_sensitive(module, op) {
            return false;
        }
        if !MATRIX_OPS.contains(&def) && def != &core::CACHED_ATTENTION {
            return computes_narrow;
        }
        let elements = [0, 1].map(|slot| {
            let value = module.operand_at(op, slot)?;
            Some(module.tensor(value)?.element)
        });
        let [Some(x), Some(w)] = elements else { return false };
        let demoted = |element| if element == Element::F32 { self.element } else { element };
        machine.macs_per_cycle(x, w).is_none() && machine.macs_per_cycle(demoted(x), demoted(w)).is_some()
    }

    /// Whether an op is a step that needs the range of f32.
    fn is_sensitive(&self, module: &Module, op: OpId) -> bool {
        let operation = module.op(op);
        let is_square = operation.def == &core::MUL && operation.operands[0] == operation.operands[1];
        if is_square || SENSITIVE.contains(&operation.def) {
            return true;
        }
        let is_constant = |value: &ValueId| {
            module.producer(*value).is_some_and(|producer| module.op(producer).def.is(Traits::CONSTANT))
        };
        let is_kept = |value: &ValueId| {
            module.producer(*value).is_some_and(|producer| SENSITIVE.contains(&module.op(producer).def))
        };
        let operands = &operation.operands;
        operation.def == &core::ADD
            && operands.iter().any(is_kept)
            && operands.iter().all(|value| is_kept(value) || is_constant(value))
    }

    /// Whether an op follows from constants alone: it is computed when the artifact is written, such as a weight that is quantised, and
    /// narrowed behind.
    fn is_constant(&self, module: &Module, op: OpId) -> bool {
        let operation = module.op(op);
        let is_plain = operation.def.is(Traits::PURE) && operation.regions.is_empty();
        is_plain && operation.operands.iter().all(|value| self.constant.contains(value))
    }

    /// Whether an op computes with numbers that the narrower type does not hold, such as a mask's lowest number: what is made of them may be
    /// meant, down to the steps of a quantised mask. They saturate where they are narrowed, not before.
    fn goes_beyond(&self, module: &Module, op: OpId) -> bool {
        let operation = module.op(op);
        let follows = operation.def.is(Traits::ELEMENTWISE) || operation.def.is(Traits::DATA_MOVEMENT);
        let takes_scale = operation.def == &core::QUANTIZE || operation.def == &core::DEQUANTIZE;
        (follows || takes_scale)
            && operation
                .operands
                .iter()
                .any(|value| self.beyond.contains(value) || self.is_constant_beyond(module, *value))
    }

    fn is_constant_beyond(&self, module: &Module, value: ValueId) -> bool {
        let constant = module.producer_of(value, &core::CONSTANT).filter(|_| is_f32(module, value));
        let elements = constant.and_then(|op| module.op(op).attributes.get("value")?.as_elements());
        match elements {
            Some(elements @ Elements::Dense(..)) => Tensor::from_elements(elements)
                .is_ok_and(|tensor| tensor.floats().iter().any(|number| number.abs() > self.largest)),
            _ => false,
        }
    }

    /// Changes an op to the narrower type, or leaves it when its definition refuses.
    fn demote(&mut self, module: &mut Module, op: OpId) -> Result<(), String> {
        let operation = module.op(op).clone();
        let slots = |table: &[(&OpDef, usize)]| -> Vec<ValueId> {
            let rows = table.iter().filter(|row| row.0 == operation.def);
            rows.filter_map(|row| module.operand_at(op, row.1)).collect()
        };
        let (kept, masks) = (slots(KEPT), slots(MASKS));
        let old: Vec<Type> = operation.results.iter().map(|value| module.ty(*value).clone()).collect();
        let mut operands = Vec::new();
        for value in &operation.operands {
            operands.push(if !is_f32(module, *value) || kept.contains(value) {
                *value
            } else {
                self.narrowed(module, op, *value, masks.contains(value))?
            });
        }
        module.set_operands(op, &operands);
        let changed: Vec<ValueId> =
            operation.results.iter().copied().filter(|value| is_f32(module, *value)).collect();
        for value in &changed {
            let ty = module.tensor(*value).expect("an f32 tensor").with_element(self.element);
            module.value_mut(*value).ty = ty.into();
        }
        if module.with_signature(op, verify_signature).is_err() {
            module.set_operands(op, &operation.operands);
            for (value, ty) in operation.results.iter().zip(old) {
                module.value_mut(*value).ty = ty;
            }
            return Ok(());
        }
        for value in changed {
            self.widen(module, op, value)?;
        }
        Ok(())
    }

    /// The narrower form of a value, made before `op` when there is none.
    fn narrowed(
        &mut self,
        module: &mut Module,
        op: OpId,
        value: ValueId,
        is_mask: bool,
    ) -> Result<ValueId, String> {
        if let Some(found) = self.narrow.get(&value) {
            return Ok(*found);
        }
        let ty = module.tensor(value).ok_or("not a tensor")?.with_element(self.element);
        let producer = module.producer(value);
        let elements = producer
            .filter(|producer| module.op(*producer).def == &core::CONSTANT)
            .and_then(|constant| module.op(constant).attributes.get("value")?.as_elements());
        let inline = match elements {
            Some(elements @ Elements::Dense(..)) => Some(Tensor::from_elements(elements)?),
            _ => None,
        };
        let is_outside = is_mask || producer.is_none() || self.beyond.contains(&value);
        let largest = self.largest;
        let mut builder = Builder::before(module, op);
        if let Some(tensor) = inline {
            let clamped = tensor.map(|number| number.clamp(-largest, largest)).cast(self.element);
            return Ok(builder.constant(&clamped));
        }
        let mut x = value;
        if let Some(cast) = producer.filter(|producer| builder.module.op(*producer).def == &core::CAST) {
            // What was made an f32 only now is made the narrower type at once.
            x = builder.module.op(cast).operands[0];
        }
        if is_outside {
            x = builder
                .op(&core::CLAMP)
                .operand(x)
                .attribute("min", -largest)
                .attribute("max", largest)
                .value()?;
        }
        builder.op(&core::CAST).operand(x).result(ty).value()
    }

    /// Gives the users of a result that was f32 that type again. Those that are demoted later take the narrower one.
    fn widen(&mut self, module: &mut Module, op: OpId, value: ValueId) -> Result<(), String> {
        let ty = module.tensor(value).ok_or("not a tensor")?.with_element(Element::F32);
        let (block, position) = module.position(op).ok_or("the op is in no block")?;
        let mut builder = Builder::at_end(module, block);
        builder.position = Some(position + 1);
        builder.location = builder.module.op(op).location.clone();
        let wide = builder.op(&core::CAST).operand(value).result(ty).value()?;
        let cast = module.producer(wide).ok_or("a cast has an op")?;
        module.replace_all_uses(value, wide);
        module.set_operand(cast, 0, value);
        self.narrow.insert(wide, value);
        Ok(())
    }
}
