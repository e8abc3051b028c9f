//! Gives values from inside a model out, so that two compilations of it can be compared layer by layer.
//!
//! A tap is a result of the graph that the model does not have: each product with a weight, and each sum of the residual stream, under the
//! name of its ONNX node. Passes keep results, so that the value is there after fusion and tiling, in whatever kernel it ends up. Only the
//! tapped values are forced to exist: what lies between two of them is fused as ever, but a kernel that would have kept a tapped value to
//! itself now also writes it. It must not know targets.
//!
//! ```text
//! %y = matmul(%x, %w) loc("layers.0.mlp.up_proj/MatMul")   ->   also returned, as "tap layers.0.mlp.up_proj/MatMul"
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::core;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::types::Type;

/// A value given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// The ONNX node that makes it, with its layer path.
    pub node: Arc<str>,
    /// What the output is called.
    pub output: String,
    /// Whether it is a product with a weight; else a sum of the residual stream.
    pub is_product: bool,
}

/// Adds results to the first function of an imported module. Gives them in the order of the graph.
pub fn add(module: &mut Module) -> Vec<Tap> {
    let Some(function) = module.functions().first().copied() else { return Vec::new() };
    let block = module.entry(function, 0);
    let Some(last) = module.terminator(block) else { return Vec::new() };
    let mut taken: BTreeSet<ValueId> = module.op(last).operands.iter().copied().collect();
    let mut names = BTreeSet::new();
    let (mut taps, mut values) = (Vec::new(), Vec::new());
    for op in module.block(block).ops.clone() {
        let is_product = is_product(module, op);
        if !is_product && !is_residual(module, op) {
            continue;
        }
        let value = module.result(op);
        let Some(node) = module.op(op).location.names().first().cloned() else { continue };
        let output = format!("tap {node}");
        if taken.insert(value) && names.insert(output.clone()) {
            taps.push(Tap { node, output, is_product });
            values.push(value);
        }
    }
    let operands = [&module.op(last).operands[..], &values].concat();
    module.set_operands(last, &operands);
    let types = |module: &Module, values: &[ValueId]| -> Vec<Type> {
        values.iter().map(|value| module.ty(*value).clone()).collect()
    };
    let ty = Type::Function(types(module, &module.block(block).arguments), types(module, &operands));
    let attributes = &mut module.op_mut(function).attributes;
    attributes.insert("function_type".into(), Attribute::Type(ty));
    let mut rows = match attributes.get("res_attrs") {
        Some(Attribute::Array(rows)) => rows.to_vec(),
        _ => Vec::new(),
    };
    // Results without a name of their own are called by their place, as a signature does.
    rows.resize_with(operands.len() - values.len(), || Attribute::Dict(Default::default()));
    let named = |tap: &Tap| {
        let row = BTreeMap::from([("tw.name".into(), tap.output.as_str().into())]);
        Attribute::Dict(row.into())
    };
    rows.extend(taps.iter().map(named));
    attributes.insert("res_attrs".into(), Attribute::Array(rows.into()));
    taps
}

fn is_product(module: &Module, op: OpId) -> bool {
    let operation = module.op(op);
    let is_one = std::ptr::eq(operation.def, &core::MATMUL) || std::ptr::eq(operation.def, &core::LINEAR);
    is_one && operation.operands.iter().any(|operand| is_constant(module, *operand))
}

/// Whether nothing but constants goes into a value.
fn is_constant(module: &Module, value: ValueId) -> bool {
    let Some(op) = module.producer(value) else { return false };
    let operation = module.op(op);
    std::ptr::eq(operation.def, &core::CONSTANT)
        || (!operation.operands.is_empty()
            && operation.operands.iter().all(|operand| is_constant(module, *operand)))
}

/// A sum of two values of one type, [batch, tokens, width], neither of them a weight.
fn is_residual(module: &Module, op: OpId) -> bool {
    let operation = module.op(op);
    if !std::ptr::eq(operation.def, &core::ADD) {
        return false;
    }
    let Some(ty) = module.tensor(module.result(op)) else { return false };
    ty.shape.len() == 3
        && ty.element.is_float()
        && ty.shape[2].known().is_some_and(|width| width > 1)
        && operation
            .operands
            .iter()
            .all(|operand| module.tensor(*operand) == Some(ty) && !is_constant(module, *operand))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Session;
    use tilewright_ir::parse::parse;

    const MODEL: &str = r#"
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<1x2x4xf32>) -> tensor<1x2x4xf32>, res_attrs = [{tw.name = "y"}], sym_name = "main"}> ({
  ^bb0(%x: tensor<1x2x4xf32>):
    %w = "core.constant"() <{value = dense<1.0> : tensor<4x4xf32>}> : () -> tensor<4x4xf32>
    %t = "core.transpose"(%w) <{permutation = array<i64: 1, 0>}> : (tensor<4x4xf32>) -> tensor<4x4xf32>
    %a = "core.matmul"(%x, %t) : (tensor<1x2x4xf32>, tensor<4x4xf32>) -> tensor<1x2x4xf32> loc("layers.0.up/MatMul")
    %b = "core.add"(%x, %a) : (tensor<1x2x4xf32>, tensor<1x2x4xf32>) -> tensor<1x2x4xf32> loc("layers.0/Add")
    %c = "core.matmul"(%b, %t) : (tensor<1x2x4xf32>, tensor<4x4xf32>) -> tensor<1x2x4xf32> loc("head/MatMul")
    "func.return"(%c) : (tensor<1x2x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
"#;

    #[test]
    fn products_and_residuals_are_given_out_under_their_nodes_names() {
        let mut module = parse(MODEL, &Session::new().registry, &Default::default()).expect("parses");
        let taps = add(&mut module);
        let found: Vec<(&str, bool)> = taps.iter().map(|tap| (&*tap.node, tap.is_product)).collect();
        // The last product is a result already.
        assert_eq!(found, [("layers.0.up/MatMul", true), ("layers.0/Add", false)]);
        assert!(tilewright_ir::verify::verify(&module).is_empty());
        let signature = crate::signature::Signature::of(&module, module.functions()[0]);
        let names: Vec<&str> = signature.outputs.iter().map(|port| &*port.name).collect();
        assert_eq!(names, ["y", "tap layers.0.up/MatMul", "tap layers.0/Add"]);
    }
}
