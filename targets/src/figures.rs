//! A machine's figures in the timing model's terms. Both are plain data; this is the only place that knows both.
//!
//! ```text
//! let timing = timing::estimate(&program, &figures::of(&machine), &Request::default())?;
//! ```

use crate::emit::runtime_element;
use tilewright_passes::machine::Machine;
use tilewright_runtime::timing::{MachineFigures, MatrixRate, VectorRates};

/// Columns of the matrix engine's block: one row of activations meets 32 columns of weights at a time.
const BLOCK_COLUMNS: u64 = 32;
/// Commands that an engine's queue holds: the depth of Vela's Ethos-U command queues rounded to a power of two; our assumption.
pub(crate) const QUEUE_COMMANDS: usize = 8;
/// Cycles to issue a command; our assumption, one per 32-bit word of a typical command.
pub(crate) const ISSUE_CYCLES: u64 = 4;
/// Cycles to fill the matrix engine; our assumption, its 32 columns.
pub(crate) const MATRIX_LATENCY_CYCLES: u64 = 32;
/// Cycles per lane of a division, root or exponential; our assumption, a fourth-order polynomial.
const TRANSCENDENTAL_CYCLES: u32 = 4;
/// LPDDR5 burst of 16 beats on a 16-bit channel (JEDEC JESD209-5): 32 bytes; two channels in step.
const DRAM_BURST_BYTES: u64 = 64;
/// The host beside the NPU, in the NPU's cycles: a few simple operations each; our assumption of one mobile core.
pub(crate) const HOST_LANES_PER_CYCLE: f64 = 8.0;
const HOST_BYTES_PER_CYCLE: f64 = 16.0;
/// Cycles to hand a command to the host and back; our assumption of 2 microseconds at 1 GHz for an interrupt.
pub(crate) const HOST_LATENCY_CYCLES: u64 = 2000;
/// 70 pJ per instruction of an out-of-order core: Horowitz, ISSCC 2014, figure 1.1.9.
const HOST_PJ_PER_LANE: f64 = 70.0;
/// 0.9 pJ per f32 addition: Horowitz, ISSCC 2014, figure 1.1.9.
const VECTOR_PJ_PER_LANE: f64 = 0.9;

/// The figures of a machine.
pub fn of(machine: &Machine) -> MachineFigures {
    let matrix = machine
        .mac_rates
        .iter()
        .filter_map(|rate| {
            let depth = (rate.macs_per_cycle / BLOCK_COLUMNS).max(1) as u32;
            Some(MatrixRate {
                a: runtime_element(rate.activation)?,
                b: runtime_element(rate.weight)?,
                block: [1, rate.macs_per_cycle.min(BLOCK_COLUMNS) as u32, depth],
                pj_per_mac: rate.energy_fj as f64 / 1e3,
            })
        })
        .collect();
    let dram_bytes_per_cycle = machine.dram_bytes_per_cycle as f64;
    MachineFigures {
        clock_hz: machine.clock_mhz as f64 * 1e6,
        issue_cycles: ISSUE_CYCLES,
        queue_commands: QUEUE_COMMANDS,
        matrix,
        matrix_latency_cycles: MATRIX_LATENCY_CYCLES,
        vector: VectorRates {
            lanes: machine.vector_lanes as u32,
            transcendental_cycles: TRANSCENDENTAL_CYCLES,
            pj_per_lane: VECTOR_PJ_PER_LANE,
        },
        vector_latency_cycles: machine.launch_cycles,
        dma_bytes_per_cycle: dram_bytes_per_cycle,
        dram_bytes_per_cycle,
        dma_latency_cycles: machine.dram_latency_cycles,
        dram_burst_bytes: DRAM_BURST_BYTES,
        sram_bytes_per_cycle: machine.sram_bytes_per_cycle,
        sram_banks: machine.sram_banks,
        host_bytes_per_cycle: HOST_BYTES_PER_CYCLE,
        host_lanes_per_cycle: HOST_LANES_PER_CYCLE,
        host_latency_cycles: HOST_LATENCY_CYCLES,
        dram_pj_per_byte: machine.dram_energy_fj_per_byte as f64 / 1e3,
        sram_pj_per_byte: machine.sram_energy_fj_per_byte as f64 / 1e3,
        host_pj_per_lane: HOST_PJ_PER_LANE,
        // Leakage is left out: no public figure fits a model machine.
        idle_watts: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_per_cycle_survive() {
        let machine = crate::npu_gen3::machine::machine();
        let figures = of(&machine);
        assert_eq!(figures.matrix.len(), machine.mac_rates.len());
        for (rate, row) in machine.mac_rates.iter().zip(&figures.matrix) {
            assert_eq!(
                row.block.iter().map(|extent| u64::from(*extent)).product::<u64>(),
                rate.macs_per_cycle
            );
        }
    }
}
