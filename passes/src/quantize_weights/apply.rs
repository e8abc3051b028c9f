//! The change of the module for one weight.
//!
//! ```text
//! %w   =>   %w, %w.scale = "core.quantize_weight"(%w) {axis = 0, block = 32, method = "max"}
//! ```

use super::roles::{Use, Weight};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use tilewright_ir::attribute::{Attributes, Elements, Resource};
use tilewright_ir::builder::Builder;
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
    scale: ValueId,
    zero_point: Option<ValueId>,
    /// Attributes of `core.dequantize`.
    sharing: Attributes,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The weights.
    pub storage: Bytes,
    /// The scales.
    pub scale: Bytes,
    /// The zero points; empty without.
    pub zero_point: Bytes,
}

/// Where a quantised weight comes from.
#[derive(Clone, Copy, Debug)]
pub enum Making<'a> {
    /// From the float weight when the artifact is written, by a method of the quantiser.
    Recipe(&'a str),
    /// From bytes that are there.
    Stored(&'a Stored),
}

/// Quantises a weight at all its uses.
///
/// # Errors
/// When an op refuses its new operand: a fault of ours, told as a diagnostic; stored bytes that do not fit the format.
pub fn quantize(
    module: &mut Module,
    weight: &Weight,
    format: WeightFormat,
    making: Making,
) -> Result<(), Diagnostic> {
    let location = weight.location(module);
    let fail =
        |what: String| Diagnostic::error(location.clone(), format!("weight '{}': {what}", weight.name));
    let parts = parts(module, weight, format, making).map_err(fail)?;
    let mut dequantized: BTreeMap<Element, ValueId> = BTreeMap::new();
    for one in &weight.uses {
        if module.op(one.op).def == &core::GATHER {
            look_up(module, one, &parts).map_err(fail)?;
            continue;
        }
        let old = module.op(one.op).operands[one.slot];
        let element = module.tensor(old).map_or(Element::F32, |ty| ty.element);
        let value = match dequantized.get(&element) {
            Some(value) => *value,
            None => {
                let after = after(module, module.producer(parts.q).expect("an op makes it"));
                let value = dequantize(module, after, &parts, element).map_err(fail)?;
                dequantized.insert(element, value);
                value
            }
        };
        let value = transposed(module, one, value).map_err(fail)?;
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
) -> Result<Parts, String> {
    let ty = module.tensor(weight.constant).ok_or("it is no tensor")?.clone();
    let (sharing, scales) = sharing(format, weight, &ty.shape, weight.is_gathered(module));
    let before = after(module, module.producer(weight.constant).ok_or("it is no constant")?);
    let location = weight.location(module);
    let mut builder = Builder::before(module, before);
    builder.location = location;
    let mut types =
        vec![ty.with_element(format.storage), TensorType::new(format.scale, scales.iter().cloned())];
    if format.has_zero_point {
        types.push(TensorType::new(format.storage, scales));
    }
    let results: Vec<ValueId> = match making {
        Making::Recipe(method) => {
            let op = builder.op(&core::QUANTIZE_WEIGHT).operand(weight.constant).attribute("method", method);
            let op = op.attributes(sharing.clone());
            let op = types.into_iter().fold(op, |op, ty| op.result(ty)).build()?;
            module.op(op).results.to_vec()
        }
        Making::Stored(stored) => {
            let bytes = [&stored.storage, &stored.scale, &stored.zero_point];
            let named = types.into_iter().zip(bytes).zip(SUFFIXES);
            named
                .map(|((ty, bytes), suffix)| {
                    let elements = resource(&format!("{}{suffix}", weight.name), ty, bytes)?;
                    builder.op(&core::CONSTANT).attribute("value", elements).value()
                })
                .collect::<Result<_, _>>()?
        }
    };
    for (result, suffix) in results.iter().zip(SUFFIXES) {
        module.value_mut(*result).name = Some(format!("{}{suffix}", weight.name).into());
    }
    Ok(Parts { q: results[0], scale: results[1], zero_point: results.get(2).copied(), sharing })
}

/// What the names of a weight's parts end in.
const SUFFIXES: [&str; 3] = ["", ".scale", ".zero_point"];

/// A constant over bytes that are there.
fn resource(name: &str, ty: TensorType, bytes: &Bytes) -> Result<Elements, String> {
    let count: i64 = ty.known_shape().unwrap_or_default().iter().product();
    let expected = ty.element.bytes_of(count.max(0) as usize);
    if bytes.len() != expected {
        return Err(format!("{ty} takes {expected} bytes, found {}", bytes.len()));
    }
    Ok(Elements::Resource(Arc::new(Resource::new(name, ty, bytes.clone()))))
}

fn dequantize(module: &mut Module, before: OpId, parts: &Parts, element: Element) -> Result<ValueId, String> {
    let ty = module.tensor(parts.q).ok_or("it is no tensor")?.with_element(element);
    let location = module.op(module.producer(parts.q).ok_or("no op makes it")?).location.clone();
    let mut builder = Builder::before(module, before);
    builder.location = location;
    let op = builder.op(&core::DEQUANTIZE).operand(parts.q).operand(parts.scale).maybe(parts.zero_point);
    op.attributes(parts.sharing.clone()).result(ty).value()
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
    let name = module.value(result).name.clone();
    module.value_mut(value).name = name;
    module.replace_all_uses(result, value);
    module.erase(one.op);
    Ok(())
}
