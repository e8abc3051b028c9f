//! Ops of one block between two borders, and the order they get.

use super::clock::Clock;
use super::room::Room;
use super::touched::{self, Flights, Touched};
use crate::idle_waits::Transfer;
use crate::lowering::space;
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::dialects::tile;
use tilewright_ir::module::{Module, OpId, ValueId};

/// Loads that are looked at, from the next one on, for one that may start now.
const LOOKED_AT: usize = 16;

/// One op.
struct Step {
    op: OpId,
    touched: Touched,
    /// The transfers that it starts or waits for; many when it is a loop.
    transfers: BTreeSet<Transfer>,
    is_done: bool,
}

/// A load from outside the chip into SRAM.
struct Load {
    step: usize,
    /// The last step before it that it must not pass.
    after: Option<usize>,
    buffer: ValueId,
}

/// Ops while they are put into order.
pub(super) struct Segment<'a> {
    module: &'a Module,
    steps: Vec<Step>,
    /// Which step makes a value.
    made: BTreeMap<ValueId, usize>,
    loads: Vec<Load>,
    /// Waits that nothing needed so far.
    waiting: Vec<usize>,
    /// The last step before them that is done, or the first of all: buffers that they hold live up to there.
    passed: usize,
}

impl<'a> Segment<'a> {
    /// Looks at what each op touches.
    pub(super) fn new(module: &'a Module, ops: &[OpId], flights: &Flights) -> Segment<'a> {
        let mut segment = Segment {
            module,
            steps: Vec::new(),
            made: BTreeMap::new(),
            loads: Vec::new(),
            waiting: Vec::new(),
            passed: 0,
        };
        let (mut written, mut touched_at) = (BTreeMap::new(), BTreeMap::new());
        let mut named: BTreeMap<Transfer, usize> = BTreeMap::new();
        for (at, op) in ops.iter().enumerate() {
            let (touched, transfers) = (flights.touched(module, *op), touched::transfers(module, *op));
            if let Some(buffer) = loaded(module, *op) {
                let of_writes = touched.writes.iter().filter_map(|value| touched_at.get(value));
                let of_reads = touched.reads.iter().filter_map(|value| written.get(value));
                let of_name = transfers.iter().filter_map(|transfer| named.get(transfer));
                let after = of_writes.chain(of_reads).chain(of_name).max().copied();
                segment.loads.push(Load { step: at, after, buffer });
            }
            written.extend(touched.writes.iter().map(|value| (*value, at)));
            touched_at.extend(touched.all().map(|value| (value, at)));
            named.extend(transfers.iter().map(|transfer| (transfer.clone(), at)));
            segment.made.extend(module.op(*op).results.iter().map(|value| (*value, at)));
            segment.steps.push(Step { op: *op, touched, transfers, is_done: false });
        }
        segment.loads.reverse();
        segment
    }

    /// Appends the ops in their order.
    pub(super) fn schedule(mut self, room: &mut Room, clock: &mut Clock, order: &mut Vec<OpId>) {
        for at in 0..self.steps.len() {
            if self.steps[at].is_done {
                continue;
            }
            let op = self.steps[at].op;
            if self.module.op(op).def == &tile::WAIT && !self.steps[at].transfers.is_empty() {
                self.waiting.push(at);
                continue;
            }
            let is_loop = !self.module.op(op).regions.is_empty();
            let waits = self.waiting.clone();
            for wait in waits {
                if is_loop || self.is_needed(wait, at) || !room.end_at(self.steps[wait].touched.all(), op) {
                    self.wait(wait, at, room, clock, order);
                }
            }
            if !self.steps[at].is_done {
                self.write(at, clock, order);
            }
            self.passed = at;
            if is_loop {
                clock.restart();
            }
        }
        for wait in self.waiting.clone() {
            self.wait(wait, self.steps.len(), room, clock, order);
        }
    }

    /// Whether a wait must come before a step.
    fn is_needed(&self, wait: usize, at: usize) -> bool {
        let (wait, step) = (&self.steps[wait], &self.steps[at]);
        wait.touched.meets(&step.touched) || !wait.transfers.is_disjoint(&step.transfers)
    }

    /// Writes a wait before step `at`, and before it what DRAM may do meanwhile.
    fn wait(&mut self, wait: usize, at: usize, room: &mut Room, clock: &mut Clock, order: &mut Vec<OpId>) {
        let Some(transfer) = self.steps[wait].transfers.first().cloned() else { return };
        // What a store of a loop before it writes outside the chip is on its way still.
        let is_store = self.steps[wait].touched.writes.iter().all(|value| !room.has(*value));
        while clock.idle_before(&transfer, is_store) > 0 {
            let Some(load) = self.next_load(at, room, clock) else { break };
            self.write(load, clock, order);
        }
        clock.wait(&transfer, is_store);
        order.push(self.steps[wait].op);
        self.waiting.retain(|other| *other != wait);
    }

    /// A load from step `at` on that may start before the waits that come now.
    fn next_load(&mut self, at: usize, room: &mut Room, clock: &Clock) -> Option<usize> {
        while self.loads.last().is_some_and(|load| self.steps[load.step].is_done) {
            self.loads.pop();
        }
        let from = self.steps[self.passed].op;
        for load in self.loads.iter().rev().take(LOOKED_AT) {
            let step = &self.steps[load.step];
            let is_held = || self.waiting.iter().any(|wait| self.is_needed(*wait, load.step));
            if step.is_done
                || load.after.is_some_and(|after| after >= at)
                || !clock.has_place(engine_of(self.module, step.op))
                || is_held()
            {
                continue;
            }
            if room.begin_at(load.buffer, from) {
                return Some(load.step);
            }
        }
        None
    }

    /// Writes a step, after the views and buffers that it names.
    fn write(&mut self, at: usize, clock: &mut Clock, order: &mut Vec<OpId>) {
        let op = self.steps[at].op;
        for operand in &self.module.op(op).operands {
            if let Some(made) = self.made.get(operand).copied().filter(|made| !self.steps[*made].is_done) {
                self.write(made, clock, order);
            }
        }
        let step = &mut self.steps[at];
        step.is_done = true;
        if tile::command_op(self.module.op(op).def).is_some() {
            clock.run(self.module, op, &step.touched);
        }
        order.push(op);
    }
}

fn engine_of(module: &Module, op: OpId) -> &str {
    module.op(op).attributes.get("engine").and_then(|engine| engine.as_str()).unwrap_or_default()
}

/// The buffer in SRAM that an op starts to fill from outside the chip.
fn loaded(module: &Module, op: OpId) -> Option<ValueId> {
    Transfer::started_by(module, op)?;
    let operands = &module.op(op).operands;
    let space_of = |value: &ValueId| module.ty(*value).as_view().map(|view| view.space.as_str());
    let is_load = space_of(operands.first()?)? == space::SRAM
        && !matches!(space_of(operands.get(1)?)?, space::SRAM | space::ACCUMULATOR);
    is_load.then(|| crate::live_ranges::root(module, operands[0]))
}
