//! The figures of `npu-gen3`, each with its public source. They model a class of edge NPUs of the mid 2020s and are no chip's.
//!
//! ```text
//! Machine { sram_bytes: 256 << 10, ..npu_gen3::machine::machine() }
//! ```

use super::tile_search::Limits;
use crate::lowering::LoweringContext;
use tilewright_ir::element::Element;
use tilewright_passes::machine::{MacRate, Machine};

/// 1 GHz, as the Arm Ethos-U85 system configurations in Vela's `vela.ini` (`core_clock=1000e6`).
const CLOCK_MHZ: u64 = 1000;
/// Ethos-U85 product page: configurations of 128 to 2048 8-bit MACs per cycle; the largest.
const INT8_MACS_PER_CYCLE: u64 = 2048;
/// Half the multiplier per product: our assumption.
const INT4_MACS_PER_CYCLE: u64 = 4096;
/// Half the 8-bit rate: our assumption, as for 16-bit activations on Ethos-U.
const F16_MACS_PER_CYCLE: u64 = 1024;
/// A quarter of f16: 24 bits of mantissa to 11 are about four times the multiplier.
const F32_MACS_PER_CYCLE: u64 = 256;
/// M. Horowitz, "Computing's energy problem", ISSCC 2014, figure 1.1.9 (45 nm, 0.9 V): 8-bit multiply 0.2 pJ + 32-bit add 0.1 pJ.
const INT8_MAC_FJ: u64 = 300;
/// As above with half the multiply.
const INT4_MAC_FJ: u64 = 200;
/// Horowitz: f16 multiply 1.1 pJ + f32 add 0.9 pJ.
const F16_MAC_FJ: u64 = 2000;
/// Horowitz: f32 multiply 3.7 pJ + f32 add 0.9 pJ.
const F32_MAC_FJ: u64 = 4600;
/// Horowitz: 100 pJ per 64 bits of a 1 MiB SRAM.
const SRAM_FJ_PER_BYTE: u64 = 12_500;
/// Horowitz: 1.3 nJ per 64 bits of DRAM, the lower of his two figures.
const DRAM_FJ_PER_BYTE: u64 = 162_500;
/// LPDDR5X-8533 on 32 bits is 34.1 GB/s (JEDEC JESD209-5C); less refresh, a power of two.
const DRAM_BYTES_PER_CYCLE: u64 = 32;
/// Two ports of 512 bits.
const SRAM_BYTES_PER_CYCLE: u64 = 128;
/// Vela's `vela.ini`: `Dram_read_latency=500`.
const DRAM_LATENCY_CYCLES: u64 = 500;
/// 1024-bit vectors, as Qualcomm Hexagon HVX (V66 programmer's reference): 32 lanes of 32 bits.
const VECTOR_LANES: u64 = 32;
/// Cycles from the sequencer to an engine: Vela's `Sram_read_latency=32`, there and back.
const COMMAND_CYCLES: u64 = 64;

/// SRAM that plans leave free, as a fraction: buffers of different lives do not pack without gaps.
const SRAM_SLACK_DIVISOR: u64 = 8;

/// The default machine: 1 MiB of SRAM.
pub fn machine() -> Machine {
    Machine {
        name: "npu-gen3".into(),
        sram_bytes: 1 << 20,
        accumulator_bytes: 64 << 10,
        vector_lanes: VECTOR_LANES,
        mac_rates: mac_rates(),
        vector_elements: Element::ALL.iter().copied().filter(|element| element.bits() >= 8).collect(),
        dram_bytes_per_cycle: DRAM_BYTES_PER_CYCLE,
        sram_bytes_per_cycle: SRAM_BYTES_PER_CYCLE,
        dram_latency_cycles: DRAM_LATENCY_CYCLES,
        launch_cycles: COMMAND_CYCLES,
        clock_mhz: CLOCK_MHZ,
        dram_energy_fj_per_byte: DRAM_FJ_PER_BYTE,
        sram_energy_fj_per_byte: SRAM_FJ_PER_BYTE,
        alignment_bytes: 64,
    }
}

/// Weights that the matrix engine widens, with a scale and a zero point, as it takes them in.
const PACKED_WEIGHTS: [Element; 10] = [
    Element::I8,
    Element::U8,
    Element::I4,
    Element::U4,
    Element::I2,
    Element::U2,
    Element::NF4,
    Element::F8E4M3FN,
    Element::F8E5M2,
    Element::F4E2M1,
];

/// Every pair of activation and weight; packed weights run at the activation's rate when it is a float.
fn mac_rates() -> Vec<MacRate> {
    use Element::{BF16, F16, F32, I4, I8, U4, U8};
    let rate = |activation, weight, macs_per_cycle, energy_fj| MacRate {
        activation,
        weight,
        macs_per_cycle,
        energy_fj,
    };
    let mut rates = Vec::new();
    for activation in [I8, U8] {
        for weight in [I8, U8] {
            rates.push(rate(activation, weight, INT8_MACS_PER_CYCLE, INT8_MAC_FJ));
        }
        for weight in [I4, U4] {
            rates.push(rate(activation, weight, INT4_MACS_PER_CYCLE, INT4_MAC_FJ));
        }
    }
    for (activation, macs_per_cycle, energy_fj) in [
        (F16, F16_MACS_PER_CYCLE, F16_MAC_FJ),
        (BF16, F16_MACS_PER_CYCLE, F16_MAC_FJ),
        (F32, F32_MACS_PER_CYCLE, F32_MAC_FJ),
    ] {
        rates.push(rate(activation, activation, macs_per_cycle, energy_fj));
        for weight in PACKED_WEIGHTS {
            rates.push(rate(activation, weight, macs_per_cycle, energy_fj));
        }
    }
    // Attention over a cache in another float type: the narrower one is widened on its way to the multipliers.
    for (query, key) in [(F32, F16), (BF16, F16), (F16, F32), (BF16, F32)] {
        rates.push(rate(query, key, F32_MACS_PER_CYCLE, F32_MAC_FJ));
    }
    rates
}

/// Multiply-accumulates per cycle, also for pairs that are not listed (then at the f32 rate).
pub fn macs_per_cycle(context: &LoweringContext, activation: Element, weight: Element) -> u64 {
    context.machine.macs_per_cycle(activation, weight).unwrap_or(F32_MACS_PER_CYCLE)
}

/// What the tile search may use of the context's machine.
pub fn limits(context: &LoweringContext) -> Limits {
    let machine = &context.machine;
    Limits {
        sram_bytes: machine.sram_bytes - machine.sram_bytes / SRAM_SLACK_DIVISOR,
        accumulator_bytes: machine.accumulator_bytes,
        dram_bytes_per_cycle: machine.dram_bytes_per_cycle,
        transfer_cycles: machine.dram_latency_cycles,
        command_cycles: machine.launch_cycles,
    }
}
