//! What a compiled model costs on its machine: one data model, and one file per form in which it is shown.
//!
//! `build` makes a [`Report`] from programs and a machine alone; `text`, `csv`, `trace` and `html` show it and compute nothing new.
//! Figures are the timing model's ([`tilewright_runtime::timing`]); this must not know how they come about, nor terminals.
//!
//! ```text
//! programs + machine --build--> Report { runs: [Run { cycles, stalls, engines, bound, ops, layers }], details, placement }
//!                                  --text--> tables    --csv--> Vela's columns    --trace--> Perfetto    --html--> one page
//! ```

mod build;
pub mod csv;
pub mod html;
pub mod names;
pub mod node;
mod sram_map;
pub mod text;
pub mod trace;

pub use build::{Contexts, Subject, build};
pub use sram_map::Rectangle;

use serde::Serialize;
use tilewright_runtime::commands::Engine;
use tilewright_targets::placement::PlacementRow;

/// The figures of a machine that a report shows beside its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachineFacts {
    /// The target's name.
    pub name: String,
    /// What it is.
    pub about: String,
    /// Cycles per second.
    pub clock_hz: f64,
    /// On-chip memory for tiles.
    pub sram_bytes: u64,
    /// Memory of the matrix engine's accumulators.
    pub accumulator_bytes: u64,
    /// Bytes per cycle of all banks of on-chip memory.
    pub sram_bytes_per_cycle: u64,
    /// Those banks.
    pub sram_banks: u64,
    /// Bytes per cycle to and from off-chip memory.
    pub dram_bytes_per_cycle: u64,
    /// Multiply-accumulates per cycle of the fastest pair of element types that the programs multiply; 0 without products.
    pub macs_per_cycle: u64,
}

/// A number of cycles and what they were for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cycles {
    /// What for.
    pub cause: &'static str,
    /// How many.
    pub cycles: u64,
}

/// What one engine did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EngineUse {
    /// Its name.
    pub engine: &'static str,
    /// Cycles at work.
    pub busy_cycles: u64,
    /// Of all cycles.
    pub utilisation: f64,
    /// Energy of its own work, memories left out.
    pub energy_pj: f64,
}

/// Lower bounds of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bounds {
    /// Distinct bytes of weights, inputs, outputs and states touched.
    pub compulsory_bytes: u64,
    /// Cycles that DRAM needs for them.
    pub dram_cycles: u64,
    /// Cycles of all multiply-accumulates at the peak rate of their types.
    pub mac_cycles: u64,
    /// The larger of the two: no schedule is faster.
    pub cycles: u64,
    /// Cycles of the run over that.
    pub ratio: f64,
    /// 2 m n k / sqrt(S) of all products, in bytes.
    pub word_bytes: u64,
}

/// What commands of one source have in common: an op of the model, or a layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// Name in the model; for several nodes in one kernel the first, with how many more.
    pub name: String,
    /// All nodes. Empty for a layer.
    pub nodes: Vec<String>,
    /// The layer's path.
    pub layer: String,
    /// The engine that was busy longest.
    pub engine: &'static str,
    /// The command that engine was busy with longest.
    pub command: &'static str,
    /// Commands in the program.
    pub commands: u64,
    /// Commands executed.
    pub executions: u64,
    /// Cycles by which it put off the end of the run. All rows together give the cycles of the run.
    pub cycles: u64,
    /// Cycles that engines were busy with it.
    pub busy_cycles: u64,
    /// Cycles that the sequencer stood still at its commands.
    pub stall_cycles: u64,
    /// Bytes to and from off-chip memory.
    pub dram_bytes: u64,
    /// Bytes to and from on-chip memory.
    pub sram_bytes: u64,
    /// Most bytes of SRAM between its lowest and highest address.
    pub sram_reach_bytes: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Multiply-accumulates per cycle at the peak rate of its types; 0 without products.
    pub peak_macs_per_cycle: u64,
    /// 2 m n k / sqrt(S) - 2 S in bytes, for products.
    pub word_bound_bytes: u64,
    /// Energy, memories included.
    pub energy_pj: f64,
}

/// One run of one program at one context length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// The program's name.
    pub program: String,
    /// Tokens it takes; 0 when it is not about tokens.
    pub tokens: u32,
    /// Values of its bound registers.
    pub registers: Vec<(String, i64)>,
    /// Commands in the program.
    pub commands: u64,
    /// Commands executed.
    pub executions: u64,
    /// Cycles.
    pub cycles: u64,
    /// Seconds at the machine's clock.
    pub seconds: f64,
    /// Cycles in which the sequencer issued commands.
    pub issue_cycles: u64,
    /// Cycles in which it stood still, by cause. With `issue_cycles` they add up to `cycles`.
    pub stalls: Vec<Cycles>,
    /// Cycles that commands took longer for banks of SRAM in use by others.
    pub bank_conflict_cycles: u64,
    /// Engines.
    pub engines: Vec<EngineUse>,
    /// Bytes to and from off-chip memory, in whole bursts.
    pub dram_bytes: u64,
    /// Bytes to and from on-chip memory.
    pub sram_bytes: u64,
    /// Bytes read and written per space.
    pub spaces: Vec<SpaceUse>,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Energy of off-chip memory.
    pub dram_pj: f64,
    /// Energy of on-chip memory.
    pub sram_pj: f64,
    /// All energy, idle power included.
    pub joules: f64,
    /// Lower bounds.
    pub bounds: Bounds,
    /// Per op, in program order.
    pub ops: Vec<Row>,
    /// Per layer, in program order.
    pub layers: Vec<Row>,
}

impl Run {
    /// The program, and at which lengths.
    pub fn title(&self) -> String {
        let registers: Vec<String> =
            self.registers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if registers.is_empty() {
            self.program.clone()
        } else {
            format!("{} {}", self.program, registers.join(" "))
        }
    }

    /// Runs per second.
    pub fn per_second(&self) -> f64 {
        if self.seconds > 0.0 { 1.0 / self.seconds } else { 0.0 }
    }

    /// Cycles that an engine was busy.
    pub fn busy(&self, engine: &str) -> u64 {
        self.engines.iter().find(|one| one.engine == engine).map_or(0, |one| one.busy_cycles)
    }
}

/// Traffic and size of a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpaceUse {
    /// Its name.
    pub space: &'static str,
    /// Bytes it takes.
    pub size_bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
}

/// Work of one engine on a time line; `op` indexes the run's ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which engine.
    pub engine: Engine,
    /// Whose work.
    pub op: usize,
    /// Index of the command; the first one's where several were put together.
    pub command: u32,
    /// Cycle of the request.
    pub from: u64,
    /// First cycle in which the engine was its own: after the latency of DRAM for a DMA engine, else the same.
    pub start: u64,
    /// Cycle after the last.
    pub end: u64,
    /// Bytes to and from off-chip memory.
    pub dram_bytes: u64,
}

/// Time in which the sequencer stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Why: an index into the run's `stalls`.
    pub cause: usize,
    /// First cycle.
    pub start: u64,
    /// Cycle after the last.
    pub end: u64,
}

/// The time lines of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Detail {
    /// Which run.
    pub run: usize,
    /// Work of engines, by start.
    pub spans: Vec<Span>,
    /// How many pieces of work there were before neighbours were put together to keep pictures small.
    pub spans_total: usize,
    /// Where the sequencer stood still.
    pub pauses: Vec<Pause>,
    /// Bytes of SRAM in use over time.
    pub rectangles: Vec<Rectangle>,
    /// How many there were.
    pub rectangles_total: usize,
    /// Names of commands by index.
    pub commands: Vec<&'static str>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Who made it.
    pub tool: String,
    /// The model's or artifact's name.
    pub model: String,
    /// The machine.
    pub machine: MachineFacts,
    /// One per program and context length.
    pub runs: Vec<Run>,
    /// Time lines of the runs that are drawn.
    pub details: Vec<Detail>,
    /// What runs where, once for equal rows of several programs.
    pub placement: Vec<PlacementRow>,
    /// Why the placement has no reasons: an artifact does not hold them.
    pub placement_note: Option<String>,
    /// Bytes of weights in the model, and as they are stored.
    pub weights_bytes: (u64, u64),
}

impl Report {
    /// The run for one token at the shortest context, or the first there is.
    pub fn summary_run(&self) -> Option<&Run> {
        self.runs.iter().min_by_key(|run| run.tokens)
    }

    /// What an op is: as the placement calls it, else the command that does most of it.
    pub fn op_kind(&self, op: &Row) -> String {
        let placed = self.placement.iter().find(|row| {
            let names = row.location.names();
            names.len() == op.nodes.len() && names.iter().zip(&op.nodes).all(|(a, b)| **a == **b)
        });
        placed.map_or_else(|| op.command.to_string(), |row| row.op.clone())
    }

    /// Everything but time lines, as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "tool": self.tool, "model": self.model, "machine": self.machine, "runs": self.runs,
            "placement": self.placement.iter().map(placement_json).collect::<Vec<_>>(),
            "placement_note": self.placement_note,
            "weights_bytes": self.weights_bytes.0, "stored_weights_bytes": self.weights_bytes.1,
        })
    }
}

/// One row of the placement.
fn placement_json(row: &PlacementRow) -> serde_json::Value {
    serde_json::json!({
        "node": tilewright_targets::emit::location_text(&row.location), "op": row.op, "target": row.target,
        "commands": row.cost.commands, "macs": row.cost.macs, "dram_bytes": row.cost.dram_bytes,
        "reason": row.reason,
    })
}
