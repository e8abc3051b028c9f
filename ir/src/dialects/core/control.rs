//! Control flow as regions, the terminator of their blocks, and the kernel region made by grouping.
//!
//! ```text
//! %y = "core.if"(%c) ({ "core.yield"(%a) : (tensor<4xf32>) -> () }, { "core.yield"(%b) : (tensor<4xf32>) -> () })
//!   : (tensor<i1>) -> tensor<4xf32>
//! ```

use super::support::{around, floats, from_integers};
use crate::attribute::Attribute;
use crate::dim::{Bindings, Dim};
use crate::element::Element;
use crate::evaluate::RegionCall;
use crate::op_def::{
    AttributeRule, Evaluate, OpDef, Signature, Traits, TypeRule, attribute, normalize_axis, optional,
    optional_attribute, value, variadic,
};
use crate::tensor::Tensor;
use crate::types::Type;
use std::rc::Rc;

/// One of two regions.
pub static IF: OpDef = OpDef {
    name: "core.if",
    doc: "results = what the first region yields when condition (one i1) is true, else what the second yields. The regions take no \
          arguments and see outer values. ONNX If.",
    operands: &[value("condition", TypeRule::BoolTensor)],
    results: &[variadic("results", TypeRule::Tensor)],
    regions: 2,
    evaluate: Evaluate::Region(evaluate_if),
    ..OpDef::DEFAULT
};

/// Repetition.
pub static LOOP: OpDef = OpDef {
    name: "core.loop",
    doc: "Runs the region with (iteration i64, condition i1, carried..) until trip iterations are done or condition is false (each absent: \
          no limit). It yields (condition, carried.., scanned..). results = carried after the last iteration, then scanned stacked \
          along a new axis 0. ONNX Loop.",
    operands: &[
        optional("trip", TypeRule::IntegerTensor),
        optional("condition", TypeRule::BoolTensor),
        variadic("initial", TypeRule::Tensor),
    ],
    results: &[variadic("results", TypeRule::Tensor)],
    regions: 1,
    evaluate: Evaluate::Region(evaluate_loop),
    ..OpDef::DEFAULT
};

/// Repetition over slices.
pub static SCAN: OpDef = OpDef {
    name: "core.scan",
    doc: "The first `carried_count` operands start the carried values, the others are scanned: iteration i runs the region with \
          (carried.., slice i of each scanned operand along `axes`[j], taken from the end where `reverse`[j] is 1). It yields (carried.., \
          scanned..). results = carried after the last iteration, then scanned stacked along a new axis 0. axes and reverse are 0 when \
          left out. ONNX Scan.",
    operands: &[variadic("operands", TypeRule::Tensor)],
    results: &[variadic("results", TypeRule::Tensor)],
    attributes: &[
        attribute("carried_count", AttributeRule::Int),
        optional_attribute("axes", AttributeRule::Ints),
        optional_attribute("reverse", AttributeRule::Ints),
    ],
    regions: 1,
    verify: Some(verify_scan),
    evaluate: Evaluate::Region(evaluate_scan),
    ..OpDef::DEFAULT
};

/// Ends a region of this dialect.
pub static YIELD: OpDef = OpDef {
    name: "core.yield",
    doc: "Ends a block of if, loop, scan or kernel with its values.",
    operands: &[variadic("values", TypeRule::Any)],
    traits: Traits::TERMINATOR,
    ..OpDef::DEFAULT
};

/// Ops that run as one unit on the target.
pub static KERNEL: OpDef = OpDef {
    name: "core.kernel",
    doc: "results = what the region yields for the operands as its arguments; it sees no outer values. `name` is unique in its function, \
          `kind` is the leading op's short name. Made by form-kernels; no meaning of its own.",
    operands: &[variadic("operands", TypeRule::Tensor)],
    results: &[variadic("results", TypeRule::Tensor)],
    attributes: &[attribute("kind", AttributeRule::Str), attribute("name", AttributeRule::Str)],
    regions: 1,
    traits: Traits::ISOLATED,
    evaluate: Evaluate::Region(evaluate_kernel),
    ..OpDef::DEFAULT
};

fn verify_scan(signature: &Signature) -> Result<(), String> {
    let (carried, given) = (signature.int("carried_count", 0), signature.operands.len() as i64);
    if !(0..given).contains(&carried) {
        return Err(format!(
            "attribute 'carried_count' = {carried} leaves nothing to scan of {given} operands"
        ));
    }
    let scanned = &signature.operands[carried as usize..];
    for name in ["axes", "reverse"] {
        let entries = signature.ints(name).len();
        if entries != 0 && entries != scanned.len() {
            return Err(format!(
                "attribute '{name}' has {entries} entries for {} scanned operands",
                scanned.len()
            ));
        }
    }
    for (at, ty) in scanned.iter().enumerate() {
        let rank = ty.as_tensor().map_or(0, |tensor| tensor.rank());
        let axis = signature.ints("axes").get(at).copied().unwrap_or(0);
        if normalize_axis(axis, rank).is_none() {
            return Err(format!("attribute 'axes' holds {axis}, out of range for rank {rank}"));
        }
    }
    Ok(())
}

fn owned(values: Vec<Rc<Tensor>>) -> Vec<Tensor> {
    values.into_iter().map(Rc::unwrap_or_clone).collect()
}

fn truth(value: &Tensor) -> Result<bool, String> {
    if value.len() == 1 {
        Ok(value.int(0) != 0)
    } else {
        Err(format!("a condition must hold one element, found {}", value.ty()))
    }
}

fn evaluate_if(call: &mut RegionCall) -> Result<Vec<Tensor>, String> {
    let region = usize::from(!truth(&call.operands[0])?);
    call.run(region, Vec::new()).map(owned)
}

fn evaluate_kernel(call: &mut RegionCall) -> Result<Vec<Tensor>, String> {
    call.run(0, call.operands.clone()).map(owned)
}

/// Values stacked along a new axis 0; without any, an empty tensor of the result type.
fn stack(values: &[Rc<Tensor>], ty: &Type, bindings: &Bindings) -> Result<Tensor, String> {
    let Some(first) = values.first() else {
        let ty = ty.as_tensor().ok_or("result is not a tensor")?;
        let dim = |dim: &Dim| dim.evaluate(bindings).map_or(0, |value| value.max(0) as usize);
        let mut shape: Vec<usize> = ty.shape.iter().map(dim).collect();
        if let Some(count) = shape.first_mut() {
            *count = 0;
        }
        return Ok(Tensor::splat(ty.element, &shape, 0.0));
    };
    if let Some(other) = values.iter().find(|value| value.shape != first.shape) {
        return Err(format!("scanned shapes differ: {:?} and {:?}", first.shape, other.shape));
    }
    let shape = [&[values.len()], &first.shape[..]].concat();
    Ok(if first.element.is_float() {
        let values = values.iter().flat_map(|value| floats(value)).collect();
        Tensor::from_floats(first.element, &shape, values)
    } else {
        from_integers(first.element, &shape, values.iter().flat_map(|value| value.ints()).collect())
    })
}

/// Splits what a body yields into carried values and one entry for each stack.
fn collect(
    yielded: Vec<Rc<Tensor>>,
    carried: &mut Vec<Rc<Tensor>>,
    stacks: &mut [Vec<Rc<Tensor>>],
) -> Result<(), String> {
    if yielded.len() != carried.len() + stacks.len() {
        let expected = carried.len() + stacks.len();
        return Err(format!("the body yields {} values, expected {expected}", yielded.len()));
    }
    let count = carried.len();
    let mut yielded = yielded.into_iter();
    *carried = yielded.by_ref().take(count).collect();
    stacks.iter_mut().zip(yielded).for_each(|(stack, value)| stack.push(value));
    Ok(())
}

fn finish(
    call: &RegionCall,
    carried: Vec<Rc<Tensor>>,
    stacks: &[Vec<Rc<Tensor>>],
) -> Result<Vec<Tensor>, String> {
    let results = &call.module.op(call.op).results;
    let mut all = owned(carried);
    for values in stacks {
        all.push(stack(values, call.module.ty(results[all.len()]), call.bindings)?);
    }
    Ok(all)
}

/// How many results are stacks, beside the carried ones.
fn stack_count(call: &RegionCall, carried: usize) -> Result<usize, String> {
    let results = call.module.op(call.op).results.len();
    results.checked_sub(carried).ok_or_else(|| format!("{carried} carried values, but {results} results"))
}

fn evaluate_loop(call: &mut RegionCall) -> Result<Vec<Tensor>, String> {
    let trip = call.slot(0).first().map_or(i64::MAX, |trip| trip.int(0));
    let mut proceed = call.slot(1).first().map_or(Ok(true), |condition| truth(condition))?;
    let mut carried = call.slot(2).to_vec();
    let mut stacks = vec![Vec::new(); stack_count(call, carried.len())?];
    let mut iteration = 0;
    while proceed && iteration < trip {
        let number = Tensor::from_ints(Element::I64, &[], vec![iteration]);
        let condition = Tensor::from_ints(Element::Bool, &[], vec![1]);
        let mut arguments = vec![Rc::new(number), Rc::new(condition)];
        arguments.extend(carried.iter().cloned());
        let mut yielded = call.run(0, arguments)?;
        if yielded.is_empty() {
            return Err("the body of a loop must yield a condition".into());
        }
        proceed = truth(&yielded.remove(0))?;
        collect(yielded, &mut carried, &mut stacks)?;
        iteration += 1;
    }
    finish(call, carried, &stacks)
}

/// Slice `index` of x along an axis, without the axis.
fn slice_at(x: &Tensor, axis: usize, index: usize) -> Tensor {
    let (_, dim, inner) = around(&x.shape, axis);
    let mut shape = x.shape.clone();
    shape.remove(axis);
    x.pick(&shape, |at| (at / inner * dim + index) * inner + at % inner)
}

fn evaluate_scan(call: &mut RegionCall) -> Result<Vec<Tensor>, String> {
    let attributes = &call.module.op(call.op).attributes;
    let list = |name: &str| attributes.get(name).and_then(Attribute::as_ints).unwrap_or(&[]).to_vec();
    let (axes, reverse) = (list("axes"), list("reverse"));
    let count = attributes.get("carried_count").and_then(Attribute::as_int).unwrap_or(0).max(0) as usize;
    let scanned = call.operands.split_off(count.min(call.operands.len()));
    let mut carried = call.operands.clone();
    let mut stacks = vec![Vec::new(); stack_count(call, carried.len())?];
    let mut sources = Vec::new();
    for (at, value) in scanned.iter().enumerate() {
        let axis = normalize_axis(axes.get(at).copied().unwrap_or(0), value.rank());
        let axis =
            axis.ok_or_else(|| format!("attribute 'axes' is out of range for rank {}", value.rank()))?;
        sources.push((value, axis, reverse.get(at).copied().unwrap_or(0) != 0));
    }
    let trips = sources.first().map_or(0, |(value, axis, _)| value.shape[*axis]);
    if let Some((value, axis, _)) = sources.iter().find(|(value, axis, _)| value.shape[*axis] != trips) {
        return Err(format!("scanned lengths differ: {trips} and {}", value.shape[*axis]));
    }
    for trip in 0..trips {
        let mut arguments = carried.clone();
        for (value, axis, backwards) in &sources {
            let index = if *backwards { trips - 1 - trip } else { trip };
            arguments.push(Rc::new(slice_at(value, *axis, index)));
        }
        collect(call.run(0, arguments)?, &mut carried, &mut stacks)?;
    }
    finish(call, carried, &stacks)
}
