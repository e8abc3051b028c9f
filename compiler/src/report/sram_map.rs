//! What lies in SRAM when: rectangles of bytes over cycles, from the work of engines alone.
//!
//! A write begins a buffer; later reads, and writes inside it, lengthen its life; a write across its border ends it. What a program
//! plans is seen as it happens: double buffers alternate, weights that stay are long.
//!
//! ```text
//! write 0..4096 at 10..20, read 0..4096 at 30..50, write 0..64 at 60..61  ->  0..4096 from 10 to 50 and 0..64 from 60 to 61
//! ```

use std::collections::BTreeMap;
use tilewright_runtime::commands::Engine;
use tilewright_runtime::timing::Event;

/// A buffer in SRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// Cycle of the first write.
    pub start: u64,
    /// Cycle after the last use.
    pub end: u64,
    /// Whose: an index into the run's ops.
    pub op: usize,
    /// Who wrote it first.
    pub engine: Engine,
}

/// The buffers alive, by offset; they do not overlap.
#[derive(Default)]
struct Alive {
    buffers: BTreeMap<u64, Rectangle>,
    done: Vec<Rectangle>,
}

impl Alive {
    fn overlapping(&self, start: u64, end: u64) -> Vec<u64> {
        let before =
            self.buffers.range(..start).next_back().filter(|(_, one)| one.offset + one.bytes > start);
        before.into_iter().chain(self.buffers.range(start..end)).map(|(offset, _)| *offset).collect()
    }

    fn write(&mut self, new: Rectangle) {
        let found = self.overlapping(new.offset, new.offset + new.bytes);
        if let [one] = found[..] {
            let old = self.buffers.get_mut(&one).filter(|old| {
                old.op == new.op
                    && old.offset <= new.offset
                    && new.offset + new.bytes <= old.offset + old.bytes
            });
            // A part of what is there already, or the same again for the next step of a loop.
            if let Some(old) = old.filter(|old| old.bytes > new.bytes || new.start <= old.end) {
                old.end = old.end.max(new.end);
                return;
            }
        }
        for offset in found {
            self.done.extend(self.buffers.remove(&offset));
        }
        self.buffers.insert(new.offset, new);
    }

    fn read(&mut self, start: u64, end: u64, until: u64) {
        for offset in self.overlapping(start, end) {
            if let Some(buffer) = self.buffers.get_mut(&offset) {
                buffer.end = buffer.end.max(until);
            }
        }
    }
}

/// The buffers of a run, by start.
pub(super) fn rectangles(events: &[Event], op_of: &dyn Fn(u32) -> usize) -> Vec<Rectangle> {
    let mut alive = Alive::default();
    for event in events {
        let (start, end) = (event.start_cycle, event.end_cycle);
        for (range, _) in event.sram.iter().filter(|(_, writes)| !writes) {
            alive.read(range.start as u64, range.end as u64, end);
        }
        for (range, _) in event.sram.iter().filter(|(_, writes)| *writes) {
            let (offset, bytes) = (range.start as u64, range.len() as u64);
            let (op, engine) = (op_of(event.command), event.engine);
            alive.write(Rectangle { offset, bytes, start, end, op, engine });
        }
    }
    let mut all = alive.done;
    all.extend(alive.buffers.into_values());
    all.sort_unstable_by_key(|one| (one.start, one.offset));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_begins_a_buffer_and_reads_lengthen_it() {
        let event = |cycles: std::ops::Range<u64>, bytes: std::ops::Range<usize>, writes: bool| Event {
            engine: Engine::Dma0,
            command: 0,
            start_cycle: cycles.start,
            end_cycle: cycles.end,
            busy_cycles: cycles.end - cycles.start,
            dram_bytes: 0,
            sram: vec![(bytes, writes)],
        };
        let events = [
            event(10..20, 0..4096, true),
            event(30..50, 100..200, false),
            event(55..58, 4096..5000, true),
            event(60..61, 4000..4160, true),
        ];
        let found = rectangles(&events, &|_| 3);
        let told: Vec<_> = found.iter().map(|one| (one.offset, one.bytes, one.start, one.end)).collect();
        assert_eq!(told, [(0, 4096, 10, 50), (4096, 904, 55, 58), (4000, 160, 60, 61)]);
        assert!(found.iter().all(|one| one.op == 3));
    }
}
