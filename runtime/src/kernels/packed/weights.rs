//! What a line of weights is to a kernel: unsigned bytes, floats row by row, or pairs of bf16.

#![allow(unsafe_code, reason = "instructions of the processor, passed on")]
#![allow(unsafe_op_in_unsafe_fn, reason = "every line is an instruction; the contract is the processor's")]

use super::isa::{Isa, Pairs};
use super::job::Job;

/// Integer weights as unsigned bytes.
pub(super) trait IntegerWeights {
    /// Whether a line holds codes of 4 bits.
    const IS_NIBBLES: bool;
}
/// Codes of 4 bits.
pub(super) struct Nibbles;
impl IntegerWeights for Nibbles {
    const IS_NIBBLES: bool = true;
}
/// Bytes.
pub(super) struct Bytes;
impl IntegerWeights for Bytes {
    const IS_NIBBLES: bool = false;
}

/// Weights as floats, row by row of a line.
pub(super) trait FloatWeights<S: Isa> {
    /// Rows of a line.
    const ROWS: usize;
    /// Whether zero points are subtracted.
    const HAS_ZEROS: bool = false;
    /// Row `ROW` of a line (below [`FloatWeights::ROWS`]).
    unsafe fn row<const ROW: usize>(job: &Job, line: S::Ints) -> S::Floats;
}

macro_rules! weights {
    ($($(#[$doc:meta])* $name:ident, $rows:literal, $has_zeros:literal,
        $row:ident $job:ident $line:ident => $body:expr;)*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;
            impl<S: Isa> FloatWeights<S> for $name {
                const ROWS: usize = $rows;
                const HAS_ZEROS: bool = $has_zeros;
                #[inline(always)]
                unsafe fn row<const $row: usize>($job: &Job, $line: S::Ints) -> S::Floats {
                    $body
                }
            }
        )*
    };
}

macro_rules! code {
    ($row:ident $job:ident $line:ident) => {
        match $row {
            0 => S::lookup::<0>($line, &$job.table),
            1 => S::lookup::<8>($line, &$job.table),
            2 => S::lookup::<16>($line, &$job.table),
            3 => S::lookup::<24>($line, &$job.table),
            4 => S::lookup::<4>($line, &$job.table),
            5 => S::lookup::<12>($line, &$job.table),
            6 => S::lookup::<20>($line, &$job.table),
            _ => S::lookup::<28>($line, &$job.table),
        }
    };
}
macro_rules! byte {
    ($row:ident $line:expr) => {
        match $row {
            0 => S::byte::<0>($line),
            1 => S::byte::<1>($line),
            2 => S::byte::<2>($line),
            _ => S::byte::<3>($line),
        }
    };
}

weights! {
    /// Codes of 4 bits, through a table.
    Codes, 8, false, ROW job line => code!(ROW job line);
    /// Codes of 4 bits, through a table, with zero points.
    CodesLess, 8, true, ROW job line => code!(ROW job line);
    /// Signed bytes.
    Signed, 4, false, ROW _job line => byte!(ROW line);
    /// Bytes that become signed when their sign bit is flipped, with zero points.
    BytesLess, 4, true, ROW job line => byte!(ROW S::xor(line, S::splat(job.flip)));
    /// bf16.
    Bf16, 2, false, ROW _job line => if ROW == 0 { S::bf16::<false>(line) } else { S::bf16::<true>(line) };
    /// f16.
    F16, 2, false, ROW _job line => if ROW == 0 { S::f16::<false>(line) } else { S::f16::<true>(line) };
    /// f32.
    F32, 1, false, ROW _job line => S::as_floats(line);
}

/// Weights as pairs of bf16.
pub(super) trait PairWeights<S: Pairs> {
    /// Pairs of rows of a line.
    const PAIRS: usize;
    /// Pair `PAIR` of a line (below [`PairWeights::PAIRS`]).
    unsafe fn pair<const PAIR: usize>(job: &Job, line: S::Ints) -> S::Ints;
}
impl<S: Pairs> PairWeights<S> for Codes {
    const PAIRS: usize = 4;
    #[inline(always)]
    unsafe fn pair<const PAIR: usize>(job: &Job, line: S::Ints) -> S::Ints {
        S::code_pairs::<PAIR>(line, &job.pairs)
    }
}
impl<S: Pairs> PairWeights<S> for Signed {
    const PAIRS: usize = 2;
    #[inline(always)]
    unsafe fn pair<const PAIR: usize>(_job: &Job, line: S::Ints) -> S::Ints {
        S::byte_pairs::<PAIR>(line)
    }
}
impl<S: Pairs> PairWeights<S> for Bf16 {
    const PAIRS: usize = 1;
    #[inline(always)]
    unsafe fn pair<const PAIR: usize>(_job: &Job, line: S::Ints) -> S::Ints {
        line
    }
}
