//! Removes waits for transfers that cannot be under way: a lowering waits before it writes a buffer again, whoever ran before it.
//!
//! A transfer may be under way from its start to the next wait for it, along any path: loops run not at all, once, or again (one that
//! runs at most once has no second iteration), either region of a condition runs. It must not know what commands compute.
//!
//! ```text
//! tile.wait {name = "result0.0"}         <- gone: nothing was started under this name yet
//! tile.transfer .. {name = "result0.0"}
//! tile.wait {name = "result0.0"}
//! ```

use std::collections::BTreeSet;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::tile;
use tilewright_ir::module::{Module, OpId, RegionId, ValueId};

/// A transfer, by the token it gives or by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transfer {
    Token(ValueId),
    Name(String),
}

impl Transfer {
    /// The transfer that an op starts; none when the host makes it at once.
    pub(crate) fn started_by(module: &Module, op: OpId) -> Option<Transfer> {
        let operation = module.op(op);
        let text = |key: &str| operation.attributes.get(key).and_then(Attribute::as_str);
        let is_under_way = operation.def == &tile::TRANSFER
            && text("engine").is_some_and(|engine| engine.starts_with("dma"));
        is_under_way.then(|| match text("name") {
            Some(name) => Transfer::Name(name.to_string()),
            None => Transfer::Token(module.result(op)),
        })
    }

    /// The transfer that an op waits for.
    pub(crate) fn awaited_by(module: &Module, op: OpId) -> Option<Transfer> {
        let operation = module.op(op);
        if operation.def != &tile::WAIT {
            return None;
        }
        match operation.attributes.get("name").and_then(Attribute::as_str) {
            Some(name) => Some(Transfer::Name(name.to_string())),
            None => operation.operands.first().copied().map(Transfer::Token),
        }
    }
}

/// Removes the idle waits of a function; gives their number.
pub fn remove_idle_waits(module: &mut Module, function: OpId) -> usize {
    let mut scan = Scan { module, under_way: BTreeSet::new(), needed: BTreeSet::new() };
    for region in module.op(function).regions.clone() {
        scan.region(region);
    }
    let needed = scan.needed;
    let mut idle = Vec::new();
    module.walk(function, &mut |op| {
        if module.op(op).def == &tile::WAIT && !needed.contains(&op) {
            idle.push(op);
        }
    });
    for op in &idle {
        module.erase(*op);
    }
    idle.len()
}

struct Scan<'a> {
    module: &'a Module,
    under_way: BTreeSet<Transfer>,
    /// Waits at which their transfer may be under way on some path. Sets only grow, so what an early look at a loop finds stays true.
    needed: BTreeSet<OpId>,
}

impl Scan<'_> {
    fn region(&mut self, region: RegionId) {
        for block in self.module.region(region).blocks.clone() {
            for op in self.module.block(block).ops.clone() {
                self.op(op);
            }
        }
    }

    fn op(&mut self, op: OpId) {
        let operation = self.module.op(op);
        let def = operation.def;
        if let Some(transfer) = Transfer::started_by(self.module, op) {
            self.under_way.insert(transfer);
        } else if let Some(transfer) = Transfer::awaited_by(self.module, op) {
            if self.under_way.remove(&transfer) {
                self.needed.insert(op);
            }
        } else if def == &tile::FOR || def == &tile::LOOP {
            self.repeated(op);
        } else {
            let before = self.under_way.clone();
            let mut after = if operation.regions.is_empty() { before.clone() } else { BTreeSet::new() };
            for region in &operation.regions {
                self.under_way.clone_from(&before);
                self.region(*region);
                after.append(&mut self.under_way);
            }
            self.under_way = after;
        }
    }

    /// Goes through a loop until nothing more can be under way at its start. A break leaves with what was under way there.
    fn repeated(&mut self, op: OpId) {
        let operation = self.module.op(op);
        let mut entry = self.under_way.clone();
        loop {
            self.under_way.clone_from(&entry);
            let mut at_breaks = BTreeSet::new();
            for region in operation.regions.clone() {
                for block in self.module.region(region).blocks.clone() {
                    for inner in self.module.block(block).ops.clone() {
                        self.op(inner);
                        if self.module.op(inner).def == &tile::BREAK_UNLESS {
                            at_breaks.extend(self.under_way.iter().cloned());
                        }
                    }
                }
            }
            self.under_way.append(&mut at_breaks);
            if self.runs_at_most_once(op) || self.under_way.is_subset(&entry) {
                break;
            }
            entry.extend(self.under_way.iter().cloned());
        }
        self.under_way.append(&mut entry);
    }

    fn runs_at_most_once(&self, op: OpId) -> bool {
        let attributes = &self.module.op(op).attributes;
        let step = attributes.get("step").and_then(Attribute::as_int).unwrap_or(1);
        let limit = attributes.get("limit").and_then(Attribute::as_dim).and_then(|limit| limit.known());
        limit.is_some_and(|limit| limit <= step.max(1))
    }
}
