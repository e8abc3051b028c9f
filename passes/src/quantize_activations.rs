//! Activations of products with integer weights are rounded to int8, and the products multiply integers: the scale of the activations comes
//! behind. It is each row's own, by its largest magnitude, or one number that a calibration found. Products of float weights, NF4 and FP8
//! keep their activations; integers that the machine does not multiply by int8 get rounded activations that are read as floats again.
//!
//! ```text
//! %s = max(reduce_max(abs(%x)), tiny) / 127   %q = "core.quantize"(%x, %s)   per row, symmetric: Xiao et al. 2022, arXiv:2211.10438,
//! %p = "core.linear"(%q, %w, scales of %w)    %y = "core.mul"(%p, %s)         section 2
//! ```

use crate::pass::{Pass, PassContext, PassDef};
use std::collections::BTreeMap;
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::builder::Builder;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dialects::core;
use tilewright_ir::element::Element;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::op_def::OpDef;
use tilewright_ir::tensor::Tensor;

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "quantize-activations",
    doc: "Rounds the activations of products with integer weights to int8, each row by its largest magnitude.",
    options: &[],
    make: |_| Ok(Box::new(QuantizeActivations::default())),
};

/// Steps on either side of zero.
const STEPS: f64 = 127.0;

/// The pass.
#[derive(Clone, Debug, Default)]
pub struct QuantizeActivations {
    /// The largest magnitude of a product's activations, by product: its scale is then fixed, and larger ones saturate.
    pub largest: BTreeMap<OpId, f32>,
}

/// A value as int8 with its scale, and as floats again where a product needs them.
#[derive(Clone, Copy)]
struct Rounded {
    q: ValueId,
    scale: ValueId,
    float: Option<ValueId>,
}

impl Pass for QuantizeActivations {
    fn run(&self, module: &mut Module, context: &mut PassContext) -> Result<(), Diagnostics> {
        let mut rounded: BTreeMap<(BlockId, ValueId), Rounded> = BTreeMap::new();
        for op in module.all_ops() {
            let Some(product) = Product::of(module, op) else { continue };
            let fault = |module: &Module, what: String| {
                let location = module.op(op).location.clone();
                vec![Diagnostic::error(location, format!("int8 activations: {what}"))]
            };
            let place = (product.block, product.x);
            let x = match rounded.get(&place) {
                Some(x) => *x,
                None => self.round(module, op, product.x).map_err(|what| fault(module, what))?,
            };
            let stored = module.tensor(product.stored).map_or(Element::F32, |ty| ty.element);
            let x = if context.machine.macs_per_cycle(Element::I8, stored).is_some() {
                product.multiply_integers(module, op, &x).map_err(|what| fault(module, what))?;
                x
            } else {
                let float = match x.float {
                    Some(float) => float,
                    None => widened(module, &x).map_err(|what| fault(module, what))?,
                };
                module.set_operand(op, 0, float);
                Rounded { float: Some(float), ..x }
            };
            rounded.insert(place, x);
        }
        Ok(())
    }
}

/// A product of float rows by integers that are dequantised.
struct Product {
    block: BlockId,
    x: ValueId,
    stored: ValueId,
    scale: ValueId,
    zero_point: Option<ValueId>,
    /// `axis` and `block` of the scales, and whether the stored matrix is `[n, k]`.
    attributes: Attributes,
    bias: Option<ValueId>,
    activation: String,
}

impl Product {
    fn of(module: &Module, op: OpId) -> Option<Product> {
        let operation = module.op(op);
        if operation.def != &core::MATMUL && operation.def != &core::LINEAR {
            return None;
        }
        let flag = |op: OpId, name: &str| module.op(op).attributes.get(name).and_then(Attribute::as_bool);
        let (x, mut w) = (operation.operands[0], operation.operands[1]);
        let mut is_transposed = flag(op, "transpose_weight").unwrap_or(false);
        while let Some(transpose) = module.producer_of(w, &core::TRANSPOSE) {
            // Of a matrix: either a turn or nothing.
            let order = module.op(transpose).attributes.get("permutation").and_then(Attribute::as_ints);
            is_transposed ^= order == Some(&[1, 0]);
            w = module.op(transpose).operands[0];
        }
        let (source, stored, scale, zero_point) = match module.producer_of(w, &core::DEQUANTIZE) {
            Some(source) => {
                let operand = |slot| module.operand_at(source, slot);
                (source, operand(0)?, operand(1)?, operand(2))
            }
            None => (op, w, module.operand_at(op, 3)?, module.operand_at(op, 4)),
        };
        let mut attributes = Attributes::from([("transpose_weight".into(), is_transposed.into())]);
        for name in ["axis", "block"] {
            let known = module.op(source).attributes.get(name);
            attributes.extend(known.map(|value| (name.into(), value.clone())));
        }
        let ty = module.tensor(x)?;
        let is_float = matches!(ty.element, Element::F32 | Element::F16 | Element::BF16);
        let is_whole = ty.shape.last()?.known().is_some_and(|width| width > 0);
        let is_rounded = module.producer_of(x, &core::DEQUANTIZE).is_some();
        let fits = is_float && is_whole && !is_rounded && module.tensor(stored)?.element.is_integer();
        // Only a matrix has rows that all see the same weights.
        let block = (fits && module.tensor(stored)?.rank() == 2).then_some(module.position(op)?.0)?;
        let bias = (operation.def == &core::LINEAR).then(|| module.operand_at(op, 2)).flatten();
        let activation = operation.attributes.get("activation").and_then(Attribute::as_str);
        let activation = activation.unwrap_or("none").to_string();
        Some(Product { block, x, stored, scale, zero_point, attributes, bias, activation })
    }

    /// The integer product in place of `op`, then the rows' scale, bias and activation.
    fn multiply_integers(self, module: &mut Module, op: OpId, x: &Rounded) -> Result<(), String> {
        let old = module.result(op);
        let ty = module.tensor(old).ok_or("the result is no tensor")?.clone();
        let mut builder = Builder::before(module, op);
        // Before the rows' scale numbers are up to 127 times as large: too large for f16.
        let wide = ty.with_element(Element::F32);
        let product = builder.op(&core::LINEAR).operand(x.q).operand(self.stored).maybe(None);
        let product = product.operand(self.scale).maybe(self.zero_point);
        let product = product.attributes(self.attributes).attribute("activation", "none");
        let product = product.result(wide).value()?;
        let scale = cast(&mut builder, x.scale, Element::F32)?;
        let value = builder.op(&core::MUL).operands(&[product, scale]).value()?;
        let mut value = cast(&mut builder, value, ty.element)?;
        if let Some(bias) = self.bias {
            value = builder.op(&core::ADD).operands(&[value, bias]).value()?;
        }
        if let Some((_, def, attribute)) = ACTIVATIONS.iter().find(|row| row.0 == self.activation) {
            let activated = builder.op(def).operand(value);
            value = match attribute {
                Some(how) => activated.attribute("approximate", *how).value()?,
                None => activated.value()?,
            };
        }
        let name = module.value(old).name.clone();
        module.value_mut(value).name = name;
        module.replace_all_uses(old, value);
        module.erase(op);
        Ok(())
    }
}

/// The same numbers in another element type.
fn cast(builder: &mut Builder, value: ValueId, element: Element) -> Result<ValueId, String> {
    let ty = builder.module.tensor(value).ok_or("it is no tensor")?.clone();
    if ty.element == element {
        return Ok(value);
    }
    builder.op(&core::CAST).operand(value).result(ty.with_element(element)).value()
}

/// Activations of a linear as ops of their own, with attribute `approximate`.
const ACTIVATIONS: &[(&str, &OpDef, Option<&str>)] = &[
    ("relu", &core::RELU, None),
    ("silu", &core::SILU, None),
    ("sigmoid", &core::SIGMOID, None),
    ("tanh", &core::TANH, None),
    ("gelu", &core::GELU, Some("none")),
    ("gelu_tanh", &core::GELU, Some("tanh")),
];

/// The smallest magnitude that is scaled by: rows of zeros stay zeros, and no scale is 0.
fn tiny(element: Element) -> f64 {
    if element == Element::F16 { 2f64.powi(-14) } else { 1e-30 }
}

/// Attributes of a scale per row of `x`.
fn by_rows(module: &Module, x: ValueId) -> Option<Attributes> {
    let ty = module.tensor(x)?;
    let (last, width) = (ty.rank() as i64 - 1, ty.shape.last()?.known()?);
    Some(Attributes::from([("axis".into(), last.into()), ("block".into(), width.into())]))
}

/// `x` as floats again, behind its quantisation.
fn widened(module: &mut Module, x: &Rounded) -> Result<ValueId, String> {
    let quantize = module.producer(x.q).ok_or("no op makes it")?;
    let attributes = module.op(quantize).attributes.clone();
    let ty = module.tensor(module.op(quantize).operands[0]).ok_or("it is no tensor")?.clone();
    let (block, at) = module.position(quantize).ok_or("it is in no block")?;
    let next = module.block(block).ops[at + 1];
    let location = module.op(quantize).location.clone();
    let mut builder = Builder::before(module, next);
    builder.location = location;
    let op = builder.op(&core::DEQUANTIZE).operand(x.q).operand(x.scale).maybe(None);
    op.attributes(attributes).result(ty).value()
}

impl QuantizeActivations {
    /// Rounds `x` before `op`, by the range that is known for it or row by row.
    fn round(&self, module: &mut Module, op: OpId, x: ValueId) -> Result<Rounded, String> {
        let ty = module.tensor(x).ok_or("the left side is no tensor")?.clone();
        let rows = by_rows(module, x).ok_or("rows of unknown length")?;
        let mut builder = Builder::before(module, op);
        let number =
            |builder: &mut Builder, value: f64| builder.constant(&Tensor::splat(ty.element, &[], value));
        let (scale, attributes) = match self.largest.get(&op) {
            Some(largest) => {
                let largest = f64::from(*largest).max(tiny(ty.element));
                (number(&mut builder, largest / STEPS), Attributes::new())
            }
            None => {
                let (tiny, step) =
                    (number(&mut builder, tiny(ty.element)), number(&mut builder, 1.0 / STEPS));
                let last = ty.rank() as i64 - 1;
                let sizes = builder.op(&core::ABS).operand(x).value()?;
                let largest = builder.op(&core::REDUCE_MAX).operand(sizes);
                let largest = largest.attribute("axes", vec![last]).attribute("keep_dims", true).value()?;
                let largest = builder.op(&core::MAX).operands(&[largest, tiny]).value()?;
                (builder.op(&core::MUL).operands(&[largest, step]).value()?, rows)
            }
        };
        let op = builder.op(&core::QUANTIZE).operand(x).operand(scale).maybe(None);
        let q = op.attributes(attributes).result(ty.with_element(Element::I8)).value()?;
        Ok(Rounded { q, scale, float: None })
    }
}
