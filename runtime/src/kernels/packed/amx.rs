//! Products on tiles of AMX: integers by integers for many rows, with the bits that all other kernels give, and bf16 by bf16 or codes.
//!
//! A panel's codes are unpacked into bytes or bf16 once for all rows of a block, some of k at a time; 16 rows at a time go through all of
//! that. What costs most is not the products but their scales: a tile of sums is read back for every block of k. Tiles add up pairs of bf16
//! in an order of their own, so that where they do so they do it for every number of rows, a single one too.

#![allow(unsafe_code, reason = "reading operands through pointers that were checked when the job was made")]
#![allow(unsafe_op_in_unsafe_fn, reason = "every line reads through them; the contract is `Kernel`'s")]
#![allow(clippy::needless_range_loop, reason = "iterators over arrays of vectors keep them in memory")]

use super::avx512::Avx512;
use super::isa::{Isa, prefetch};
use super::job::{AHEAD_BYTES, COLUMNS, Job, LINE_BYTES, Panels, place_totals, scales};
use super::tiles::{ROW_BYTES, TILE_ROWS, Tiles};
use super::weights::{IntegerWeights, PairWeights};
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// Rows of a block when there are many.
pub(super) const AMX_ROWS: usize = 4 * TILE_ROWS;
/// Rows of tiles that are unpacked together: 16 KiB.
const CHUNK_WORDS: usize = 256;

/// Room on the stack.
#[repr(align(64))]
struct Room<T>(T);

/// Whether tiles take pieces of so many words along k, all of which are `words`: a piece is part of a tile, or some whole ones.
pub(super) fn takes(words: usize, piece: usize) -> bool {
    let is_even = piece <= TILE_ROWS || piece.is_multiple_of(TILE_ROWS);
    piece != 0 && piece.is_multiple_of(2) && words.is_multiple_of(piece) && is_even && piece <= CHUNK_WORDS
}

/// What tiles hold, and what becomes of their sums.
pub(super) trait TileMath {
    /// Rows of a tile that a line of weights becomes.
    const ROWS_OF_LINE: usize;
    /// Unpacks one line.
    unsafe fn unpack(job: &Job, line: __m512i, to: *mut u8);
    /// `sums += a * b`.
    unsafe fn dot<T: Tiles, const SUMS: usize, const A: usize, const B: usize>(tiles: &mut T);
    /// `total + sums * scale`, for one row.
    unsafe fn add(total: __m512, sums: *const i32, scale: __m512) -> __m512;
}

/// Bytes by codes or bytes.
pub(super) struct ByteMath<W>(PhantomData<W>);

impl<W: IntegerWeights> TileMath for ByteMath<W> {
    const ROWS_OF_LINE: usize = if W::IS_NIBBLES { 2 } else { 1 };

    /// Signed bytes: for codes the low and then the high ones. Bytes that are offset by 128 when they are flipped are themselves.
    #[inline(always)]
    unsafe fn unpack(job: &Job, line: __m512i, to: *mut u8) {
        let (flip, offset) = (_mm512_set1_epi32(job.flip), _mm512_set1_epi8(job.offset as i8));
        if W::IS_NIBBLES {
            let [low, high] = Avx512::nibbles(line, flip);
            _mm512_storeu_si512(to.cast(), _mm512_sub_epi8(low, offset));
            _mm512_storeu_si512(to.add(ROW_BYTES).cast(), _mm512_sub_epi8(high, offset));
        } else {
            _mm512_storeu_si512(to.cast(), _mm512_sub_epi8(Avx512::xor(line, flip), offset));
        }
    }
    #[inline(always)]
    unsafe fn dot<T: Tiles, const SUMS: usize, const A: usize, const B: usize>(tiles: &mut T) {
        tiles.dot_bytes::<SUMS, A, B>();
    }
    #[inline(always)]
    unsafe fn add(total: __m512, sums: *const i32, scale: __m512) -> __m512 {
        let sums = _mm512_cvtepi32_ps(_mm512_load_si512(sums.cast()));
        _mm512_add_ps(total, _mm512_mul_ps(sums, scale))
    }
}

/// bf16 by bf16, codes or bytes.
pub(super) struct PairMath<W>(PhantomData<W>);

impl<W: PairWeights<Avx512>> TileMath for PairMath<W> {
    const ROWS_OF_LINE: usize = W::PAIRS;

    #[inline(always)]
    unsafe fn unpack(job: &Job, line: __m512i, to: *mut u8) {
        macro_rules! pairs {
            ($($pair:literal)*) => {$(
                if $pair < W::PAIRS {
                    _mm512_storeu_si512(to.add($pair * ROW_BYTES).cast(), W::pair::<$pair>(job, line));
                }
            )*};
        }
        pairs!(0 1 2 3);
    }
    #[inline(always)]
    unsafe fn dot<T: Tiles, const SUMS: usize, const A: usize, const B: usize>(tiles: &mut T) {
        tiles.dot_pairs::<SUMS, A, B>();
    }
    #[inline(always)]
    unsafe fn add(total: __m512, sums: *const i32, scale: __m512) -> __m512 {
        _mm512_fmadd_ps(_mm512_load_ps(sums.cast()), scale, total)
    }
}

/// One panel for up to [`AMX_ROWS`] rows, `R` of a tile at a time. Without scales every tile's sums are added as they are.
///
/// # Safety
/// See [`super::job::Kernel`]; [`takes`] said yes. Tiles are of `R` rows.
#[inline(always)]
pub(super) unsafe fn product<T: Tiles, M: TileMath, const R: usize, const ROWS: usize>(
    job: &Job,
    panels: Panels,
    block: usize,
) {
    let panel = panels.first;
    let piece_words = job.piece_lines * M::ROWS_OF_LINE;
    let words = piece_words.min(TILE_ROWS);
    let products = piece_words / words;
    let chunk_pieces = CHUNK_WORDS / piece_words;
    let rows = (job.m - block * ROWS).min(ROWS);
    let a = job.a.add(block * job.words * ROWS).cast::<u8>();
    let a_stride = job.words * 4;
    let mut b = job.b.offset(panel as isize * job.panel_bytes);
    let mut unpacked = Room([0u8; CHUNK_WORDS * ROW_BYTES]);
    let mut sums = Room([[0i32; TILE_ROWS * COLUMNS]; 2]);
    let mut kept = Room([[0f32; TILE_ROWS * COLUMNS]; AMX_ROWS / TILE_ROWS]);
    let scale_of = |piece: usize| match &job.scale {
        Some(scale) => scales::<Avx512>(scale, panel, piece / job.pieces_of_block),
        None => _mm512_set1_ps(1.0),
    };
    let mut tiles = T::new(R, words);
    let mut first = 0;
    while first < job.pieces {
        let pieces = chunk_pieces.min(job.pieces - first);
        for line in 0..pieces * job.piece_lines {
            M::unpack(job, Avx512::line(b), unpacked.0.as_mut_ptr().add(line * M::ROWS_OF_LINE * ROW_BYTES));
            prefetch(b.wrapping_add(AHEAD_BYTES));
            b = b.add(LINE_BYTES);
        }
        for tile in 0..rows.div_ceil(R) {
            let row = block * ROWS + tile * R;
            let kept = kept.0[tile].as_mut_ptr();
            if first == 0 && job.accumulate {
                place_totals(job, panel, row, R, |to, row, columns| {
                    std::ptr::copy_nonoverlapping(to, kept.add(row * COLUMNS), columns);
                });
            }
            let mut totals = [_mm512_setzero_ps(); R];
            for row in 0..R {
                totals[row] = _mm512_load_ps(kept.add(row * COLUMNS));
            }
            let a = a.add(tile * R * a_stride + first * piece_words * 4);
            macro_rules! piece {
                ($piece:expr, $sums:literal, $a:literal, $b:literal) => {
                    tiles.zero::<$sums>();
                    for product in 0..products {
                        let word = $piece * piece_words + product * words;
                        tiles.load::<$a>(a.add(word * 4), a_stride);
                        tiles.load::<$b>(unpacked.0.as_ptr().add(word * ROW_BYTES), ROW_BYTES);
                        M::dot::<T, $sums, $a, $b>(&mut tiles);
                    }
                    tiles.store::<$sums>(sums.0[$sums].as_mut_ptr());
                };
            }
            macro_rules! add {
                ($piece:expr, $sums:literal) => {
                    let scale = scale_of(first + $piece);
                    for row in 0..R {
                        totals[row] = M::add(totals[row], sums.0[$sums].as_ptr().add(row * COLUMNS), scale);
                    }
                };
            }
            // Two at a time: one is multiplied while the other is scaled.
            for pair in 0..pieces / 2 {
                piece!(2 * pair, 0, 2, 4);
                piece!(2 * pair + 1, 1, 3, 5);
                add!(2 * pair, 0);
                add!(2 * pair + 1, 1);
            }
            if pieces % 2 == 1 {
                piece!(pieces - 1, 0, 2, 4);
                add!(pieces - 1, 0);
            }
            for row in 0..R {
                _mm512_store_ps(kept.add(row * COLUMNS), totals[row]);
            }
            if first + pieces == job.pieces {
                place_totals(job, panel, row, R, |to, row, columns| {
                    std::ptr::copy_nonoverlapping(kept.add(row * COLUMNS), to, columns);
                });
            }
        }
        first += pieces;
    }
}
