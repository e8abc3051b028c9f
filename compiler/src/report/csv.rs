//! The report in the columns of Arm's Vela, so that scripts that read Vela's files read these.
//!
//! Names and units of the columns are those of `stats_writer.py` (summary) and of the per-layer file of ethos-u-vela 5.x: memory in KiB,
//! bandwidth in GB/s, the clock in Hz, times in seconds. What this machine does not have (flash) is 0.
//!
//! ```text
//! story_summary_npu-gen3.csv   experiment,network,accelerator_configuration,...,cycles_total      one line per run
//! story_per-layer.csv          Original Operator,NNG Operator,Target,...,Name                      one line per op
//! ```

use super::{Report, Run};
use std::fmt::Write;

/// Memories that Vela tells apart, in its order.
const AREAS: [&str; 4] = ["sram", "dram", "on_chip_flash", "off_chip_flash"];
/// Columns of the per-layer file.
const LAYER_COLUMNS: [&str; 16] = [
    "Original Operator",
    "NNG Operator",
    "Target",
    "Staging Usage",
    "Peak% (Staging)",
    "Op Cycles",
    "Network% (cycles)",
    "NPU",
    "SRAM AC",
    "DRAM AC",
    "OnFlash AC",
    "OffFlash AC",
    "MAC Count",
    "Network% (MAC)",
    "Util% (MAC)",
    "Name",
];

/// A cell; quoted where it must be.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

fn line(cells: &[String], out: &mut String) {
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    let _ = writeln!(out, "{}", cells.join(","));
}

/// The summary file: one line per run, the run for one token first.
pub fn summary(report: &Report) -> String {
    let mut out = String::new();
    for (index, run) in report.runs.iter().enumerate() {
        let columns = summary_columns(report, run);
        let (names, values): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
        if index == 0 {
            line(&names, &mut out);
        }
        line(&values, &mut out);
    }
    out
}

/// Name and value of each column.
fn summary_columns(report: &Report, run: &Run) -> Vec<(String, String)> {
    let machine = &report.machine;
    let mut columns: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| columns.push((name.to_string(), value));
    add("experiment", "default".into());
    add("network", report.model.clone());
    add("accelerator_configuration", machine.name.clone());
    add("system_config", run.title());
    add("memory_mode", "Dedicated_Sram".into());
    add("core_clock", machine.clock_hz.to_string());
    add("arena_cache_size", kibibytes(machine.sram_bytes));
    let gigabytes = |per_cycle: u64| (per_cycle as f64 * machine.clock_hz / 1e9).to_string();
    for (area, per_cycle) in
        AREAS.iter().zip([machine.sram_bytes_per_cycle, machine.dram_bytes_per_cycle, 0, 0])
    {
        add(&format!("{area}_bandwidth"), gigabytes(per_cycle));
    }
    add("weights_storage_area", "DRAM".into());
    add("feature_map_storage_area", "DRAM".into());
    add("inferences_per_second", run.per_second().to_string());
    add("batch_size", "1".into());
    add("inference_time", run.seconds.to_string());
    let nodes: usize = run.ops.iter().map(|op| op.nodes.len()).sum();
    add("passes_before_fusing", nodes.to_string());
    add("passes_after_fusing", run.ops.len().to_string());
    let size = |spaces: &[&str]| -> u64 {
        run.spaces.iter().filter(|one| spaces.contains(&one.space)).map(|one| one.size_bytes).sum()
    };
    let used = [size(&["sram"]), size(&["const", "io", "state", "dram"]), 0, 0];
    for (area, bytes) in AREAS.iter().zip(used) {
        add(&format!("{area}_memory_used"), kibibytes(bytes));
    }
    add("total_original_weights", report.weights_bytes.0.to_string());
    add("total_npu_encoded_weights", report.weights_bytes.1.to_string());
    for (area, [map_read, map_write, weights]) in AREAS.iter().zip(traffic(run)) {
        add(&format!("{area}_feature_map_read_bytes"), map_read.to_string());
        add(&format!("{area}_feature_map_write_bytes"), map_write.to_string());
        add(&format!("{area}_weight_read_bytes"), weights.to_string());
        add(&format!("{area}_weight_write_bytes"), "0".into());
        add(&format!("{area}_total_bytes"), (map_read + map_write + weights).to_string());
    }
    add("nn_macs", run.macs.to_string());
    add("nn_tops", (run.macs as f64 * 2.0 * run.per_second() / 1e12).to_string());
    let npu = run.busy("matrix") + run.busy("vector");
    add("cycles_npu", npu.to_string());
    add("cycles_sram_access", run.sram_bytes.div_ceil(machine.sram_bytes_per_cycle.max(1)).to_string());
    add("cycles_dram_access", run.dram_bytes.div_ceil(machine.dram_bytes_per_cycle.max(1)).to_string());
    add("cycles_on_chip_flash_access", "0".into());
    add("cycles_off_chip_flash_access", "0".into());
    add("cycles_total", run.cycles.to_string());
    columns
}

/// Per memory: other bytes read and written, weights read. On chip nobody knows what a byte is: all count as activations there.
fn traffic(run: &Run) -> [[u64; 3]; 4] {
    let mut areas = [[0; 3]; 4];
    for one in &run.spaces {
        match one.space {
            "sram" | "acc" => {
                areas[0][0] += one.read_bytes;
                areas[0][1] += one.write_bytes;
            }
            "const" => areas[1][2] += one.read_bytes,
            _ => {
                areas[1][0] += one.read_bytes;
                areas[1][1] += one.write_bytes;
            }
        }
    }
    areas
}

fn kibibytes(bytes: u64) -> String {
    (bytes as f64 / 1024.0).to_string()
}

/// The per-layer file of one run: one line per op.
pub fn per_layer(report: &Report, run: &Run) -> String {
    let mut out = String::new();
    line(&LAYER_COLUMNS.map(String::from), &mut out);
    let percent = |part: u64, whole: u64| format!("{:.2}", part as f64 * 100.0 / whole.max(1) as f64);
    let machine = &report.machine;
    let peak = run.ops.iter().map(|op| op.sram_reach_bytes).max().unwrap_or(0);
    for op in &run.ops {
        let at_peak = op.cycles.saturating_mul(op.peak_macs_per_cycle);
        line(
            &[
                report.op_kind(op),
                op.command.to_string(),
                if op.engine == "host" { "CPU" } else { "NPU" }.to_string(),
                op.sram_reach_bytes.to_string(),
                percent(op.sram_reach_bytes, peak),
                op.cycles.to_string(),
                percent(op.cycles, run.cycles),
                op.busy_cycles.to_string(),
                op.sram_bytes.div_ceil(machine.sram_bytes_per_cycle.max(1)).to_string(),
                op.dram_bytes.div_ceil(machine.dram_bytes_per_cycle.max(1)).to_string(),
                "0".into(),
                "0".into(),
                op.macs.to_string(),
                percent(op.macs, run.macs),
                percent(op.macs, at_peak),
                op.nodes.last().cloned().unwrap_or_else(|| op.name.clone()),
            ],
            &mut out,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must() {
        assert_eq!([cell("a/b"), cell("a,b"), cell("say \"x\"")], ["a/b", "\"a,b\"", "\"say \"\"x\"\"\""]);
    }
}
