//! The walk over all tile sizes of one nest: larger sizes first, what cannot fit passed over, and what cannot be better.

use super::{
    Limits, Plan, Problem, TooLarge, accumulator_bytes, candidates, cost_at_least, score, sram_bytes,
    sram_bytes_of,
};

/// The best plan; none when no plan fits, or none costs less than `bound`.
pub(super) fn search_all(
    problem: &Problem,
    limits: Limits,
    bound: Option<u64>,
) -> Result<(Key, Plan), TooLarge> {
    let mut bound = bound.unwrap_or(u64::MAX);
    let mut best: Option<(Key, Plan)> = None;
    let needed_bytes = walk(problem, limits, &mut |tiles, sram_bytes| {
        if cost_at_least(problem, limits, tiles) > bound {
            return;
        }
        for order in &problem.orders {
            let score = score(problem, limits, tiles, order, sram_bytes);
            if score.cost <= bound {
                bound = score.cost;
                let plan = score.plan(tiles, order, sram_bytes);
                let key = Key::of(&plan);
                if best.as_ref().is_none_or(|(least, _)| key < *least) {
                    best = Some((key, plan));
                }
            }
        }
    });
    best.ok_or(TooLarge { needed_bytes, available_bytes: limits.sram_bytes })
}

/// Plans that none beats in both SRAM and cycles, least SRAM first; none when not even the smallest tiles fit.
pub fn frontier(problem: &Problem, limits: Limits) -> Vec<Plan> {
    let mut plans = Vec::new();
    walk(problem, limits, &mut |tiles, sram_bytes| {
        let plan = |order: &Vec<usize>| {
            score(problem, limits, tiles, order, sram_bytes).plan(tiles, order, sram_bytes)
        };
        plans.extend(problem.orders.iter().map(plan));
    });
    unbeaten(plans)
}

/// The plans that no other beats in both SRAM and cycles, least SRAM first.
pub fn unbeaten(mut plans: Vec<Plan>) -> Vec<Plan> {
    plans.sort_by_cached_key(|plan| (plan.sram_bytes, Key::of(plan)));
    let mut least = u64::MAX;
    plans.retain(|plan| {
        let is_better = plan.cycles < least;
        least = least.min(plan.cycles);
        is_better
    });
    plans
}

/// Visits all sizes that fit, with the SRAM they take. Gives the SRAM of those that take least, of all that were looked at.
fn walk(problem: &Problem, limits: Limits, visit: &mut dyn FnMut(&[u64], u64)) -> u64 {
    let sizes = problem.axes.iter().map(|axis| candidates(*axis)).collect();
    let tiles = vec![1; problem.axes.len()];
    let mut grid = Grid { problem, limits, sizes, tiles, visit, needed_bytes: u64::MAX };
    grid.descend(0);
    grid.needed_bytes
}

struct Grid<'p> {
    problem: &'p Problem,
    limits: Limits,
    /// Candidates by axis, descending.
    sizes: Vec<Vec<u64>>,
    tiles: Vec<u64>,
    visit: &'p mut dyn FnMut(&[u64], u64),
    needed_bytes: u64,
}

impl Grid<'_> {
    fn descend(&mut self, axis: usize) {
        if axis == self.sizes.len() {
            let sram_bytes = sram_bytes(self.problem, &self.tiles);
            self.needed_bytes = self.needed_bytes.min(sram_bytes);
            let accumulators = accumulator_bytes(self.problem, &self.tiles);
            if sram_bytes <= self.limits.sram_bytes && accumulators <= self.limits.accumulator_bytes {
                (self.visit)(&self.tiles, sram_bytes);
            }
            return;
        }
        for at in 0..self.sizes[axis].len() {
            self.tiles[axis] = self.sizes[axis][at];
            // The others at their smallest, each with one buffer only: no plan with these sizes takes less.
            for later in axis + 1..self.sizes.len() {
                self.tiles[later] = *self.sizes[later].last().expect("a candidate");
            }
            let least = sram_bytes_of(self.problem, &self.tiles, axis + 1);
            if least > self.limits.sram_bytes {
                self.needed_bytes = self.needed_bytes.min(sram_bytes(self.problem, &self.tiles));
            } else {
                self.descend(axis + 1);
            }
        }
    }
}

/// What plans are compared by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(pub(super) u64, u64, u64, u64, Vec<u64>, Vec<usize>);

impl Key {
    pub(super) fn of(plan: &Plan) -> Key {
        let Plan { tiles, order, cycles, cost, dram_bytes, sram_bytes, .. } = plan;
        Key(*cost, *cycles, *dram_bytes, *sram_bytes, tiles.clone(), order.clone())
    }
}
