//! A kernel's ops and where its results go; a single op is a kernel of one. It must not know how kernels are tiled.
//!
//! ```text
//! %q, %k = "core.kernel"(%x, %g) ({ %n = rms_norm; %q = linear(%n); %k = linear(%n) })  =>  3 ops, outputs q and k
//! ```

use crate::lowering::LoweringContext;
use crate::view::View;
use std::collections::BTreeMap;
use tilewright_ir::dialects::core;
use tilewright_ir::module::{OpId, ValueId};
use tilewright_ir::op_def::Traits;

/// What a lowering of a kernel works on.
pub struct Kernel {
    /// Ops that compute, in order.
    pub ops: Vec<OpId>,
    /// Values that leave the kernel, with the memory they go to.
    pub outputs: BTreeMap<ValueId, View>,
}

impl Kernel {
    /// Opens a `core.kernel`, or wraps a single op.
    ///
    /// # Errors
    /// When an operand was not lowered.
    pub fn open(context: &mut LoweringContext, op: OpId) -> Result<Kernel, String> {
        let operation = context.op(op);
        let mut outputs = BTreeMap::new();
        if operation.def != &core::KERNEL {
            for result in &operation.results {
                outputs.insert(*result, context.destination(*result)?);
            }
            return Ok(Kernel { ops: vec![op], outputs });
        }
        let block = context.source.entry(op, 0);
        for (argument, operand) in context.source.block(block).arguments.iter().zip(&operation.operands) {
            context.pass_argument(*argument, *operand)?;
        }
        let mut ops = Vec::new();
        for inner in &context.source.block(block).ops {
            let inner_operation = context.op(*inner);
            if inner_operation.def.is(Traits::TERMINATOR) {
                for (value, result) in inner_operation.operands.iter().zip(&operation.results) {
                    let is_made_here =
                        context.source.producer(*value).is_some_and(|made_by| ops.contains(&made_by));
                    let view = match outputs.get(value) {
                        Some(view) => view.clone(),
                        None if is_made_here => {
                            let view = context.destination(*result)?;
                            outputs.insert(*value, view);
                            continue;
                        }
                        None => context.view(*value)?,
                    };
                    context.define(*result, view)?;
                }
            } else if !inner_operation.def.is(Traits::CONSTANT) {
                ops.push(*inner);
            }
        }
        Ok(Kernel { ops, outputs })
    }

    /// The first op of a kernel that computes, or a single op.
    pub fn first(context: &LoweringContext, op: OpId) -> Option<OpId> {
        if context.op(op).def != &core::KERNEL {
            return Some(op);
        }
        let ops = &context.source.block(context.source.entry(op, 0)).ops;
        ops.iter().copied().find(|op| !context.op(*op).def.is(Traits::CONSTANT))
    }

    /// True if a value is made by one of the kernel's ops.
    pub fn makes(&self, context: &LoweringContext, value: ValueId) -> bool {
        context.source.producer(value).is_some_and(|op| self.ops.contains(&op))
    }

    /// Operand values of an op by definition slot.
    pub fn operands(context: &LoweringContext, op: OpId) -> Vec<Option<ValueId>> {
        let slots = context.op(op).def.operands.len();
        (0..slots).map(|slot| context.source.operand_at(op, slot)).collect()
    }
}
