//! The memory planner: lifetimes and sizes of buffers to offsets, with a proof of how good they are.
//!
//! Dynamic storage allocation: buffers alive at the same moment must not share bytes, and the highest byte used should be as low as it
//! can be. No plan can be lower than the most bytes alive at once; most programs reach that. Parts that share no moment are planned
//! apart. Greedy orders come first (`greedy`), then a search that is complete when its fuel lasts (`search`). Fuel counts steps,
//! not time: the same problem gives the same plan everywhere. It knows numbers only: no IR, no files.
//!
//! ```text
//! let problem = Problem::new(vec![Buffer::new(0, 3, 4), Buffer::new(3, 9, 4), Buffer::new(0, 9, 4)])?;
//! let plan = plan(&problem, &Options::default());
//! assert_eq!((plan.peak_bytes, plan.proof), (8, Proof::AtLowerBound));
//! ```

mod effort;
mod greedy;
mod problem;
mod search;
mod sections;
#[cfg(test)]
mod tests;

pub use problem::{Buffer, Fault, Gap, Problem};

use sections::Part;

/// What a plan should reach, and how much work may go into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A plan that ends at or below this byte is good enough; without it the peak is made as low as possible.
    pub capacity_bytes: Option<u64>,
    /// Steps of the search and of the greedy orders, all parts together. A step takes some microseconds, tens in large parts.
    pub fuel: u64,
}

/// Enough for the public MiniMalloc instances (`cargo bench -p tilewright-tests --bench memory_plan` prints the steps of each).
pub const FUEL_DEFAULT: u64 = 1_000_000;

impl Default for Options {
    fn default() -> Options {
        Options { capacity_bytes: None, fuel: FUEL_DEFAULT }
    }
}

/// How good a plan is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The peak is the lower bound: the most bytes alive at one moment.
    AtLowerBound,
    /// The peak is above the lower bound; the search has shown that nothing lower exists.
    Optimal,
    /// The peak is within the capacity that was asked for; a lower one may exist.
    WithinCapacity,
    /// No plan fits the capacity, by the lower bound or by the search. The plan is the best that was found, above the capacity.
    Impossible,
    /// The fuel ran out; the plan is the best that was found.
    OutOfFuel,
}

impl Proof {
    /// The name that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Proof::AtLowerBound => "at-lower-bound",
            Proof::Optimal => "optimal",
            Proof::WithinCapacity => "within-capacity",
            Proof::Impossible => "impossible",
            Proof::OutOfFuel => "out-of-fuel",
        }
    }
}

/// Offsets and what is known about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// First byte of each buffer, in the problem's order.
    pub offsets: Vec<u64>,
    /// The highest byte used, exclusive.
    pub peak_bytes: u64,
    /// No plan ends below this: the most bytes alive at once, or more where the search has refuted it.
    pub lower_bound_bytes: u64,
    /// The most bytes alive at one moment.
    pub live_bytes_max: u64,
    /// How good the plan is.
    pub proof: Proof,
    /// Steps taken.
    pub steps: u64,
}

/// Plans every buffer. A plan is always given; its `proof` says what it is worth.
pub fn plan(problem: &Problem, options: &Options) -> Plan {
    let parts = sections::parts(problem);
    let live_bytes_max = parts.iter().map(|part| part.bound).max().unwrap_or(0) as u64;
    // Parts below the largest bound need not be squeezed: the whole is as high as its highest part.
    let goal = live_bytes_max.max(options.capacity_bytes.unwrap_or(0)) as i64;
    let mut fuel = effort::Fuel::new(options.fuel);
    let mut offsets = vec![0; problem.buffers().len()];
    let (mut peak, mut lower, mut complete) = (0, live_bytes_max as i64, true);
    // Small parts first: what they leave of the fuel is the hard ones'.
    let mut order: Vec<&Part> = parts.iter().collect();
    order.sort_by_key(|part| (part.pieces.len(), part.buffers.first().copied()));
    for (done, part) in order.iter().enumerate() {
        let share = fuel.left() / (order.len() - done) as u64;
        let found = effort::plan_part(part, goal.max(peak), &mut fuel, share);
        for (buffer, offset) in part.buffers.iter().zip(&found.offsets) {
            offsets[*buffer as usize] = *offset as u64;
        }
        peak = peak.max(found.peak);
        lower = lower.max(found.lower);
        complete &= found.complete;
    }
    let proof = match options.capacity_bytes {
        Some(capacity) if peak as u64 > capacity && lower as u64 > capacity => Proof::Impossible,
        _ if peak as u64 == live_bytes_max => Proof::AtLowerBound,
        _ if complete && peak == lower => Proof::Optimal,
        Some(capacity) if peak as u64 <= capacity => Proof::WithinCapacity,
        _ => Proof::OutOfFuel,
    };
    Plan {
        offsets,
        peak_bytes: peak as u64,
        lower_bound_bytes: lower as u64,
        live_bytes_max,
        proof,
        steps: fuel.used(),
    }
}
