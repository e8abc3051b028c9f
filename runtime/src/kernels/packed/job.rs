//! One product as its kernels see it: pointers and steps, proved before; and what every kernel does with its panels and its result.

#![allow(unsafe_code, reason = "reading operands through pointers that were checked when the job was made")]
#![allow(unsafe_op_in_unsafe_fn, reason = "every line reads through them; the contract is `Kernel`'s")]
#![allow(clippy::needless_range_loop, reason = "iterators over arrays of vectors keep them in memory")]

use super::isa::{Isa, prefetch};

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
    pub(super) fn at(self, at: usize) -> usize {
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
pub(super) unsafe fn old_totals<S: Isa, const R: usize, const P: usize>(
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
pub(super) unsafe fn store_totals<S: Isa, const R: usize, const P: usize>(
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
pub(super) unsafe fn panels<const P: usize>(job: &Job, panel: Panels) -> [*const u8; P] {
    let mut b = [job.b; P];
    for at in 0..P {
        b[at] = job.b.offset(panel.at(at) as isize * job.panel_bytes);
    }
    b
}

/// The next line of every panel; for one row, which reads each line once, some lines ahead are asked for.
#[inline(always)]
pub(super) unsafe fn next_lines<S: Isa, const R: usize, const P: usize>(
    b: &mut [*const u8; P],
) -> [S::Ints; P] {
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
pub(super) unsafe fn scaled<S: Isa, const R: usize, const P: usize>(
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
pub(super) unsafe fn zero_points<S: Isa>(
    job: &Job,
    zero: &FactorPlace,
    panel: usize,
    block: usize,
) -> S::Ints {
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
