//! Tiles of AMX: up to 16 rows of 64 bytes, in registers of the processor or in a model of it.
//!
//! The model does what Intel's manual (volume 2, TDPBSSD and TDPBF16PS) says, so that layouts and loops are tested on every machine.

#![allow(unsafe_code, reason = "instructions of the processor; the caller has asked whether it has them")]

use std::arch::asm;

/// Rows of a tile, and bytes of one.
pub(super) const TILE_ROWS: usize = 16;
pub(super) const ROW_BYTES: usize = 64;

/// Six tiles: 0 and 1 hold sums, 2 and 3 rows of a, 4 and 5 weights.
///
/// # Safety
/// A processor whose tiles this is; pointers are good for the rows and strides of what is loaded or stored; tiles are numbered as above.
pub(super) trait Tiles {
    /// Tiles of `rows` rows of a with `words` words of 4 bytes, and of as many rows of weights as words.
    unsafe fn new(rows: usize, words: usize) -> Self;
    /// Sums of 0.
    unsafe fn zero<const SUMS: usize>(&mut self);
    /// Loads a tile whose rows lie `stride` bytes apart.
    unsafe fn load<const TILE: usize>(&mut self, at: *const u8, stride: usize);
    /// `sums [rows][16] += a [rows][words][4] * b [words][16][4]`, signed bytes in 32 bits.
    unsafe fn dot_bytes<const SUMS: usize, const A: usize, const B: usize>(&mut self);
    /// `sums [rows][16] += a [rows][words][2] * b [words][16][2]`, bf16 in f32: sums of first and of second halves, then of both.
    unsafe fn dot_pairs<const SUMS: usize, const A: usize, const B: usize>(&mut self);
    /// Writes sums, rows side by side.
    unsafe fn store<const SUMS: usize>(&self, to: *mut i32);
}

/// What each tile is, as LDTILECFG reads it.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    fn new(rows_of_a: usize, words: usize) -> Configuration {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        for tile in 0..6 {
            row_bytes[tile] = if tile == 2 || tile == 3 { 4 * words as u16 } else { ROW_BYTES as u16 };
            rows[tile] = if tile >= 4 { words as u8 } else { rows_of_a as u8 };
        }
        Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    }
}

/// The processor's own.
pub(super) struct Native;

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: whoever made it has tiles; nothing is in use any more.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}

// SAFETY of all: see the trait. Memory is not declared unused: it is read and written through the pointers.
impl Tiles for Native {
    #[inline(always)]
    unsafe fn new(rows: usize, words: usize) -> Native {
        let configuration = Configuration::new(rows, words);
        // SAFETY: 64 bytes that are a configuration.
        unsafe { asm!("ldtilecfg [{0}]", in(reg) &raw const configuration, options(nostack)) }
        Native
    }
    #[inline(always)]
    unsafe fn zero<const SUMS: usize>(&mut self) {
        // SAFETY: a tile of sums.
        unsafe { asm!("tilezero tmm{0}", const SUMS, options(nostack)) }
    }
    #[inline(always)]
    unsafe fn load<const TILE: usize>(&mut self, at: *const u8, stride: usize) {
        // SAFETY: the caller's pointer is good for the tile's rows.
        unsafe {
            asm!("tileloadd tmm{0}, [{1} + {2}*1]", const TILE, in(reg) at, in(reg) stride, options(nostack))
        }
    }
    #[inline(always)]
    unsafe fn dot_bytes<const SUMS: usize, const A: usize, const B: usize>(&mut self) {
        // SAFETY: the configuration's extents fit each other.
        unsafe { asm!("tdpbssd tmm{0}, tmm{1}, tmm{2}", const SUMS, const A, const B, options(nostack)) }
    }
    #[inline(always)]
    unsafe fn dot_pairs<const SUMS: usize, const A: usize, const B: usize>(&mut self) {
        // SAFETY: the configuration's extents fit each other.
        unsafe { asm!("tdpbf16ps tmm{0}, tmm{1}, tmm{2}", const SUMS, const A, const B, options(nostack)) }
    }
    #[inline(always)]
    unsafe fn store<const SUMS: usize>(&self, to: *mut i32) {
        // SAFETY: the caller's pointer is good for the tile's rows of 64 bytes.
        unsafe {
            asm!("tilestored [{1} + {2}*1], tmm{0}", const SUMS, in(reg) to, in(reg) ROW_BYTES, options(nostack))
        }
    }
}

/// A model of them.
#[cfg(test)]
pub(super) struct Model {
    configuration: Configuration,
    tiles: [[u8; TILE_ROWS * ROW_BYTES]; 6],
}

// SAFETY of all: see the trait.
#[cfg(test)]
impl Tiles for Model {
    unsafe fn new(rows: usize, words: usize) -> Model {
        Model { configuration: Configuration::new(rows, words), tiles: [[0; TILE_ROWS * ROW_BYTES]; 6] }
    }
    unsafe fn zero<const SUMS: usize>(&mut self) {
        self.tiles[SUMS].fill(0);
    }
    unsafe fn load<const TILE: usize>(&mut self, at: *const u8, stride: usize) {
        let (rows, bytes) = (self.configuration.rows[TILE], self.configuration.row_bytes[TILE]);
        self.tiles[TILE].fill(0);
        for row in 0..usize::from(rows) {
            // SAFETY: the caller's pointer is good for the tile's rows.
            let from = unsafe { std::slice::from_raw_parts(at.add(row * stride), usize::from(bytes)) };
            self.tiles[TILE][row * ROW_BYTES..][..from.len()].copy_from_slice(from);
        }
    }
    unsafe fn dot_bytes<const SUMS: usize, const A: usize, const B: usize>(&mut self) {
        let signed =
            |tile: usize, row: usize, byte: usize| i32::from(self.tiles[tile][row * ROW_BYTES + byte] as i8);
        let mut sums = self.tiles[SUMS];
        for (at, sum) in sums.chunks_exact_mut(4).enumerate() {
            let (row, column) = (at / 16, at % 16);
            let mut total = i32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
            for quad in 0..usize::from(self.configuration.rows[B]) {
                total += (0..4)
                    .map(|q| signed(A, row, 4 * quad + q) * signed(B, quad, 4 * column + q))
                    .sum::<i32>();
            }
            sum.copy_from_slice(&total.to_le_bytes());
        }
        self.tiles[SUMS] = sums;
    }
    unsafe fn dot_pairs<const SUMS: usize, const A: usize, const B: usize>(&mut self) {
        let half = |tile: usize, row: usize, at: usize| {
            let bytes = &self.tiles[tile][row * ROW_BYTES + 2 * at..];
            f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16)
        };
        let mut sums = self.tiles[SUMS];
        for (at, sum) in sums.chunks_exact_mut(4).enumerate() {
            let (row, column) = (at / 16, at % 16);
            let mut halves = [0f32; 2];
            for word in 0..usize::from(self.configuration.rows[B]) {
                for (side, total) in halves.iter_mut().enumerate() {
                    *total = half(A, row, 2 * word + side).mul_add(half(B, word, 2 * column + side), *total);
                }
            }
            let old = f32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
            sum.copy_from_slice(&(old + (halves[0] + halves[1])).to_le_bytes());
        }
        self.tiles[SUMS] = sums;
    }
    unsafe fn store<const SUMS: usize>(&self, to: *mut i32) {
        let rows = usize::from(self.configuration.rows[SUMS]);
        for (at, sum) in self.tiles[SUMS].chunks_exact(4).take(rows * 16).enumerate() {
            // SAFETY: the caller's pointer is good for the tile's rows of 64 bytes.
            unsafe { to.add(at).write_unaligned(i32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]])) };
        }
    }
}
