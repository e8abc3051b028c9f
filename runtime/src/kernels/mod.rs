//! What commands compute: functions on slices, one file per family.
//!
//! Kernels get windows ([`Source`], [`Destination`]) whose bytes are already bounds-checked and disjoint; they check that
//! extents fit each other and report a [`Fault`] if not. They are obvious first and fast where text generation needs it.
//! They must not know commands, programs or registers.

pub mod attention;
pub mod convert;
pub mod convolution;
pub mod cpu;
pub mod elementwise;
pub mod exponential;
pub mod index;
pub mod lanes;
pub mod limits;
pub mod matmul;
mod matmul_compressed;
mod matmul_panel;
mod matmul_scaled;
pub mod normalize;
pub mod packed;
pub(crate) mod parallel;
pub mod pool;
pub mod reduce;
pub mod scalar;
pub mod small_float;
#[cfg(test)]
pub(crate) mod testing;
pub mod walk;
mod wide;

use crate::memory::{Destination, Source};
use crate::view::Space;

/// Why a command could not be executed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Operands do not fit each other.
    #[error("{0}")]
    Shape(&'static str),
    /// Two extents that must be equal are not.
    #[error("{what}: {left:?} and {right:?}")]
    Extents {
        /// which
        what: &'static str,
        /// one side
        left: Vec<usize>,
        /// other side
        right: Vec<usize>,
    },
    /// A view reaches outside its space.
    #[error("bytes {start}..{end} of {space} are outside its {size} bytes")]
    OutOfBounds {
        /// which memory
        space: Space,
        /// first byte touched
        start: i128,
        /// after the last byte touched
        end: i128,
        /// size of the space
        size: usize,
    },
    /// An index read from memory is out of range.
    #[error("index {index} is out of range for extent {extent}")]
    Index {
        /// the index
        index: i64,
        /// the extent it indexes
        extent: usize,
    },
    /// A value for a register is out of the declared range.
    #[error("register r{register} cannot take {value}: its range is {minimum}..={maximum}")]
    Register {
        /// which
        register: u16,
        /// the value
        value: i64,
        /// smallest allowed
        minimum: i64,
        /// largest allowed
        maximum: i64,
    },
    /// A command writes to the constants.
    #[error("the constants cannot be written")]
    ConstantWrite,
    /// Two destinations of one command overlap.
    #[error("two destinations of one command overlap")]
    OverlappingDestinations,
    /// No memory for a buffer.
    #[error("cannot allocate {bytes} bytes")]
    OutOfMemory {
        /// how many
        bytes: u64,
    },
    /// More work (commands and elements) than the caller allows.
    #[error("stopped: the run does more work than allowed")]
    WorkLimit,
    /// A table id that does not exist, or a jump without its partner; the checker refuses these.
    #[error("malformed program: {0}")]
    Malformed(&'static str),
    /// A target's own command failed.
    #[error("{0}")]
    Extension(String),
}

pub(crate) fn require(condition: bool, message: &'static str) -> Result<(), Fault> {
    if condition { Ok(()) } else { Err(Fault::Shape(message)) }
}

/// Refuses operands of different extents.
pub(crate) fn same_dims(
    what: &'static str,
    destination: &Destination<'_>,
    source: &Source<'_>,
) -> Result<(), Fault> {
    same(what, destination.dims(), source.dims())
}

pub(crate) fn same(what: &'static str, left: &[usize], right: &[usize]) -> Result<(), Fault> {
    if left == right {
        return Ok(());
    }
    Err(Fault::Extents { what, left: left.to_vec(), right: right.to_vec() })
}
