//! How many bytes of SRAM are alive at each position, and whether a life may become longer.

use crate::live_ranges::live_ranges;
use crate::lowering::space;
use crate::place::{ALIGNMENT_BYTES, space_and_bytes};
use std::collections::BTreeMap;
use tilewright_ir::dialects::tile;
use tilewright_ir::module::{Module, OpId, ValueId};

/// A buffer in SRAM.
struct Life {
    first: usize,
    last: usize,
    bytes: u64,
}

/// SRAM over the positions of a function before anything was moved.
pub(super) struct Room {
    limit_bytes: u64,
    alive_bytes: Vec<u64>,
    lives: BTreeMap<ValueId, Life>,
    positions: Vec<usize>,
}

impl Room {
    /// The lives of a function's buffers; longer ones may take up to `limit_bytes` at once.
    pub(super) fn of(module: &Module, function: OpId, limit_bytes: u64) -> Room {
        let ranges = live_ranges(module, function);
        let mut lives = BTreeMap::new();
        let end = ranges.positions.iter().max().copied().unwrap_or(0);
        let end = ranges.buffers.values().map(|(_, last)| *last).max().unwrap_or(0).max(end);
        let mut alive_bytes = vec![0; end + 1];
        for (buffer, (first, last)) in ranges.buffers {
            let Some(op) = module.producer_of(buffer, &tile::BUFFER) else { continue };
            let (of, bytes) = space_and_bytes(module, op);
            if of == space::SRAM {
                let bytes = bytes.next_multiple_of(ALIGNMENT_BYTES);
                alive_bytes[first..=last].iter_mut().for_each(|alive| *alive += bytes);
                lives.insert(buffer, Life { first, last, bytes });
            }
        }
        Room { limit_bytes, alive_bytes, lives, positions: ranges.positions }
    }

    /// Whether a buffer is one in SRAM.
    pub(super) fn has(&self, buffer: ValueId) -> bool {
        self.lives.contains_key(&buffer)
    }

    /// Lets a buffer live from the position of `op` on; false where there is no room.
    pub(super) fn begin_at(&mut self, buffer: ValueId, op: OpId) -> bool {
        let position = self.positions[op.index()];
        let Some(life) = self.lives.get_mut(&buffer) else { return true };
        if position >= life.first {
            return true;
        }
        let longer = &mut self.alive_bytes[position..life.first];
        if longer.iter().any(|alive| alive + life.bytes > self.limit_bytes) {
            return false;
        }
        longer.iter_mut().for_each(|alive| *alive += life.bytes);
        life.first = position;
        true
    }

    /// Lets buffers live up to the position of `op`; false where there is no room.
    pub(super) fn end_at(&mut self, buffers: impl Iterator<Item = ValueId>, op: OpId) -> bool {
        let position = self.positions[op.index()];
        for buffer in buffers {
            let Some(life) = self.lives.get_mut(&buffer) else { continue };
            if position <= life.last {
                continue;
            }
            let longer = &mut self.alive_bytes[life.last + 1..=position];
            if longer.iter().any(|alive| alive + life.bytes > self.limit_bytes) {
                return false;
            }
            longer.iter_mut().for_each(|alive| *alive += life.bytes);
            life.last = position;
        }
        true
    }
}
