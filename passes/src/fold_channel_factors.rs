//! Constant factors of the channels that a product reads move into what makes the channels: the gain of a norm, a constant factor, or the
//! weight (or its scales) of an earlier product. The function stays what it was, but for rounding.
//!
//! Scaling by activations stands on it (AWQ, Lin et al. 2023, arXiv:2306.00978; SmoothQuant, Xiao et al. 2022, arXiv:2211.10438):
//! a product's weights are multiplied by a factor per input channel before they are rounded, its input is divided by the same factors,
//! and here the division disappears. Who chooses the factors is no matter of this file.
//!
//! ```text
//! %n = "core.mul"(%h, %gain)   %d = "core.mul"(%n, %factors)   %y = "core.matmul"(%d, %w)
//!   =>   %g = "core.mul"(%gain, %factors)   %n = "core.mul"(%h, %g)   %y = "core.matmul"(%n, %w)
//! ```

use crate::pass::{Pass, PassContext, PassDef};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use tilewright_ir::attribute::{Attribute, Elements, Resource};
use tilewright_ir::builder::Builder;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::op_def::{OpDef, Traits};
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "fold-channel-factors",
    doc: "Moves constant factors of the channels that products read into norms, weights and scales before them.",
    options: &[],
    make: |_| Ok(Box::new(FoldChannelFactors)),
};

/// The pass.
pub struct FoldChannelFactors;

/// Products that read rows.
const PRODUCTS: [&OpDef; 2] = [&core::MATMUL, &core::LINEAR];
/// Steps back from a product at most; what makes its channels is near.
const DEPTH_MAX: usize = 8;

/// An operand that takes factors along one of its axes.
#[derive(Clone, Copy, Debug)]
struct Site {
    op: OpId,
    slot: usize,
    axis: usize,
}

impl Pass for FoldChannelFactors {
    fn run(&self, module: &mut Module, _context: &mut PassContext) -> Result<(), Diagnostics> {
        for op in module.all_ops() {
            if let Some((value, factors)) = scaled_input(module, op)
                && let Some(sites) = sites(module, value, 1)
            {
                fold(module, op, value, factors, &sites).map_err(|what| {
                    let location = module.op(op).location.clone();
                    vec![Diagnostic::error(location, format!("factors of channels: {what}"))]
                })?;
            }
        }
        Ok(())
    }
}

/// Whether factors of a value's channels would disappear, when nothing but these products reads it.
pub fn absorbs(module: &Module, value: ValueId, products: &[OpId]) -> bool {
    let users = &module.value(value).users;
    users.iter().all(|user| products.contains(user)) && sites(module, value, users.len()).is_some()
}

/// Puts `x * factors` before products of some weights; products that share `x` share the result.
///
/// # Errors
/// When an op refuses its new operand: a fault of ours.
pub fn multiply_inputs(
    module: &mut Module,
    products: &[OpId],
    factors: &[f32],
    known: &mut BTreeMap<(BlockId, ValueId), ValueId>,
) -> Result<(), String> {
    for op in products {
        let x = module.op(*op).operands[0];
        let (block, _) = module.position(*op).ok_or("a product is in no block")?;
        let scaled = match known.get(&(block, x)) {
            Some(scaled) => *scaled,
            None => {
                let ty = module.tensor(x).ok_or("an input is no tensor")?;
                let numbers = factors.iter().map(|factor| f64::from(*factor)).collect();
                let vector = Tensor::from_floats(ty.element, &[factors.len()], numbers);
                let mut builder = Builder::before(module, *op);
                let vector = builder.constant(&vector);
                let scaled = builder.op(&core::MUL).operands(&[x, vector]).value()?;
                known.insert((block, x), scaled);
                scaled
            }
        };
        module.set_operand(*op, 0, scaled);
    }
    Ok(())
}

/// The value and the factors of a multiplication that only products read.
fn scaled_input(module: &Module, op: OpId) -> Option<(ValueId, ValueId)> {
    let operation = module.op(op);
    let result = *operation.results.first()?;
    let users = &module.value(result).users;
    let feeds_products = users.iter().all(|user| {
        PRODUCTS.contains(&module.op(*user).def)
            && module.op(*user).operands.iter().rposition(|one| *one == result) == Some(0)
    });
    if operation.def != &core::MUL || users.is_empty() || !feeds_products {
        return None;
    }
    let width = module.tensor(result)?.shape.last()?;
    let is_vector = |value: ValueId| {
        module.tensor(value).is_some_and(|ty| ty.rank() == 1 && &ty.shape[0] == width)
            && is_constant(module, value, 0)
    };
    let (a, b) = (operation.operands[0], operation.operands[1]);
    if is_vector(b) { Some((a, b)) } else { is_vector(a).then_some((b, a)) }
}

/// Whether a value follows from constants alone.
fn is_constant(module: &Module, value: ValueId, depth: usize) -> bool {
    module.producer(value).is_some_and(|op| {
        let operation = module.op(op);
        operation.def.is(Traits::CONSTANT)
            || depth > 0
                && operation.def.is(Traits::PURE)
                && !operation.operands.is_empty()
                && operation.operands.iter().all(|value| is_constant(module, *value, depth - 1))
    })
}

/// Every operand that must take the factors so that `value`'s channels have them; `None` when they cannot all be reached. `users` is how
/// many read `value`: others must not see the change.
fn sites(module: &Module, value: ValueId, users: usize) -> Option<Vec<Site>> {
    let mut found = Vec::new();
    let width = module.tensor(value)?.shape.last()?.clone();
    collect(module, value, users, &width, DEPTH_MAX, &mut found).then_some(found)
}

fn collect(
    module: &Module,
    value: ValueId,
    users: usize,
    width: &Dim,
    depth: usize,
    into: &mut Vec<Site>,
) -> bool {
    let (Some(op), Some(ty)) = (module.producer(value), module.tensor(value)) else { return false };
    if depth == 0 || module.value(value).users.len() != users || ty.shape.last() != Some(width) {
        return false;
    }
    let operation = module.op(op);
    let operands = &operation.operands;
    let deeper =
        |slot: usize, into: &mut Vec<Site>| collect(module, operands[slot], 1, width, depth - 1, into);
    let constant = |slot: usize| {
        let ty = module.tensor(operands[slot]).filter(|ty| ty.shape.last() == Some(width))?;
        is_constant(module, operands[slot], DEPTH_MAX).then(|| Site { op, slot, axis: ty.rank() - 1 })
    };
    let def = operation.def;
    if def == &core::RMS_NORM || def == &core::LAYER_NORM {
        // Gain, and bias where there is one.
        let all: Option<Vec<Site>> = (1..operands.len()).map(constant).collect();
        return all.map(|all| into.extend(all)).is_some();
    }
    if def == &core::MUL || def == &core::GLU {
        let slots: &[usize] = if def == &core::MUL { &[0, 1] } else { &[1] };
        if let Some(site) = slots.iter().find_map(|slot| constant(*slot)) {
            into.push(site);
            return true;
        }
        // Of two activations one takes them; the later one is the plain half of a gated unit.
        return slots.iter().rev().any(|slot| {
            let before = into.len();
            let taken = deeper(*slot, into);
            into.truncate(if taken { into.len() } else { before });
            taken
        });
    }
    if def == &core::ADD {
        // Both sides, one of them a bias.
        let bias = [0, 1].into_iter().find_map(|slot| Some((slot, constant(slot)?)));
        return bias.is_some_and(|(slot, site)| {
            into.push(site);
            deeper(1 - slot, into)
        });
    }
    if def == &core::CAST {
        return ty.element.is_float() && deeper(0, into);
    }
    PRODUCTS.contains(&def) && product(module, op, into)
}

/// The columns of a product: of its weight, and of its bias.
fn product(module: &Module, op: OpId, into: &mut Vec<Site>) -> bool {
    let operation = module.op(op);
    let flag = |name: &str| operation.attributes.get(name).and_then(Attribute::as_bool) == Some(true);
    let activation = operation.attributes.get("activation").and_then(Attribute::as_str).unwrap_or("none");
    // A weight with scales of its own operand (MatMulNBits) came quantised: its bits and scales stay.
    if activation != "none" || module.operand_at(op, 3).is_some() && operation.def == &core::LINEAR {
        return false;
    }
    if let Some(bias) = module.operand_at(op, 2).filter(|_| operation.def == &core::LINEAR) {
        if !is_constant(module, bias, DEPTH_MAX) {
            return false;
        }
        into.push(Site { op, slot: 2, axis: 0 });
    }
    let axis = usize::from(!flag("transpose_weight"));
    weight(module, Site { op, slot: 1, axis }, into)
}

fn weight(module: &Module, site: Site, into: &mut Vec<Site>) -> bool {
    let value = module.op(site.op).operands[site.slot];
    let (Some(producer), Some(ty)) = (module.producer(value), module.tensor(value)) else { return false };
    if ty.rank() != 2 || module.value(value).users.len() != 1 || !is_constant(module, value, DEPTH_MAX) {
        return false;
    }
    let operation = module.op(producer);
    if operation.def == &core::TRANSPOSE {
        let order = operation.attributes.get("permutation").and_then(Attribute::as_ints);
        let axis = order.and_then(|order| order.get(site.axis)).and_then(|axis| usize::try_from(*axis).ok());
        return axis.is_some_and(|axis| weight(module, Site { op: producer, slot: 0, axis }, into));
    }
    if operation.def != &core::DEQUANTIZE {
        into.push(site);
        return true;
    }
    let int = |name: &str| operation.attributes.get(name).and_then(Attribute::as_int);
    let Some(scale) = module.tensor(operation.operands[1]) else { return false };
    let along = int("axis").unwrap_or(1);
    let has_blocks = int("block").unwrap_or(0) > 0;
    // A scale of its own for every column, in a type that holds any number.
    let axis = match (scale.rank(), has_blocks) {
        (1, false) if along == site.axis as i64 => 0,
        (2, true) if along != site.axis as i64 => site.axis,
        _ => return false,
    };
    if scale.shape[axis] != ty.shape[site.axis]
        || !matches!(scale.element, Element::F32 | Element::F16 | Element::BF16)
    {
        return false;
    }
    into.push(Site { op: producer, slot: 1, axis });
    true
}

/// Multiplies all sites and takes the multiplication away.
fn fold(
    module: &mut Module,
    op: OpId,
    value: ValueId,
    factors: ValueId,
    sites: &[Site],
) -> Result<(), String> {
    let numbers = module.producer(factors).ok_or("factors that nothing makes")?;
    for site in sites {
        let operand = module.op(site.op).operands[site.slot];
        let ty = module.tensor(operand).ok_or("an operand is no tensor")?.clone();
        let small = folded(module, operand, numbers, site.axis);
        let mut builder = Builder::before(module, site.op);
        let product = match small {
            Some(elements) => builder.op(&core::CONSTANT).attribute("value", elements).result(ty).value()?,
            None => {
                let vector = copied(&mut builder, numbers)?;
                multiplied(&mut builder, operand, &ty, vector, site.axis)?
            }
        };
        // It is still this weight, these scales.
        module.value_mut(product).name = module.value(operand).name.clone();
        module.set_operand(site.op, site.slot, product);
    }
    let result = module.result(op);
    module.replace_all_uses(result, value);
    module.erase(op);
    Ok(())
}

/// Larger constants are multiplied when the artifact is written.
const SMALL_BYTES: usize = 64 << 10;

/// A small constant of the model times the factors along an axis, under its own name.
fn folded(module: &Module, operand: ValueId, numbers: OpId, axis: usize) -> Option<Elements> {
    let elements = |op: OpId| module.op(op).attributes.get("value").and_then(Attribute::as_elements);
    let Elements::Resource(resource) = elements(module.producer(operand)?)? else { return None };
    if resource.bytes.len() > SMALL_BYTES {
        return None;
    }
    let values = Tensor::from_elements(&Elements::Resource(resource.clone())).ok()?;
    let factors = Tensor::from_elements(elements(numbers)?).ok()?;
    let (dim, inner) = (values.shape[axis], values.shape[axis + 1..].iter().product::<usize>());
    let products = values.floats().into_iter().enumerate();
    let products = products.map(|(at, value)| value * factors.float(at / inner % dim)).collect();
    let product = Tensor::from_floats(values.element, &values.shape, products);
    let ty = resource.ty.clone();
    let product = Resource::new(&resource.name, ty, Bytes::from(product.to_bytes()));
    Some(Elements::Resource(Arc::new(product)))
}

/// The constant of the factors once more, where it is needed.
fn copied(builder: &mut Builder, numbers: OpId) -> Result<ValueId, String> {
    let operation = builder.module.op(numbers);
    let (def, attributes) = (operation.def, operation.attributes.clone());
    let ty = builder.module.tensor(builder.module.result(numbers)).ok_or("factors are no tensor")?.clone();
    builder.op(def).attributes(attributes).result(ty).value()
}

/// `operand * vector` along an axis, computed in f32 and kept in the operand's type.
fn multiplied(
    builder: &mut Builder,
    operand: ValueId,
    ty: &TensorType,
    vector: ValueId,
    axis: usize,
) -> Result<ValueId, String> {
    let wide = |builder: &mut Builder, value: ValueId, from: &TensorType| {
        if from.element == Element::F32 {
            return Ok(value);
        }
        builder.op(&core::CAST).operand(value).result(from.with_element(Element::F32)).value()
    };
    let of_vector = builder.module.tensor(vector).ok_or("factors are no tensor")?.clone();
    let mut factors = wide(builder, vector, &of_vector)?;
    let after = ty.rank() - 1 - axis;
    if after > 0 {
        let shape = of_vector.shape.iter().cloned().chain(std::iter::repeat_n(Dim::Known(1), after));
        let ty = TensorType::new(Element::F32, shape);
        factors = builder.op(&core::RESHAPE).operand(factors).result(ty).value()?;
    }
    let operand = wide(builder, operand, ty)?;
    let product = builder.op(&core::MUL).operands(&[operand, factors]).value()?;
    if ty.element == Element::F32 {
        return Ok(product);
    }
    builder.op(&core::CAST).operand(product).result(ty.clone()).value()
}
