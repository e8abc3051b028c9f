//! The machine compiled for, as plain data. Targets fill it in; passes ask it and never a target.
//!
//! All figures of the default machine are round numbers of our own for an edge NPU of the 2025 class; they are not a vendor's.
//!
//! ```text
//! let machine = Machine { sram_bytes: 256 << 10, ..Machine::reference() };
//! ```

use tilewright_ir::element::Element;
use tilewright_ir::weight_format::WeightFormat;

/// The part of a machine that executes an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// Multiply-accumulate array.
    Matrix,
    /// Lanes for elementwise work and reductions.
    Vector,
    /// Data movement.
    Dma,
    /// The processor beside the machine.
    Host,
}

/// Multiply-accumulates of the matrix engine for one pair of element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacRate {
    /// Element of the activations.
    pub activation: Element,
    /// Element of the weights.
    pub weight: Element,
    /// Multiply-accumulates per cycle.
    pub macs_per_cycle: u64,
    /// Energy of one multiply-accumulate, in femtojoules.
    pub energy_fj: u64,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// On-chip memory that holds tiles.
    pub sram_bytes: u64,
    /// Accumulators of the matrix engine.
    pub accumulator_bytes: u64,
    /// Elements of 32 bits that the vector engine takes per cycle; narrower ones take proportionally fewer lanes.
    pub vector_lanes: u64,
    /// Rates of the matrix engine; a pair that is not listed cannot run there.
    pub mac_rates: Vec<MacRate>,
    /// Element types that the vector engine computes on.
    pub vector_elements: Vec<Element>,
    /// The float type to compute in although there are wider ones; `None` for the model's own.
    pub preferred_float: Option<Element>,
    /// Bytes between DRAM and on-chip memory per cycle, all DMA engines together.
    pub dram_bytes_per_cycle: u64,
    /// Bytes read or written in on-chip memory per cycle.
    pub sram_bytes_per_cycle: u64,
    /// Banks that share these bytes: words of one bank's width lie in them in turn.
    pub sram_banks: u64,
    /// Cycles from a transfer's start to its first byte.
    pub dram_latency_cycles: u64,
    /// Cycles to start one kernel.
    pub launch_cycles: u64,
    /// Clock, in MHz.
    pub clock_mhz: u64,
    /// Energy of one byte to or from DRAM, in femtojoules.
    pub dram_energy_fj_per_byte: u64,
    /// Energy of one byte in on-chip memory, in femtojoules.
    pub sram_energy_fj_per_byte: u64,
    /// Alignment of tiles in on-chip memory, in bytes.
    pub alignment_bytes: u64,
}

const fn rate(activation: Element, weight: Element, macs_per_cycle: u64, energy_fj: u64) -> MacRate {
    MacRate { activation, weight, macs_per_cycle, energy_fj }
}

impl Machine {
    /// The default machine. Energy figures follow the ratios of M. Horowitz, "Computing's energy problem", ISSCC 2014
    /// (45 nm: DRAM about 650 times an 8-bit multiply-accumulate), scaled to a current node.
    pub fn reference() -> Machine {
        use Element::{BF16, F16, F32, I4, I8, U4, U8};
        // Weights in few bits run at the rate of the activation.
        let packed = [I8, U8, I4, U4, Element::NF4, Element::F8E4M3FN, Element::F8E5M2, Element::F4E2M1];
        let mut mac_rates = vec![
            rate(I8, I8, 4096, 60),
            rate(I8, I4, 4096, 45),
            rate(U8, I8, 4096, 60),
            rate(U8, U8, 4096, 60),
            rate(F16, F16, 1024, 300),
            rate(BF16, BF16, 1024, 280),
            rate(F32, F32, 256, 1200),
        ];
        mac_rates.extend(packed.map(|weight| rate(F16, weight, 1024, 280)));
        mac_rates.extend(packed.map(|weight| rate(F32, weight, 256, 1100)));
        Machine {
            name: "reference".into(),
            sram_bytes: 1 << 20,
            accumulator_bytes: 64 << 10,
            vector_lanes: 64,
            mac_rates,
            vector_elements: vec![F32, F16, BF16, I8, U8, Element::I32, Element::I64, Element::Bool],
            preferred_float: None,
            dram_bytes_per_cycle: 64,
            sram_bytes_per_cycle: 512,
            sram_banks: 8,
            dram_latency_cycles: 200,
            launch_cycles: 500,
            clock_mhz: 1000,
            dram_energy_fj_per_byte: 30_000,
            sram_energy_fj_per_byte: 1_000,
            alignment_bytes: 64,
        }
    }

    /// Multiply-accumulates per cycle for a pair of element types; `None` when the matrix engine cannot.
    pub fn macs_per_cycle(&self, activation: Element, weight: Element) -> Option<u64> {
        let fits = |row: &&MacRate| row.activation == activation && row.weight == weight;
        self.mac_rates.iter().find(fits).map(|row| row.macs_per_cycle)
    }

    /// The same machine with one float type: whatever the model has is narrowed to it, but for what needs the range of f32. Weights of few
    /// bits stay, and so do products of integers.
    ///
    /// # Errors
    /// The float types that it multiplies, when that one is not among them.
    pub fn with_float(mut self, float: Element) -> Result<Machine, Vec<Element>> {
        let is_wide = |element: Element| element.is_float() && element.bits() >= 16;
        if self.macs_per_cycle(float, float).is_none() {
            let mut floats: Vec<Element> =
                self.mac_rates.iter().map(|row| row.activation).filter(|element| is_wide(*element)).collect();
            floats.sort_unstable();
            floats.dedup();
            return Err(floats);
        }
        let fits = |element: Element| element == float || !is_wide(element);
        self.mac_rates.retain(|row| fits(row.activation) && fits(row.weight));
        self.preferred_float = Some(float).filter(|float| *float != Element::F32);
        Ok(self)
    }

    /// The float type to compute in: the preferred one, or where an engine has no f32, f16 or bf16, whichever both engines have. `None` where
    /// f32 stays, or where there is no float at all.
    pub fn narrower_float(&self) -> Option<Element> {
        if self.preferred_float.is_some() {
            return self.preferred_float;
        }
        let engines = [Engine::Matrix, Engine::Vector];
        let both = |element: &Element| engines.iter().all(|engine| self.supports(*engine, *element));
        [Element::F16, Element::BF16].into_iter().find(both).filter(|_| !both(&Element::F32))
    }

    /// Why the matrix engine does not multiply a pair of element types; `None` when it does.
    pub fn product_veto(&self, activation: Element, weight: Element) -> Option<String> {
        self.macs_per_cycle(activation, weight)
            .is_none()
            .then(|| format!("the matrix engine of {} does not multiply {activation} by {weight}", self.name))
    }

    /// Why products cannot take weights of a format; `None` when they can. Activations that the machine narrows count as narrowed.
    pub fn weight_veto(&self, activation: Element, format: &WeightFormat) -> Option<String> {
        let narrowed = self.narrower_float().filter(|_| activation == Element::F32);
        let of_narrowed = |narrowed| self.product_veto(narrowed, format.storage).is_none();
        self.product_veto(activation, format.storage).filter(|_| !narrowed.is_some_and(of_narrowed))
    }

    /// Whether an engine computes on an element type.
    pub fn supports(&self, engine: Engine, element: Element) -> bool {
        match engine {
            Engine::Matrix => {
                self.mac_rates.iter().any(|row| row.activation == element || row.weight == element)
            }
            Engine::Vector => self.vector_elements.contains(&element),
            Engine::Dma | Engine::Host => true,
        }
    }

    /// Cycles to move bytes between DRAM and on-chip memory, at least one.
    pub fn dram_cycles(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.dram_bytes_per_cycle.max(1))
    }
}
