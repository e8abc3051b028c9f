//! What holds for every op of the dialect, and what crosses families.

use super::testing::{Call, call};
use super::*;
use crate::attribute::Attribute;
use crate::dim::{Bindings, Dim};
use crate::element::Element;
use crate::op_def::{Arity, AttributeRule, Evaluate, Infer, OpDef, Signature, Traits, TypeRule};
use crate::sample::Sampler;
use crate::types::{TensorType, Type};

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
        // What looks into regions cannot be merged by operands and attributes alone, and what binds a symbol cannot go while types
        // still name it.
        let is_plain = def.regions == 0 && !meaningless && *def != &NONZERO;
        assert_eq!(def.is(Traits::PURE), is_plain, "{}", def.name);
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

/// A dimension, mostly small and known, now and then symbolic or hostile.
fn any_dim(sampler: &mut Sampler) -> Dim {
    match sampler.below(0, 40) {
        0 => Dim::symbol("seq"),
        1 => "past + seq".parse().unwrap(),
        2 => Dim::Known(i64::MAX),
        3 => Dim::Known(-1),
        at => Dim::Known(at % 5),
    }
}

fn any_int(sampler: &mut Sampler) -> i64 {
    let hostile = [i64::MIN, i64::MAX, -100, 1 << 40];
    match sampler.below(0, 12) {
        0 => hostile[sampler.below(0, 4) as usize],
        _ => sampler.below(-2, 5),
    }
}

fn any_type(sampler: &mut Sampler, shapes: &mut Vec<Vec<Dim>>) -> Type {
    let elements =
        [Element::F32, Element::F32, Element::F32, Element::I64, Element::I8, Element::Bool, Element::F16];
    let element = elements[sampler.below(0, elements.len() as i64) as usize];
    // Shapes come again, so that some operands fit each other.
    if shapes.is_empty() || sampler.below(0, 3) == 0 {
        let rank = sampler.below(0, 5);
        shapes.push((0..rank).map(|_| any_dim(sampler)).collect());
    }
    let shape = shapes[sampler.below(0, shapes.len() as i64) as usize].clone();
    Type::Tensor(TensorType::new(element, shape))
}

fn any_attribute(sampler: &mut Sampler, rule: AttributeRule) -> Attribute {
    let count = sampler.below(0, 5);
    match rule {
        AttributeRule::Float => {
            Attribute::float([0.0, -1.0, f64::NAN, f64::INFINITY][sampler.below(0, 4) as usize])
        }
        AttributeRule::Bool => Attribute::Bool(sampler.below(0, 2) == 1),
        AttributeRule::OneOf(words) => Attribute::str(words[sampler.below(0, words.len() as i64) as usize]),
        AttributeRule::Ints => Attribute::ints(&(0..count).map(|_| any_int(sampler)).collect::<Vec<_>>()),
        AttributeRule::Dims => Attribute::dims(&(0..count).map(|_| any_dim(sampler)).collect::<Vec<_>>()),
        AttributeRule::Dim => Attribute::dim(&any_dim(sampler)),
        _ => Attribute::Int(any_int(sampler)),
    }
}

/// Whether all dimensions have values that are no burden to allocate.
fn is_light(ty: &Type, bindings: &Bindings) -> bool {
    let dims = ty.as_tensor().into_iter().flat_map(|tensor| &tensor.shape);
    dims.into_iter().all(|dim| dim.evaluate(bindings).is_some_and(|value| (0..64).contains(&value)))
}

/// Every op on random signatures, most of them wrong: inference and verification refuse or accept, and what they accept
/// evaluates or says why not; nothing panics, and the values have the types that were inferred.
#[test]
fn nothing_panics_on_any_signature() {
    let bindings = Bindings::from([("seq".into(), 2), ("past".into(), 3)]);
    for def in DIALECT.ops {
        let mut sampler = Sampler::new(def.name.len() as u64 * 7919);
        let mut accepted = 0;
        for _ in 0..3000 {
            let mut shapes = Vec::new();
            let mut segments = Vec::new();
            for operand in def.operands {
                segments.push(match operand.arity {
                    Arity::One => 1,
                    Arity::Optional => sampler.below(0, 2) as i32,
                    Arity::Variadic => sampler.below(0, 4) as i32,
                });
            }
            let count: i32 = segments.iter().sum();
            let operands: Vec<Type> = (0..count).map(|_| any_type(&mut sampler, &mut shapes)).collect();
            let mut attributes = crate::attribute::Attributes::new();
            for attribute in def.attributes {
                if attribute.required || sampler.below(0, 2) == 0 {
                    attributes.insert(attribute.name.into(), any_attribute(&mut sampler, attribute.rule));
                }
            }
            if def.needs_segments() {
                attributes.insert("operandSegmentSizes".into(), Attribute::Segments(segments.into()));
            }
            let asked: Vec<Type> = def.results.iter().map(|_| any_type(&mut sampler, &mut shapes)).collect();
            let ask = sampler.below(0, 2) == 1 || matches!(def.infer, Infer::Explicit);
            let asked = if ask { &asked[..] } else { &[] };
            let signature = Signature { def, operands: &operands, attributes: &attributes, results: asked };
            let Ok(results) = crate::builder::infer(&signature) else { continue };
            let signature = Signature { results: &results, ..signature };
            let sound = crate::verify::verify_signature(&signature).is_ok();
            if sound && def.regions == 0 && !def.is(Traits::TERMINATOR) {
                accepted += usize::from(evaluates(&signature, &mut sampler, &bindings));
            }
        }
        // Five tensors whose lengths depend on two attributes, pairs of places that ascend: tests of their own stand beside them.
        let is_rare = [&CONSTANT, &APPEND_BLOCKS, &SPARSE_EXPAND].contains(def);
        let plain = def.regions == 0 && !def.is(Traits::TERMINATOR) && !is_rare;
        assert!(!plain || accepted > 0, "{}: no random signature was ever accepted and evaluated", def.name);
    }
}

/// Evaluates on sampled values; true if there were results, whose types are then checked.
fn evaluates(signature: &Signature, sampler: &mut Sampler, bindings: &Bindings) -> bool {
    let light = |types: &[Type]| types.iter().all(|ty| is_light(ty, bindings));
    // An attribute may still ask for a large intermediate; only large operands and results are passed over.
    if !light(signature.operands) || !light(signature.results) {
        return false;
    }
    let sample = |ty: &Type| sampler.tensor(ty.as_tensor().unwrap(), bindings).unwrap();
    let values: Vec<_> = signature.operands.iter().map(sample).collect();
    let values: Vec<_> = values.iter().collect();
    let Ok(found) = crate::evaluate::invoke(signature, &values, bindings) else { return false };
    assert_eq!(found.len(), signature.results.len(), "{}", signature.def.name);
    if signature.def == &NONZERO {
        return true; // as long as the values say, whatever the type does
    }
    for (value, ty) in found.iter().zip(signature.results) {
        let ty = ty.as_tensor().unwrap();
        let shape: Vec<_> = ty.shape.iter().map(|dim| dim.evaluate(bindings).unwrap() as usize).collect();
        assert_eq!((value.element, &value.shape), (ty.element, &shape), "{}", signature.def.name);
        assert_eq!(value.len(), shape.iter().product::<usize>(), "{}", signature.def.name);
    }
    true
}
