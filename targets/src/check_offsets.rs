//! An independent check of a memory plan's numbers: a sweep over time, with the bytes in use at each moment.
//!
//! It takes what [`crate::memory_plan`] was given and what it gave, and shares no code with it: whoever made the offsets is checked alike.
//!
//! ```text
//! buffer 7 [1024, 2048) meets buffer 3 [1536, 4096) at time 12
//! ```

use crate::memory_plan::Buffer;
use std::collections::BTreeMap;
use std::fmt;

/// What is wrong with a buffer's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its position in the list.
    pub buffer: usize,
    /// The other buffer, where there is one.
    pub other: Option<usize>,
    /// In words, with both values.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "buffer {}: {}", self.buffer, self.what)
    }
}

/// Bytes in use from one time to another.
struct Use {
    buffer: usize,
    from: u64,
    until: u64,
    low: u64,
    high: u64,
}

/// Every violation: no offset or too many, wrong alignment, an end above `capacity_bytes`, bytes that two buffers use at one time (each
/// buffer's first meeting in a use is told).
pub fn check(buffers: &[Buffer], offsets: &[u64], capacity_bytes: Option<u64>) -> Vec<Violation> {
    let mut found = Vec::new();
    if buffers.len() != offsets.len() {
        let what = format!("{} buffers have {} offsets", buffers.len(), offsets.len());
        return vec![Violation { buffer: buffers.len().min(offsets.len()), other: None, what }];
    }
    let mut uses = Vec::new();
    for (index, (buffer, offset)) in buffers.iter().zip(offsets).enumerate() {
        if buffer.start >= buffer.end || buffer.bytes == 0 {
            continue;
        }
        let mut add = |what: String| found.push(Violation { buffer: index, other: None, what });
        if offset % buffer.alignment_bytes != 0 {
            add(format!("offset {offset} is no multiple of {}", buffer.alignment_bytes));
        }
        match (offset.checked_add(buffer.bytes), capacity_bytes) {
            (None, _) => {
                add(format!("offset {offset} and size {} pass 64 bits", buffer.bytes));
                continue;
            }
            (Some(end), Some(capacity)) if end > capacity => {
                add(format!("ends at byte {end}, the capacity is {capacity}"));
            }
            _ => {}
        }
        uses_of(index, buffer, *offset, &mut uses);
    }
    sweep(&uses, &mut found);
    found
}

/// A buffer's uses: its life cut at its gaps.
fn uses_of(index: usize, buffer: &Buffer, offset: u64, into: &mut Vec<Use>) {
    let mut cut = buffer.start;
    let mut add = |from: u64, until: u64, low: u64, high: u64| {
        if from < until && low < high {
            into.push(Use { buffer: index, from, until, low: offset + low, high: offset + high });
        }
    };
    for gap in &buffer.gaps {
        add(cut, gap.time.start, 0, buffer.bytes);
        if let Some(window) = &gap.window {
            add(gap.time.start, gap.time.end, window.start, window.end);
        }
        cut = gap.time.end;
    }
    add(cut, buffer.end, 0, buffer.bytes);
}

/// Goes through starts and ends in order of time; what ends at a moment makes room for what starts at it. While no bytes are shared,
/// a map by first byte shows every meeting in the neighbours of a newcomer.
fn sweep(uses: &[Use], found: &mut Vec<Violation>) {
    let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(uses.len() * 2);
    for (index, one) in uses.iter().enumerate() {
        events.push((one.from, true, index));
        events.push((one.until, false, index));
    }
    events.sort_unstable();
    let mut in_use: BTreeMap<u64, usize> = BTreeMap::new();
    for (time, starts, index) in events {
        let one = &uses[index];
        if !starts {
            if in_use.get(&one.low) == Some(&index) {
                in_use.remove(&one.low);
            }
            continue;
        }
        let below = in_use.range(..one.high).next_back().map(|(_, other)| &uses[*other]);
        match below.filter(|other| other.high > one.low) {
            // The meeting is told; the newcomer stays out, so that the map keeps what is apart.
            Some(other) => found.push(Violation {
                buffer: one.buffer,
                other: Some(other.buffer),
                what: format!(
                    "[{}, {}) meets buffer {} [{}, {}) at time {time}",
                    one.low, one.high, other.buffer, other.low, other.high
                ),
            }),
            None => {
                in_use.insert(one.low, index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_plan::Gap;

    fn messages(buffers: &[Buffer], offsets: &[u64], capacity: u64) -> Vec<String> {
        check(buffers, offsets, Some(capacity)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_kind_of_fault_is_told() {
        let buffers = [Buffer::new(0, 3, 4), Buffer::new(2, 5, 4).aligned(4), Buffer::new(3, 9, 4)];
        assert_eq!(messages(&buffers, &[0, 4, 0], 8), Vec::<String>::new());
        assert_eq!(messages(&buffers, &[4, 4, 0], 8), ["buffer 1: [4, 8) meets buffer 0 [4, 8) at time 2"]);
        assert_eq!(
            messages(&buffers, &[0, 6, 0], 8),
            ["buffer 1: offset 6 is no multiple of 4", "buffer 1: ends at byte 10, the capacity is 8"]
        );
        assert_eq!(messages(&buffers, &[0, 4], 8), ["buffer 2: 3 buffers have 2 offsets"]);
        let huge = [Buffer::new(0, 1, 2)];
        assert_eq!(messages(&huge, &[u64::MAX], 8).len(), 1);
    }

    #[test]
    fn gaps_give_room_but_for_their_window() {
        let mut long = Buffer::new(0, 10, 8);
        long.gaps.push(Gap { time: 2..6, window: Some(0..2) });
        let short = Buffer::new(3, 5, 4);
        assert_eq!(messages(&[long.clone(), short.clone()], &[0, 2], 8), Vec::<String>::new());
        assert_eq!(messages(&[long.clone(), short], &[0, 1], 8).len(), 1);
        assert_eq!(messages(&[long, Buffer::new(5, 7, 4)], &[0, 4], 8).len(), 1);
    }
}
