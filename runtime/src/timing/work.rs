//! How much work one execution of a command is: cycles, bytes, multiply-accumulates, energy.

use super::machine::is_transcendental;
use super::{Cost, MachineFigures};
use crate::commands::{Access, BinaryFunction, Command, Engine};
use crate::memory::Window;

type Operand = (&'static str, Access, Window);

/// The work of one command; `busy_cycles` is what its engine needs when nothing holds it back.
pub(super) struct Work {
    pub(super) cost: Cost,
}

impl Work {
    pub(super) fn of(
        command: &Command,
        engine: Engine,
        operands: &[Operand],
        figures: &MachineFigures,
    ) -> Work {
        let mut cost = Cost { executions: 1, ..Cost::default() };
        for (name, access, window) in operands {
            let times = if *access == Access::Update { 2 } else { 1 };
            let elements = touched_elements(command, name, window, operands);
            let bytes = times * (elements * u64::from(window.element.bits())).div_ceil(8);
            if window.space.is_on_chip() {
                cost.sram_bytes += bytes;
            } else {
                cost.dram_bytes += times * burst_bytes(window, elements, figures.dram_burst_bytes);
            }
        }
        cost.macs = macs(command, operands);
        let (lanes, cycles_per_lane) = lanes(command, operands, figures);
        cost.lanes = lanes;
        cost.busy_cycles = match engine {
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
        cost.energy_pj = cost.dram_bytes as f64 * figures.dram_pj_per_byte
            + cost.sram_bytes as f64 * figures.sram_pj_per_byte
            + match engine {
                Engine::Host => (cost.macs + lanes) as f64 * figures.host_pj_per_lane,
                Engine::Matrix => cost.macs as f64 * pj_per_mac(operands, figures),
                _ => lanes as f64 * f64::from(cycles_per_lane) * figures.vector.pj_per_lane,
            };
        Work { cost }
    }
}

fn elements(window: &Window) -> u64 {
    window.dims().iter().fold(1, |product: u64, &dim| product.saturating_mul(dim as u64))
}

/// Elements without those that a stride of 0 repeats.
fn distinct_elements(window: &Window) -> u64 {
    let dims = window.dims().iter().zip(window.strides());
    dims.fold(
        1,
        |product: u64, (&dim, &stride)| {
            if stride == 0 && dim > 0 { product } else { product.saturating_mul(dim as u64) }
        },
    )
}

fn operand<'o>(operands: &'o [Operand], name: &str) -> Option<&'o Window> {
    operands.iter().find(|operand| operand.0 == name).map(|operand| &operand.2)
}

/// What a command reads or writes of a window: gathers touch as much of the table as they produce.
fn touched_elements(command: &Command, name: &str, window: &Window, operands: &[Operand]) -> u64 {
    let all = distinct_elements(window);
    let other = |name| operand(operands, name).map_or(all, elements);
    match command {
        Command::Gather { .. } | Command::GatherElements { .. } | Command::GatherNd { .. }
            if name == "source" =>
        {
            all.min(other("destination"))
        }
        Command::ScatterElements { .. } | Command::ScatterNd { .. } if name == "destination" => {
            all.min(other("updates"))
        }
        _ => all,
    }
}

/// Bytes that DRAM moves: every contiguous run is rounded up to bursts, whatever the order of dimensions.
fn burst_bytes(window: &Window, elements: u64, burst_bytes: u64) -> u64 {
    let bits = u64::from(window.element.bits());
    let mut dims = [(1u64, 0u64); crate::view::RANK_MAX];
    let mut rank = 0;
    for (&dim, &stride) in
        window.dims().iter().zip(window.strides()).filter(|&(&dim, &stride)| dim > 1 && stride != 0)
    {
        dims[rank] = (stride.unsigned_abs(), dim as u64);
        rank += 1;
    }
    dims[..rank].sort_unstable();
    let mut run = 1u64;
    for &(stride, dim) in &dims[..rank] {
        if stride != run {
            break;
        }
        run = run.saturating_mul(dim);
    }
    let runs = elements.div_ceil(run);
    runs.saturating_mul((run.min(elements) * bits).div_ceil(8).next_multiple_of(burst_bytes.max(1)))
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

fn macs(command: &Command, operands: &[Operand]) -> u64 {
    products(command, operands)
        .map_or(0, |([m, n, k], count)| m.saturating_mul(n).saturating_mul(k).saturating_mul(count))
}

fn pair(operands: &[Operand]) -> Option<(crate::element::Element, crate::element::Element)> {
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
