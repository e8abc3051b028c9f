//! The exact search: can a part be planned within a capacity?
//!
//! Buffers are placed from below on the skyline of what is placed ([`skyline`]). In every plan that cannot be pushed down further, the
//! buffer next above a low stretch of the skyline either lies right on it or leaves a hole; a branch chooses a section of such a
//! stretch and tries each buffer on it, then the smallest hole ([`branch`]). Only such canonical plans are looked at; plans with a hole into
//! which a buffer from above fits are not (dominance); what falls apart in time is solved apart; states that failed are remembered.
//! The ideas are those of Moffitt, "MiniMalloc" (ASPLOS 2023, doi:10.1145/3623278.3624752), and of skyline search in strip packing.
//!
//! Run times of such searches have heavy tails, so a run starts again after a number of steps with other orders (Gomes, Selman &
//! Kautz 1998); runs grow, so that in the end one is long enough to be complete. The orders come from a fixed sequence of numbers.

mod branch;
mod order;
mod skyline;

use super::sections::Part;
use branch::Walk;
use order::Order;
use skyline::Skyline;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// Sections times the buffers alive in them, at most: above, the tables of the search would not fit in memory.
const COVER_MAX: usize = 8 << 20;
/// States remembered at most; 16 bytes each and the table's slack.
const FAILED_MAX: usize = 4 << 20;
/// Steps of the first runs.
const RUN_STEPS: u64 = 1_000;

/// What a search found.
pub(super) enum Outcome {
    /// Offsets and the peak.
    Fits(Vec<i64>, i64),
    /// There is no plan within the capacity.
    Impossible,
    /// The steps did not suffice.
    OutOfFuel,
}

/// Keys are hashes already.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64 ^ (key >> 64) as u64;
    }
}

/// States from which no plan exists, as 128-bit hashes. Asked, never walked.
pub(super) type Failed = HashSet<u128, BuildHasherDefault<KeyHasher>>;

/// A search over one part; several capacities may be asked in turn.
pub(super) struct Search<'a> {
    part: &'a Part,
    failed: Failed,
    failed_at: i64,
    runs: u64,
}

impl<'a> Search<'a> {
    /// None when the part is too large for the search's tables.
    pub(super) fn new(part: &'a Part) -> Option<Search<'a>> {
        let cover: usize = part.pieces.iter().map(|piece| piece.end - piece.start).sum();
        (cover <= COVER_MAX).then(|| Search { part, failed: Failed::default(), failed_at: i64::MAX, runs: 0 })
    }

    /// Searches for a plan that ends at or below `capacity`; also gives the steps taken, at most about `steps_max`.
    pub(super) fn run(&mut self, capacity: i64, steps_max: u64) -> (Outcome, u64) {
        if capacity < self.part.bound {
            return (Outcome::Impossible, 0);
        }
        // What failed at a capacity fails at every lower one.
        if capacity > self.failed_at {
            self.failed.clear();
        }
        self.failed_at = capacity;
        let mut used = 0;
        let mut this_time = 0;
        while used < steps_max {
            let limit = order::run_steps(this_time, RUN_STEPS).min(steps_max - used);
            let order = Order::of_run(self.runs);
            let skyline = Skyline::new(self.part, capacity);
            let mut walk = Walk::new(skyline, order, &mut self.failed, FAILED_MAX);
            let outcome = walk.run(limit);
            used += walk.steps();
            if !matches!(outcome, Outcome::OutOfFuel) {
                return (outcome, used);
            }
            self.runs += 1;
            this_time += 1;
        }
        (Outcome::OutOfFuel, used)
    }
}
