//! Control flow as regions, the terminator of their blocks, and the kernel region made by grouping.
//!
//! ```text
//! %y = "core.if"(%c) ({ "core.yield"(%a) : (tensor<4xf32>) -> () }, { "core.yield"(%b) : (tensor<4xf32>) -> () })
//!   : (tensor<i1>) -> tensor<4xf32>
//! ```

use super::regions;
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
    verify_regions: Some(regions::verify_if),
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
    verify_regions: Some(regions::verify_loop),
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
    verify_regions: Some(regions::verify_scan),
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
    verify_regions: Some(regions::verify_kernel),
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
        all.push(stack(values, call.module.ty(results[all.len()]), call.bindings())?);
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

#[cfg(test)]
mod tests {
    use super::super::testing::{f32s, i64s, ty};
    use super::super::{ADD, COMPARE, MUL};
    use super::*;
    use crate::builder::Builder;
    use crate::dialects::builtin::{FUNCTION, RETURN};
    use crate::module::{BlockId, Module, OpId, ValueId};

    /// A module with one function over the arguments, and the function's block.
    fn function(arguments: &[Type]) -> (Module, BlockId) {
        let mut module = Module::new();
        let body = module.body();
        let function_type = Type::Function(arguments.to_vec(), Vec::new());
        let function = Builder::at_end(&mut module, body)
            .op(&FUNCTION)
            .attribute("sym_name", "main")
            .attribute("function_type", function_type)
            .build()
            .unwrap();
        let region = module.op(function).regions[0];
        let block = module.add_block(region, arguments);
        (module, block)
    }

    fn finish(module: &mut Module, block: BlockId, op: OpId) {
        let results = module.op(op).results.to_vec();
        Builder::at_end(module, block).op(&RETURN).operands(&results).build().unwrap();
    }

    fn add_region_block(
        module: &mut Module,
        op: OpId,
        region: usize,
        arguments: &[Type],
    ) -> (BlockId, Vec<ValueId>) {
        let region = module.op(op).regions[region];
        let block = module.add_block(region, arguments);
        (block, module.block(block).arguments.clone())
    }

    fn yields(module: &mut Module, block: BlockId, values: &[ValueId]) {
        Builder::at_end(module, block).op(&YIELD).operands(values).build().unwrap();
    }

    #[test]
    fn if_runs_one_region_with_outer_values() {
        let (mut module, block) = function(&[ty("i1:"), ty("f32: 2")]);
        let arguments = module.block(block).arguments.clone();
        let mut builder = Builder::at_end(&mut module, block);
        let op = builder.op(&IF).operand(arguments[0]).result(ty("f32: 2")).build().unwrap();
        for region in 0..2 {
            let (inner, _) = add_region_block(&mut module, op, region, &[]);
            let doubled =
                Builder::at_end(&mut module, inner).op(&ADD).operands(&[arguments[1]; 2]).value().unwrap();
            yields(&mut module, inner, &[if region == 0 { doubled } else { arguments[1] }]);
        }
        finish(&mut module, block, op);
        for (condition, expected) in [(1, [2.0, 4.0]), (0, [1.0, 2.0])] {
            let condition = Tensor::from_ints(Element::Bool, &[], vec![condition]);
            let found = crate::evaluate::run(&module, "main", &[condition, f32s(&[2], &[1.0, 2.0])]).unwrap();
            assert_eq!(found[0].floats(), expected);
        }
    }

    /// Doubles the carried value while it is below 20, and collects the iteration numbers.
    fn doubling() -> Module {
        let (mut module, block) = function(&[ty("i64:"), ty("i64:")]);
        let arguments = module.block(block).arguments.clone();
        let op = Builder::at_end(&mut module, block)
            .op(&LOOP)
            .maybe(Some(arguments[0]))
            .maybe(None)
            .operands(&[arguments[1]])
            .result(ty("i64:"))
            .result(ty("i64: count"))
            .build()
            .unwrap();
        let (inner, inside) = add_region_block(&mut module, op, 0, &[ty("i64:"), ty("i1:"), ty("i64:")]);
        let mut builder = Builder::at_end(&mut module, inner);
        let limit = builder.constant(&i64s(&[], &[20]));
        let doubled = builder.op(&ADD).operands(&[inside[2]; 2]).value().unwrap();
        let compare = builder.op(&COMPARE).operands(&[doubled, limit]).attribute("predicate", "lt");
        let proceed = compare.value().unwrap();
        yields(&mut module, inner, &[proceed, doubled, inside[0]]);
        finish(&mut module, block, op);
        module
    }

    #[test]
    fn loop_stops_by_trip_or_condition() {
        let module = doubling();
        for (trip, end, numbers) in [(10, 24, vec![0, 1, 2]), (2, 12, vec![0, 1]), (0, 3, vec![])] {
            let inputs = [i64s(&[], &[trip]), i64s(&[], &[3])];
            let found = crate::evaluate::run(&module, "main", &inputs).unwrap();
            assert_eq!((found[0].ints(), found[1].ints()), (vec![end], numbers), "trip {trip}");
        }
    }

    #[test]
    fn scan_walks_slices_either_way() {
        for (reverse, last, sums) in [(0, 9.0, [1.0, 4.0, 9.0]), (1, 9.0, [5.0, 8.0, 9.0])] {
            let (mut module, block) = function(&[ty("f32:"), ty("f32: 3")]);
            let arguments = module.block(block).arguments.clone();
            let op = Builder::at_end(&mut module, block)
                .op(&SCAN)
                .operands(&arguments)
                .attribute("carried_count", 1i64)
                .attribute("reverse", vec![reverse])
                .result(ty("f32:"))
                .result(ty("f32: 3"))
                .build()
                .unwrap();
            let (inner, inside) = add_region_block(&mut module, op, 0, &[ty("f32:"), ty("f32:")]);
            let sum = Builder::at_end(&mut module, inner).op(&ADD).operands(&inside).value().unwrap();
            yields(&mut module, inner, &[sum, sum]);
            finish(&mut module, block, op);
            let inputs = [f32s(&[], &[0.0]), f32s(&[3], &[1.0, 3.0, 5.0])];
            let found = crate::evaluate::run(&module, "main", &inputs).unwrap();
            assert_eq!((found[0].floats(), found[1].floats()), (vec![last], sums.to_vec()));
        }
    }

    #[test]
    fn a_kernel_is_its_body() {
        let (mut module, block) = function(&[ty("f32: 2")]);
        let x = module.block(block).arguments[0];
        let kernel = Builder::at_end(&mut module, block)
            .op(&KERNEL)
            .operands(&[x])
            .attribute("kind", "mul")
            .attribute("name", "k")
            .result(ty("f32: 2"))
            .build()
            .unwrap();
        let (inner, inside) = add_region_block(&mut module, kernel, 0, &[ty("f32: 2")]);
        let square = Builder::at_end(&mut module, inner).op(&MUL).operands(&[inside[0]; 2]).value().unwrap();
        yields(&mut module, inner, &[square]);
        finish(&mut module, block, kernel);
        let found = crate::evaluate::run(&module, "main", &[f32s(&[2], &[3.0, 4.0])]).unwrap();
        assert_eq!(found[0].floats(), [9.0, 16.0]);
    }
}
