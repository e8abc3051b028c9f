//! Rows of a as fast kernels read them: blocks of R rows, word by word side by side, so that one line of weights meets R words in a row.
//! Tiles take rows as they are, but without gaps.

use crate::kernels::lanes::load;
use crate::kernels::matmul::DEPTH;
use crate::memory::Source;
use std::ops::Range;

/// What a word of 32 bits holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Four signed bytes.
    Bytes,
    /// Two bf16.
    Pair,
    /// One f32.
    Float,
}

impl Word {
    /// Elements of a row in one word.
    pub(super) fn elements(self) -> usize {
        match self {
            Word::Bytes => 4,
            Word::Pair => 2,
            Word::Float => 1,
        }
    }
}

/// One matrix `[m, k]` and what is wanted of it.
pub(super) struct Rows<'s, 'm> {
    pub(super) a: &'s Source<'m>,
    /// Element (0, 0).
    pub(super) offset: i64,
    pub(super) m: usize,
    pub(super) k: usize,
    pub(super) word: Word,
    /// Rows of a block, words of a row.
    pub(super) rows: usize,
    pub(super) words: usize,
    /// Whether words of different rows lie side by side, else those of a row do.
    pub(super) interleaves: bool,
    /// Bytes of a row that are summed together (at most [`DEPTH`]), and what minus their sum is multiplied by.
    pub(super) piece: usize,
    pub(super) factor: i32,
}

impl Rows<'_, '_> {
    /// Writes one block: `to [words][rows]`, and for bytes that are interleaved `starts [pieces][rows]`.
    pub(super) fn block(&self, block: usize, to: &mut [u32], starts: &mut [i32]) {
        if self.rows > 1 && (block + 1) * self.rows > self.m {
            to.fill(0);
            starts.fill(0);
        }
        let first = block * self.rows;
        for row in first..self.m.min(first + self.rows) {
            let at = row - first;
            match self.word {
                Word::Bytes if !self.interleaves => self.copy::<1>(row, at, to),
                Word::Pair if !self.interleaves => self.copy::<2>(row, at, to),
                Word::Bytes => self.bytes(row, at, to, starts),
                Word::Pair => self.pairs(row, at, to),
                Word::Float => self.floats(row, at, to),
            }
        }
    }

    /// Element `column` of a row, counted from the window's origin.
    fn place(&self, row: usize, column: usize) -> i64 {
        let rank = self.a.rank();
        let [down, across] = [self.a.strides()[rank - 2], self.a.strides()[rank - 1]];
        self.offset + row as i64 * down + column as i64 * across
    }

    /// Elements of `size` bytes from `columns` on, as they are stored.
    fn raw<'b>(&'b self, row: usize, columns: Range<usize>, size: usize, room: &'b mut [u8]) -> &'b [u8] {
        let (start, _) = self.a.locate(self.place(row, columns.start));
        if self.a.last_stride() == 1 {
            return &self.a.bytes[start..start + columns.len() * size];
        }
        let room = &mut room[..columns.len() * size];
        for (element, column) in room.chunks_exact_mut(size).zip(columns) {
            let (start, _) = self.a.locate(self.place(row, column));
            element.copy_from_slice(&self.a.bytes[start..start + size]);
        }
        room
    }

    /// Elements of `size` bytes, words side by side.
    fn copy<const SIZE: usize>(&self, row: usize, at: usize, to: &mut [u32]) {
        let mut room = [0u8; 4 * DEPTH];
        let to = &mut to[at * self.words..(at + 1) * self.words];
        for (part, to) in to.chunks_mut(DEPTH).enumerate() {
            let elements = 4 * DEPTH / SIZE;
            let columns = part * elements..self.k.min((part + 1) * elements);
            scatter(self.raw(row, columns, SIZE, &mut room), 0, 1, to);
        }
    }

    fn bytes(&self, row: usize, at: usize, to: &mut [u32], starts: &mut [i32]) {
        let mut room = [0u8; DEPTH];
        let words_of_piece = self.piece / 4;
        let pieces = starts.len() / self.rows;
        for (piece, start) in starts.chunks_exact_mut(self.rows).enumerate() {
            let columns = piece * self.piece..self.k.min((piece + 1) * self.piece);
            let bytes = self.raw(row, columns, 1, &mut room);
            start[at] = sum(bytes).wrapping_neg().wrapping_mul(self.factor);
            let end = if piece + 1 == pieces { self.words } else { (piece + 1) * words_of_piece };
            scatter(bytes, at, self.rows, &mut to[piece * words_of_piece * self.rows..end * self.rows]);
        }
    }

    fn pairs(&self, row: usize, at: usize, to: &mut [u32]) {
        let mut room = [0u8; 2 * DEPTH];
        for (part, to) in to.chunks_mut(DEPTH / 2 * self.rows).enumerate() {
            let columns = part * DEPTH..self.k.min((part + 1) * DEPTH);
            scatter(self.raw(row, columns, 2, &mut room), at, self.rows, to);
        }
    }

    fn floats(&self, row: usize, at: usize, to: &mut [u32]) {
        let mut room = [0f32; DEPTH];
        let step = self.a.last_stride();
        for (part, to) in to.chunks_mut(DEPTH * self.rows).enumerate() {
            let floats = &mut room[..DEPTH.min(self.k - part * DEPTH)];
            load(self.a, self.place(row, part * DEPTH), step, floats);
            for (words, float) in to.chunks_exact_mut(self.rows).zip(floats) {
                words[at] = float.to_bits();
            }
        }
    }
}

/// Every four bytes as word `at` of the next `rows`; zeros where they end.
fn scatter(bytes: &[u8], at: usize, rows: usize, to: &mut [u32]) {
    let mut to = to.chunks_exact_mut(rows);
    let mut chunks = bytes.chunks_exact(4);
    // Bytes first: a pair that lacks its second half would lose a word.
    for (chunk, words) in chunks.by_ref().zip(to.by_ref()) {
        words[at] = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    }
    let rest = chunks.remainder();
    let mut last = [0u8; 4];
    last[..rest.len()].copy_from_slice(rest);
    for words in to {
        words[at] = u32::from_le_bytes(std::mem::take(&mut last));
    }
}

fn sum(bytes: &[u8]) -> i32 {
    bytes.iter().map(|&byte| i32::from(byte as i8)).sum()
}
