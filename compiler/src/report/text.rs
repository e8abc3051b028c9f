//! The report as tables for a terminal.
//!
//! It knows rows and columns, no terminal: the text is printed as it is.
//!
//! ```text
//! program   past_seq  tokens  cycles   us     DRAM MB  MAC util  bound   ratio
//! ```

use super::{Report, Row, Run};
use comfy_table::{CellAlignment, Table};
use std::fmt::Write;

/// How much is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Ops in the table of ops, by cycles.
    pub top: usize,
}

/// A table whose columns but the first `left` are numbers.
fn table(left: usize, header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        if index >= left {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn percent(part: f64, whole: f64) -> String {
    format!("{:.1} %", if whole > 0.0 { part * 100.0 / whole } else { 0.0 })
}

/// All tables.
pub fn text(report: &Report, shown: Shown) -> String {
    let machine = &report.machine;
    let mut out = format!(
        "{} on {} ({:.0} MHz, {} KiB of SRAM in {} banks, {} B/cycle of DRAM, {} MACs/cycle at most)\nall figures are modelled\n\n",
        report.model,
        machine.name,
        machine.clock_hz / 1e6,
        machine.sram_bytes / 1024,
        machine.sram_banks,
        machine.dram_bytes_per_cycle,
        machine.macs_per_cycle
    );
    let _ = writeln!(out, "{}\n", runs(report));
    if let Some(run) = report.summary_run() {
        let _ = writeln!(out, "{}", summary(report, run));
        let _ = writeln!(out, "{}\n", ops(run, shown.top));
        let _ = writeln!(out, "{}", layers(run));
    }
    out
}

/// One line per program and context length.
fn runs(report: &Report) -> Table {
    let mut table = table(
        1,
        &[
            "run",
            "tokens",
            "cycles",
            "us",
            "tokens/s",
            "DRAM bytes",
            "uJ/token",
            "bound",
            "ratio",
            "bound by",
        ],
    );
    for run in &report.runs {
        let tokens = u64::from(run.tokens.max(1)) as f64;
        let bounds = &run.bounds;
        table.add_row([
            run.title(),
            run.tokens.to_string(),
            grouped(run.cycles),
            format!("{:.1}", run.seconds * 1e6),
            format!("{:.1}", run.per_second() * tokens),
            grouped(run.dram_bytes),
            format!("{:.1}", run.joules * 1e6 / tokens),
            grouped(bounds.cycles),
            format!("{:.2}", bounds.ratio),
            if bounds.dram_cycles >= bounds.mac_cycles { "DRAM" } else { "MACs" }.into(),
        ]);
    }
    table
}

/// Where the time and the energy of one run go.
fn summary(report: &Report, run: &Run) -> String {
    let cycles = run.cycles as f64;
    let mut out = format!(
        "{}: {} cycles, {} commands run\n\n",
        run.title(),
        grouped(run.cycles),
        grouped(run.executions)
    );
    let mut engines = table(1, &["engine", "busy cycles", "utilisation", "energy nJ", "share"]);
    let all_pj = run.joules * 1e12;
    for one in &run.engines {
        let share = percent(one.energy_pj, all_pj);
        let busy = percent(one.busy_cycles as f64, cycles);
        engines.add_row([
            one.engine.to_string(),
            grouped(one.busy_cycles),
            busy,
            format!("{:.1}", one.energy_pj / 1e3),
            share,
        ]);
    }
    let rates = [
        ("dram", run.dram_bytes, report.machine.dram_bytes_per_cycle, run.dram_pj),
        ("sram", run.sram_bytes, report.machine.sram_bytes_per_cycle, run.sram_pj),
    ];
    for (name, bytes, per_cycle, pj) in rates {
        let at_rate = bytes.div_ceil(per_cycle.max(1));
        let (use_, share) = (percent(at_rate as f64, cycles), percent(pj, all_pj));
        engines.add_row([name.into(), grouped(at_rate), use_, format!("{:.1}", pj / 1e3), share]);
    }
    let _ = writeln!(out, "{engines}\n");
    let mut stalls = table(1, &["the sequencer", "cycles", "share"]);
    stalls.add_row(["issues".into(), grouped(run.issue_cycles), percent(run.issue_cycles as f64, cycles)]);
    for one in &run.stalls {
        let name = format!("waits: {}", one.cause);
        stalls.add_row([name, grouped(one.cycles), percent(one.cycles as f64, cycles)]);
    }
    let _ = writeln!(out, "{stalls}\n");
    let bounds = &run.bounds;
    let mut bytes = table(1, &["bytes", "", "of the bound"]);
    let over = |moved: u64, bound: u64| format!("{:.3}", moved as f64 / bound.max(1) as f64);
    bytes.add_row(["DRAM".into(), grouped(run.dram_bytes), over(run.dram_bytes, bounds.compulsory_bytes)]);
    bytes.add_row(["compulsory".into(), grouped(bounds.compulsory_bytes), "1.000".into()]);
    bytes.add_row(["2 m n k / sqrt(S)".into(), grouped(bounds.word_bytes), String::new()]);
    bytes.add_row(["SRAM".into(), grouped(run.sram_bytes), String::new()]);
    bytes.add_row(["bank conflicts, cycles".into(), grouped(run.bank_conflict_cycles), String::new()]);
    let _ = writeln!(out, "{bytes}\n");
    out
}

fn row_cells(row: &Row, run: &Run) -> [String; 9] {
    let at_peak = row.cycles as f64 * row.peak_macs_per_cycle as f64;
    [
        row.name.clone(),
        row.engine.to_string(),
        grouped(row.cycles),
        percent(row.cycles as f64, run.cycles as f64),
        grouped(row.dram_bytes),
        grouped(row.word_bound_bytes),
        grouped(row.macs),
        percent(row.macs as f64, at_peak),
        format!("{:.1}", row.energy_pj / 1e3),
    ]
}

const ROW_COLUMNS: [&str; 9] =
    ["", "engine", "cycles", "share", "DRAM bytes", "2mnk/sqrt(S)", "MACs", "MAC util", "energy nJ"];

/// The ops that take most of the time.
fn ops(run: &Run, top: usize) -> Table {
    let mut header = ROW_COLUMNS;
    header[0] = "op";
    let mut table = table(2, &header);
    let mut sorted: Vec<&Row> = run.ops.iter().collect();
    sorted.sort_by_key(|op| std::cmp::Reverse(op.cycles));
    for op in sorted.into_iter().take(top) {
        table.add_row(row_cells(op, run));
    }
    table
}

/// All layers.
fn layers(run: &Run) -> Table {
    let mut header = ROW_COLUMNS;
    header[0] = "layer";
    let mut table = table(2, &header);
    for layer in &run.layers {
        table.add_row(row_cells(layer, run));
    }
    table
}
