//! A machine's figures, as plain data. Targets fill them in, with a source for each.

use crate::element::Element;
use crate::functions::UnaryFunction;

/// The matrix engine at one pair of element types.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatrixRate {
    /// Left operand.
    pub a: Element,
    /// Right operand, as stored.
    pub b: Element,
    /// Rows, columns and depth of the block that is multiplied in one cycle; a partial block takes a whole cycle. The product is the
    /// number of multiply-accumulates per cycle.
    pub block: [u32; 3],
    /// Energy of one multiply-accumulate.
    pub pj_per_mac: f64,
}

impl MatrixRate {
    /// Multiply-accumulates per cycle.
    pub fn macs_per_cycle(&self) -> u64 {
        self.block.iter().map(|&extent| u64::from(extent)).product()
    }
}

/// The vector engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VectorRates {
    /// 32-bit elements per cycle for simple functions (add, multiply, compare, copy); 16-bit elements run at twice this.
    pub lanes: u32,
    /// Cycles per lane for divisions, roots and exponentials.
    pub transcendental_cycles: u32,
    /// Energy of one simple lane operation.
    pub pj_per_lane: f64,
}

/// What a machine does per cycle and per joule.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineFigures {
    /// Cycles per second.
    pub clock_hz: f64,
    /// Cycles to issue a command.
    pub issue_cycles: u64,
    /// Commands that an engine's queue holds; the sequencer stands still when it is full.
    pub queue_commands: usize,
    /// Matrix engine; the first row that matches counts, and without one the slowest row.
    pub matrix: Vec<MatrixRate>,
    /// Cycles from the start of a matrix command to its first result.
    pub matrix_latency_cycles: u64,
    /// Vector engine.
    pub vector: VectorRates,
    /// Cycles from the start of a vector command to its first result.
    pub vector_latency_cycles: u64,
    /// Bytes per cycle that one DMA engine moves.
    pub dma_bytes_per_cycle: f64,
    /// Bytes per cycle that DRAM gives to all.
    pub dram_bytes_per_cycle: f64,
    /// Cycles from a request to the first byte.
    pub dma_latency_cycles: u64,
    /// Smallest piece that DRAM gives: shorter rows cost this much.
    pub dram_burst_bytes: u64,
    /// Bytes that all banks of on-chip memory together read or write per cycle.
    pub sram_bytes_per_cycle: u64,
    /// Banks of on-chip memory: words of `sram_bytes_per_cycle / sram_banks` bytes lie in them in turn.
    pub sram_banks: u64,
    /// Bytes per cycle (of this clock) that the host processes.
    pub host_bytes_per_cycle: f64,
    /// Simple operations and multiply-accumulates per cycle on the host.
    pub host_lanes_per_cycle: f64,
    /// Cycles to hand a command to the host and back.
    pub host_latency_cycles: u64,
    /// Energy per byte of off-chip memory.
    pub dram_pj_per_byte: f64,
    /// Energy per byte of on-chip memory.
    pub sram_pj_per_byte: f64,
    /// Energy per operation on the host.
    pub host_pj_per_lane: f64,
    /// Power drawn all the time.
    pub idle_watts: f64,
}

impl MachineFigures {
    /// The matrix engine's row for a pair of element types.
    pub fn matrix_rate(&self, a: Element, b: Element) -> Option<&MatrixRate> {
        let exact = self.matrix.iter().find(|row| row.a == a && row.b == b);
        exact.or_else(|| self.matrix.iter().min_by_key(|row| row.macs_per_cycle()))
    }

    pub(super) fn dram_cycles(&self, bytes: u64) -> u64 {
        (bytes as f64 / self.dram_bytes_per_cycle).ceil() as u64
    }
}

/// Whether a function needs the transcendental unit.
pub(super) fn is_transcendental(function: UnaryFunction) -> bool {
    use UnaryFunction as F;
    !matches!(
        function,
        F::Copy
            | F::Negate
            | F::Absolute
            | F::Square
            | F::Relu
            | F::Not
            | F::BitwiseNot
            | F::IsNan
            | F::IsInfinite
            | F::Sign
            | F::RoundHalfEven
            | F::Floor
            | F::Ceil
            | F::Truncate
            | F::HardSwish
            | F::LeakyRelu
            | F::HardSigmoid
            | F::Clamp
            | F::Affine
    )
}
