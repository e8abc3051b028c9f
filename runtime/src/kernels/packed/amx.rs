//! Integers by integers on tiles of AMX: for many rows, with the bits that all other kernels give.
//!
//! A panel's codes are unpacked into bytes once for [`AMX_ROWS`] rows, some of k at a time; 16 rows at a time go through all of that. What
//! costs most is not the products but their scales: a tile of sums is read back for every block of k.

#![allow(unsafe_code, reason = "reading operands through pointers that were checked when the job was made")]
#![allow(unsafe_op_in_unsafe_fn, reason = "every line reads through them; the contract is `Kernel`'s")]
#![allow(clippy::needless_range_loop, reason = "iterators over arrays of vectors keep them in memory")]

use super::avx512::Avx512;
use super::isa::Isa;
use super::kernels::{COLUMNS, IntegerWeights, Job, LINE_BYTES, Panels, place_totals, scales};
use super::tiles::{ROW_BYTES, TILE_ROWS, Tiles};
use std::arch::x86_64::*;

/// Rows of a block.
pub(super) const AMX_ROWS: usize = 4 * TILE_ROWS;
/// Rows of k times 4 that are unpacked together: 16 KiB.
const CHUNK_QUADS: usize = 256;

/// Room on the stack.
#[repr(align(64))]
struct Room<T>(T);

/// Whether tiles take pieces of so many rows of k: a piece is part of a tile, or some whole ones.
pub(super) fn takes(k: usize, piece: usize) -> bool {
    let quads = piece / 4;
    piece.is_multiple_of(8)
        && k.is_multiple_of(piece)
        && (quads <= TILE_ROWS || quads.is_multiple_of(TILE_ROWS))
        && quads <= CHUNK_QUADS
}

/// Signed bytes of lines: for codes the low and then the high ones.
#[inline(always)]
unsafe fn unpack<W: IntegerWeights>(job: &Job, mut from: *const u8, to: *mut u8, quads: usize) {
    let flip = _mm512_set1_epi32(job.flip);
    let offset = _mm512_set1_epi8(job.offset as i8);
    let mut at = 0;
    while at < quads {
        let line = Avx512::line(from);
        let to = to.add(at * ROW_BYTES);
        if W::IS_NIBBLES {
            let [low, high] = Avx512::nibbles(line, flip);
            _mm512_storeu_si512(to.cast(), _mm512_sub_epi8(low, offset));
            _mm512_storeu_si512(to.add(ROW_BYTES).cast(), _mm512_sub_epi8(high, offset));
            at += 2;
        } else {
            // Bytes that are offset by 128 when they are flipped are themselves.
            _mm512_storeu_si512(to.cast(), _mm512_sub_epi8(Avx512::xor(line, flip), offset));
            at += 1;
        }
        from = from.add(LINE_BYTES);
    }
}

/// `totals [16 rows] += sums * scale`, of one piece.
#[inline(always)]
unsafe fn add_scaled(totals: &mut [__m512; TILE_ROWS], sums: *const i32, scale: __m512) {
    for row in 0..TILE_ROWS {
        let sums = _mm512_cvtepi32_ps(_mm512_load_si512(sums.add(row * COLUMNS).cast()));
        totals[row] = _mm512_add_ps(totals[row], _mm512_mul_ps(sums, scale));
    }
}

/// One panel for up to [`AMX_ROWS`] rows.
///
/// # Safety
/// See [`super::kernels::Kernel`]; [`takes`] said yes.
#[inline(always)]
pub(super) unsafe fn integers<T: Tiles, W: IntegerWeights>(job: &Job, panels: Panels, block: usize) {
    let panel = panels.first;
    let quads_of_line = if W::IS_NIBBLES { 2 } else { 1 };
    let piece_quads = job.piece_lines * quads_of_line;
    let quads = piece_quads.min(TILE_ROWS);
    let products = piece_quads / quads;
    let chunk_pieces = CHUNK_QUADS / piece_quads;
    let rows = (job.m - block * AMX_ROWS).min(AMX_ROWS);
    let a = job.a.add(block * job.words * AMX_ROWS).cast::<u8>();
    let a_stride = job.words * 4;
    let mut b = job.b.offset(panel as isize * job.panel_bytes);
    let mut bytes = Room([0u8; CHUNK_QUADS * ROW_BYTES]);
    let mut sums = Room([[0i32; TILE_ROWS * COLUMNS]; 2]);
    let mut kept = Room([[0f32; TILE_ROWS * COLUMNS]; AMX_ROWS / TILE_ROWS]);
    let Some(scale) = &job.scale else { return };
    let mut tiles = T::new(quads);
    let mut first = 0;
    while first < job.pieces {
        let pieces = chunk_pieces.min(job.pieces - first);
        unpack::<W>(job, b, bytes.0.as_mut_ptr(), pieces * piece_quads);
        b = b.add(pieces * job.piece_lines * LINE_BYTES);
        for tile in 0..rows.div_ceil(TILE_ROWS) {
            let row = block * AMX_ROWS + tile * TILE_ROWS;
            let kept = kept.0[tile].as_mut_ptr();
            if first == 0 && job.accumulate {
                place_totals(job, panel, row, TILE_ROWS, |to, row, columns| {
                    std::ptr::copy_nonoverlapping(to, kept.add(row * COLUMNS), columns);
                });
            }
            let mut totals = [_mm512_setzero_ps(); TILE_ROWS];
            for row in 0..TILE_ROWS {
                totals[row] = _mm512_load_ps(kept.add(row * COLUMNS));
            }
            let a = a.add(tile * TILE_ROWS * a_stride + first * piece_quads * 4);
            macro_rules! piece {
                ($piece:expr, $sums:literal, $a:literal, $b:literal) => {
                    tiles.zero::<$sums>();
                    for product in 0..products {
                        let quad = $piece * piece_quads + product * quads;
                        tiles.load::<$a>(a.add(quad * 4), a_stride);
                        tiles.load::<$b>(bytes.0.as_ptr().add(quad * ROW_BYTES), ROW_BYTES);
                        tiles.dot_bytes::<$sums, $a, $b>();
                    }
                    tiles.store::<$sums>(sums.0[$sums].as_mut_ptr());
                };
            }
            let scale_of =
                |piece: usize| scales::<Avx512>(scale, panel, (first + piece) / job.pieces_of_block);
            // Two at a time: one is multiplied while the other is scaled.
            for pair in 0..pieces / 2 {
                piece!(2 * pair, 0, 2, 4);
                piece!(2 * pair + 1, 1, 3, 5);
                add_scaled(&mut totals, sums.0[0].as_ptr(), scale_of(2 * pair));
                add_scaled(&mut totals, sums.0[1].as_ptr(), scale_of(2 * pair + 1));
            }
            if pieces % 2 == 1 {
                piece!(pieces - 1, 0, 2, 4);
                add_scaled(&mut totals, sums.0[0].as_ptr(), scale_of(pieces - 1));
            }
            for row in 0..TILE_ROWS {
                _mm512_store_ps(kept.add(row * COLUMNS), totals[row]);
            }
            if first + pieces == job.pieces {
                place_totals(job, panel, row, TILE_ROWS, |to, row, columns| {
                    std::ptr::copy_nonoverlapping(kept.add(row * COLUMNS), to, columns);
                });
            }
        }
        first += pieces;
    }
}
