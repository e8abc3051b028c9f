//! What the lowerings ask of the machine they are for. The default figures, with their sources, are in `machine.toml`.
//!
//! ```text
//! Machine { sram_bytes: 256 << 10, ..npu_gen3::machine::machine() }
//! ```

use super::tile_search::Limits;
use crate::lowering::{LoweringContext, PlaceContext};
use std::sync::LazyLock;
use tilewright_ir::element::Element;
use tilewright_passes::machine::Machine;

/// SRAM that plans leave free, as a fraction: buffers of different lives do not pack without gaps.
const SRAM_SLACK_DIVISOR: u64 = 8;

/// The default machine's text.
pub const DESCRIPTION: &str = include_str!("machine.toml");

/// The default machine: 1 MiB of SRAM, from `machine.toml`.
pub fn machine() -> Machine {
    static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
        let read = crate::description::parse(DESCRIPTION, "machine.toml");
        read.unwrap_or_else(|problems| panic!("machine.toml: {problems:?}")).machine
    });
    MACHINE.clone()
}

/// Multiply-accumulates per cycle of a pair that was placed on the matrix engine.
pub fn macs_per_cycle(context: &LoweringContext, activation: Element, weight: Element) -> u64 {
    context.machine.macs_per_cycle(activation, weight).unwrap_or(1)
}

/// Whether the matrix engine multiplies a pair of element types.
///
/// # Errors
/// The reason why not.
pub fn place_product(context: &PlaceContext, activation: Element, weight: Element) -> Result<(), String> {
    context.machine.product_veto(activation, weight).map_or(Ok(()), Err)
}

/// What the tile search may use of the context's machine.
pub fn limits(context: &LoweringContext) -> Limits {
    let machine = &context.machine;
    let sram_bytes = machine.sram_bytes - machine.sram_bytes / SRAM_SLACK_DIVISOR;
    Limits {
        sram_bytes: context.sram_limit_bytes.unwrap_or(sram_bytes).min(machine.sram_bytes),
        accumulator_bytes: machine.accumulator_bytes,
        dram_bytes_per_cycle: machine.dram_bytes_per_cycle,
        transfer_cycles: machine.dram_latency_cycles,
        command_cycles: machine.launch_cycles,
    }
}
