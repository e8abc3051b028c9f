//! How much work one execution of a command is: cycles, bytes, multiply-accumulates, energy.

use super::bound::is_gather;
use super::layout::Runs;
use super::machine::is_transcendental;
use super::sram::beats;
use super::walk::Operand;
use super::{Cost, MachineFigures};
use crate::commands::{BinaryFunction, Command, Engine};
use crate::memory::Window;
use crate::view::Space;

/// The work of one command.
pub(super) struct Work {
    /// All but times, which depend on what else is under way.
    pub(super) cost: Cost,
    /// Cycles that its engine needs when nothing holds it back.
    pub(super) cycles: u64,
    /// Cycles that the banks of SRAM need for it.
    pub(super) beats: u64,
    /// Energy of the engine itself.
    pub(super) engine_pj: f64,
    /// Bytes read and written, per space.
    pub(super) space_bytes: [[u64; 2]; Space::COUNT],
}

impl Work {
    pub(super) fn of(
        command: &Command,
        engine: Engine,
        operands: &[Operand],
        figures: &MachineFigures,
    ) -> Work {
        let mut cost = Cost { executions: 1, ..Cost::default() };
        let mut space_bytes = [[0u64; 2]; Space::COUNT];
        let touched: Vec<(&Operand, u64)> = operands
            .iter()
            .map(|operand| (operand, touched_elements(command, operand.0, &operand.2, operands)))
            .collect();
        for ((_, access, window), elements) in &touched {
            let bytes = if window.space.is_on_chip() {
                (elements * u64::from(window.element.bits())).div_ceil(8)
            } else {
                burst_bytes(window, *elements, figures.dram_burst_bytes)
            };
            let ways = [u64::from(access.reads()), u64::from(access.writes())];
            let moved = bytes * (ways[0] + ways[1]);
            let sum = if window.space.is_on_chip() { &mut cost.sram_bytes } else { &mut cost.dram_bytes };
            *sum += moved;
            for (sum, times) in space_bytes[window.space as usize].iter_mut().zip(ways) {
                *sum += bytes * times;
            }
        }
        cost.macs = macs(command, operands);
        let (lanes, cycles_per_lane) = lanes(command, operands, figures);
        cost.lanes = lanes;
        let cycles = match engine {
            Engine::Dma0 | Engine::Dma1 => {
                let bytes = cost.dram_bytes.max(cost.sram_bytes / 2);
                figures.dma_latency_cycles + (bytes as f64 / figures.dma_bytes_per_cycle).ceil() as u64
            }
            Engine::Matrix => figures.matrix_latency_cycles + matrix_cycles(command, operands, figures),
            Engine::Vector => {
                figures.vector_latency_cycles
                    + (lanes * u64::from(cycles_per_lane)).div_ceil(vector_lanes(operands, figures))
            }
            Engine::Host => host_cycles(command, &cost, cycles_per_lane, figures),
        };
        let engine_pj = match engine {
            Engine::Host => (cost.macs + lanes) as f64 * figures.host_pj_per_lane,
            Engine::Matrix => cost.macs as f64 * pj_per_mac(operands, figures),
            _ => lanes as f64 * f64::from(cycles_per_lane) * figures.vector.pj_per_lane,
        };
        cost.energy_pj = cost.dram_bytes as f64 * figures.dram_pj_per_byte
            + cost.sram_bytes as f64 * figures.sram_pj_per_byte
            + engine_pj;
        let beats = beats(&touched, figures);
        Work { cost, cycles, beats, engine_pj, space_bytes }
    }
}

fn elements(window: &Window) -> u64 {
    window.dims().iter().fold(1, |product: u64, &dim| product.saturating_mul(dim as u64))
}

fn operand<'o>(operands: &'o [Operand], name: &str) -> Option<&'o Window> {
    operands.iter().find(|operand| operand.0 == name).map(|operand| &operand.2)
}

/// Whether a command reads or writes few rows of this operand, which ones only a run can tell.
pub(super) fn picks_rows(command: &Command, name: &str) -> bool {
    let is_scatter = matches!(command, Command::ScatterElements { .. } | Command::ScatterNd { .. });
    is_gather(command) && name == "source" || is_scatter && name == "destination"
}

/// What a command reads or writes of a window: gathers touch as much of the table as they produce, and a stride of 0 repeats.
fn touched_elements(command: &Command, name: &str, window: &Window, operands: &[Operand]) -> u64 {
    let all = if window.range().is_empty() { 0 } else { Runs::of(window).elements() };
    let other = if is_gather(command) { "destination" } else { "updates" };
    match picks_rows(command, name) {
        true => all.min(operand(operands, other).map_or(all, elements)),
        false => all,
    }
}

/// The bytes of that, without what bursts add.
pub(super) fn touched_bytes(command: &Command, name: &str, window: &Window, operands: &[Operand]) -> u64 {
    (touched_elements(command, name, window, operands) * u64::from(window.element.bits())).div_ceil(8)
}

/// Bytes that DRAM moves: every contiguous run is rounded up to bursts, whatever the order of dimensions.
fn burst_bytes(window: &Window, elements: u64, burst_bytes: u64) -> u64 {
    let run = Runs::of(window).run;
    let bits = u64::from(window.element.bits());
    let bytes = (run.min(elements) * bits).div_ceil(8).next_multiple_of(burst_bytes.max(1));
    elements.div_ceil(run).saturating_mul(bytes)
}

/// [rows, columns, depth] of a product and how many there are.
fn products(command: &Command, operands: &[Operand]) -> Option<([u64; 3], u64)> {
    let dim = |window: &Window, from_end: usize| {
        let dims = window.dims();
        dims.len().checked_sub(from_end).map_or(1, |axis| dims[axis] as u64)
    };
    match command {
        Command::Matmul { .. } | Command::MatmulInteger { .. } => {
            let (to, a) = (operand(operands, "destination")?, operand(operands, "a")?);
            // Two of four rows of a sparse operand take part.
            let of = if operand(operands, "indices").is_some() { 2 } else { 1 };
            let (m, n, k) = (dim(to, 2), dim(to, 1), dim(a, 1) / of);
            Some(([m, n, k], elements(to) / (m * n).max(1)))
        }
        Command::Convolution { groups, .. } => {
            // Output positions are rows, output channels columns, the window the depth.
            let (to, w) = (operand(operands, "destination")?, operand(operands, "w")?);
            let groups = u64::from(*groups).max(1);
            let channels = w.dims().first().map_or(1, |&channels| channels as u64);
            let depth = elements(w) / channels.max(1);
            Some(([elements(to) / channels.max(1), channels / groups, depth], groups))
        }
        Command::ConvTranspose { .. } => {
            let (x, w) = (operand(operands, "x")?, operand(operands, "w")?);
            let channels = w.dims().first().map_or(1, |&channels| channels as u64);
            Some(([elements(x) / channels.max(1), elements(w) / channels.max(1), channels], 1))
        }
        Command::Attention { .. } => {
            let (q, k, v) = (operand(operands, "q")?, operand(operands, "k")?, operand(operands, "v")?);
            let (rows, keys) = (dim(q, 2), dim(k, 2));
            // Scores and weighted sum: depth d and then columns e, both rows x keys.
            Some(([rows, keys, dim(q, 1) + dim(v, 1)], elements(q) / (rows * dim(q, 1)).max(1)))
        }
        _ => None,
    }
}

/// Multiply-accumulates of a command.
pub(super) fn macs(command: &Command, operands: &[Operand]) -> u64 {
    products(command, operands)
        .map_or(0, |([m, n, k], count)| m.saturating_mul(n).saturating_mul(k).saturating_mul(count))
}

/// The element types of a product.
pub(super) fn pair(operands: &[Operand]) -> Option<(crate::element::Element, crate::element::Element)> {
    let first = ["a", "x", "q"].into_iter().find_map(|name| operand(operands, name))?;
    let second = ["b", "w", "k"].into_iter().find_map(|name| operand(operands, name))?;
    Some((first.element, second.element))
}

fn pj_per_mac(operands: &[Operand], figures: &MachineFigures) -> f64 {
    pair(operands).and_then(|(a, b)| figures.matrix_rate(a, b)).map_or(0.0, |rate| rate.pj_per_mac)
}

fn matrix_cycles(command: &Command, operands: &[Operand], figures: &MachineFigures) -> u64 {
    let Some(([m, n, k], count)) = products(command, operands) else { return 0 };
    let Some(rate) = pair(operands).and_then(|(a, b)| figures.matrix_rate(a, b)) else { return 0 };
    let [rows, columns, depth] = rate.block.map(|extent| u64::from(extent).max(1));
    let blocks = m.div_ceil(rows).saturating_mul(n.div_ceil(columns)).saturating_mul(k.div_ceil(depth));
    blocks.saturating_mul(count)
}

/// 16-bit and narrower elements pass at twice the 32-bit rate, 64-bit ones at half of it.
fn vector_lanes(operands: &[Operand], figures: &MachineFigures) -> u64 {
    let widest = operands.iter().map(|operand| operand.2.element.bits()).max().unwrap_or(32);
    let lanes = u64::from(figures.vector.lanes).max(1);
    match widest {
        ..=16 => lanes * 2,
        17..=32 => lanes,
        _ => (lanes / 2).max(1),
    }
}

/// Elements a vector command works on, and cycles per element.
fn lanes(command: &Command, operands: &[Operand], figures: &MachineFigures) -> (u64, u32) {
    let largest = operands.iter().map(|operand| elements(&operand.2)).max().unwrap_or(0);
    let slow = figures.vector.transcendental_cycles;
    match command {
        Command::Unary { function, .. } => (largest, if is_transcendental(*function) { slow } else { 1 }),
        Command::Binary { function: BinaryFunction::Divide | BinaryFunction::Power, .. } => (largest, slow),
        // Maximum, exponential, sum, division: one slow and three fast passes.
        Command::Softmax { .. } => (largest, slow + 3),
        // Square, sum, scale, gain: four passes and a root per row.
        Command::Normalize { .. } => (largest, 4),
        Command::Rope { .. } | Command::Quantize { .. } | Command::Dequantize { .. } => (largest, 2),
        // Minimum, maximum, difference and code of each element; a division per group.
        Command::QuantizeGroups { .. } => (largest, 4),
        Command::AttentionFinish { .. } => (largest, slow),
        Command::Attention { .. } => {
            let rows = operand(operands, "running_sum").map_or(0, elements);
            let keys = operand(operands, "k")
                .map_or(0, |k| k.dims().iter().rev().nth(1).copied().unwrap_or(1) as u64);
            (rows * keys, slow + 2)
        }
        Command::Pool { kernel, .. } => {
            let window = kernel.iter().fold(1u64, |product, &extent| product * u64::from(extent.max(1)));
            (operand(operands, "destination").map_or(0, elements) * window, 1)
        }
        Command::Matmul { .. } | Command::MatmulInteger { .. } => (0, 1),
        Command::Convolution { .. } | Command::ConvTranspose { .. } | Command::Transfer { .. } => (0, 1),
        _ => (largest, 1),
    }
}

fn host_cycles(command: &Command, cost: &Cost, cycles_per_lane: u32, figures: &MachineFigures) -> u64 {
    if matches!(
        command,
        Command::BreakUnless { .. }
            | Command::IfBegin { .. }
            | Command::SetRegister { .. }
            | Command::StoreExpression { .. }
    ) {
        return 1; // the sequencer reads or writes one element
    }
    let work = cost.macs as f64 + cost.lanes as f64 * f64::from(cycles_per_lane);
    let bytes = (cost.dram_bytes + cost.sram_bytes) as f64;
    let cycles = (work / figures.host_lanes_per_cycle).max(bytes / figures.host_bytes_per_cycle);
    figures.host_latency_cycles + cycles.ceil() as u64
}
