//! How long a program takes and what it costs on a machine: the same commands against the machine's engines.
//!
//! The sequencer issues commands in order, one per `issue_cycles`. Every engine works through its commands one after the other.
//! A command waits for its engine, and for commands of other engines that are under way on bytes it touches (what a scoreboard
//! does); transfers are waited for by `wait`. All share the bandwidth of DRAM and the banks of SRAM. Loops are run through in full with
//! the given register values, so that tails count as they are; data is not looked at: conditions count as true, breaks do
//! not break, registers set from memory take their maximum.
//!
//! ```text
//! cycles = issue + stalls by cause      elapsed of each command adds up to cycles      cycles >= bound(..).cycles()
//! ```
//!
//! What it leaves out: refresh, clock and voltage scaling, leakage. This file must not know any machine's figures:
//! they are plain data from the target.

mod bound;
mod layout;
mod machine;
mod model;
mod sram;
mod walk;
mod work;

pub use bound::{Bound, bound, word_bound_bytes};
pub use machine::{MachineFigures, MatrixRate, VectorRates};
pub use model::estimate;

use crate::commands::Engine;
use crate::view::Space;

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

/// Why the sequencer stood still. With the cycles it issued in, these add up to the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// A `wait`, while the first bytes of the transfer were on their way.
    DramLatency,
    /// A `wait`, while DRAM or the DMA engine moved bytes: this transfer's or those before it.
    DramBandwidth,
    /// A `wait` for a transfer that was itself held up by banks of SRAM that another engine used.
    Banks,
    /// A `wait` for a transfer that was itself held up by an engine at work on the same bytes; or such a command of the host.
    Operand,
    /// The engine's queue was full.
    Queue,
    /// A command of the host: the host is the sequencer.
    Host,
    /// All is issued, the engines finish.
    Drain,
}

impl Stall {
    /// Number of causes.
    pub const COUNT: usize = 7;
    /// All causes.
    pub const ALL: [Stall; Stall::COUNT] = [
        Stall::DramLatency,
        Stall::DramBandwidth,
        Stall::Banks,
        Stall::Operand,
        Stall::Queue,
        Stall::Host,
        Stall::Drain,
    ];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Stall::DramLatency => "dram latency",
            Stall::DramBandwidth => "dram bandwidth",
            Stall::Banks => "bank conflict",
            Stall::Operand => "operand",
            Stall::Queue => "queue full",
            Stall::Host => "host",
            Stall::Drain => "drain",
        }
    }
}

/// Cycles by cause, indexed by [`Stall`].
pub type Stalls = [u64; Stall::COUNT];

/// What something took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Times executed.
    pub executions: u64,
    /// Cycles its engine was busy.
    pub busy_cycles: u64,
    /// Of these, cycles for banks of SRAM that another engine used at the time.
    pub bank_cycles: u64,
    /// Cycles its engine stood still for operands under way on other engines.
    pub operand_cycles: u64,
    /// Cycles the sequencer stood still at it.
    pub stalls: Stalls,
    /// Cycles by which it put off the end of all that was issued so far. Over all commands they add up to the cycles of the run: work
    /// that is hidden behind other work has none.
    pub elapsed_cycles: u64,
    /// Bytes read from or written to off-chip memory.
    pub dram_bytes: u64,
    /// Bytes read from or written to on-chip memory.
    pub sram_bytes: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Elements worked on by the vector engine or the host.
    pub lanes: u64,
    /// Energy in picojoules, memories included.
    pub energy_pj: f64,
}

impl Cost {
    /// Adds what something else took.
    pub fn add(&mut self, other: &Cost) {
        self.executions += other.executions;
        self.busy_cycles += other.busy_cycles;
        self.bank_cycles += other.bank_cycles;
        self.operand_cycles += other.operand_cycles;
        self.elapsed_cycles += other.elapsed_cycles;
        self.dram_bytes += other.dram_bytes;
        self.sram_bytes += other.sram_bytes;
        self.macs += other.macs;
        self.lanes += other.lanes;
        self.energy_pj += other.energy_pj;
        for (mine, more) in self.stalls.iter_mut().zip(other.stalls) {
            *mine += more;
        }
    }
}

/// One piece of work on a time line, for traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which engine.
    pub engine: Engine,
    /// Index of the command.
    pub command: u32,
    /// First cycle.
    pub start_cycle: u64,
    /// Cycle after the last.
    pub end_cycle: u64,
    /// Cycles up to the end in which the engine was its own: a DMA engine does other things while the first bytes are on their way.
    pub busy_cycles: u64,
    /// Bytes to and from off-chip memory.
    pub dram_bytes: u64,
    /// Bytes of SRAM that it touches, and whether it writes them.
    pub sram: Vec<(std::ops::Range<usize>, bool)>,
}

/// One stretch of time in which the sequencer stood still, for traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallEvent {
    /// Why.
    pub cause: Stall,
    /// Index of the command at which it stood.
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
    /// Cycles in which the sequencer issued.
    pub issue_cycles: u64,
    /// Sum over commands.
    pub total: Cost,
    /// Per command of the program, by index; commands that never run have no executions.
    pub commands: Vec<Cost>,
    /// Busy cycles per engine, by tag.
    pub engine_busy_cycles: [u64; ENGINE_COUNT],
    /// Energy of each engine's own work in picojoules, by tag; what memories take is not in it.
    pub engine_pj: [f64; ENGINE_COUNT],
    /// Bytes read from and written to each space, by tag; off chip in whole bursts.
    pub space_bytes: [[u64; 2]; Space::COUNT],
    /// Time lines, when asked for.
    pub events: Vec<Event>,
    /// Where the sequencer stood still, when asked for.
    pub stall_events: Vec<StallEvent>,
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

#[cfg(test)]
mod tests;
