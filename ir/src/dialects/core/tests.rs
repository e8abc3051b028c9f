//! What holds for every op of the dialect, and what crosses families.

use super::testing::{Call, call};
use super::*;
use crate::attribute::Attribute;
use crate::element::Element;
use crate::op_def::{Arity, AttributeRule, Evaluate, OpDef, Traits, TypeRule};
use crate::sample::Sampler;
use crate::types::TensorType;

#[test]
fn every_op_is_documented() {
    for def in DIALECT.ops {
        assert!(def.doc.len() > 20, "{} has a doc", def.name);
        for attribute in def.attributes {
            let quoted = format!("`{}`", attribute.name);
            assert!(def.doc.contains(&quoted), "{}: the doc names attribute {quoted}", def.name);
        }
    }
    assert!(DIALECT.ops.len() <= 90, "{} ops", DIALECT.ops.len());
}

#[test]
fn every_op_but_the_terminator_has_a_meaning() {
    for def in DIALECT.ops {
        let meaningless = matches!(def.evaluate, Evaluate::None);
        assert_eq!(meaningless, def.is(Traits::TERMINATOR), "{}", def.name);
        assert_eq!(def.regions > 0, matches!(def.evaluate, Evaluate::Region(_)), "{}", def.name);
        // What looks into regions cannot be merged by operands and attributes alone.
        assert_eq!(def.is(Traits::PURE), def.regions == 0 && !meaningless, "{}", def.name);
    }
}

/// A use of an elementwise op with every required attribute at its first allowed value.
fn plain(def: &'static OpDef, element: Element) -> Call {
    let mut call = call(def);
    for attribute in def.attributes.iter().filter(|attribute| attribute.required) {
        call = match attribute.rule {
            AttributeRule::OneOf(words) => call.with(attribute.name, words[0]),
            AttributeRule::Bool => call.with(attribute.name, false),
            _ => call.with(attribute.name, Attribute::float(0.5)),
        };
    }
    if def == &CAST || def == &BITCAST { call.to(&format!("{}: 2, 3", element.text())) } else { call }
}

fn element_for(rule: TypeRule) -> Element {
    match rule {
        TypeRule::BoolTensor => Element::Bool,
        TypeRule::IntegerTensor => Element::I32,
        _ => Element::F32,
    }
}

#[test]
fn elementwise_ops_give_one_element_per_place() {
    for def in DIALECT.ops.iter().filter(|def| def.is(Traits::ELEMENTWISE)) {
        let mut sampler = Sampler::new(3);
        let operands: Vec<_> = def
            .operands
            .iter()
            .map(|operand| {
                assert_eq!(operand.arity, Arity::One, "{}", def.name);
                let ty = TensorType::of(element_for(operand.rule), &[2, 3]);
                sampler.tensor(&ty, &Default::default()).unwrap()
            })
            .collect();
        let element = element_for(def.operands[0].rule);
        let whole = plain(def, element).on(&operands.iter().collect::<Vec<_>>());
        for place in 0..6 {
            let single: Vec<_> = operands.iter().map(|operand| operand.pick(&[1, 1], |_| place)).collect();
            let call = if [&CAST, &BITCAST].contains(def) {
                super::testing::call(def).to("f32: 1, 1")
            } else {
                plain(def, element)
            };
            let one = call.on(&single.iter().collect::<Vec<_>>());
            let (one, all) = (one.float(0), whole.float(place));
            assert!(one == all || (one.is_nan() && all.is_nan()), "{} at {place}: {one} and {all}", def.name);
        }
    }
}

#[test]
fn commutative_ops_commute() {
    for def in DIALECT.ops.iter().filter(|def| def.is(Traits::COMMUTATIVE)) {
        let mut sampler = Sampler::new(5);
        let element = element_for(def.operands[0].rule);
        let ty = TensorType::of(element, &[64]);
        let (a, b) = (
            sampler.tensor(&ty, &Default::default()).unwrap(),
            sampler.tensor(&ty, &Default::default()).unwrap(),
        );
        assert_eq!(plain(def, element).on(&[&a, &b]), plain(def, element).on(&[&b, &a]), "{}", def.name);
    }
}
