//! Dequantisations of feature maps go to the ops that read them, one to each: a residual then travels as it is stored, and becomes floats
//! where it is added.
//!
//! ```text
//! %f = dequantize(%q); ..; %y = add(%c, %f)   =>   ..; %f = dequantize(%q); %y = add(%c, %f)
//! ```

use std::collections::BTreeMap;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::core;
use tilewright_ir::edit;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::op_def::Traits;

/// A dequantisation, with one scale or one per channel, of what a convolution of integers made or reads.
fn is_of_map(module: &Module, op: OpId) -> bool {
    let operation = module.op(op);
    let is_convolution = |op: OpId| module.op(op).def == &core::CONVOLUTION_INTEGER;
    let stored = operation.operands[0];
    let made =
        module.producer_of(stored, &core::QUANTIZE).and_then(|op| module.producer(module.op(op).operands[0]));
    if !made.is_some_and(is_convolution)
        && !module.value(stored).users.iter().any(|user| is_convolution(*user))
    {
        return false;
    }
    let int = |name: &str| operation.attributes.get(name).and_then(Attribute::as_int);
    let rank = module.tensor(operation.operands[0]).map_or(0, |ty| ty.rank());
    (4..=5).contains(&rank) && int("block").unwrap_or(0) == 0 && int("axis").unwrap_or(1) == 1
}

/// A quantisation or dequantisation with one scale, or one per channel.
pub(super) fn scales_channels(module: &Module, op: OpId) -> bool {
    let operation = module.op(op);
    let int = |name: &str| operation.attributes.get(name).and_then(Attribute::as_int);
    let scale = module.operand_at(op, 1).and_then(|scale| module.tensor(scale));
    let is_by_channel = int("block").unwrap_or(0) == 0 && int("axis").unwrap_or(1) == 1;
    let scales = operation.def == &core::QUANTIZE || operation.def == &core::DEQUANTIZE;
    scales && (is_by_channel || scale.is_some_and(|scale| scale.rank() == 0))
}

/// The only op that reads a dequantised map, when it is element-wise.
pub(super) fn reader(module: &Module, op: OpId) -> Option<OpId> {
    if module.op(op).def != &core::DEQUANTIZE || !is_of_map(module, op) {
        return None;
    }
    let users = &module.value(module.result(op)).users;
    let first = *users.first()?;
    let is_elementwise = module.op(first).def.is(Traits::ELEMENTWISE.with(Traits::PURE));
    (is_elementwise && users.iter().all(|user| *user == first)).then_some(first)
}

/// Moves dequantisations of maps that element-wise ops alone read before each of these.
pub(super) fn sink(module: &mut Module, block: BlockId) {
    let of_maps = |op: &OpId| module.op(*op).def == &core::DEQUANTIZE && is_of_map(module, *op);
    let found: Vec<OpId> = module.block(block).ops.iter().copied().filter(of_maps).collect();
    for op in found {
        let result = module.result(op);
        let mut users: Vec<OpId> = module.value(result).users.to_vec();
        users.sort_unstable();
        users.dedup();
        let fits = |user: &OpId| {
            let is_here = module.position(*user).is_some_and(|place| place.0 == block);
            is_here && module.op(*user).def.is(Traits::ELEMENTWISE.with(Traits::PURE))
        };
        if users.is_empty() || !users.iter().all(fits) {
            continue;
        }
        for user in users {
            let mut map: BTreeMap<ValueId, ValueId> = BTreeMap::new();
            let copy = edit::clone_op(module, op, &mut map);
            let (_, position) = module.position(user).expect("a user in this block");
            module.insert(block, position, copy);
            let value = module.result(copy);
            for index in 0..module.op(user).operands.len() {
                if module.op(user).operands[index] == result {
                    module.set_operand(user, index, value);
                }
            }
        }
        module.erase(op);
    }
}
