//! The loops of fast packed products: a block of `R` rows of a times `P` panels, over all of k.
//!
//! Sums stay in registers over a piece of k, totals over all of it. Every column's sums are made in the same order whatever `R` and
//! `P` are: results do not depend on how many rows there are, nor on who computes which panel.

#![allow(unsafe_code, reason = "reading operands through pointers that were checked when the job was made")]
#![allow(unsafe_op_in_unsafe_fn, reason = "every line reads through them; the contract is `Kernel`'s")]

use super::isa::{Isa, Pairs, prefetch};

/// Bytes of one step along k of a panel.
pub(super) const LINE_BYTES: usize = 64;
/// How far ahead of its use a line is asked for.
const AHEAD_BYTES: usize = 1536;

/// How factors of a block are stored: 16 side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    F32,
    F16,
    I8,
    U8,
    I4,
    U4,
}

/// Scales or zero points: where those of a panel and block begin.
#[derive(Clone, Copy)]
pub(super) struct FactorPlace {
    pub(super) at: *const u8,
    pub(super) stored: Stored,
    pub(super) panel_bytes: isize,
    pub(super) block_bytes: isize,
}

/// One product, ready to be computed piece by piece.
pub(super) struct Job {
    /// Panels: lines of 64 bytes, `lines` to a panel.
    pub(super) b: *const u8,
    pub(super) panel_bytes: isize,
    pub(super) lines: usize,
    pub(super) scale: Option<FactorPlace>,
    pub(super) zero: Option<FactorPlace>,
    /// Flips bits of integer weights: so that integers are unsigned, or bytes signed for floats.
    pub(super) flip: i32,
    /// Added to zero points, so that they count from where flipped weights do.
    pub(super) offset: i32,
    /// What codes of 4 bits stand for.
    pub(super) table: [f32; 16],
    /// The same twice, in bf16.
    pub(super) pairs: [u16; 32],
    /// Rows of a by blocks of R: [block][words of a row][R]; a word is 4 bytes, 2 bf16 or 1 f32.
    pub(super) a: *const u32,
    pub(super) words: usize,
    /// Where integer sums begin: [block][pieces][R]. Minus the sum of a's piece, times the offset when there are no zero points.
    pub(super) starts: *const i32,
    /// Lines summed before they are scaled, and how many such pieces share a scale.
    pub(super) piece_lines: usize,
    pub(super) pieces: usize,
    pub(super) pieces_of_block: usize,
    /// Result: f32, columns side by side.
    pub(super) to: *mut f32,
    pub(super) row_step: usize,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) accumulate: bool,
}

#[allow(unsafe_code, reason = "one job for several threads")]
// SAFETY: threads only read through its pointers, but for the result, of which each writes other panels.
unsafe impl Sync for Job {}

/// Computes `P` panels from the first on, for the rows of one block of a.
///
/// # Safety
/// The processor has what the kernel is compiled for; the job's pointers are valid for what its numbers say, its result for `m` rows of
/// `n` columns; the panels and the block exist; nobody else writes these panels.
pub(super) type Kernel = unsafe fn(&Job, panel: usize, block: usize);

/// Columns of a panel.
const COLUMNS: usize = super::PANEL_COLUMNS;

#[inline(always)]
unsafe fn old_totals<S: Isa, const R: usize, const P: usize>(
    job: &Job,
    panel: usize,
    block: usize,
) -> [[S::Floats; P]; R] {
    let mut totals = [[S::splat_float(0.0); P]; R];
    if job.accumulate {
        for (row, totals) in totals.iter_mut().enumerate() {
            for (at, total) in totals.iter_mut().enumerate() {
                let (row, column) = (block * R + row, (panel + at) * COLUMNS);
                if row >= job.m {
                    continue;
                }
                let from = job.to.add(row * job.row_step + column);
                *total = if column + COLUMNS <= job.n {
                    S::load(from)
                } else {
                    let mut room = [0f32; COLUMNS];
                    std::ptr::copy_nonoverlapping(from, room.as_mut_ptr(), job.n - column);
                    S::load(room.as_ptr())
                };
            }
        }
    }
    totals
}

#[inline(always)]
unsafe fn store_totals<S: Isa, const R: usize, const P: usize>(
    job: &Job,
    panel: usize,
    block: usize,
    totals: &[[S::Floats; P]; R],
) {
    for (row, totals) in totals.iter().enumerate() {
        for (at, total) in totals.iter().enumerate() {
            let (row, column) = (block * R + row, (panel + at) * COLUMNS);
            if row >= job.m {
                continue;
            }
            let to = job.to.add(row * job.row_step + column);
            if column + COLUMNS <= job.n {
                S::store(to, *total);
            } else {
                let mut room = [0f32; COLUMNS];
                S::store(room.as_mut_ptr(), *total);
                std::ptr::copy_nonoverlapping(room.as_ptr(), to, job.n - column);
            }
        }
    }
}

#[inline(always)]
unsafe fn place(factor: &FactorPlace, panel: usize, block: usize) -> *const u8 {
    factor.at.offset(panel as isize * factor.panel_bytes + block as isize * factor.block_bytes)
}

#[inline(always)]
unsafe fn scales<S: Isa>(scale: &FactorPlace, panel: usize, block: usize) -> S::Floats {
    let at = place(scale, panel, block);
    if scale.stored == Stored::F16 { S::load_halves(at) } else { S::load(at.cast()) }
}

/// Zero points, and the offset added.
#[inline(always)]
unsafe fn zero_points<S: Isa>(job: &Job, zero: &FactorPlace, panel: usize, block: usize) -> S::Ints {
    let at = place(zero, panel, block);
    let codes = match zero.stored {
        Stored::I4 | Stored::U4 => {
            let mut codes = [0u8; COLUMNS];
            let (bytes, sign) =
                (at.cast::<[u8; COLUMNS / 2]>().read_unaligned(), u8::from(zero.stored == Stored::I4) * 8);
            for (pair, byte) in codes.chunks_exact_mut(2).zip(bytes) {
                // A sign bit flipped and taken away again extends it.
                pair[0] = ((byte & 15) ^ sign).wrapping_sub(sign);
                pair[1] = ((byte >> 4) ^ sign).wrapping_sub(sign);
            }
            S::widen_bytes(codes.as_ptr(), true)
        }
        stored => S::widen_bytes(at, stored == Stored::I8),
    };
    S::add_ints(codes, S::splat(job.offset))
}

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

/// Integers by integers: exact sums over a piece, each times its scale, added in f32 (not fused).
///
/// # Safety
/// See [`Kernel`].
#[inline(always)]
pub(super) unsafe fn integers<S: Isa, W: IntegerWeights, const R: usize, const P: usize>(
    job: &Job,
    panel: usize,
    block: usize,
) {
    let mut totals = old_totals::<S, R, P>(job, panel, block);
    let mut b: [*const u8; P] =
        std::array::from_fn(|at| job.b.offset((panel + at) as isize * job.panel_bytes));
    let mut a = job.a.add(block * job.words * R).cast::<i32>();
    let mut start = job.starts.add(block * job.pieces * R);
    let flip = S::splat(job.flip);
    let mut left = job.lines;
    for piece in 0..job.pieces {
        let of_block = piece / job.pieces_of_block;
        let mut sums: [[S::Ints; P]; R] = std::array::from_fn(|row| [S::splat(*start.add(row)); P]);
        start = start.add(R);
        if let Some(zero) = &job.zero {
            for at in 0..P {
                let zeros = zero_points::<S>(job, zero, panel + at, of_block);
                for sums in &mut sums {
                    sums[at] = S::multiply_ints(sums[at], zeros);
                }
            }
        }
        let lines = job.piece_lines.min(left);
        left -= lines;
        for _ in 0..lines {
            let line: [S::Ints; P] = std::array::from_fn(|at| S::line(b[at]));
            if R == 1 {
                b.iter().for_each(|&b| prefetch(b.wrapping_add(AHEAD_BYTES)));
            }
            b = b.map(|b| b.add(LINE_BYTES));
            if W::IS_NIBBLES {
                let weights = line.map(|line| S::nibbles(line, flip));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = [S::splat(*a.add(row)), S::splat(*a.add(R + row))];
                    for (sum, weights) in sums.iter_mut().zip(&weights) {
                        *sum = S::dot_nibbles(*sum, weights[0], a[0]);
                        *sum = S::dot_nibbles(*sum, weights[1], a[1]);
                    }
                }
                a = a.add(2 * R);
            } else {
                let weights = line.map(|line| S::xor(line, flip));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = S::splat(*a.add(row));
                    for (sum, weights) in sums.iter_mut().zip(&weights) {
                        *sum = S::dot_bytes(*sum, *weights, a);
                    }
                }
                a = a.add(R);
            }
        }
        if let Some(scale) = &job.scale {
            let scales: [S::Floats; P] = std::array::from_fn(|at| scales::<S>(scale, panel + at, of_block));
            for (totals, sums) in totals.iter_mut().zip(&sums) {
                for ((total, sum), scale) in totals.iter_mut().zip(sums).zip(&scales) {
                    *total = S::add(*total, S::multiply(S::to_floats(*sum), *scale));
                }
            }
        }
    }
    store_totals::<S, R, P>(job, panel, block, &totals);
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

/// Floats by anything: fused multiply-adds over ascending k.
///
/// # Safety
/// See [`Kernel`].
#[inline(always)]
pub(super) unsafe fn floats<S: Isa, W: FloatWeights<S>, const R: usize, const P: usize>(
    job: &Job,
    panel: usize,
    block: usize,
) {
    let mut totals = old_totals::<S, R, P>(job, panel, block);
    let mut b: [*const u8; P] =
        std::array::from_fn(|at| job.b.offset((panel + at) as isize * job.panel_bytes));
    let mut a = job.a.add(block * job.words * R).cast::<f32>();
    let mut left = job.lines;
    for piece in 0..job.pieces {
        let of_block = piece / job.pieces_of_block;
        let zeros: [S::Floats; P] = match &job.zero {
            Some(zero) if W::HAS_ZEROS => {
                std::array::from_fn(|at| S::to_floats(zero_points::<S>(job, zero, panel + at, of_block)))
            }
            _ => [S::to_floats(S::splat(job.offset)); P],
        };
        // Without scales there is one piece, which goes on where the destination was.
        let mut sums = if job.scale.is_none() { totals } else { [[S::splat_float(0.0); P]; R] };
        let lines = job.piece_lines.min(left);
        left -= lines;
        for _ in 0..lines {
            let line: [S::Ints; P] = std::array::from_fn(|at| S::line(b[at]));
            if R == 1 {
                b.iter().for_each(|&b| prefetch(b.wrapping_add(AHEAD_BYTES)));
            }
            b = b.map(|b| b.add(LINE_BYTES));
            macro_rules! rows {
                ($($row:literal)*) => {$(
                    if $row < W::ROWS {
                        let weights: [S::Floats; P] = std::array::from_fn(|at| {
                            let weights = W::row::<$row>(job, line[at]);
                            if W::HAS_ZEROS { S::subtract(weights, zeros[at]) } else { weights }
                        });
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let a = S::splat_float(*a.add($row * R + row));
                            for (sum, weights) in sums.iter_mut().zip(&weights) {
                                *sum = S::fused(a, *weights, *sum);
                            }
                        }
                    }
                )*};
            }
            rows!(0 1 2 3 4 5 6 7);
            a = a.add(W::ROWS * R);
        }
        totals = match &job.scale {
            None => sums,
            Some(scale) => {
                let scales: [S::Floats; P] =
                    std::array::from_fn(|at| scales::<S>(scale, panel + at, of_block));
                std::array::from_fn(|row| {
                    std::array::from_fn(|at| S::fused(sums[row][at], scales[at], totals[row][at]))
                })
            }
        };
    }
    store_totals::<S, R, P>(job, panel, block, &totals);
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

/// bf16 by bf16 or small integers, two rows at a time.
///
/// # Safety
/// See [`Kernel`].
#[inline(always)]
pub(super) unsafe fn pairs<S: Pairs, W: PairWeights<S>, const R: usize, const P: usize>(
    job: &Job,
    panel: usize,
    block: usize,
) {
    let mut totals = old_totals::<S, R, P>(job, panel, block);
    let mut b: [*const u8; P] =
        std::array::from_fn(|at| job.b.offset((panel + at) as isize * job.panel_bytes));
    let mut a = job.a.add(block * job.words * R).cast::<i32>();
    let mut left = job.lines;
    for piece in 0..job.pieces {
        let of_block = piece / job.pieces_of_block;
        let mut sums = if job.scale.is_none() { totals } else { [[S::splat_float(0.0); P]; R] };
        let lines = job.piece_lines.min(left);
        left -= lines;
        for _ in 0..lines {
            let line: [S::Ints; P] = std::array::from_fn(|at| S::line(b[at]));
            if R == 1 {
                b.iter().for_each(|&b| prefetch(b.wrapping_add(AHEAD_BYTES)));
            }
            b = b.map(|b| b.add(LINE_BYTES));
            macro_rules! rows {
                ($($pair:literal)*) => {$(
                    if $pair < W::PAIRS {
                        let weights: [S::Ints; P] = std::array::from_fn(|at| W::pair::<$pair>(job, line[at]));
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let a = S::splat(*a.add($pair * R + row));
                            for (sum, weights) in sums.iter_mut().zip(&weights) {
                                *sum = S::dot_pairs(*sum, *weights, a);
                            }
                        }
                    }
                )*};
            }
            rows!(0 1 2 3);
            a = a.add(W::PAIRS * R);
        }
        totals = match &job.scale {
            None => sums,
            Some(scale) => {
                let scales: [S::Floats; P] =
                    std::array::from_fn(|at| scales::<S>(scale, panel + at, of_block));
                std::array::from_fn(|row| {
                    std::array::from_fn(|at| S::fused(sums[row][at], scales[at], totals[row][at]))
                })
            }
        };
    }
    store_totals::<S, R, P>(job, panel, block, &totals);
}
