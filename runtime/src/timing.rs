//! How long a program takes and what it costs on a machine: the same commands against the machine's engines.
//!
//! The sequencer issues commands in order, one per `issue_cycles`. Every engine works through its commands one after the other.
//! A command waits for its engine, and for commands of other engines that are under way on bytes it touches (what a scoreboard
//! does); transfers are waited for by `wait`. Two DMA engines share the bandwidth of DRAM. Loops are run through in full with
//! the given register values, so that tails count as they are; data is not looked at: conditions count as true, breaks do
//! not break, registers set from memory take their maximum.
//!
//! ```text
//! cycles  stalled  dma0 busy  matrix busy  dram bytes  sram bytes   macs   pJ
//! ```
//!
//! What it leaves out: bank conflicts, refresh, clock and voltage scaling, leakage. This file must not know any machine's figures:
//! they are plain data from the target.

mod machine;
mod work;

pub use machine::{MachineFigures, MatrixRate, VectorRates};

use crate::commands::{Access, Command, Engine, ViewId};
use crate::control::jump_table;
use crate::memory::Window;
use crate::stream::Program;
use crate::view::Space;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use work::Work;

/// Number of engines.
pub const ENGINE_COUNT: usize = 5;

/// Why there is no estimate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// Loops do not nest, or a table id does not exist; the checker says more.
    #[error("the program is malformed; run the checker on it")]
    Malformed,
    /// A register name the program does not have, or a value out of its range.
    #[error("{name} = {value} is not a register of the program, or out of its range")]
    Register {
        /// its name
        name: String,
        /// the value
        value: i64,
    },
    /// More commands are executed than the caller allows.
    #[error("the program executes more than {steps_max} commands")]
    TooLong {
        /// the limit
        steps_max: u64,
    },
}

/// What something took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Times executed.
    pub executions: u64,
    /// Cycles its engine was busy.
    pub busy_cycles: u64,
    /// Cycles the sequencer stood still before it (waits), or its engine did (operands under way).
    pub stall_cycles: u64,
    /// Bytes read from or written to off-chip memory.
    pub dram_bytes: u64,
    /// Bytes read from or written to on-chip memory.
    pub sram_bytes: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Elements worked on by the vector engine or the host.
    pub lanes: u64,
    /// Energy in picojoules.
    pub energy_pj: f64,
}

impl Cost {
    fn add(&mut self, other: &Cost) {
        self.executions += other.executions;
        self.busy_cycles += other.busy_cycles;
        self.stall_cycles += other.stall_cycles;
        self.dram_bytes += other.dram_bytes;
        self.sram_bytes += other.sram_bytes;
        self.macs += other.macs;
        self.lanes += other.lanes;
        self.energy_pj += other.energy_pj;
    }
}

/// One piece of work on a time line, for traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which engine.
    pub engine: Engine,
    /// Index of the command.
    pub command: u32,
    /// First cycle.
    pub start_cycle: u64,
    /// Cycle after the last.
    pub end_cycle: u64,
}

/// What a run takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timing {
    /// From the first issue to the end of the last command.
    pub cycles: u64,
    /// Sum over commands.
    pub total: Cost,
    /// Per command of the program, by index; commands that never run have no executions.
    pub commands: Vec<Cost>,
    /// Busy cycles per engine, by tag.
    pub engine_busy_cycles: [u64; ENGINE_COUNT],
    /// Cycles waited for transfers.
    pub transfer_stall_cycles: u64,
    /// Cycles waited for other engines' operands.
    pub operand_stall_cycles: u64,
    /// Time lines, when asked for.
    pub events: Vec<Event>,
}

impl Timing {
    /// Seconds at the machine's clock.
    pub fn seconds(&self, figures: &MachineFigures) -> f64 {
        self.cycles as f64 / figures.clock_hz
    }

    /// Joules, with the machine's idle power over the whole time.
    pub fn joules(&self, figures: &MachineFigures) -> f64 {
        self.total.energy_pj * 1e-12 + figures.idle_watts * self.seconds(figures)
    }
}

/// What to estimate.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Values of bound registers; others take their minimum.
    pub registers: &'a [(&'a str, i64)],
    /// Whether to keep the time lines.
    pub with_events: bool,
    /// Most commands executed.
    pub steps_max: u64,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Request { registers: &[], with_events: false, steps_max: 1 << 32 }
    }
}

/// Runs a program against a machine.
///
/// # Errors
/// When a register value does not fit, the program is malformed, or runs too long.
pub fn estimate(
    program: &Program,
    figures: &MachineFigures,
    request: &Request<'_>,
) -> Result<Timing, TimingError> {
    let jumps = jump_table(&program.commands).map_err(|_| TimingError::Malformed)?;
    let mut registers: Vec<i64> = program.registers.iter().map(|register| register.minimum).collect();
    for &(name, value) in request.registers {
        let register = program.register(name).filter(|register| {
            let info = &program.registers[usize::from(register.0)];
            (info.minimum..=info.maximum).contains(&value)
        });
        let unknown = || TimingError::Register { name: name.to_owned(), value };
        registers[usize::from(register.ok_or_else(unknown)?.0)] = value;
    }
    let timing = Timing { commands: vec![Cost::default(); program.commands.len()], ..Timing::default() };
    let mut model = Model {
        program,
        figures,
        registers,
        timing,
        now: 0,
        dram_free: 0,
        engines: [const { EngineState { free: 0, touched: Vec::new(), queue: VecDeque::new() } };
            ENGINE_COUNT],
        tokens: BTreeMap::new(),
        with_events: request.with_events,
    };
    model.walk(&jumps, request.steps_max)?;
    let under_way =
        model.engines.iter().flat_map(|engine| engine.touched.iter().map(|touched| touched.until));
    let last = under_way.max().unwrap_or(0);
    model.timing.cycles = model.now.max(last);
    Ok(model.timing)
}

/// Bytes that a command under way touches.
struct Touched {
    space: Space,
    bytes: Range<usize>,
    writes: bool,
    until: u64,
}

struct EngineState {
    free: u64,
    touched: Vec<Touched>,
    /// Ends of the commands it was given last.
    queue: VecDeque<u64>,
}

struct Model<'a> {
    program: &'a Program,
    figures: &'a MachineFigures,
    registers: Vec<i64>,
    timing: Timing,
    /// Cycle at which the sequencer issues next.
    now: u64,
    /// Cycle at which DRAM's bandwidth is free again.
    dram_free: u64,
    engines: [EngineState; ENGINE_COUNT],
    tokens: BTreeMap<u16, u64>,
    with_events: bool,
}

impl Model<'_> {
    fn walk(&mut self, jumps: &[u32], steps_max: u64) -> Result<(), TimingError> {
        let program = self.program;
        let mut ends: Vec<i64> = Vec::new();
        let mut at = 0;
        let mut steps_left = steps_max;
        while let Some(command) = program.commands.get(at) {
            steps_left = steps_left.checked_sub(1).ok_or(TimingError::TooLong { steps_max })?;
            self.now += self.figures.issue_cycles;
            let jump = jumps[at] as usize;
            at = match command {
                Command::End {} => return Ok(()),
                Command::LoopBegin { register, end, .. } => {
                    let end = program.expressions.get(end.0 as usize).ok_or(TimingError::Malformed)?;
                    let end = end.evaluate(&self.registers);
                    if end <= 0 {
                        jump + 1
                    } else {
                        ends.push(end);
                        self.set(register.0, 0)?;
                        at + 1
                    }
                }
                Command::LoopEnd {} => match &program.commands[jump] {
                    Command::LoopBegin { register, step, .. } => {
                        let next = self.registers[usize::from(register.0)] + i64::from(*step).max(1);
                        if ends.last().is_some_and(|&end| next < end) {
                            self.set(register.0, next)?;
                            jump + 1
                        } else {
                            ends.pop();
                            at + 1
                        }
                    }
                    _ => return Err(TimingError::Malformed),
                },
                Command::Else {} => jump + 1,
                _ => {
                    self.command(at, command)?;
                    at + 1
                }
            };
        }
        Err(TimingError::Malformed)
    }

    fn set(&mut self, register: u16, value: i64) -> Result<(), TimingError> {
        *self.registers.get_mut(usize::from(register)).ok_or(TimingError::Malformed)? = value;
        Ok(())
    }

    fn command(&mut self, at: usize, command: &Command) -> Result<(), TimingError> {
        match command {
            Command::Wait { token } => {
                let done = self.tokens.remove(token).unwrap_or(0);
                let stall = done.saturating_sub(self.now);
                self.now += stall;
                self.timing.transfer_stall_cycles += stall;
                self.charge(at, &Cost { executions: 1, stall_cycles: stall, ..Cost::default() });
                return Ok(());
            }
            Command::SetRegister { register, .. } => {
                let info =
                    self.program.registers.get(usize::from(register.0)).ok_or(TimingError::Malformed)?;
                self.set(register.0, info.maximum)?;
            }
            _ => {}
        }
        let mut windows: Vec<(&'static str, Access, Window)> = Vec::new();
        let mut is_malformed = false;
        command.for_each_view(|name, access, id| match self.window(id) {
            Some(window) => windows.push((name, access, window)),
            None => is_malformed = true,
        });
        if is_malformed {
            return Err(TimingError::Malformed);
        }
        let engine = command.engine().unwrap_or(Engine::Host);
        let work = Work::of(command, engine, &windows, self.figures);
        let clear = self.operands_clear(engine, &windows);
        let queue = &mut self.engines[engine as usize].queue;
        while queue.len() >= self.figures.queue_commands.max(1) {
            self.now = self.now.max(queue.pop_front().unwrap_or(0));
        }
        let free = self.engines[engine as usize].free.max(self.now);
        let start = free.max(clear);
        let stall = start - free;
        let end = match engine {
            // DRAM serves transfers one after the other at its own rate; an engine may be slower.
            Engine::Dma0 | Engine::Dma1 => {
                let served = self.dram_free.max(start) + self.figures.dram_cycles(work.cost.dram_bytes);
                if work.cost.dram_bytes > 0 {
                    self.dram_free = served;
                }
                (start + work.cost.busy_cycles).max(served + self.figures.dma_latency_cycles)
            }
            _ => start + work.cost.busy_cycles,
        };
        let mut cost = work.cost;
        cost.stall_cycles = stall;
        // A DMA engine takes the next transfer while the bytes of this one are on their way.
        let is_dma = matches!(engine, Engine::Dma0 | Engine::Dma1);
        let idle_tail = if is_dma { self.figures.dma_latency_cycles.min(end - start) } else { 0 };
        cost.busy_cycles = end - start - idle_tail;
        self.timing.operand_stall_cycles += stall;
        self.timing.engine_busy_cycles[engine as usize] += cost.busy_cycles;
        self.charge(at, &cost);
        if self.with_events && end > start {
            self.timing.events.push(Event { engine, command: at as u32, start_cycle: start, end_cycle: end });
        }
        let state = &mut self.engines[engine as usize];
        state.free = end - idle_tail;
        let now = self.now;
        state.queue.push_back(end);
        state.touched.retain(|touched| touched.until > now);
        state.touched.extend(windows.iter().map(|(_, access, window)| Touched {
            space: window.space,
            bytes: window.range(),
            writes: access.writes(),
            until: end,
        }));
        if let Command::Transfer { token, .. } = command {
            self.tokens.insert(*token, end);
        }
        if engine == Engine::Host {
            self.now = end; // the host is the sequencer
        }
        Ok(())
    }

    fn window(&self, id: ViewId) -> Option<Window> {
        Window::resolve(self.program.views.get(id.0 as usize)?, &self.registers, isize::MAX as usize).ok()
    }

    /// When other engines no longer touch what this command needs.
    fn operands_clear(&self, engine: Engine, windows: &[(&'static str, Access, Window)]) -> u64 {
        let mut clear = 0;
        for (index, other) in self.engines.iter().enumerate().filter(|(index, _)| *index != engine as usize) {
            let is_dma = index == Engine::Dma0 as usize || index == Engine::Dma1 as usize;
            for touched in &other.touched {
                let clashes = windows.iter().any(|(_, access, window)| {
                    window.space == touched.space
                        && window.range().start < touched.bytes.end
                        && touched.bytes.start < window.range().end
                        && (touched.writes || access.writes())
                });
                // Data under way by DMA is the program's to wait for; the scoreboard sees the compute engines only, and
                // a DMA engine is held back by them as well.
                if clashes && !is_dma {
                    clear = touched.until.max(clear);
                }
            }
        }
        clear
    }

    fn charge(&mut self, at: usize, cost: &Cost) {
        self.timing.commands[at].add(cost);
        self.timing.total.add(cost);
    }
}

#[cfg(test)]
mod tests;
