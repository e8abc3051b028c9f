//! Kernels of convolutions that read each other's results become one chain, so that a target may keep what is between them on chip: a
//! kernel of kernels. Each but the first reads a result of an earlier one; nothing outside the chain lies between two of them.
//!
//! ```text
//! %a = kernel convolution(%x); %b = kernel convolution(%a)   =>   %b = kernel chain(%x) ({ kernel convolution; kernel convolution })
//! ```

use super::Kind;
use std::collections::BTreeSet;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::core;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};

/// The chains of a block with kernels.
pub(super) fn chains(module: &Module, block: BlockId) -> Vec<(Kind, Vec<OpId>)> {
    let mut found = Vec::new();
    let mut open = Open::default();
    for op in &module.block(block).ops {
        let results = module.op(*op).results.iter().copied();
        let (reads_made, reads_derived) = open.read_by(module, *op);
        if is_link(module, *op) {
            if !reads_made || reads_derived {
                found.push(std::mem::take(&mut open).links);
            }
            open.links.push(*op);
            open.made.extend(results);
        } else if reads_made || reads_derived {
            open.derived.extend(results);
        }
    }
    found.push(open.links);
    found.into_iter().filter(|links| links.len() > 1).map(|links| (Kind::Chain, links)).collect()
}

/// The chain that may still grow.
#[derive(Default)]
struct Open {
    links: Vec<OpId>,
    made: BTreeSet<ValueId>,
    /// What others computed from that.
    derived: BTreeSet<ValueId>,
}

impl Open {
    /// Whether an op, or one inside of it, reads what the chain made, and what was computed from that.
    fn read_by(&self, module: &Module, op: OpId) -> (bool, bool) {
        let mut reads = (false, false);
        module.walk(op, &mut |inner| {
            for value in &module.op(inner).operands {
                reads = (reads.0 || self.made.contains(value), reads.1 || self.derived.contains(value));
            }
        });
        reads
    }
}

/// A kernel of a convolution over known dimensions.
fn is_link(module: &Module, op: OpId) -> bool {
    let operation = module.op(op);
    let kind = operation.attributes.get("kind").and_then(Attribute::as_str);
    let is_known = |value: &ValueId| module.tensor(*value).is_some_and(|ty| ty.known_shape().is_some());
    let values = || operation.operands.iter().chain(&operation.results);
    operation.def == &core::KERNEL
        && kind == Some(Kind::Convolution.text())
        && !operation.results.is_empty()
        && values().all(is_known)
}
