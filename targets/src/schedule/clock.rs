//! A rough clock for one order of ops: when engines and DRAM are free, and until when a wait stands.
//!
//! It follows the rules of the runtime's timing model (engines in order, queues, one DRAM that serves all) on tile IR before there are
//! addresses: what commands take is a product of sizes, loops and their lengths are at their longest. Only the order that results
//! matters; the timing model is the judge of time.

use super::touched::Touched;
use crate::figures;
use crate::idle_waits::Transfer;
use crate::lower::work;
use crate::lowering::{engine, space};
use crate::range::Ranges;
use std::collections::{BTreeMap, VecDeque};
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::tile;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_passes::machine::Machine;

/// The clock.
pub(super) struct Clock<'a> {
    machine: &'a Machine,
    ranges: Ranges,
    now: u64,
    dram_free: u64,
    engines: BTreeMap<String, Engine>,
    /// When compute engines have done with reading and with writing something.
    held: BTreeMap<ValueId, (u64, u64)>,
    flights: BTreeMap<Transfer, u64>,
}

#[derive(Default)]
struct Engine {
    free: u64,
    queue: VecDeque<u64>,
}

impl<'a> Clock<'a> {
    /// A clock for a function on a machine.
    pub(super) fn new(module: &Module, function: OpId, machine: &'a Machine) -> Clock<'a> {
        Clock {
            machine,
            ranges: longest(module, function),
            now: 0,
            dram_free: 0,
            engines: BTreeMap::new(),
            held: BTreeMap::new(),
            flights: BTreeMap::new(),
        }
    }

    /// Begins anew, with idle engines.
    pub(super) fn restart(&mut self) {
        (self.now, self.dram_free) = (0, 0);
        self.engines.clear();
        self.held.clear();
        self.flights.clear();
    }

    /// Cycles that DRAM has nothing to do before a transfer is over.
    pub(super) fn idle_before(&self, transfer: &Transfer, is_store: bool) -> u64 {
        self.end_of(transfer, is_store).saturating_sub(self.dram_free.max(self.now))
    }

    /// When a transfer is over. A store that a loop started has its last tile to compute, then to write; a load came in before.
    fn end_of(&self, transfer: &Transfer, is_store: bool) -> u64 {
        let of_loop = if is_store { 2 * self.machine.dram_latency_cycles } else { 0 };
        self.flights.get(transfer).copied().unwrap_or(of_loop)
    }

    /// Whether an engine takes a command at once.
    pub(super) fn has_place(&self, engine: &str) -> bool {
        self.engines.get(engine).is_none_or(|engine| {
            engine.queue.iter().filter(|end| **end > self.now).count() < figures::QUEUE_COMMANDS
        })
    }

    /// Waits for a transfer.
    pub(super) fn wait(&mut self, transfer: &Transfer, is_store: bool) {
        self.now = self.end_of(transfer, is_store).max(self.now + figures::ISSUE_CYCLES);
        self.flights.remove(transfer);
    }

    /// Runs a command.
    pub(super) fn run(&mut self, module: &Module, op: OpId, touched: &Touched) {
        self.now += figures::ISSUE_CYCLES;
        let operation = module.op(op);
        let name = operation.attributes.get("engine").and_then(Attribute::as_str).unwrap_or(engine::HOST);
        let (cycles, dram_bytes) = self.cycles(module, op, name);
        let clear = self.clear(touched);
        let state = self.engines.entry(name.to_string()).or_default();
        if state.queue.len() >= figures::QUEUE_COMMANDS {
            self.now = self.now.max(state.queue.pop_front().unwrap_or(0));
        }
        let start = state.free.max(self.now).max(clear);
        let mut end = start + cycles;
        let is_dma = name.starts_with("dma");
        let latency = if is_dma { self.machine.dram_latency_cycles } else { 0 };
        if dram_bytes > 0 {
            self.dram_free = self.dram_free.max(start) + self.machine.dram_cycles(dram_bytes);
            end = end.max(self.dram_free + latency);
        }
        state.free = if is_dma { end - latency.min(end - start) } else { end };
        state.queue.push_back(end);
        if let Some(transfer) = Transfer::started_by(module, op) {
            self.flights.insert(transfer, end);
        } else {
            for value in &touched.reads {
                let held = self.held.entry(*value).or_default();
                held.0 = held.0.max(end);
            }
            for value in &touched.writes {
                let held = self.held.entry(*value).or_default();
                held.1 = held.1.max(end);
            }
        }
        if name == engine::HOST {
            self.now = self.now.max(end);
        }
    }

    /// When engines have done with what a command needs.
    fn clear(&self, touched: &Touched) -> u64 {
        let held = |value: &ValueId| self.held.get(value).copied().unwrap_or_default();
        let read = touched.reads.iter().map(|value| held(value).1);
        let written = touched.writes.iter().map(|value| held(value).0.max(held(value).1));
        read.chain(written).max().unwrap_or(0)
    }

    /// Cycles of an engine, and bytes of DRAM.
    fn cycles(&self, module: &Module, op: OpId, engine: &str) -> (u64, u64) {
        let machine = self.machine;
        let (macs, bytes) = work(module, op, &self.ranges);
        let views = module.op(op).operands.iter().filter_map(|value| module.ty(*value).as_view());
        let elements = views.clone().map(|view| {
            let dims = view.shape.iter().map(|dim| self.ranges.maximum(dim).unwrap_or(1).max(0) as u64);
            dims.fold(1u64, u64::saturating_mul)
        });
        let elements = elements.max().unwrap_or(0);
        let cycles = match engine {
            engine::MATRIX => {
                let formats: Vec<_> =
                    views.filter(|view| view.space == space::SRAM).map(|view| view.element).collect();
                let pairs = formats.iter().flat_map(|a| formats.iter().map(move |b| (*a, *b)));
                let rate = pairs.filter_map(|(a, b)| machine.macs_per_cycle(a, b)).min().unwrap_or(1);
                macs / rate.max(1) + figures::MATRIX_LATENCY_CYCLES
            }
            engine::VECTOR => elements / machine.vector_lanes.max(1) + machine.launch_cycles,
            engine::HOST => {
                figures::HOST_LATENCY_CYCLES + elements.max(macs) / figures::HOST_LANES_PER_CYCLE as u64
            }
            _ => machine.dram_cycles(bytes),
        };
        (cycles, bytes)
    }
}

/// The registers and loop variables of a function, whose names are its own, with their ranges.
fn longest(module: &Module, function: OpId) -> Ranges {
    let mut ranges = Ranges::default();
    module.walk(function, &mut |op| {
        let operation = module.op(op);
        let int = |name: &str| operation.attributes.get(name).and_then(Attribute::as_int);
        let text =
            |name: &str| operation.attributes.get(name).and_then(Attribute::as_str).unwrap_or_default();
        if operation.def == &tile::REGISTER {
            ranges.insert(text("name"), int("minimum").unwrap_or(0), int("maximum").unwrap_or(0));
        } else if operation.def == &tile::FOR || operation.def == &tile::LOOP {
            let limit = operation.attributes.get("limit").and_then(Attribute::as_dim);
            let limit = limit.and_then(|limit| ranges.maximum(&limit)).unwrap_or(1);
            ranges.insert(text("variable"), 0, (limit - 1).max(0));
        }
    });
    ranges
}
