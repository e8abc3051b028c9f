//! Dead code: pure ops whose results nobody uses go, users first.
//!
//! ```text
//! %unused = "core.neg"(%x)   =>   (nothing)
//! ```

use crate::pass::{Pass, PassContext, PassDef};
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::module::{BlockId, Module, OpId};
use tilewright_ir::op_def::Traits;

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "dce",
    doc: "Removes pure ops, and control flow without effects, whose results are not used.",
    options: &[],
    make: |_| Ok(Box::new(Dce)),
};

struct Dce;

impl Pass for Dce {
    fn run(&self, module: &mut Module, _context: &mut PassContext) -> Result<(), Diagnostics> {
        remove_dead(module);
        Ok(())
    }
}

/// Removes all dead ops of a module. Gives how many.
pub fn remove_dead(module: &mut Module) -> usize {
    let functions = module.functions();
    functions
        .into_iter()
        .map(|function| {
            let block = module.entry(function, 0);
            sweep(module, block)
        })
        .sum()
}

fn is_removable(module: &Module, op: OpId) -> bool {
    let operation = module.op(op);
    if operation.def.is(Traits::TERMINATOR) || operation.results.is_empty() {
        return false;
    }
    let pure = operation.def.is(Traits::PURE);
    // Control flow over pure ops has no effect but its results.
    let structural =
        !operation.regions.is_empty()
            && operation.regions.iter().flat_map(|region| &module.region(*region).blocks).all(|block| {
                module.block(*block).ops.iter().all(|inner| {
                    module.op(*inner).def.is(Traits::TERMINATOR) || is_effect_free(module, *inner)
                })
            });
    pure || structural
}

fn is_effect_free(module: &Module, op: OpId) -> bool {
    module.op(op).def.is(Traits::PURE) || is_removable(module, op)
}

/// One pass from the end suffices: users come after what they use. The block's op list is written once.
fn sweep(module: &mut Module, block: BlockId) -> usize {
    let mut kept = Vec::new();
    let mut dead = Vec::new();
    let ops = module.block(block).ops.clone();
    for op in ops.into_iter().rev() {
        let unused = module.op(op).results.iter().all(|value| module.value(*value).users.is_empty());
        if unused && is_removable(module, op) {
            // Dropping its uses now lets the ops before it be seen as dead.
            for region in module.op(op).regions.clone() {
                for inner in module.region(region).blocks.clone() {
                    drop_uses(module, inner);
                }
            }
            module.set_operands(op, &[]);
            dead.push(op);
        } else {
            for region in module.op(op).regions.clone() {
                for inner in module.region(region).blocks.clone() {
                    sweep(module, inner);
                }
            }
            kept.push(op);
        }
    }
    kept.reverse();
    let count = dead.len();
    if count > 0 {
        module.set_block_ops(block, kept);
    }
    count
}

fn drop_uses(module: &mut Module, block: BlockId) {
    for op in module.block(block).ops.clone() {
        module.set_operands(op, &[]);
        for region in module.op(op).regions.clone() {
            for inner in module.region(region).blocks.clone() {
                drop_uses(module, inner);
            }
        }
    }
}
