//! The loops of fast packed products: a block of `R` rows of a times `P` panels, over all of k.
//!
//! Sums stay in registers over a piece of k, totals over all of it. Every column's sums are made in the same order whatever `R` and
//! `P` are: results do not depend on how many rows there are, nor on who computes which panel.

#![allow(unsafe_code, reason = "reading operands through pointers that were checked when the job was made")]
#![allow(unsafe_op_in_unsafe_fn, reason = "every line reads through them; the contract is `Kernel`'s")]
// Arrays of vectors stay in registers only where plain loops over constant bounds are unrolled: no iterators over them.
#![allow(clippy::needless_range_loop, reason = "iterators over arrays of vectors keep them in memory")]

use super::isa::{Isa, Pairs, prefetch};

/// Bytes of one step along k of a panel.
pub(super) const LINE_BYTES: usize = 64;
/// How far ahead of its use a line is asked for.
pub(super) const AHEAD_BYTES: usize = 1536;

/// How factors of a block are stored: 16 side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    F32,
    F16,
    BF16,
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

/// Computes the first panel and `P - 1` more that lie `step` apart, for the rows of one block of a.
///
/// # Safety
/// The processor has what the kernel is compiled for; the job's pointers are valid for what its numbers say, its result for `m` rows of
/// `n` columns; the panels and the block exist; nobody else writes these panels.
pub(super) type Kernel = unsafe fn(&Job, panels: Panels, block: usize);

/// Which panels a kernel computes at a time.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub(super) first: usize,
    pub(super) step: usize,
}

impl Panels {
    #[inline(always)]
    fn at(self, at: usize) -> usize {
        self.first + at * self.step
    }
}

/// Columns of a panel.
pub(super) const COLUMNS: usize = super::PANEL_COLUMNS;

/// Calls `each` with where the columns of a panel lie in some rows of the result, which row that is, and how many columns.
#[inline(always)]
pub(super) unsafe fn place_totals(
    job: &Job,
    panel: usize,
    first: usize,
    rows: usize,
    mut each: impl FnMut(*mut f32, usize, usize),
) {
    let columns = COLUMNS.min(job.n - panel * COLUMNS);
    for row in 0..rows.min(job.m - first) {
        each(job.to.add((first + row) * job.row_step + panel * COLUMNS), row, columns);
    }
}

#[inline(always)]
unsafe fn old_totals<S: Isa, const R: usize, const P: usize>(
    job: &Job,
    panel: Panels,
    block: usize,
) -> [[S::Floats; P]; R] {
    let mut totals = [[S::splat_float(0.0); P]; R];
    if !job.accumulate {
        return totals;
    }
    for row in 0..R {
        for at in 0..P {
            let (of_row, column) = (block * R + row, panel.at(at) * COLUMNS);
            if of_row < job.m {
                let from = job.to.add(of_row * job.row_step + column);
                totals[row][at] = if column + COLUMNS <= job.n {
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
    panel: Panels,
    block: usize,
    totals: &[[S::Floats; P]; R],
) {
    for row in 0..R {
        for at in 0..P {
            let (of_row, column) = (block * R + row, panel.at(at) * COLUMNS);
            if of_row < job.m {
                let to = job.to.add(of_row * job.row_step + column);
                if column + COLUMNS <= job.n {
                    S::store(to, totals[row][at]);
                } else {
                    let mut room = [0f32; COLUMNS];
                    S::store(room.as_mut_ptr(), totals[row][at]);
                    std::ptr::copy_nonoverlapping(room.as_ptr(), to, job.n - column);
                }
            }
        }
    }
}

/// Where the panels of a block begin.
#[inline(always)]
unsafe fn panels<const P: usize>(job: &Job, panel: Panels) -> [*const u8; P] {
    let mut b = [job.b; P];
    for at in 0..P {
        b[at] = job.b.offset(panel.at(at) as isize * job.panel_bytes);
    }
    b
}

/// The next line of every panel; for one row, which reads each line once, some lines ahead are asked for.
#[inline(always)]
unsafe fn next_lines<S: Isa, const R: usize, const P: usize>(b: &mut [*const u8; P]) -> [S::Ints; P] {
    let mut lines = [S::line(b[0]); P];
    for at in 0..P {
        lines[at] = S::line(b[at]);
        if R == 1 {
            prefetch(b[at].wrapping_add(AHEAD_BYTES));
        }
        b[at] = b[at].add(LINE_BYTES);
    }
    lines
}

/// `totals + sums * scales`, fused; the sums where there are no scales.
#[inline(always)]
unsafe fn scaled<S: Isa, const R: usize, const P: usize>(
    job: &Job,
    panel: Panels,
    of_block: usize,
    sums: &[[S::Floats; P]; R],
    totals: &mut [[S::Floats; P]; R],
) {
    let Some(scale) = &job.scale else {
        *totals = *sums;
        return;
    };
    for at in 0..P {
        let scale = scales::<S>(scale, panel.at(at), of_block);
        for row in 0..R {
            totals[row][at] = S::fused(sums[row][at], scale, totals[row][at]);
        }
    }
}

#[inline(always)]
unsafe fn place(factor: &FactorPlace, panel: usize, block: usize) -> *const u8 {
    factor.at.offset(panel as isize * factor.panel_bytes + block as isize * factor.block_bytes)
}

#[inline(always)]
pub(super) unsafe fn scales<S: Isa>(scale: &FactorPlace, panel: usize, block: usize) -> S::Floats {
    let at = place(scale, panel, block);
    match scale.stored {
        Stored::F16 => S::load_halves(at),
        Stored::BF16 => S::load_bf16(at),
        _ => S::load(at.cast()),
    }
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
    panel: Panels,
    block: usize,
) {
    let mut totals = old_totals::<S, R, P>(job, panel, block);
    let mut b = panels::<P>(job, panel);
    let mut a = job.a.add(block * job.words * R).cast::<i32>();
    let mut start = job.starts.add(block * job.pieces * R);
    let flip = S::splat(job.flip);
    let mut left = job.lines;
    for piece in 0..job.pieces {
        let of_block = piece / job.pieces_of_block;
        let mut sums = [[flip; P]; R];
        for row in 0..R {
            sums[row] = [S::splat(*start.add(row)); P];
        }
        start = start.add(R);
        if let Some(zero) = &job.zero {
            for at in 0..P {
                let zeros = zero_points::<S>(job, zero, panel.at(at), of_block);
                for row in 0..R {
                    sums[row][at] = S::multiply_ints(sums[row][at], zeros);
                }
            }
        }
        let lines = job.piece_lines.min(left);
        left -= lines;
        for _ in 0..lines {
            let line = next_lines::<S, R, P>(&mut b);
            if W::IS_NIBBLES {
                let mut weights = [[flip; 2]; P];
                for at in 0..P {
                    weights[at] = S::nibbles(line[at], flip);
                }
                for row in 0..R {
                    let (low, high) = (S::splat(*a.add(row)), S::splat(*a.add(R + row)));
                    for at in 0..P {
                        sums[row][at] = S::dot_nibbles(sums[row][at], weights[at][0], low);
                    }
                    for at in 0..P {
                        sums[row][at] = S::dot_nibbles(sums[row][at], weights[at][1], high);
                    }
                }
                a = a.add(2 * R);
            } else {
                let mut weights = line;
                for at in 0..P {
                    weights[at] = S::xor(line[at], flip);
                }
                for row in 0..R {
                    let a = S::splat(*a.add(row));
                    for at in 0..P {
                        sums[row][at] = S::dot_bytes(sums[row][at], weights[at], a);
                    }
                }
                a = a.add(R);
            }
        }
        if let Some(scale) = &job.scale {
            for at in 0..P {
                let scale = scales::<S>(scale, panel.at(at), of_block);
                for row in 0..R {
                    let scaled = S::multiply(S::to_floats(sums[row][at]), scale);
                    totals[row][at] = S::add(totals[row][at], scaled);
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
    panel: Panels,
    block: usize,
) {
    let mut totals = old_totals::<S, R, P>(job, panel, block);
    let mut b = panels::<P>(job, panel);
    let mut a = job.a.add(block * job.words * R).cast::<f32>();
    let mut left = job.lines;
    for piece in 0..job.pieces {
        let of_block = piece / job.pieces_of_block;
        let mut zeros = [S::to_floats(S::splat(job.offset)); P];
        if W::HAS_ZEROS
            && let Some(zero) = &job.zero
        {
            for at in 0..P {
                zeros[at] = S::to_floats(zero_points::<S>(job, zero, panel.at(at), of_block));
            }
        }
        // Without scales there is one piece, which goes on where the destination was.
        let mut sums = if job.scale.is_none() { totals } else { [[S::splat_float(0.0); P]; R] };
        let lines = job.piece_lines.min(left);
        left -= lines;
        for _ in 0..lines {
            let line = next_lines::<S, R, P>(&mut b);
            macro_rules! rows {
                ($($row:literal)*) => {$(
                    if $row < W::ROWS {
                        let mut weights = zeros;
                        for at in 0..P {
                            weights[at] = W::row::<$row>(job, line[at]);
                            if W::HAS_ZEROS {
                                weights[at] = S::subtract(weights[at], zeros[at]);
                            }
                        }
                        for row in 0..R {
                            let a = S::splat_float(*a.add($row * R + row));
                            for at in 0..P {
                                sums[row][at] = S::fused(a, weights[at], sums[row][at]);
                            }
                        }
                    }
                )*};
            }
            rows!(0 1 2 3 4 5 6 7);
            a = a.add(W::ROWS * R);
        }
        scaled::<S, R, P>(job, panel, of_block, &sums, &mut totals);
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
    panel: Panels,
    block: usize,
) {
    let mut totals = old_totals::<S, R, P>(job, panel, block);
    let mut b = panels::<P>(job, panel);
    let mut a = job.a.add(block * job.words * R).cast::<i32>();
    let mut left = job.lines;
    for piece in 0..job.pieces {
        let of_block = piece / job.pieces_of_block;
        let mut sums = if job.scale.is_none() { totals } else { [[S::splat_float(0.0); P]; R] };
        let lines = job.piece_lines.min(left);
        left -= lines;
        for _ in 0..lines {
            let line = next_lines::<S, R, P>(&mut b);
            macro_rules! rows {
                ($($pair:literal)*) => {$(
                    if $pair < W::PAIRS {
                        let mut weights = line;
                        for at in 0..P {
                            weights[at] = W::pair::<$pair>(job, line[at]);
                        }
                        for row in 0..R {
                            let a = S::splat(*a.add($pair * R + row));
                            for at in 0..P {
                                sums[row][at] = S::dot_pairs(sums[row][at], weights[at], a);
                            }
                        }
                    }
                )*};
            }
            rows!(0 1 2 3);
            a = a.add(W::PAIRS * R);
        }
        scaled::<S, R, P>(job, panel, of_block, &sums, &mut totals);
    }
    store_totals::<S, R, P>(job, panel, block, &totals);
}
