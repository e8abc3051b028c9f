//! Kernels of small functions.

use super::*;
use tilewright_ir::attribute::Attributes;
use tilewright_ir::builder::Builder;
use tilewright_ir::dialects::builtin;
use tilewright_ir::element::Element;
use tilewright_ir::evaluate;
use tilewright_ir::location::Location;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::Type;

/// A feed-forward layer: norm, gate and up, glu, down, residual.
fn feed_forward() -> Module {
    let mut module = Module::new();
    let body = module.body();
    let ty = Type::tensor(Element::F32, &[1, 3, 4]);
    let mut attributes = Attributes::new();
    attributes.insert("sym_name".into(), Attribute::str("main"));
    attributes
        .insert("function_type".into(), Attribute::Type(Type::Function(vec![ty.clone()], vec![ty.clone()])));
    let function = module.create_op(&builtin::FUNCTION, &[], attributes, &[], Location::Unknown);
    module.append(body, function);
    let region = module.add_region(function);
    let block = module.add_block(region, &[ty]);
    let x = module.block(block).arguments[0];
    let mut builder = Builder::at_end(&mut module, block);
    let weight = |builder: &mut Builder, shape: &[usize], seed: f64| {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|i| ((i as f64 + seed) * 0.37).sin()).collect();
        builder.constant(&Tensor::from_floats(Element::F32, shape, values))
    };
    let gain = weight(&mut builder, &[4], 1.0);
    let (gate, up) = (weight(&mut builder, &[4, 6], 2.0), weight(&mut builder, &[4, 6], 3.0));
    let down = weight(&mut builder, &[6, 4], 4.0);
    let norm = builder.op(&core::RMS_NORM).operands(&[x, gain]).attribute("epsilon", 1e-6).value().unwrap();
    let linear = |builder: &mut Builder, x, w| {
        let op = builder.op(&core::LINEAR).operands(&[x, w]);
        op.attribute("activation", "none").attribute("transpose_weight", false).value().unwrap()
    };
    let (gate, up) = (linear(&mut builder, norm, gate), linear(&mut builder, norm, up));
    let glu = builder.op(&core::GLU).operands(&[gate, up]).attribute("activation", "silu").value().unwrap();
    let down = linear(&mut builder, glu, down);
    let sum = builder.op(&core::ADD).operands(&[x, down]).value().unwrap();
    builder.op(&builtin::RETURN).operands(&[sum]).build().unwrap();
    module
}

#[test]
fn a_feed_forward_layer_is_two_kernels_and_computes_the_same() {
    let mut module = feed_forward();
    let input =
        Tensor::from_floats(Element::F32, &[1, 3, 4], (0..12).map(|i| f64::from(i) * 0.2 - 1.0).collect());
    let before = evaluate::run(&module, "main", std::slice::from_ref(&input)).unwrap();
    let function = module.function("main").unwrap();
    assert_eq!(form_kernels(&mut module, function), 2);
    assert_eq!(kernel_count(&module, function), 2);
    let after = evaluate::run(&module, "main", &[input]).unwrap();
    assert_eq!(before, after);
    let kernels: Vec<OpId> = module.block(module.entry(function, 0)).ops.clone();
    let defs = |op: OpId| -> Vec<&str> {
        module.block(module.entry(op, 0)).ops.iter().map(|op| module.op(*op).def.short_name()).collect()
    };
    let kernels: Vec<OpId> = kernels.into_iter().filter(|op| module.op(*op).def == &core::KERNEL).collect();
    assert!(
        defs(kernels[0]).ends_with(&["rms_norm", "linear", "linear", "glu", "yield"]),
        "{:?}",
        defs(kernels[0])
    );
    assert!(defs(kernels[1]).ends_with(&["linear", "add", "yield"]), "{:?}", defs(kernels[1]));
}
