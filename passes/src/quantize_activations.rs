//! Activations of products with integer weights are rounded to int8, each row by its largest magnitude, and read as floats again: what the
//! product computes then is fixed, and the optimiser is free to multiply integers and put the row's scale behind
//! (rule `linear_quantized_activation`). Products of float weights, NF4 and FP8 keep their activations.
//!
//! ```text
//! %s = max(reduce_max(abs(%x)), tiny) / 127   %q = "core.quantize"(%x, %s)   %d = "core.dequantize"(%q, %s)
//! %y = "core.matmul"(%d, %w)                  per row, symmetric: Xiao et al. 2022, arXiv:2211.10438, section 2
//! ```

use crate::pass::{Pass, PassContext, PassDef};
use std::collections::BTreeMap;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::builder::Builder;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dialects::core;
use tilewright_ir::element::Element;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::tensor::Tensor;

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "quantize-activations",
    doc: "Rounds the activations of products with integer weights to int8, each row by its largest magnitude.",
    options: &[],
    make: |_| Ok(Box::new(QuantizeActivations)),
};

/// Steps on either side of zero.
const STEPS: f64 = 127.0;

/// The pass.
pub struct QuantizeActivations;

impl Pass for QuantizeActivations {
    fn run(&self, module: &mut Module, _context: &mut PassContext) -> Result<(), Diagnostics> {
        let mut rounded: BTreeMap<(BlockId, ValueId), ValueId> = BTreeMap::new();
        for op in module.all_ops() {
            let Some((block, x)) = candidate(module, op) else { continue };
            let value = match rounded.get(&(block, x)) {
                Some(value) => *value,
                None => {
                    let value = round_rows(module, op, x).map_err(|what| {
                        vec![Diagnostic::error(
                            module.op(op).location.clone(),
                            format!("int8 activations: {what}"),
                        )]
                    })?;
                    rounded.insert((block, x), value);
                    value
                }
            };
            module.set_operand(op, 0, value);
        }
        Ok(())
    }
}

/// The block and the left side of a product of float rows by an integer weight.
fn candidate(module: &Module, op: OpId) -> Option<(BlockId, ValueId)> {
    let operation = module.op(op);
    if operation.def != &core::MATMUL && operation.def != &core::LINEAR {
        return None;
    }
    let (x, mut w) = (operation.operands[0], operation.operands[1]);
    while let Some(transpose) = module.producer_of(w, &core::TRANSPOSE) {
        w = module.op(transpose).operands[0];
    }
    let stored = match module.producer_of(w, &core::DEQUANTIZE) {
        Some(dequantize) => module.op(dequantize).operands[0],
        None => module.operand_at(op, 3).map(|_| w)?,
    };
    let ty = module.tensor(x)?;
    let is_float = matches!(ty.element, Element::F32 | Element::F16 | Element::BF16);
    let is_whole = ty.shape.last()?.known().is_some_and(|width| width > 0);
    let is_rounded = module.producer_of(x, &core::DEQUANTIZE).is_some();
    let fits = is_float && is_whole && !is_rounded && module.tensor(stored)?.element.is_integer();
    // Only a matrix has rows that all see the same weights.
    (fits && module.tensor(stored)?.rank() == 2).then_some((module.position(op)?.0, x))
}

/// The smallest magnitude that a row is scaled by: rows of zeros stay zeros, and no scale is 0.
fn tiny(element: Element) -> f64 {
    if element == Element::F16 { 2f64.powi(-14) } else { 1e-30 }
}

fn round_rows(module: &mut Module, before: OpId, x: ValueId) -> Result<ValueId, String> {
    let ty = module.tensor(x).ok_or("the left side is no tensor")?.clone();
    let last = ty.rank() as i64 - 1;
    let width = ty.shape.last().and_then(|dim| dim.known()).ok_or("rows of unknown length")?;
    let location = module.op(before).location.clone();
    let mut builder = Builder::before(module, before);
    builder.location = location;
    let number = |builder: &mut Builder, value: f64| builder.constant(&Tensor::splat(ty.element, &[], value));
    let (tiny, step) = (number(&mut builder, tiny(ty.element)), number(&mut builder, 1.0 / STEPS));
    let sizes = builder.op(&core::ABS).operand(x).value()?;
    let largest = builder.op(&core::REDUCE_MAX).operand(sizes);
    let largest = largest.attribute("axes", vec![last]).attribute("keep_dims", true).value()?;
    let largest = builder.op(&core::MAX).operands(&[largest, tiny]).value()?;
    let scale = builder.op(&core::MUL).operands(&[largest, step]).value()?;
    let rows = [("axis", Attribute::Int(last)), ("block", Attribute::Int(width))];
    let mut make = |def, value: ValueId, element| {
        let op = builder.op(def).operand(value).operand(scale).maybe(None);
        let op = rows.iter().fold(op, |op, (name, value)| op.attribute(*name, value.clone()));
        op.result(ty.with_element(element)).value()
    };
    let q = make(&core::QUANTIZE, x, Element::I8)?;
    make(&core::DEQUANTIZE, q, ty.element)
}
