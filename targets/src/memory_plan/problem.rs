//! What is to be planned: buffers with lifetimes, sizes, alignments and gaps; checked once, so that the planner need not doubt them.
//!
//! ```text
//! Buffer { start: 0, end: 9, bytes: 4096, alignment_bytes: 64, gaps: [3, 5) all, [6, 7) but [0, 64) }
//! ```

use std::ops::Range;

/// A time in which a buffer needs none, or only some, of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// From the first moment up to, but without, the end.
    pub time: Range<u64>,
    /// Bytes of the buffer that are needed in this time nevertheless.
    pub window: Option<Range<u64>>,
}

/// Something that needs bytes for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// First moment alive.
    pub start: u64,
    /// First moment no longer alive; with `end <= start` it needs no place.
    pub end: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Its offset is a multiple of this.
    pub alignment_bytes: u64,
    /// Times inside its life in which it needs less, sorted and apart.
    pub gaps: Vec<Gap>,
}

impl Buffer {
    /// Without alignment and gaps.
    pub fn new(start: u64, end: u64, bytes: u64) -> Buffer {
        Buffer { start, end, bytes, alignment_bytes: 1, gaps: Vec::new() }
    }

    /// The same, aligned.
    pub fn aligned(self, alignment_bytes: u64) -> Buffer {
        Buffer { alignment_bytes, ..self }
    }

    /// Whether it needs any byte at any time.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start || self.bytes == 0
    }
}

/// What is wrong with a buffer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("buffer {buffer}: {what}")]
pub struct Fault {
    /// Its position in the list.
    pub buffer: usize,
    /// In words, with both values.
    pub what: String,
}

/// Sums of sizes stay below this, so that no arithmetic of the planner can overflow.
pub(super) const BYTES_MAX: u64 = 1 << 60;

/// Buffers that have been checked.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Problem {
    buffers: Vec<Buffer>,
}

impl Problem {
    /// Checks the buffers.
    ///
    /// # Errors
    /// Every buffer with a life that ends before it starts, an alignment of zero, or gaps outside its life or its bytes; and
    /// sizes that together pass 2^60 bytes.
    pub fn new(buffers: Vec<Buffer>) -> Result<Problem, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut total = 0u64;
        for (index, buffer) in buffers.iter().enumerate() {
            let mut add = |what: String| faults.push(Fault { buffer: index, what });
            if buffer.end < buffer.start {
                add(format!("its life ends at {}, before its start at {}", buffer.end, buffer.start));
            }
            if buffer.alignment_bytes == 0 || buffer.alignment_bytes > BYTES_MAX {
                add(format!("alignment {} is not within 1..{BYTES_MAX}", buffer.alignment_bytes));
            }
            let padded = buffer.bytes.saturating_add(buffer.alignment_bytes.saturating_mul(2).min(BYTES_MAX));
            let before = total;
            total = total.saturating_add(padded);
            if before <= BYTES_MAX && total > BYTES_MAX {
                add(format!("with a size of {} the sizes pass {BYTES_MAX} bytes together", buffer.bytes));
            }
            let mut last = buffer.start;
            for gap in &buffer.gaps {
                let Range { start, end } = gap.time;
                if start >= end || start < last || end > buffer.end {
                    add(format!(
                        "gap {start}-{end} is empty, outside its life {}-{}, or overlaps the gap before",
                        buffer.start, buffer.end
                    ));
                }
                if let Some(window) =
                    gap.window.as_ref().filter(|one| one.start > one.end || one.end > buffer.bytes)
                {
                    add(format!(
                        "window {}:{} is outside its {} bytes",
                        window.start, window.end, buffer.bytes
                    ));
                }
                last = end;
            }
        }
        if faults.is_empty() { Ok(Problem { buffers }) } else { Err(faults) }
    }

    /// The buffers, in the order given.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }
}
