//! The change of the module for one weight: thinned first, then quantised, at all its uses.
//!
//! ```text
//! %w   =>   %w, %w.scale = "core.quantize_weight"(%w) {axis = 0, block = 32, method = "max"}
//! ```

use super::decide::Decision;
use super::prune::{self, Thinned};
use super::roles::{Use, Weight};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use tilewright_ir::attribute::{Attribute, Attributes, Elements, Resource};
use tilewright_ir::builder::Builder;
use tilewright_ir::compressor::PALETTE;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::types::TensorType;
use tilewright_ir::weight_format::{Granularity, WeightFormat};

/// A quantised weight.
struct Parts {
    q: ValueId,
    /// Scales, or the levels of a palette.
    scale: ValueId,
    zero_point: Option<ValueId>,
    /// Attributes of `core.dequantize`.
    sharing: Attributes,
    is_palette: bool,
    thinned: Thinned,
}

/// How weights share scales, as attributes, and the shape of the scales.
fn sharing(format: WeightFormat, weight: &Weight, shape: &[Dim], by_rows: bool) -> (Attributes, Vec<Dim>) {
    let axis = weight.depth_axis;
    let depth = shape[axis].known().unwrap_or(1);
    let blocks = |block: i64| {
        let mut scales = shape.to_vec();
        scales[axis] = Dim::Known((depth + block - 1) / block);
        let attributes = Attributes::from([("axis".into(), axis.into()), ("block".into(), block.into())]);
        (attributes, scales)
    };
    match format.granularity {
        Granularity::Tensor => (Attributes::new(), Vec::new()),
        // A table whose rows are looked up has a column of scales, so that rows of both are taken alike.
        Granularity::Channel if by_rows => blocks(depth.max(1)),
        Granularity::Channel => {
            (Attributes::from([("axis".into(), (1 - axis).into())]), vec![shape[1 - axis].clone()])
        }
        Granularity::Group(group) => blocks(i64::from(group)),
    }
}

/// A weight that was quantised beforehand: packed bytes that someone else keeps mapped.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The weights.
    pub storage: Bytes,
    /// The scales.
    pub scale: Bytes,
    /// The zero points; empty without.
    pub zero_point: Bytes,
    /// What each input channel of the weight was multiplied by before it was rounded, and its products' input is to be divided by; empty
    /// for nothing.
    pub input_divisors: Vec<f32>,
    /// The largest magnitude of its products' input, divided already, when int8 activations get a fixed scale.
    pub input_largest: Option<f32>,
}

/// Where a quantised weight comes from.
#[derive(Clone, Copy, Debug)]
pub enum Making<'a> {
    /// From the float weight when the artifact is written, by a method of the quantiser.
    Recipe(&'a str),
    /// From bytes that are there: dense, with scales.
    Stored(&'a Stored),
}

/// Does what was decided for a weight.
///
/// # Errors
/// When an op refuses its new operand: a fault of ours, told as a diagnostic; stored bytes that do not fit the format; a stored weight that
/// is to be pruned or coded by a palette.
pub fn apply(module: &mut Module, decision: &Decision, making: Making) -> Result<(), Diagnostic> {
    let weight = &decision.weight;
    let location = weight.location(module);
    let fail =
        |what: String| Diagnostic::error(location.clone(), format!("weight '{}': {what}", weight.name));
    if matches!(making, Making::Stored(_)) {
        check_planned(decision).map_err(fail)?;
    }
    let users = module.value(weight.constant).users.clone();
    let next = module.producer(weight.constant).map(|op| after(module, op));
    let next = next.ok_or_else(|| fail("it is no constant".into()))?;
    let thinned = match decision.pruning {
        Some(pruning) => prune::thin(module, weight, pruning, next).map_err(fail)?,
        None => Thinned::whole(weight),
    };
    if let Some(format) = decision.format {
        return quantize(module, weight, format, making, thinned, next).map_err(fail);
    }
    if decision.pruning.is_some() {
        let dense = prune::expand(module, weight, thinned, thinned.values, next).map_err(fail)?;
        for user in users {
            for slot in 0..module.op(user).operands.len() {
                if module.op(user).operands[slot] == weight.constant {
                    module.set_operand(user, slot, dense);
                }
            }
        }
    }
    Ok(())
}

/// Whether a decision can be carried out by a plan, which holds dense weights with scales.
///
/// # Errors
/// What the plan cannot hold.
pub fn check_planned(decision: &Decision) -> Result<(), String> {
    if let Some(pruning) = decision.pruning {
        return Err(format!("a plan decides all and holds dense weights, it cannot be pruned {pruning}"));
    }
    match decision.format {
        Some(format) if format.is_palette() => {
            Err(format!("a plan holds weights with scales, not the levels of {format}"))
        }
        _ => Ok(()),
    }
}

/// Quantises a weight at all its uses.
fn quantize(
    module: &mut Module,
    weight: &Weight,
    format: WeightFormat,
    making: Making,
    thinned: Thinned,
    next: OpId,
) -> Result<(), String> {
    let parts = parts(module, weight, format, making, thinned, next)?;
    let mut dequantized: BTreeMap<Element, ValueId> = BTreeMap::new();
    for one in &weight.uses {
        if module.op(one.op).def == &core::GATHER {
            look_up(module, one, &parts)?;
            continue;
        }
        let old = module.op(one.op).operands[one.slot];
        let element = module.tensor(old).map_or(Element::F32, |ty| ty.element);
        let value = match dequantized.get(&element) {
            Some(value) => *value,
            None => {
                let after = after(module, module.producer(parts.q).expect("an op makes it"));
                let value = dequantize(module, weight, after, &parts, element)?;
                dequantized.insert(element, value);
                value
            }
        };
        let value = transposed(module, one, value)?;
        module.set_operand(one.op, one.slot, value);
    }
    Ok(())
}

/// The op behind another one of its block.
fn after(module: &Module, op: OpId) -> OpId {
    let (block, at) = module.position(op).expect("the op is in a block");
    module.block(block).ops[at + 1]
}

fn parts(
    module: &mut Module,
    weight: &Weight,
    format: WeightFormat,
    making: Making,
    thinned: Thinned,
    before: OpId,
) -> Result<Parts, String> {
    let whole = module.tensor(weight.constant).ok_or("it is no tensor")?.clone();
    let (sharing, scales) = sharing(format, weight, &whole.shape, weight.is_gathered(module));
    let ty = module.tensor(thinned.values).ok_or("it is no tensor")?.clone();
    let location = weight.location(module);
    let mut builder = Builder::before(module, before);
    builder.location = location;
    let side = if format.is_palette() {
        TensorType::of(format.scale, &[PALETTE as i64])
    } else {
        TensorType::new(format.scale, scales.iter().cloned())
    };
    let mut types = vec![ty.with_element(format.storage), side];
    if format.has_zero_point {
        types.push(TensorType::new(format.storage, scales));
    }
    let results: Vec<ValueId> = match making {
        Making::Recipe(method) => {
            let mut own = sharing.clone();
            if let Some(block) = own.get("block").and_then(Attribute::as_int) {
                own.insert("block".into(), thinned.block(block).into());
            }
            let op = if format.is_palette() {
                builder.op(&core::COMPRESS_WEIGHT).attribute("scheme", "palette")
            } else {
                builder.op(&core::QUANTIZE_WEIGHT).attribute("method", method).attributes(own)
            };
            let op = op.operand(thinned.values);
            let op = types.into_iter().fold(op, |op, ty| op.result(ty)).build()?;
            module.op(op).results.to_vec()
        }
        Making::Stored(stored) => {
            let bytes = [&stored.storage, &stored.scale, &stored.zero_point];
            let named = types.into_iter().zip(bytes).zip(["", ".scale", ".zero_point"]);
            named
                .map(|((ty, bytes), suffix)| {
                    let elements = resource(&format!("{}{suffix}", weight.name), ty, bytes)?;
                    builder.op(&core::CONSTANT).attribute("value", elements).value()
                })
                .collect::<Result<_, _>>()?
        }
    };
    let suffixes = ["", if format.is_palette() { ".levels" } else { ".scale" }, ".zero_point"];
    for (result, suffix) in results.iter().zip(suffixes) {
        module.value_mut(*result).name = Some(format!("{}{suffix}", weight.name).into());
    }
    let (q, scale, zero_point) = (results[0], results[1], results.get(2).copied());
    Ok(Parts { q, scale, zero_point, sharing, is_palette: format.is_palette(), thinned })
}

/// A constant over bytes that are there.
fn resource(name: &str, ty: TensorType, bytes: &Bytes) -> Result<Elements, String> {
    let count: i64 = ty.known_shape().unwrap_or_default().iter().product();
    let expected = ty.element.bytes_of(count.max(0) as usize);
    if bytes.len() != expected {
        return Err(format!("{ty} takes {expected} bytes, found {}", bytes.len()));
    }
    Ok(Elements::Resource(Arc::new(Resource::new(name, ty, bytes.clone()))))
}

fn dequantize(
    module: &mut Module,
    weight: &Weight,
    before: OpId,
    parts: &Parts,
    element: Element,
) -> Result<ValueId, String> {
    let location = weight.location(module);
    if parts.is_palette {
        let levels = levels(module, before, parts, element)?;
        let value = decoded(module, before, levels, parts.q)?;
        return prune::expand(module, weight, parts.thinned, value, before);
    }
    let q = prune::expand(module, weight, parts.thinned, parts.q, before)?;
    let ty = module.tensor(q).ok_or("it is no tensor")?.with_element(element);
    let mut builder = Builder::before(module, before);
    builder.location = location;
    let op = builder.op(&core::DEQUANTIZE).operand(q).operand(parts.scale).maybe(parts.zero_point);
    op.attributes(parts.sharing.clone()).result(ty).value()
}

/// The levels of a palette in the element that products compute with.
fn levels(module: &mut Module, before: OpId, parts: &Parts, element: Element) -> Result<ValueId, String> {
    let ty = module.tensor(parts.scale).ok_or("it is no tensor")?.clone();
    if ty.element == element {
        return Ok(parts.scale);
    }
    let mut builder = Builder::before(module, before);
    builder.op(&core::CAST).operand(parts.scale).result(ty.with_element(element)).value()
}

/// What codes stand for.
fn decoded(module: &mut Module, before: OpId, levels: ValueId, codes: ValueId) -> Result<ValueId, String> {
    let location = module.op(before).location.clone();
    let mut builder = Builder::before(module, before);
    builder.location = location;
    builder.op(&core::GATHER).operands(&[levels, codes]).attribute("axis", 0i64).value()
}

/// The transposes between a constant and its use, on another value; the casts are in its type already.
fn transposed(module: &mut Module, one: &Use, mut value: ValueId) -> Result<ValueId, String> {
    for op in &one.chain {
        if module.op(*op).def == &core::TRANSPOSE {
            let (attributes, location) = (module.op(*op).attributes.clone(), module.op(*op).location.clone());
            let mut builder = Builder::before(module, one.op);
            builder.location = location;
            value = builder.op(&core::TRANSPOSE).operand(value).attributes(attributes).value()?;
        }
    }
    Ok(value)
}

/// Rows of a quantised table: of its storage, its scales and its zero points, dequantised.
fn look_up(module: &mut Module, one: &Use, parts: &Parts) -> Result<(), String> {
    let operation = module.op(one.op);
    let (indices, result) = (operation.operands[1], operation.results[0]);
    let (attributes, location) = (operation.attributes.clone(), operation.location.clone());
    let ty = module.tensor(result).ok_or("it is no tensor")?.clone();
    if parts.is_palette {
        let mut builder = Builder::before(module, one.op);
        builder.location = location;
        let codes = builder.op(&core::GATHER).operands(&[parts.q, indices]).attributes(attributes).value()?;
        let levels = levels(module, one.op, parts, ty.element)?;
        let value = decoded(module, one.op, levels, codes)?;
        return replace(module, one.op, result, value);
    }
    let is_scalar = module.tensor(parts.scale).is_some_and(|ty| ty.rank() == 0);
    let mut builder = Builder::before(module, one.op);
    builder.location = location;
    let mut rows = |value: ValueId| {
        builder.op(&core::GATHER).operands(&[value, indices]).attributes(attributes.clone()).value()
    };
    let q = rows(parts.q)?;
    let scale = if is_scalar { parts.scale } else { rows(parts.scale)? };
    let zero_point = match parts.zero_point {
        Some(zero) if !is_scalar => Some(rows(zero)?),
        other => other,
    };
    let mut sharing = parts.sharing.clone();
    if sharing.contains_key("axis") {
        sharing.insert("axis".into(), (ty.rank() - 1).into());
    }
    let value = builder
        .op(&core::DEQUANTIZE)
        .operand(q)
        .operand(scale)
        .maybe(zero_point)
        .attributes(sharing)
        .result(ty)
        .value()?;
    replace(module, one.op, result, value)
}

/// Puts a value in the place of an op's result.
fn replace(module: &mut Module, op: OpId, result: ValueId, value: ValueId) -> Result<(), String> {
    let name = module.value(result).name.clone();
    module.value_mut(value).name = name;
    module.replace_all_uses(result, value);
    module.erase(op);
    Ok(())
}
