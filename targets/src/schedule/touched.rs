//! What an op touches, by whole buffers, constants and arguments: two views of one buffer always meet.

use crate::idle_waits::Transfer;
use crate::live_ranges::root;
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::dialects::tile;
use tilewright_ir::module::{Module, OpId, ValueId};

/// What an op reads and writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    /// What it only reads. Constants are left out, for nothing writes them.
    pub(super) reads: Vec<ValueId>,
    /// What it writes.
    pub(super) writes: Vec<ValueId>,
}

impl Touched {
    /// The operands of a command.
    pub(super) fn by(module: &Module, op: OpId) -> Touched {
        let mut touched = Touched::default();
        let operation = module.op(op);
        for (slot, access) in
            tile::command_op(operation.def).map_or(&[][..], |command| command.access).iter().enumerate()
        {
            for value in module.operands_at(op, slot) {
                let root = root(module, *value);
                if access.writes() {
                    touched.writes.push(root);
                } else if module.producer_of(root, &tile::CONSTANT).is_none() {
                    touched.reads.push(root);
                }
            }
        }
        touched
    }

    /// As well as what another op touches.
    pub(super) fn add(&mut self, other: &Touched) {
        self.reads.extend(&other.reads);
        self.writes.extend(&other.writes);
    }

    /// Whether both touch something that one of them writes.
    pub(super) fn meets(&self, other: &Touched) -> bool {
        let has = |list: &[ValueId], value: &ValueId| list.contains(value);
        self.writes.iter().any(|value| has(&other.writes, value) || has(&other.reads, value))
            || self.reads.iter().any(|value| has(&other.writes, value))
    }

    /// All of it.
    pub(super) fn all(&self) -> impl Iterator<Item = ValueId> {
        self.reads.iter().chain(&self.writes).copied()
    }
}

/// The transfers of a function, by token or name.
pub(super) struct Flights(BTreeMap<Transfer, Touched>);

impl Flights {
    /// Looks at all transfers below a function.
    pub(super) fn of(module: &Module, function: OpId) -> Flights {
        let mut flights: BTreeMap<Transfer, Touched> = BTreeMap::new();
        module.walk(function, &mut |op| {
            if let Some(transfer) = Transfer::started_by(module, op) {
                flights.entry(transfer).or_default().add(&Touched::by(module, op));
            }
        });
        Flights(flights)
    }

    /// What an op touches, with all below it; a wait all that its transfer touched up to then.
    pub(super) fn touched(&self, module: &Module, op: OpId) -> Touched {
        let mut touched = Touched::default();
        module.walk(op, &mut |inner| match Transfer::awaited_by(module, inner) {
            Some(transfer) => touched.add(self.0.get(&transfer).unwrap_or(&Touched::default())),
            None => touched.add(&Touched::by(module, inner)),
        });
        for list in [&mut touched.reads, &mut touched.writes] {
            list.sort_unstable();
            list.dedup();
        }
        touched
    }
}

/// The transfers that an op, or one below it, starts or waits for.
pub(super) fn transfers(module: &Module, op: OpId) -> BTreeSet<Transfer> {
    let mut transfers = BTreeSet::new();
    module.walk(op, &mut |inner| {
        transfers.extend(Transfer::started_by(module, inner).or_else(|| Transfer::awaited_by(module, inner)));
    });
    transfers
}
