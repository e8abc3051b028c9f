//! Common subexpressions: of two pure ops with equal operands, attributes and result types, the later one goes. Also in regions,
//! which see what the blocks around them have made.
//!
//! ```text
//! %a = "core.neg"(%x); %b = "core.neg"(%x); use(%a, %b)   =>   %a = "core.neg"(%x); use(%a, %a)
//! ```

use crate::pass::{Pass, PassContext, PassDef};
use smallvec::SmallVec;
use std::collections::HashMap;
use tilewright_ir::attribute::Attributes;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::location::Location;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::op_def::Traits;
use tilewright_ir::types::Type;

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "cse",
    doc: "Merges equal pure ops of a block, and of the blocks inside it.",
    options: &[],
    make: |_| Ok(Box::new(Cse)),
};

struct Cse;

impl Pass for Cse {
    fn run(&self, module: &mut Module, _context: &mut PassContext) -> Result<(), Diagnostics> {
        for function in module.functions() {
            let block = module.entry(function, 0);
            merge(module, block, &mut Vec::new());
        }
        Ok(())
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    name: &'static str,
    operands: SmallVec<[ValueId; 4]>,
    attributes: Attributes,
    results: SmallVec<[Type; 1]>,
}

/// `scopes`: what the blocks around have made, innermost last. Only looked up, never iterated.
fn merge(module: &mut Module, block: BlockId, scopes: &mut Vec<HashMap<Key, OpId>>) {
    scopes.push(HashMap::new());
    for op in module.block(block).ops.clone() {
        let operation = module.op(op);
        if operation.def.is(Traits::PURE) && operation.regions.is_empty() {
            let key = Key {
                name: operation.def.name,
                operands: operation.operands.clone(),
                attributes: operation.attributes.clone(),
                results: operation.results.iter().map(|value| module.ty(*value).clone()).collect(),
            };
            if let Some(first) = scopes.iter().find_map(|scope| scope.get(&key)).copied() {
                replace(module, op, first);
            } else if let Some(scope) = scopes.last_mut() {
                scope.insert(key, op);
            }
            continue;
        }
        let isolated = operation.def.is(Traits::ISOLATED);
        for region in operation.regions.clone() {
            for inner in module.region(region).blocks.clone() {
                if isolated {
                    merge(module, inner, &mut Vec::new());
                } else {
                    merge(module, inner, scopes);
                }
            }
        }
    }
    scopes.pop();
}

fn replace(module: &mut Module, op: OpId, first: OpId) {
    let (old, new) = (module.op(op).results.clone(), module.op(first).results.clone());
    for (old, new) in old.iter().zip(&new) {
        module.replace_all_uses(*old, *new);
    }
    let location = Location::fuse(None, [module.op(first).location.clone(), module.op(op).location.clone()]);
    module.op_mut(first).location = location;
    module.erase(op);
}
