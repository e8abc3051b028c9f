//! The engines in time: when each command starts and ends, what holds it back, and what the sequencer waits for.
//!
//! It knows how engines, queues, DRAM and SRAM meet; how much work a command is stands in `work`.

use super::sram::Banks;
use super::walk::{Operand, operands, walk};
use super::work::Work;
use super::{Cost, ENGINE_COUNT, Event, MachineFigures, Request, Stall, StallEvent, Timing, TimingError};
use crate::commands::{Command, Engine};
use crate::memory::Window;
use crate::stream::Program;
use crate::view::Space;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Runs a program against a machine.
///
/// # Errors
/// When a register value does not fit, the program is malformed, or runs too long.
pub fn estimate(
    program: &Program,
    figures: &MachineFigures,
    request: &Request<'_>,
) -> Result<Timing, TimingError> {
    let timing = Timing { commands: vec![Cost::default(); program.commands.len()], ..Timing::default() };
    let mut model = Model {
        figures,
        timing,
        now: 0,
        frontier: 0,
        dram_free: 0,
        banks: Banks::default(),
        engines: Default::default(),
        tokens: BTreeMap::new(),
        with_events: request.with_events,
    };
    let mut last = 0;
    walk(program, request, |at, command, registers| {
        last = at;
        model.now += figures.issue_cycles;
        model.timing.issue_cycles += figures.issue_cycles;
        match command {
            Command::Wait { token } => model.wait(at, *token),
            Command::LoopBegin { .. } | Command::LoopEnd {} => {}
            Command::Else {} | Command::IfEnd {} | Command::End {} => {}
            _ => model.command(at, command, &operands(program, command, registers)?),
        }
        model.advance(at, model.now);
        Ok(())
    })?;
    model.stall(last, Stall::Drain, model.frontier);
    model.timing.cycles = model.now;
    for cost in &model.timing.commands {
        model.timing.total.add(cost);
    }
    Ok(model.timing)
}

/// Bytes that a command under way touches.
struct Touched {
    space: Space,
    bytes: Range<usize>,
    writes: bool,
    until: u64,
}

#[derive(Default)]
struct EngineState {
    free: u64,
    touched: Vec<Touched>,
    /// Ends of the commands it was given last.
    queue: VecDeque<u64>,
}

/// A transfer on its way, as the cycles at which each part of it is over: the engine has done what came before, no other engine holds
/// its bytes, the first byte has come, all bytes have come, and so they have with the banks of SRAM taken by others.
#[derive(Clone, Copy)]
struct Flight([(u64, Stall); 5]);

struct Model<'a> {
    figures: &'a MachineFigures,
    timing: Timing,
    /// Cycle at which the sequencer issues next.
    now: u64,
    /// End of all that was issued.
    frontier: u64,
    /// Cycle at which DRAM's bandwidth is free again.
    dram_free: u64,
    banks: Banks,
    engines: [EngineState; ENGINE_COUNT],
    tokens: BTreeMap<u16, Flight>,
    with_events: bool,
}

/// Start and end of a command, and how long its engine is its own.
struct Slot {
    free: u64,
    start: u64,
    end: u64,
    busy: u64,
    bank_cycles: u64,
}

impl Model<'_> {
    /// The sequencer stands still until a cycle.
    fn stall(&mut self, at: usize, cause: Stall, until: u64) {
        if until <= self.now {
            return;
        }
        self.timing.commands[at].stalls[cause as usize] += until - self.now;
        if self.with_events {
            let (start_cycle, end_cycle) = (self.now, until);
            self.timing.stall_events.push(StallEvent { cause, command: at as u32, start_cycle, end_cycle });
        }
        self.now = until;
    }

    fn wait(&mut self, at: usize, token: u16) {
        self.timing.commands[at].executions += 1;
        if let Some(Flight(parts)) = self.tokens.remove(&token) {
            for (until, cause) in parts {
                self.stall(at, cause, until);
            }
        }
    }

    fn command(&mut self, at: usize, command: &Command, operands: &[Operand]) {
        let engine = command.engine().unwrap_or(Engine::Host);
        let work = Work::of(command, engine, operands, self.figures);
        while self.engines[engine as usize].queue.len() >= self.figures.queue_commands.max(1) {
            let first = self.engines[engine as usize].queue.pop_front().unwrap_or(0);
            self.stall(at, Stall::Queue, first);
        }
        let slot = self.slot(engine, &work, operands);
        let cost = &mut self.timing.commands[at];
        cost.add(&work.cost);
        cost.busy_cycles += slot.busy;
        cost.bank_cycles += slot.bank_cycles;
        cost.operand_cycles += slot.start - slot.free;
        self.timing.engine_busy_cycles[engine as usize] += slot.busy;
        self.timing.engine_pj[engine as usize] += work.engine_pj;
        for (sums, bytes) in self.timing.space_bytes.iter_mut().zip(work.space_bytes) {
            sums.iter_mut().zip(bytes).for_each(|(sum, bytes)| *sum += bytes);
        }
        self.occupy(engine, operands, &slot, work.beats);
        if self.with_events && slot.end > slot.start {
            self.timing.events.push(event(engine, at, &slot, work.cost.dram_bytes, operands));
        }
        if let Command::Transfer { token, .. } = command {
            let latency = slot.start + self.figures.dma_latency_cycles;
            let moved = slot.end - slot.bank_cycles;
            self.tokens.insert(
                *token,
                Flight([
                    (slot.free, Stall::DramBandwidth),
                    (slot.start, Stall::Operand),
                    (latency.min(moved), Stall::DramLatency),
                    (moved, Stall::DramBandwidth),
                    (slot.end, Stall::Banks),
                ]),
            );
        }
        self.advance(at, slot.end);
        if engine == Engine::Host {
            self.stall(at, Stall::Operand, slot.start);
            self.stall(at, Stall::Host, slot.end); // the host is the sequencer
        }
    }

    /// Charges a command for what it put off, when all that was issued ends at `end` at the earliest.
    fn advance(&mut self, at: usize, end: u64) {
        let reached = self.frontier.max(end);
        self.timing.commands[at].elapsed_cycles += reached - self.frontier;
        self.frontier = reached;
    }

    /// When a command runs.
    fn slot(&mut self, engine: Engine, work: &Work, operands: &[Operand]) -> Slot {
        let is_dma = matches!(engine, Engine::Dma0 | Engine::Dma1);
        let free = self.engines[engine as usize].free.max(self.now);
        let start = free.max(self.operands_clear(engine, operands));
        let mut end = start + work.cycles;
        if work.cost.dram_bytes > 0 {
            // DRAM serves all one after the other at its own rate; an engine may be slower.
            self.dram_free = self.dram_free.max(start) + self.figures.dram_cycles(work.cost.dram_bytes);
            let latency = if is_dma { self.figures.dma_latency_cycles } else { 0 };
            end = end.max(self.dram_free + latency);
        }
        // A DMA engine takes the next transfer while the first bytes of this one are on their way.
        let tail = if is_dma { self.figures.dma_latency_cycles.min(end - start) } else { 0 };
        let (from, span) = (start + tail, end - start - tail);
        let bank_cycles = self.banks.missing(engine as usize, from, span, work.beats);
        Slot { free, start, end: end + bank_cycles, busy: span + bank_cycles, bank_cycles }
    }

    fn occupy(&mut self, engine: Engine, operands: &[Operand], slot: &Slot, beats: u64) {
        self.banks.add(engine as usize, (slot.end - slot.busy, slot.end), beats, self.now);
        let now = self.now;
        let state = &mut self.engines[engine as usize];
        state.free = slot.start + slot.busy;
        state.queue.push_back(slot.end);
        state.touched.retain(|touched| touched.until > now);
        state.touched.extend(operands.iter().map(|(_, access, window)| Touched {
            space: window.space,
            bytes: window.range(),
            writes: access.writes(),
            until: slot.end,
        }));
    }

    /// When other engines no longer touch what this command needs.
    fn operands_clear(&self, engine: Engine, operands: &[Operand]) -> u64 {
        // Data under way by DMA is the program's to wait for; the scoreboard sees the compute engines only, and a DMA engine is held
        // back by them as well.
        let others =
            [Engine::Host, Engine::Matrix, Engine::Vector].into_iter().filter(|other| *other != engine);
        let clashes = |touched: &&Touched| {
            operands
                .iter()
                .any(|(_, access, window)| overlaps(touched, window) && (touched.writes || access.writes()))
        };
        let held = others.flat_map(|other| self.engines[other as usize].touched.iter().filter(clashes));
        held.map(|touched| touched.until).max().unwrap_or(0)
    }
}

fn overlaps(touched: &Touched, window: &Window) -> bool {
    let range = window.range();
    window.space == touched.space && range.start < touched.bytes.end && touched.bytes.start < range.end
}

fn event(engine: Engine, at: usize, slot: &Slot, dram_bytes: u64, operands: &[Operand]) -> Event {
    let on_chip = operands.iter().filter(|(_, _, window)| window.space == Space::Sram);
    let sram = on_chip
        .filter(|(_, _, window)| !window.range().is_empty())
        .map(|(_, access, window)| (window.range(), access.writes()))
        .collect();
    let (start_cycle, end_cycle) = (slot.start, slot.end);
    Event { engine, command: at as u32, start_cycle, end_cycle, busy_cycles: slot.busy, dram_bytes, sram }
}
