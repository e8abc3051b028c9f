//! Time cut into sections in which nothing starts or ends, and the buffers into parts that share no moment.
//!
//! Inside a part numbers are small: section indices for times, and `i64` bytes.

use super::problem::{Buffer, Problem};

/// A buffer inside a part: what it needs, in section indices of its part.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// First section.
    pub(super) start: usize,
    /// One past the last section.
    pub(super) end: usize,
    pub(super) bytes: i64,
    pub(super) alignment: i64,
    /// Where gaps change what it needs: sections and the needed bytes in them, relative to its offset. Empty without gaps.
    pub(super) needs: Vec<(usize, usize, i64, i64)>,
}

impl Piece {
    /// The lowest aligned offset at or above one.
    pub(super) fn align(&self, offset: i64) -> i64 {
        if self.alignment == 1 {
            offset
        } else {
            (offset + self.alignment - 1) / self.alignment * self.alignment
        }
    }

    /// Sections with the bytes needed there: `(start, end, low, high)`.
    pub(super) fn needs(&self) -> impl Iterator<Item = (usize, usize, i64, i64)> + '_ {
        let whole = self.needs.is_empty().then_some((self.start, self.end, 0, self.bytes));
        whole.into_iter().chain(self.needs.iter().copied())
    }
}

/// Buffers whose lives hang together in time.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Their positions in the problem.
    pub(super) buffers: Vec<u32>,
    /// One for each.
    pub(super) pieces: Vec<Piece>,
    pub(super) sections: usize,
    /// Bytes alive in each section. Below another buffer a buffer takes whole units of `unit`.
    pub(super) live: Vec<i64>,
    /// What the uppermost buffer of a section may save: it need not fill its last unit.
    pub(super) padding: Vec<i64>,
    /// The greatest need of any section, without the uppermost padding.
    pub(super) bound: i64,
    /// All offsets are multiples of this: the greatest common divisor of the alignments.
    pub(super) unit: i64,
    /// Peaks differ by multiples of this at least, apart from the bound: the divisor of all sizes and alignments.
    pub(super) grain: i64,
    /// Some buffer has gaps.
    pub(super) has_gaps: bool,
}

impl Part {
    /// The bytes that a piece takes below another.
    pub(super) fn padded(&self, bytes: i64) -> i64 {
        (bytes + self.unit - 1) / self.unit * self.unit
    }
}

/// The parts of a problem, in order of time. Buffers that need nothing are in none.
pub(super) fn parts(problem: &Problem) -> Vec<Part> {
    let buffers = problem.buffers();
    let mut order: Vec<u32> =
        (0..buffers.len() as u32).filter(|index| !buffers[*index as usize].is_empty()).collect();
    order.sort_by_key(|index| (buffers[*index as usize].start, *index));
    let mut groups: Vec<(u64, Vec<u32>)> = Vec::new();
    for index in order {
        let buffer = &buffers[index as usize];
        match groups.last_mut() {
            Some((end, group)) if buffer.start < *end => {
                *end = (*end).max(buffer.end);
                group.push(index);
            }
            _ => groups.push((buffer.end, vec![index])),
        }
    }
    groups.into_iter().map(|(_, group)| part(buffers, group)).collect()
}

fn part(buffers: &[Buffer], members: Vec<u32>) -> Part {
    let of = |index: &u32| &buffers[*index as usize];
    let mut cuts: Vec<u64> = members
        .iter()
        .flat_map(|index| {
            let gaps = of(index).gaps.iter().flat_map(|gap| [gap.time.start, gap.time.end]);
            [of(index).start, of(index).end].into_iter().chain(gaps)
        })
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    let at = |time: u64| cuts.partition_point(|cut| *cut < time);
    let pieces: Vec<Piece> = members.iter().map(|index| piece(of(index), at)).collect();
    let sections = cuts.len() - 1;
    let unit = pieces.iter().fold(0, |unit, piece| divisor(unit, piece.alignment));
    let grain = pieces.iter().fold(unit, |grain, piece| divisor(grain, piece.bytes));
    let has_gaps = pieces.iter().any(|piece| !piece.needs.is_empty());
    let mut part = Part {
        buffers: members,
        pieces,
        sections,
        live: vec![0; sections],
        padding: vec![0; sections],
        bound: 0,
        unit,
        grain,
        has_gaps,
    };
    measure(&mut part);
    part
}

/// Fills in the needs of the sections. Differences at starts and ends, so that long lives cost no more than short ones.
fn measure(part: &mut Part) {
    let mut change = vec![0i64; part.sections + 1];
    let mut pads: Vec<(usize, usize, i64)> = Vec::new();
    for piece in &part.pieces {
        for (start, end, low, high) in piece.needs() {
            // With gaps other buffers may use what rounding leaves, so only whole buffers are rounded.
            let taken = if part.has_gaps { high - low } else { part.padded(piece.bytes) };
            change[start] += taken;
            change[end] -= taken;
            if taken > high - low {
                pads.push((start, end, taken - (high - low)));
            }
        }
    }
    let mut alive = 0;
    for (live, change) in part.live.iter_mut().zip(change) {
        alive += change;
        *live = alive;
    }
    for (start, end, pad) in pads {
        for section in start..end {
            part.padding[section] = part.padding[section].max(pad);
        }
    }
    part.bound = part.live.iter().zip(&part.padding).map(|(live, pad)| live - pad).max().unwrap_or(0);
}

fn piece(buffer: &Buffer, at: impl Fn(u64) -> usize) -> Piece {
    let bytes = buffer.bytes as i64;
    let mut needs = Vec::new();
    let mut from = buffer.start;
    for gap in &buffer.gaps {
        if gap.time.start > from {
            needs.push((at(from), at(gap.time.start), 0, bytes));
        }
        if let Some(window) = gap.window.as_ref().filter(|window| !window.is_empty()) {
            needs.push((at(gap.time.start), at(gap.time.end), window.start as i64, window.end as i64));
        }
        from = gap.time.end;
    }
    if !buffer.gaps.is_empty() && buffer.end > from {
        needs.push((at(from), at(buffer.end), 0, bytes));
    }
    let alignment = buffer.alignment_bytes as i64;
    Piece { start: at(buffer.start), end: at(buffer.end), bytes, alignment, needs }
}

fn divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { divisor(b, a % b) }
}
