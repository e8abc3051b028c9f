//! The banks of SRAM: how long they need for an access, and what two engines lose that use them at the same time.
//!
//! Words of one port's width lie in the banks in turn, and every bank serves one word per cycle. An access of `words` words that reach
//! `reached` banks takes `ceil(words / reached)` cycles ([`beats`]): a dense tile reaches all of them, a column of a matrix whose rows
//! are a multiple of all banks reaches one. What other engines take of the banks meanwhile, evenly over their time, comes first; what
//! is then missing is added to the command's time ([`Banks::missing`]).
//!
//! ```text
//! 8 banks of 16 bytes:  f32<64x32:32,1> 8192 bytes -> 64 beats     f32<64:32> 64 words of one bank -> 64 beats
//! ```

use super::MachineFigures;
use super::layout::Runs;
use super::walk::Operand;
use crate::commands::Access;
use crate::view::Space;
use std::collections::VecDeque;

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Cycles that the banks need for the operands of one command when nobody else uses them. `touched` tells how many elements of each
/// operand are read or written.
pub(super) fn beats(operands: &[(&Operand, u64)], figures: &MachineFigures) -> u64 {
    let banks = figures.sram_banks.max(1);
    let port_bytes = (figures.sram_bytes_per_cycle / banks).max(1);
    let mut total = 0;
    for ((_, access, window), touched) in operands {
        if window.space != Space::Sram || *touched == 0 {
            continue;
        }
        let bits = u64::from(window.element.bits());
        let runs = Runs::of(window);
        let run_words = (runs.run.min(*touched) * bits).div_ceil(8).div_ceil(port_bytes);
        let all_words = (window.range().len() as u64).div_ceil(port_bytes);
        let words = (touched.div_ceil(runs.run) * run_words).min(all_words).max(1);
        let mut reached = run_words.max(1);
        for &(stride, count) in runs.outer() {
            let step = (stride * bits).div_ceil(8) / port_bytes;
            reached = reached.saturating_mul(count.min(banks / gcd(step, banks)));
        }
        let times = if *access == Access::Update { 2 } else { 1 };
        total += times * words.div_ceil(reached.min(banks).min(words));
    }
    total
}

/// What the banks are asked for by commands under way.
#[derive(Default)]
pub(super) struct Banks {
    /// Engine, first cycle, cycle after the last, beats.
    under_way: VecDeque<(usize, u64, u64, u64)>,
}

impl Banks {
    /// Cycles that are missing to a command of an engine that needs `beats` within `busy` cycles from `start`.
    pub(super) fn missing(&self, engine: usize, start: u64, busy: u64, beats: u64) -> u64 {
        if beats == 0 {
            return 0;
        }
        let end = start + busy;
        let taken: u64 = self
            .under_way
            .iter()
            .filter(|other| other.0 != engine && other.1 < end && start < other.2)
            .map(|&(_, from, until, beats)| {
                let shared = u128::from(end.min(until) - start.max(from));
                (u128::from(beats) * shared).div_ceil(u128::from((until - from).max(1))) as u64
            })
            .sum();
        (beats + taken).saturating_sub(busy)
    }

    /// Remembers a command; those that ended by `now` are forgotten.
    pub(super) fn add(&mut self, engine: usize, (start, end): (u64, u64), beats: u64, now: u64) {
        self.under_way.retain(|other| other.2 > now);
        if beats > 0 && end > start {
            self.under_way.push_back((engine, start, end, beats));
        }
    }
}
