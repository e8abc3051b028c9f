//! How the work on one part is divided: greedy orders, then the search at rising and falling capacities until the fuel is gone.

use super::greedy;
use super::search::{Outcome, Search};
use super::sections::Part;

/// Steps that may still be taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fuel {
    total: u64,
    left: u64,
}

impl Fuel {
    pub(super) fn new(total: u64) -> Fuel {
        Fuel { total, left: total }
    }

    pub(super) fn spend(&mut self, steps: u64) {
        self.left = self.left.saturating_sub(steps);
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    pub(super) fn used(&self) -> u64 {
        self.total - self.left
    }
}

/// What became of a part.
pub(super) struct Planned {
    pub(super) offsets: Vec<i64>,
    pub(super) peak: i64,
    /// Nothing ends below this.
    pub(super) lower: i64,
    /// The peak is at or below the goal, or equal to `lower`.
    pub(super) complete: bool,
}

/// Steps of the first attempt at a capacity; later ones get twice as many each time.
const ATTEMPT_STEPS: u64 = 50_000;

/// Plans a part: as low as it can be, but not lower than `goal`, with at most `share` steps.
pub(super) fn plan_part(part: &Part, goal: i64, fuel: &mut Fuel, share: u64) -> Planned {
    let reserve = fuel.left() - share.min(fuel.left());
    let greedy = greedy::plan(part, goal, fuel);
    let mut planned =
        Planned { offsets: greedy.offsets, peak: greedy.peak, lower: part.bound, complete: false };
    // With gaps two buffers may lie over each other crosswise, which the search does not know: it would prove too much.
    if planned.peak > goal && !part.has_gaps {
        improve(part, goal, &mut planned, fuel, reserve);
    }
    planned.complete = planned.peak <= goal.max(planned.lower);
    planned
}

/// Alternates between the goal, which is often reachable, and the middle between what is proved and what is found, which makes the
/// plan better while the goal resists.
fn improve(part: &Part, goal: i64, planned: &mut Planned, fuel: &mut Fuel, reserve: u64) {
    let Some(mut search) = Search::new(part) else { return };
    let mut attempt = ATTEMPT_STEPS;
    let grain = part.grain;
    while planned.peak > goal.max(planned.lower) && fuel.left() > reserve {
        let target = goal.max(planned.lower);
        let steps = attempt.min(fuel.left() - reserve);
        run(&mut search, target, steps, planned, grain, fuel);
        // Bisecting on what the search reaches with few steps; an attempt that runs out counts as out of reach for this round.
        let mut out_of_reach = goal.max(planned.lower);
        while planned.peak - out_of_reach > grain && fuel.left() > reserve {
            let middle = out_of_reach + (planned.peak - out_of_reach) / 2 / grain * grain;
            if middle <= out_of_reach {
                break;
            }
            let steps = (attempt / 8).min(fuel.left() - reserve);
            run(&mut search, middle, steps, planned, grain, fuel);
            if planned.peak > middle {
                out_of_reach = middle;
            }
        }
        attempt = attempt.saturating_mul(2);
    }
}

fn run(search: &mut Search, capacity: i64, steps: u64, planned: &mut Planned, grain: i64, fuel: &mut Fuel) {
    let (outcome, used) = search.run(capacity, steps);
    fuel.spend(used.max(1));
    match outcome {
        Outcome::Fits(offsets, peak) => {
            if peak < planned.peak {
                (planned.offsets, planned.peak) = (offsets, peak);
            }
        }
        Outcome::Impossible => planned.lower = planned.lower.max(capacity + grain),
        Outcome::OutOfFuel => {}
    }
}
