//! What became of one node of the model: the kernels, tiles and commands that carry its name, and the rules that made them.
//!
//! ```text
//! node -> kernel (rules, target or host with the reason) -> per program: commands, tiles, cycles, bytes
//! ```

use super::{Report, Row, Run};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use tilewright_ir::location::Location;
use tilewright_passes::machine::Machine;
use tilewright_runtime::commands::{Command, Kind};
use tilewright_runtime::stream::Program;
use tilewright_runtime::timing::{Request, estimate};
use tilewright_targets::placement::PlacementRow;

/// Commands of one kind and shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tile {
    /// Who runs it.
    pub engine: &'static str,
    /// The command.
    pub command: &'static str,
    /// Its operands at their largest: `destination f32 1x64 sram, a ..`.
    pub shape: String,
    /// Commands in the program.
    pub commands: u64,
    /// Commands executed.
    pub executions: u64,
    /// Cycles that the engine was busy.
    pub busy_cycles: u64,
    /// Bytes to and from off-chip memory.
    pub dram_bytes: u64,
}

/// The kernel with the node, in one program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Carrier {
    /// The program, and at which lengths it was run.
    pub run: String,
    /// Index of the first command and of the last.
    pub commands: (usize, usize),
    /// What it took.
    pub row: Row,
    /// Its share of the run's cycles.
    pub share: f64,
    /// Its tiles.
    pub tiles: Vec<Tile>,
}

/// Where the node was placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// The op or kernel it became.
    pub op: String,
    /// The target, or the host.
    pub target: &'static str,
    /// Why not the target, or what the machine refused of it.
    pub reason: String,
    /// Rules of the optimiser that made it.
    pub rules: Vec<String>,
}

/// All that is known of a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub node: String,
    /// Where it was placed; empty for an artifact that does not say.
    pub placed: Vec<Placed>,
    /// In which programs it is, and what it takes there.
    pub carriers: Vec<Carrier>,
}

/// Finds a node in programs and their report; `None` when nothing carries its name.
pub fn find(node: &str, report: &Report, programs: &[&Program], machine: &Machine) -> Option<NodeReport> {
    let holds = |row: &&PlacementRow| row.location.names().iter().any(|name| **name == *node);
    let placed: Vec<Placed> = report
        .placement
        .iter()
        .filter(holds)
        .map(|row| Placed {
            op: row.op.clone(),
            target: row.target,
            reason: row.reason.clone(),
            rules: rules(&row.location),
        })
        .collect();
    let mut carriers = Vec::new();
    for program in programs {
        // The first run of each program: the shortest context.
        let Some(run) = report.runs.iter().find(|run| run.program == program.name) else { continue };
        let rows = run.ops.iter().filter(|row| row.nodes.iter().any(|name| name == node));
        carriers.extend(rows.filter_map(|row| carrier(row, run, program, machine)));
    }
    (!placed.is_empty() || !carriers.is_empty()).then(|| NodeReport {
        node: node.to_string(),
        placed,
        carriers,
    })
}

/// The rules that a location's tags name, in order.
pub(crate) fn rules(location: &Location) -> Vec<String> {
    let Location::Fused(tag, parts) = location else { return Vec::new() };
    let own = tag.iter().flat_map(|tag| tag.split(',')).map(|rule| rule.trim().to_string());
    let mut all: Vec<String> = Vec::new();
    for rule in own.chain(parts.iter().flat_map(rules)) {
        if !rule.is_empty() && !all.contains(&rule) {
            all.push(rule);
        }
    }
    all
}

fn carrier(row: &Row, run: &Run, program: &Program, machine: &Machine) -> Option<Carrier> {
    let registers: Vec<(&str, i64)> =
        run.registers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let request = Request { registers: &registers, ..Request::default() };
    let timing = estimate(program, &tilewright_targets::figures::of(machine), &request).ok()?;
    let location = row.nodes.join(super::names::SEPARATOR);
    let (mut first, mut last) = (usize::MAX, 0);
    let mut tiles: BTreeMap<(&str, &str, String), Tile> = BTreeMap::new();
    for (at, command) in program.commands.iter().enumerate() {
        if program.location(at) != Some(location.as_str()) {
            continue;
        }
        (first, last) = (first.min(at), last.max(at));
        if command.kind() == Kind::Control || matches!(command, Command::Wait { .. }) {
            continue;
        }
        let engine = command.engine().map_or("host", |engine| engine.name());
        let (name, shape, cost) = (command.name(), shape(program, command), &timing.commands[at]);
        let tile = tiles.entry((engine, name, shape.clone())).or_insert(Tile {
            engine,
            command: name,
            shape,
            commands: 0,
            executions: 0,
            busy_cycles: 0,
            dram_bytes: 0,
        });
        tile.commands += 1;
        tile.executions += cost.executions;
        tile.busy_cycles += cost.busy_cycles;
        tile.dram_bytes += cost.dram_bytes;
    }
    let mut tiles: Vec<Tile> = tiles.into_values().collect();
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile.busy_cycles));
    (first <= last).then(|| Carrier {
        run: run.title(),
        commands: (first, last),
        row: row.clone(),
        share: row.cycles as f64 / run.cycles.max(1) as f64,
        tiles,
    })
}

/// Operands with their types, largest extents and spaces.
fn shape(program: &Program, command: &Command) -> String {
    let mut text = String::new();
    command.for_each_view(|name, _, id| {
        let Some(view) = program.views.get(id.0 as usize) else { return };
        let dims: Vec<String> = view.dims.iter().map(|dim| dim.cap.to_string()).collect();
        let between = if text.is_empty() { "" } else { ", " };
        let _ =
            write!(text, "{between}{name} {} {}<{}>", view.space.name(), view.element.name(), dims.join("x"));
    });
    text
}
