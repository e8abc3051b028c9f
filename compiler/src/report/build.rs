//! From programs and a machine to a [`Report`].
//!
//! Which commands belong to which op is said by the programs' symbols; everything else comes from the timing model.

use super::names::{layer, nodes, title};
use super::sram_map::rectangles;
use super::{Bounds, Cycles, Detail, EngineUse, MachineFacts, Pause, Report, Row, Run, SpaceUse, Span};
use std::collections::BTreeMap;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;
use tilewright_passes::machine::Machine;
use tilewright_runtime::commands::Engine;
use tilewright_runtime::commands::{Command, Kind};
use tilewright_runtime::stream::Program;
use tilewright_runtime::timing::{
    Bound, Cost, MachineFigures, Request, Stall, Timing, bound, estimate, word_bound_bytes,
};
use tilewright_runtime::view::Space;
use tilewright_targets::placement::PlacementRow;

/// Pieces that a time line keeps: more are put together with their neighbours.
const SPANS_MAX: usize = 30_000;
/// Commands that a run may execute: a minute of modelling.
const STEPS_MAX: u64 = 100_000_000;
/// Context lengths of a token unless the user says others.
const CONTEXTS: [i64; 3] = [128, 1024, 8192];

/// At which context lengths programs are run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contexts {
    /// Tokens in the cache; none for the default: 128, 1024 and 8192 for a token, 0 for a chunk of a prompt.
    pub tokens: Vec<i64>,
    /// Only the program of this name.
    pub program: Option<String>,
    /// Whether to keep time lines, of each program's first run.
    pub with_details: bool,
}

/// What a report is about.
pub struct Subject<'a> {
    /// Its name.
    pub model: String,
    /// The programs.
    pub programs: Vec<&'a Program>,
    /// The machine they are for, and what it is.
    pub machine: &'a Machine,
    /// What the machine is, in words.
    pub about: &'a str,
    /// What runs where, as far as it is known.
    pub placement: Vec<PlacementRow>,
    /// Why that is not known.
    pub placement_note: Option<String>,
    /// Bytes of weights in the model, and as they are stored.
    pub weights_bytes: (u64, u64),
}

/// Makes the report.
///
/// # Errors
/// When a program is malformed, or takes longer to model than anyone waits.
pub fn build(subject: Subject<'_>, contexts: &Contexts) -> Result<Report, Diagnostic> {
    let figures = tilewright_targets::figures::of(subject.machine);
    let (mut runs, mut details) = (Vec::new(), Vec::new());
    let shortest = subject.programs.iter().map(|program| program.chunk_length).min().unwrap_or(0);
    for program in &subject.programs {
        if contexts.program.as_ref().is_some_and(|name| *name != program.name) {
            continue;
        }
        for (index, registers) in registers(program, shortest, contexts).into_iter().enumerate() {
            let of_program = OfProgram::new(program, subject.machine, &figures);
            let with_events = contexts.with_details && index == 0;
            let (run, detail) = of_program.run(registers, with_events)?;
            details.extend(detail.map(|detail| Detail { run: runs.len(), ..detail }));
            runs.push(run);
        }
    }
    let peak = |run: &Run| run.ops.iter().map(|op| op.peak_macs_per_cycle).max();
    let machine = subject.machine;
    Ok(Report {
        tool: concat!("tilewright ", env!("CARGO_PKG_VERSION")).into(),
        model: subject.model,
        machine: MachineFacts {
            name: machine.name.clone(),
            about: subject.about.to_string(),
            clock_hz: figures.clock_hz,
            sram_bytes: machine.sram_bytes,
            accumulator_bytes: machine.accumulator_bytes,
            sram_bytes_per_cycle: machine.sram_bytes_per_cycle,
            sram_banks: machine.sram_banks,
            dram_bytes_per_cycle: machine.dram_bytes_per_cycle,
            macs_per_cycle: runs.iter().filter_map(peak).max().unwrap_or(0),
        },
        runs,
        details,
        placement: subject.placement,
        placement_note: subject.placement_note,
        weights_bytes: subject.weights_bytes,
    })
}

/// The values of the bound registers to run a program with.
fn registers(program: &Program, shortest: u32, contexts: &Contexts) -> Vec<Vec<(String, i64)>> {
    let bound = || program.registers.iter().filter(|register| register.is_bound);
    let at = |tokens: i64| -> Vec<(String, i64)> {
        bound().map(|one| (one.name.clone(), tokens.clamp(one.minimum, one.maximum))).collect()
    };
    if bound().count() == 0 {
        return vec![Vec::new()];
    }
    let wanted: Vec<i64> = match (&contexts.tokens[..], program.chunk_length) {
        // What is not about tokens runs at its longest.
        ([], 0) => vec![i64::MAX],
        ([], length) if length > shortest => vec![0],
        ([], _) => CONTEXTS.to_vec(),
        (given, _) => given.to_vec(),
    };
    let mut all: Vec<Vec<(String, i64)>> = Vec::new();
    for values in wanted.into_iter().map(at) {
        if !all.contains(&values) {
            all.push(values);
        }
    }
    all
}

/// What is the same for all runs of a program.
struct OfProgram<'a> {
    program: &'a Program,
    machine: &'a Machine,
    figures: &'a MachineFigures,
    /// The op of each command.
    ops: Vec<usize>,
    /// The location of each op.
    locations: Vec<&'a str>,
}

impl<'a> OfProgram<'a> {
    fn new(program: &'a Program, machine: &'a Machine, figures: &'a MachineFigures) -> OfProgram<'a> {
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        let mut locations = Vec::new();
        let mut last = "";
        let mut ops = Vec::new();
        for at in 0..program.commands.len() {
            // Loops that close and the end of the program belong to what came before.
            last = program.location(at).unwrap_or(last);
            let op = *known.entry(last).or_insert_with(|| {
                locations.push(last);
                locations.len() - 1
            });
            ops.push(op);
        }
        OfProgram { program, machine, figures, ops, locations }
    }

    fn run(
        &self,
        registers: Vec<(String, i64)>,
        with_events: bool,
    ) -> Result<(Run, Option<Detail>), Diagnostic> {
        let given: Vec<(&str, i64)> = registers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let request = Request { registers: &given, with_events, steps_max: STEPS_MAX };
        let fault = |error: tilewright_runtime::timing::TimingError| {
            Diagnostic::error(
                Location::Unknown,
                format!("cannot model program '{}': {error}", self.program.name),
            )
            .with_help("give a shorter --context, or compile the model again")
        };
        let timing = estimate(self.program, self.figures, &request).map_err(fault)?;
        let bound = bound(self.program, self.figures, &request).map_err(fault)?;
        let detail = with_events.then(|| self.detail(&timing));
        let reach = self.sram_reach(&timing);
        let ops = self.rows(&timing, &reach);
        let run = self.summary(registers, &timing, bound, ops);
        Ok((run, detail))
    }

    fn summary(&self, registers: Vec<(String, i64)>, timing: &Timing, bound: Bound, ops: Vec<Row>) -> Run {
        let (total, figures) = (&timing.total, self.figures);
        let cycles = |cause: Stall| Cycles { cause: cause.name(), cycles: total.stalls[cause as usize] };
        let engine = |engine: &Engine| EngineUse {
            engine: engine.name(),
            busy_cycles: timing.engine_busy_cycles[*engine as usize],
            utilisation: timing.engine_busy_cycles[*engine as usize] as f64 / timing.cycles.max(1) as f64,
            energy_pj: timing.engine_pj[*engine as usize],
        };
        let space = |space: &Space| SpaceUse {
            space: space.name(),
            size_bytes: self.program.space_bytes[*space as usize],
            read_bytes: timing.space_bytes[*space as usize][0],
            write_bytes: timing.space_bytes[*space as usize][1],
        };
        let bounds = Bounds {
            compulsory_bytes: bound.compulsory_bytes,
            dram_cycles: bound.dram_cycles,
            mac_cycles: bound.mac_cycles,
            cycles: bound.cycles(),
            ratio: timing.cycles as f64 / bound.cycles().max(1) as f64,
            word_bytes: ops.iter().map(|op| op.word_bound_bytes).sum(),
        };
        Run {
            program: self.program.name.clone(),
            tokens: self.program.chunk_length,
            registers,
            commands: self.program.commands.len() as u64,
            executions: total.executions,
            cycles: timing.cycles,
            seconds: timing.seconds(figures),
            issue_cycles: timing.issue_cycles,
            stalls: Stall::ALL.into_iter().map(cycles).collect(),
            bank_conflict_cycles: total.bank_cycles,
            engines: Engine::ALL.iter().map(engine).collect(),
            dram_bytes: total.dram_bytes,
            sram_bytes: total.sram_bytes,
            spaces: Space::ALL.iter().map(space).collect(),
            macs: total.macs,
            dram_pj: total.dram_bytes as f64 * figures.dram_pj_per_byte,
            sram_pj: total.sram_bytes as f64 * figures.sram_pj_per_byte,
            joules: timing.joules(figures),
            bounds,
            layers: layers(&ops),
            ops,
        }
    }

    /// Lowest and highest byte of SRAM that the commands of each op name, at the largest extents.
    fn sram_reach(&self, timing: &Timing) -> Vec<u64> {
        let mut reach = vec![(u64::MAX, 0u64); self.locations.len()];
        for (at, command) in self.program.commands.iter().enumerate() {
            if timing.commands[at].executions == 0 {
                continue;
            }
            command.for_each_view(|_, _, id| {
                let Some(view) = self.program.views.get(id.0 as usize) else { return };
                if view.space != Space::Sram {
                    return;
                }
                let low = view.base_bytes.constant_part().max(0) as u64;
                let elements: u64 = view
                    .dims
                    .iter()
                    .zip(&view.strides)
                    .map(|(dim, stride)| u64::from(dim.cap.saturating_sub(1)) * stride.unsigned_abs())
                    .sum();
                let high = low + ((elements + 1) * u64::from(view.element.bits())).div_ceil(8);
                let one = &mut reach[self.ops[at]];
                *one = (one.0.min(low), one.1.max(high));
            });
        }
        reach.into_iter().map(|(low, high)| high.saturating_sub(low)).collect()
    }

    fn rows(&self, timing: &Timing, reach: &[u64]) -> Vec<Row> {
        let mut sums = vec![Cost::default(); self.locations.len()];
        let mut rows: Vec<Row> = self.locations.iter().map(|location| row(location)).collect();
        let mut busiest: Vec<BTreeMap<(&str, &str), u64>> = vec![BTreeMap::new(); rows.len()];
        // Multiply-accumulates of matrix products, and bits of their narrowest operand.
        let mut products = vec![(0u64, 64u32); rows.len()];
        for (at, command) in self.program.commands.iter().enumerate() {
            let (op, cost) = (self.ops[at], &timing.commands[at]);
            sums[op].add(cost);
            rows[op].commands += 1;
            let engine = command.engine().map_or("sequencer", Engine::name);
            if command.kind() != Kind::Control && cost.executions > 0 {
                *busiest[op].entry((engine, command.name())).or_default() += cost.busy_cycles + 1;
            }
            if let Some((bits, peak)) = self.product(command).filter(|_| cost.macs > 0) {
                rows[op].peak_macs_per_cycle = rows[op].peak_macs_per_cycle.max(peak);
                if let Some(bits) = bits {
                    products[op] = (products[op].0 + cost.macs, products[op].1.min(bits));
                }
            }
        }
        let on_chip = self.machine.sram_bytes + self.machine.accumulator_bytes;
        for (op, (row, sum)) in rows.iter_mut().zip(&sums).enumerate() {
            row.word_bound_bytes = word_bound_bytes(products[op].0, products[op].1, on_chip);
            let most = busiest[op].iter().max_by_key(|(_, cycles)| **cycles).map(|(names, _)| *names);
            (row.engine, row.command) = most.map_or(("sequencer", ""), |(engine, command)| {
                let of = |name: &str| Engine::ALL.iter().map(|one| one.name()).find(|known| *known == name);
                (of(engine).unwrap_or("sequencer"), command_name(self.program, command))
            });
            row.sram_reach_bytes = reach[op];
            charge(row, sum);
        }
        rows
    }

    /// Bits of the narrower operand of a matrix product, and multiply-accumulates per cycle at the peak of any product.
    fn product(&self, command: &Command) -> Option<(Option<u32>, u64)> {
        let mut operands = [None; 2];
        command.for_each_view(|name, _, id| {
            let element = self.program.views.get(id.0 as usize).map(|view| view.element);
            match name {
                "a" | "x" | "q" => operands[0] = operands[0].or(element),
                "b" | "w" | "k" => operands[1] = operands[1].or(element),
                _ => {}
            }
        });
        let (Some(a), Some(b)) = (operands[0], operands[1]) else { return None };
        let rate = match command.engine() {
            Some(Engine::Matrix) => self.figures.matrix_rate(a, b)?.macs_per_cycle(),
            _ => self.figures.host_lanes_per_cycle as u64,
        };
        // The bound on words is of matrix products; a convolution reads each input for several outputs.
        let is_product = matches!(command, Command::Matmul { .. } | Command::MatmulInteger { .. });
        Some((is_product.then(|| a.bits().min(b.bits())), rate))
    }

    fn detail(&self, timing: &Timing) -> Detail {
        let op_of = |command: u32| self.ops[command as usize];
        let spans: Vec<Span> = timing
            .events
            .iter()
            .map(|event| Span {
                engine: event.engine,
                op: op_of(event.command),
                command: event.command,
                from: event.start_cycle,
                start: event.end_cycle - event.busy_cycles,
                end: event.end_cycle,
                dram_bytes: event.dram_bytes,
            })
            .collect();
        let pauses = timing.stall_events.iter().map(|one| Pause {
            cause: one.cause as usize,
            start: one.start_cycle,
            end: one.end_cycle,
        });
        let mut rectangles = rectangles(&timing.events, &op_of);
        let rectangles_total = rectangles.len();
        // The smallest areas cannot be seen where there are so many.
        if rectangles.len() > SPANS_MAX {
            let area = |one: &super::Rectangle| one.bytes.saturating_mul(one.end - one.start);
            rectangles.sort_by_key(|one| std::cmp::Reverse(area(one)));
            rectangles.truncate(SPANS_MAX);
            rectangles.sort_unstable_by_key(|one| (one.start, one.offset));
        }
        Detail {
            run: 0,
            spans_total: spans.len(),
            spans: joined(spans),
            pauses: joined_pauses(pauses.collect()),
            rectangles,
            rectangles_total,
            commands: self.program.commands.iter().map(Command::name).collect(),
        }
    }
}

/// The static name of a command that the program has.
fn command_name(program: &Program, name: &str) -> &'static str {
    program.commands.iter().map(Command::name).find(|known| *known == name).unwrap_or("")
}

fn row(location: &str) -> Row {
    let nodes = nodes(location);
    let layer = nodes.last().map_or_else(|| "(top)".into(), |node| layer(node));
    Row { name: title(&nodes), nodes, layer, ..Row::default() }
}

fn charge(row: &mut Row, cost: &Cost) {
    row.executions += cost.executions;
    row.cycles += cost.elapsed_cycles;
    row.busy_cycles += cost.busy_cycles;
    row.stall_cycles += cost.stalls.iter().sum::<u64>();
    row.dram_bytes += cost.dram_bytes;
    row.sram_bytes += cost.sram_bytes;
    row.macs += cost.macs;
    row.energy_pj += cost.energy_pj;
}

/// Ops of one layer put together, in the order in which layers begin.
fn layers(ops: &[Row]) -> Vec<Row> {
    let mut layers: Vec<Row> = Vec::new();
    for op in ops {
        let at = layers.iter().position(|layer| layer.name == op.layer).unwrap_or_else(|| {
            layers.push(Row { name: op.layer.clone(), layer: op.layer.clone(), ..Row::default() });
            layers.len() - 1
        });
        let layer = &mut layers[at];
        layer.commands += op.commands;
        layer.executions += op.executions;
        layer.cycles += op.cycles;
        layer.busy_cycles += op.busy_cycles;
        layer.stall_cycles += op.stall_cycles;
        layer.dram_bytes += op.dram_bytes;
        layer.sram_bytes += op.sram_bytes;
        layer.sram_reach_bytes = layer.sram_reach_bytes.max(op.sram_reach_bytes);
        layer.macs += op.macs;
        layer.peak_macs_per_cycle = layer.peak_macs_per_cycle.max(op.peak_macs_per_cycle);
        layer.word_bound_bytes += op.word_bound_bytes;
        layer.energy_pj += op.energy_pj;
    }
    layers
}

/// Neighbours of one engine and op put together, over ever longer gaps, until few enough are left.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.start, span.engine as usize));
    let mut gap = 0;
    while spans.len() > SPANS_MAX {
        gap = if gap == 0 { 16 } else { gap * 4 };
        let mut kept: Vec<Span> = Vec::new();
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        for span in spans {
            let before = last.get(&(span.engine as usize)).copied();
            match before.filter(|&at| kept[at].op == span.op && span.start <= kept[at].end + gap) {
                Some(at) => {
                    kept[at].end = kept[at].end.max(span.end);
                    kept[at].dram_bytes += span.dram_bytes;
                }
                None => {
                    last.insert(span.engine as usize, kept.len());
                    kept.push(span);
                }
            }
        }
        spans = kept;
        if gap > 1 << 40 {
            break;
        }
    }
    spans
}

/// The same for pauses, which follow each other.
fn joined_pauses(mut pauses: Vec<Pause>) -> Vec<Pause> {
    let mut gap = 0;
    while pauses.len() > SPANS_MAX && gap < 1 << 40 {
        gap = if gap == 0 { 16 } else { gap * 4 };
        let mut kept: Vec<Pause> = Vec::new();
        for pause in pauses {
            match kept.last_mut().filter(|last| last.cause == pause.cause && pause.start <= last.end + gap) {
                Some(last) => last.end = pause.end,
                None => kept.push(pause),
            }
        }
        pauses = kept;
    }
    pauses
}
