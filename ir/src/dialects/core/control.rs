//! Control flow as regions, the terminator of their blocks, and the kernel region made by grouping.
//!
//! ```text
//! %y = "core.if"(%c) ({ "core.yield"(%a) : (tensor<4xf32>) -> () }, { "core.yield"(%b) : (tensor<4xf32>) -> () })
//!   : (tensor<i1>) -> tensor<4xf32>
//! ```

use crate::op_def::{
    AttributeRule, OpDef, Signature, Traits, TypeRule, attribute, optional, optional_attribute, value,
    variadic,
};

/// One of two regions.
pub static IF: OpDef = OpDef {
    name: "core.if",
    doc: "results = what the first region yields when condition (one i1) is true, else what the second yields. The regions take no \
          arguments and see outer values. ONNX If.",
    operands: &[value("condition", TypeRule::BoolTensor)],
    results: &[variadic("results", TypeRule::Tensor)],
    regions: 2,
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
        if crate::op_def::normalize_axis(axis, rank).is_none() {
            return Err(format!("attribute 'axes' holds {axis}, out of range for rank {rank}"));
        }
    }
    Ok(())
}
