//! The state of a search: the skyline of placed buffers, what must still go above it, and how to take steps back.
//!
//! For each section `floor` is the lowest byte at which the next buffer there can begin, for each buffer `lowest` the same over its
//! life. One implies the other: a buffer cannot begin below the highest floor of its life, and a floor is the least `lowest` of the
//! buffers still to come. [`Skyline::settle`] follows these to the end. A section whose floor and remaining bytes pass the capacity
//! refutes the state.

use super::order::mix;
use crate::memory_plan::sections::Part;

/// One change, with the old value.
enum Change {
    Floor(u32, i64),
    Top(u32, i64),
    Lowest(u32, i64),
    Flush(u32, u32),
    Placed(u32),
}

/// See the module.
pub(super) struct Skyline<'a> {
    pub(super) part: &'a Part,
    pub(super) capacity: i64,
    /// Where the next buffer of a section can begin.
    pub(super) floor: Vec<i64>,
    /// Where the last placed buffer of a section ends; between it and the floor is a hole.
    top: Vec<i64>,
    /// Bytes still to be placed in a section.
    rest: Vec<i64>,
    /// Buffers of a section still to be placed.
    waiting: Vec<u32>,
    /// How many of them could begin right on the floor.
    pub(super) flush: Vec<u32>,
    /// Buffers still to be placed that are alive in this section and the one before.
    crossing: Vec<u32>,
    /// Combined key of the buffers still to be placed that start in this section.
    keys: Vec<u64>,
    /// Where a buffer can begin.
    pub(super) lowest: Vec<i64>,
    pub(super) placed: Vec<bool>,
    /// Where the placed buffers are.
    pub(super) offsets: Vec<i64>,
    /// Buffers alive in a section: `cover[cover_starts[t]..cover_starts[t + 1]]`.
    cover_starts: Vec<u32>,
    cover: Vec<u32>,
    /// The fullest section's bytes of each buffer's life.
    pub(super) crowd: Vec<i64>,
    changes: Vec<Change>,
    /// Sections whose floors rose and that have not been looked at.
    risen: Vec<u32>,
    /// Sections that got a hole in this step.
    holes: Vec<u32>,
}

impl<'a> Skyline<'a> {
    pub(super) fn new(part: &'a Part, capacity: i64) -> Skyline<'a> {
        let (pieces, sections) = (&part.pieces, part.sections);
        let mut cover_starts = vec![0u32; sections + 1];
        for piece in pieces {
            (piece.start..piece.end).for_each(|section| cover_starts[section + 1] += 1);
        }
        for section in 0..sections {
            cover_starts[section + 1] += cover_starts[section];
        }
        let mut next = cover_starts.clone();
        let mut cover = vec![0; cover_starts[sections] as usize];
        let (mut crossing, mut keys) = (vec![0; sections], vec![0; sections]);
        for (buffer, piece) in pieces.iter().enumerate() {
            for section in piece.start..piece.end {
                cover[next[section] as usize] = buffer as u32;
                next[section] += 1;
                crossing[section] += u32::from(section > piece.start);
            }
            keys[piece.start] ^= mix(buffer as u64 + 1);
        }
        let waiting: Vec<u32> = (0..sections).map(|at| cover_starts[at + 1] - cover_starts[at]).collect();
        let crowd = pieces
            .iter()
            .map(|one| part.live[one.start..one.end].iter().copied().max().unwrap_or(0))
            .collect();
        Skyline {
            part,
            capacity,
            floor: vec![0; sections],
            top: vec![0; sections],
            rest: part.live.clone(),
            flush: waiting.clone(),
            waiting,
            crossing,
            keys,
            lowest: vec![0; pieces.len()],
            placed: vec![false; pieces.len()],
            offsets: vec![0; pieces.len()],
            cover_starts,
            cover,
            crowd,
            changes: Vec::new(),
            risen: Vec::new(),
            holes: Vec::new(),
        }
    }

    /// The buffers alive in a section, placed or not.
    pub(super) fn cover(&self, section: usize) -> &[u32] {
        &self.cover[self.cover_starts[section] as usize..self.cover_starts[section + 1] as usize]
    }

    /// How far a section's floor could rise.
    pub(super) fn slack(&self, section: usize) -> i64 {
        self.capacity - self.floor[section] - self.rest[section] + self.part.padding[section]
    }

    /// A place in the history, for [`Skyline::back_to`].
    pub(super) fn mark(&self) -> usize {
        self.changes.len()
    }

    /// Undoes everything since a mark.
    pub(super) fn back_to(&mut self, mark: usize) {
        while self.changes.len() > mark {
            match self.changes.pop() {
                Some(Change::Floor(section, old)) => self.floor[section as usize] = old,
                Some(Change::Top(section, old)) => self.top[section as usize] = old,
                Some(Change::Lowest(buffer, old)) => self.lowest[buffer as usize] = old,
                Some(Change::Flush(section, old)) => self.flush[section as usize] = old,
                Some(Change::Placed(buffer)) => {
                    self.placed[buffer as usize] = false;
                    self.count(buffer, false);
                }
                None => return,
            }
        }
        self.risen.clear();
        self.holes.clear();
    }

    /// Takes a buffer out of what remains, or puts it back.
    fn count(&mut self, buffer: u32, out: bool) {
        let piece = &self.part.pieces[buffer as usize];
        let padded = self.part.padded(piece.bytes);
        for section in piece.start..piece.end {
            let crosses = u32::from(section > piece.start);
            if out {
                self.rest[section] -= padded;
                self.waiting[section] -= 1;
                self.crossing[section] -= crosses;
            } else {
                self.rest[section] += padded;
                self.waiting[section] += 1;
                self.crossing[section] += crosses;
            }
        }
        self.keys[piece.start] ^= mix(u64::from(buffer) + 1);
    }

    /// Places a buffer at `offset`, which is the floor of its whole life. False when that leads to no plan.
    pub(super) fn place(&mut self, buffer: u32, offset: i64) -> bool {
        let (start, end) = (self.part.pieces[buffer as usize].start, self.part.pieces[buffer as usize].end);
        let top = offset + self.part.pieces[buffer as usize].bytes;
        self.placed[buffer as usize] = true;
        self.offsets[buffer as usize] = offset;
        self.changes.push(Change::Placed(buffer));
        self.count(buffer, true);
        for section in start..end {
            self.changes.push(Change::Floor(section as u32, self.floor[section]));
            self.changes.push(Change::Top(section as u32, self.top[section]));
            self.floor[section] = top;
            self.top[section] = top;
            self.recount(section);
            self.risen.push(section as u32);
        }
        self.settle()
    }

    /// Leaves a hole: the next buffer of a section begins at `floor` or above. False when that leads to no plan.
    pub(super) fn leave_hole(&mut self, section: usize, floor: i64) -> bool {
        self.rise(section, floor) && self.settle()
    }

    fn rise(&mut self, section: usize, floor: i64) -> bool {
        self.changes.push(Change::Floor(section as u32, self.floor[section]));
        self.floor[section] = floor;
        self.recount(section);
        self.risen.push(section as u32);
        self.holes.push(section as u32);
        self.slack(section) >= 0
    }

    /// Counts anew who could begin on a section's floor.
    fn recount(&mut self, section: usize) {
        let floor = self.floor[section];
        let flush = self
            .cover(section)
            .iter()
            .filter(|buffer| !self.placed[**buffer as usize] && self.lowest[**buffer as usize] == floor)
            .count() as u32;
        self.set_flush(section, flush);
    }

    fn set_flush(&mut self, section: usize, flush: u32) {
        if self.flush[section] != flush {
            self.changes.push(Change::Flush(section as u32, self.flush[section]));
            self.flush[section] = flush;
        }
    }

    /// Follows floors and lowest places to the end. False when a buffer or a section passes the capacity, or a buffer fits into a hole.
    fn settle(&mut self) -> bool {
        while let Some(section) = self.risen.pop() {
            let section = section as usize;
            if self.waiting[section] == 0 {
                continue;
            }
            let floor = self.floor[section];
            let range = self.cover_starts[section] as usize..self.cover_starts[section + 1] as usize;
            for index in range {
                let buffer = self.cover[index];
                if !self.placed[buffer as usize]
                    && self.lowest[buffer as usize] < floor
                    && !self.lift(buffer, floor)
                {
                    return false;
                }
            }
            if self.flush[section] == 0 && !self.raise_to_lowest(section) {
                return false;
            }
        }
        self.no_hole_takes_a_buffer()
    }

    /// A buffer begins at `floor` or above.
    fn lift(&mut self, buffer: u32, floor: i64) -> bool {
        let piece = &self.part.pieces[buffer as usize];
        let (start, end, new) = (piece.start, piece.end, piece.align(floor));
        if new + piece.bytes > self.capacity {
            return false;
        }
        let old = self.lowest[buffer as usize];
        self.changes.push(Change::Lowest(buffer, old));
        self.lowest[buffer as usize] = new;
        for section in start..end {
            if self.floor[section] == old {
                let flush = self.flush[section] - 1;
                self.set_flush(section, flush);
                if flush == 0 && !self.raise_to_lowest(section) {
                    return false;
                }
            } else if self.floor[section] == new {
                self.set_flush(section, self.flush[section] + 1);
            }
        }
        true
    }

    /// Nothing begins on a section's floor: it rises to the lowest of the buffers to come.
    fn raise_to_lowest(&mut self, section: usize) -> bool {
        let lowest = self
            .cover(section)
            .iter()
            .filter(|buffer| !self.placed[**buffer as usize])
            .map(|buffer| self.lowest[*buffer as usize])
            .min();
        match lowest {
            Some(lowest) if lowest > self.floor[section] => self.rise(section, lowest),
            _ => true,
        }
    }

    /// Dominance: a buffer that fits into a hole below everything that may come can be moved there, which pushes the plan down.
    fn no_hole_takes_a_buffer(&mut self) -> bool {
        while let Some(section) = self.holes.pop() {
            let section = section as usize;
            let hole = self.floor[section] - self.top[section];
            for buffer in self.cover(section) {
                let piece = &self.part.pieces[*buffer as usize];
                if self.placed[*buffer as usize] || piece.bytes > hole {
                    continue;
                }
                let life = piece.start..piece.end;
                let top = self.top[life.clone()].iter().copied().max().unwrap_or(0);
                let ceiling = self.floor[life].iter().copied().min().unwrap_or(0);
                if piece.align(top) + piece.bytes <= ceiling {
                    return false;
                }
            }
        }
        true
    }

    /// The stretches of `[start, end)` that share no buffer to come, shortest first.
    pub(super) fn fall_apart(&self, start: usize, end: usize) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut from = None;
        for section in start..=end {
            let ends = section == end || self.crossing[section] == 0;
            if let Some(begin) = from.filter(|_| ends) {
                found.push((begin, section));
                from = None;
            }
            if section < end && from.is_none() && self.waiting[section] > 0 {
                from = Some(section);
            }
        }
        found.sort_by_key(|(start, end)| end - start);
        found
    }

    /// What the future of a stretch depends on, as one number: floors, holes and the buffers to come.
    pub(super) fn key(&self, start: usize, end: usize) -> u128 {
        let (mut high, mut low) = (start as u64, end as u64);
        for section in start..end {
            let hole = (self.floor[section] - self.top[section]) as u64;
            let state = (self.floor[section] as u64) ^ hole.rotate_left(31) ^ self.keys[section];
            high = mix(high ^ state);
            low = (low ^ state).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ high;
        }
        u128::from(high) << 64 | u128::from(mix(low))
    }
}
