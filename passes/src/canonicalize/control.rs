//! Control flow that is decided at compile time.

use super::{Rewriter, Simplified};
use std::collections::BTreeMap;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::op_def::Traits;

/// `if` with a constant condition: the chosen region takes its place.
pub(super) fn if_constant(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let chosen = usize::from(rewriter.splat(rewriter.operand(op, 0))? == 0.0);
    let region = *rewriter.module.op(op).regions.get(chosen)?;
    let block = *rewriter.module.region(region).blocks.first()?;
    let mut map = BTreeMap::new();
    let mut yielded = None;
    for inner in rewriter.module.block(block).ops.clone() {
        if rewriter.module.op(inner).def.is(Traits::TERMINATOR) {
            let operands = rewriter.module.op(inner).operands.clone();
            yielded = Some(operands.iter().map(|value| *map.get(value).unwrap_or(value)).collect());
            break;
        }
        let copy = copy_op(rewriter.module, inner, &mut map);
        rewriter.made.push(copy);
    }
    yielded
}

/// Copies an op with its regions; operands go through `map`, which learns the results.
fn copy_op(module: &mut Module, op: OpId, map: &mut BTreeMap<ValueId, ValueId>) -> OpId {
    let operation = module.op(op).clone();
    let operands: Vec<ValueId> =
        operation.operands.iter().map(|value| *map.get(value).unwrap_or(value)).collect();
    let types: Vec<_> = operation.results.iter().map(|value| module.ty(*value).clone()).collect();
    let copy = module.create_op(
        operation.def,
        &operands,
        operation.attributes.clone(),
        &types,
        operation.location.clone(),
    );
    for (old, new) in operation.results.iter().zip(module.op(copy).results.clone()) {
        module.value_mut(new).name = module.value(*old).name.clone();
        map.insert(*old, new);
    }
    for region in &operation.regions {
        let target = module.add_region(copy);
        for block in module.region(*region).blocks.clone() {
            let types: Vec<_> =
                module.block(block).arguments.iter().map(|value| module.ty(*value).clone()).collect();
            let made = module.add_block(target, &types);
            copy_block(module, block, made, map);
        }
    }
    copy
}

fn copy_block(module: &mut Module, from: BlockId, to: BlockId, map: &mut BTreeMap<ValueId, ValueId>) {
    let arguments = module.block(from).arguments.clone();
    for (old, new) in arguments.iter().zip(module.block(to).arguments.clone()) {
        module.value_mut(new).name = module.value(*old).name.clone();
        map.insert(*old, new);
    }
    for op in module.block(from).ops.clone() {
        let copy = copy_op(module, op, map);
        module.append(to, copy);
    }
}
