//! The figures of the processor, from `machine.toml`, with their sources.
//!
//! ```text
//! host_cpu::machine::machine().macs_per_cycle(Element::I8, Element::I4)
//! ```

use std::sync::LazyLock;
use tilewright_passes::machine::Machine;

/// The machine's text.
pub const DESCRIPTION: &str = include_str!("machine.toml");

/// The machine that passes and the timing model ask.
pub fn machine() -> Machine {
    static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
        let read = crate::description::parse(DESCRIPTION, "machine.toml");
        read.unwrap_or_else(|problems| panic!("machine.toml: {problems:?}")).machine
    });
    MACHINE.clone()
}
