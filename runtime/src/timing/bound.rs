//! What no schedule of a program can beat on a machine: bytes that must come from DRAM at least once, and multiplications at the peak.
//!
//! ```text
//! compulsory bytes / DRAM bandwidth <= cycles      multiply-accumulates / peak of their element pair <= cycles
//! ```
//!
//! It must not know how the timing model schedules: both bounds are sums over what is executed.

use super::layout::Runs;
use super::walk::{operands, walk};
use super::work;
use super::{MachineFigures, Request, TimingError};
use crate::commands::{Command, Engine};
use crate::memory::Window;
use crate::stream::Program;
use crate::view::Space;
use std::collections::BTreeMap;

/// Lower bounds of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Distinct bytes of weights, inputs, outputs and states that the run touches: each is moved once at least. Activations between ops
    /// are not among them, for they may stay on chip; rows that a gather picks count as distinct ones.
    pub compulsory_bytes: u64,
    /// Cycles to move them.
    pub dram_cycles: u64,
    /// Cycles of all multiply-accumulates at the peak rates of their element pairs: the matrix engine's, or the host's, whichever are
    /// more, for the two work side by side.
    pub mac_cycles: u64,
}

impl Bound {
    /// The roofline: cycles that the run takes at least.
    pub fn cycles(&self) -> u64 {
        self.dram_cycles.max(self.mac_cycles)
    }
}

/// Bytes that a product of `macs` multiply-accumulates moves at least between a memory of `on_chip_bytes` and the next one: 2 m n k /
/// sqrt(S) - 2 S words (Smith et al. 2017, arXiv:1702.02017), with S in words of the narrowest operand. Of an op, not of its tiles.
pub fn word_bound_bytes(macs: u64, narrowest_bits: u32, on_chip_bytes: u64) -> u64 {
    let word_bytes = f64::from(narrowest_bits.max(1)) / 8.0;
    let words = on_chip_bytes as f64 / word_bytes;
    let moved = 2.0 * macs as f64 / words.max(1.0).sqrt() - 2.0 * words;
    (moved.max(0.0) * word_bytes) as u64
}

/// The lower bounds of a run.
///
/// # Errors
/// As [`super::estimate`].
pub fn bound(
    program: &Program,
    figures: &MachineFigures,
    request: &Request<'_>,
) -> Result<Bound, TimingError> {
    let mut touched = Touched::default();
    let mut picked: BTreeMap<(Space, usize, usize), u64> = BTreeMap::new();
    let (mut matrix_cycles, mut host_cycles) = (0f64, 0f64);
    walk(program, request, |_, command, registers| {
        let operands = operands(program, command, registers)?;
        for (name, _, window) in &operands {
            if matches!(window.space, Space::Constant | Space::Io | Space::State) {
                if work::picks_rows(command, name) {
                    let rows = work::touched_bytes(command, name, window, &operands);
                    *picked.entry((window.space, window.range().start, window.range().end)).or_default() +=
                        rows;
                } else {
                    touched.add(window);
                }
            }
        }
        let macs = work::macs(command, &operands) as f64;
        match command.engine() {
            Some(Engine::Matrix) => {
                let rate = work::pair(&operands).and_then(|(a, b)| figures.matrix_rate(a, b));
                matrix_cycles += rate.map_or(0.0, |rate| macs / rate.macs_per_cycle() as f64);
            }
            Some(Engine::Host) => host_cycles += macs / figures.host_lanes_per_cycle,
            _ => {}
        }
        Ok(())
    })?;
    let mut compulsory_bytes = touched.bytes();
    for ((space, start, end), bytes) in picked {
        // A table that is read elsewhere too, such as an embedding that is also the last layer's weight, adds what was not.
        let there = touched.bytes_in(space, start as u64, end as u64);
        compulsory_bytes += bytes.min((end - start) as u64).saturating_sub(there);
    }
    Ok(Bound {
        compulsory_bytes,
        dram_cycles: figures.dram_cycles(compulsory_bytes),
        mac_cycles: matrix_cycles.max(host_cycles) as u64,
    })
}

const PAGE_BYTES: u64 = 1 << 16;
const PAGE_WORDS: usize = (PAGE_BYTES / 64) as usize;

enum Page {
    Full,
    Some(Box<[u64; PAGE_WORDS]>),
}

/// Which bytes were touched: a bit for each, in pages that fold up when they are full.
#[derive(Default)]
struct Touched {
    pages: BTreeMap<(Space, u64), Page>,
}

impl Touched {
    fn add(&mut self, window: &Window) {
        let range = window.range();
        if range.is_empty() {
            return;
        }
        let bits = u64::from(window.element.bits());
        let runs = Runs::of(window);
        runs.for_each(|start| {
            let first = range.start as u64 + start * bits / 8;
            let end = range.start as u64 + ((start + runs.run) * bits).div_ceil(8);
            self.add_run(window.space, first, end);
        });
    }

    fn add_run(&mut self, space: Space, mut start: u64, end: u64) {
        while start < end {
            let page = start / PAGE_BYTES;
            let stop = end.min((page + 1) * PAGE_BYTES);
            let entry =
                self.pages.entry((space, page)).or_insert_with(|| Page::Some(Box::new([0; PAGE_WORDS])));
            if let Page::Some(words) = entry {
                let (from, until) = (start % PAGE_BYTES, (stop - 1) % PAGE_BYTES + 1);
                for_each_word(from, until, |word, mask| words[word] |= mask);
                if until == PAGE_BYTES && words.iter().all(|word| *word == u64::MAX) {
                    *entry = Page::Full;
                }
            }
            start = stop;
        }
    }

    fn bytes(&self) -> u64 {
        let count = |page: &Page| match page {
            Page::Full => PAGE_BYTES,
            Page::Some(words) => words.iter().map(|word| u64::from(word.count_ones())).sum(),
        };
        self.pages.values().map(count).sum()
    }

    fn bytes_in(&self, space: Space, start: u64, end: u64) -> u64 {
        let (first, last) = (start / PAGE_BYTES, end.div_ceil(PAGE_BYTES));
        let pages = self.pages.range((space, first)..(space, last.max(first)));
        let count = |(&(_, page), bits): (&(Space, u64), &Page)| {
            let from = start.max(page * PAGE_BYTES) - page * PAGE_BYTES;
            let until = end.min((page + 1) * PAGE_BYTES) - page * PAGE_BYTES;
            match bits {
                Page::Full => until - from,
                Page::Some(words) => {
                    let mut found = 0;
                    for_each_word(from, until, |word, mask| {
                        found += u64::from((words[word] & mask).count_ones());
                    });
                    found
                }
            }
        };
        pages.map(count).sum()
    }
}

/// Calls `visit(word, mask)` for the bits `from..until`.
fn for_each_word(from: u64, until: u64, mut visit: impl FnMut(usize, u64)) {
    let mut at = from;
    while at < until {
        let (word, bit) = ((at / 64) as usize, at % 64);
        let count = (until - at).min(64 - bit);
        let mask = if count == 64 { u64::MAX } else { ((1u64 << count) - 1) << bit };
        visit(word, mask);
        at += count;
    }
}

/// A command that reads few rows of a large operand, which ones only a run can tell.
pub(super) fn is_gather(command: &Command) -> bool {
    matches!(command, Command::Gather { .. } | Command::GatherElements { .. } | Command::GatherNd { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_once() {
        let mut touched = Touched::default();
        touched.add_run(Space::Constant, 10, 20);
        touched.add_run(Space::Constant, 15, 3 * PAGE_BYTES + 1);
        touched.add_run(Space::State, 0, 1);
        assert_eq!(touched.bytes(), 3 * PAGE_BYTES + 1 - 10 + 1);
        assert_eq!(touched.bytes_in(Space::Constant, 0, 12), 2);
        assert_eq!(touched.bytes_in(Space::Constant, PAGE_BYTES + 5, PAGE_BYTES + 9), 4);
        assert_eq!(touched.bytes_in(Space::Constant, 0, 1 << 40), 3 * PAGE_BYTES + 1 - 10);
        assert_eq!(touched.bytes_in(Space::Io, 0, 100), 0);
    }

    #[test]
    fn words_follow_the_square_root() {
        // 2 * 2^30 / sqrt(2^20) - 2 * 2^20 words of one byte: nothing; sixteen times the work: 2^25 - 2^21.
        assert_eq!(word_bound_bytes(1 << 30, 8, 1 << 20), 0);
        assert_eq!(word_bound_bytes(1 << 34, 8, 1 << 20), (1 << 25) - (1 << 21));
        assert_eq!(word_bound_bytes(0, 4, 1 << 20), 0);
    }
}
