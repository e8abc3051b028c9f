//! The walk over all tile sizes of one nest: larger sizes first, what cannot fit passed over, and what cannot be better.

use super::score::{Tiling, cost_at_least, order_cost_at_least, score};
use super::{Limits, Plan, Problem, TooLarge, accumulator_bytes, candidates, sram_bytes, sram_bytes_of};

/// Every so many candidates of an axis are looked at first: the best of them is a bound for all.
const COARSE_STEP: usize = 4;

/// The best plan; none when no plan fits, or each costs more than `bound`.
pub(super) fn search_all(
    problem: &Problem,
    limits: Limits,
    bound: Option<u64>,
) -> Result<(Key, Plan), TooLarge> {
    let mut search = Best { problem, limits, bound: bound.unwrap_or(u64::MAX), found: None };
    walk(problem, limits, COARSE_STEP, &mut search);
    let needed_bytes = walk(problem, limits, 1, &mut search);
    search.found.ok_or(TooLarge { needed_bytes, available_bytes: limits.sram_bytes })
}

/// What a walk is for.
trait Visitor {
    /// Whether no sizes up to these, each larger one the better, are worth a look.
    fn passes_over(&self, _largest: &[u64]) -> bool {
        false
    }

    /// Sizes that fit, with the SRAM they take.
    fn visit(&mut self, tiles: &[u64], sram_bytes: u64);
}

/// The best plan so far.
struct Best<'p> {
    problem: &'p Problem,
    limits: Limits,
    bound: u64,
    found: Option<(Key, Plan)>,
}

impl Visitor for Best<'_> {
    fn passes_over(&self, largest: &[u64]) -> bool {
        if self.bound == u64::MAX {
            return false;
        }
        let tiling = Tiling::new(self.problem, self.limits, largest);
        let mut least = self.problem.orders.iter().map(|order| order_cost_at_least(&tiling, order));
        least.all(|least| least > self.bound)
    }

    fn visit(&mut self, tiles: &[u64], sram_bytes: u64) {
        let tiling = Tiling::new(self.problem, self.limits, tiles);
        if cost_at_least(&tiling) > self.bound {
            return;
        }
        for order in &self.problem.orders {
            let score = score(&tiling, order, sram_bytes);
            if score.cost <= self.bound {
                self.bound = score.cost;
                let plan = score.plan(tiles, order, sram_bytes);
                let key = Key::of(&plan);
                if self.found.as_ref().is_none_or(|(least, _)| key < *least) {
                    self.found = Some((key, plan));
                }
            }
        }
    }
}

/// All plans.
struct All<'p> {
    problem: &'p Problem,
    limits: Limits,
    plans: Vec<Plan>,
}

impl Visitor for All<'_> {
    fn visit(&mut self, tiles: &[u64], sram_bytes: u64) {
        let tiling = Tiling::new(self.problem, self.limits, tiles);
        let plan = |order: &Vec<usize>| score(&tiling, order, sram_bytes).plan(tiles, order, sram_bytes);
        self.plans.extend(self.problem.orders.iter().map(plan));
    }
}

/// Plans that none beats in both SRAM and cycles, least SRAM first; none when not even the smallest tiles fit.
pub fn frontier(problem: &Problem, limits: Limits) -> Vec<Plan> {
    let mut all = All { problem, limits, plans: Vec::new() };
    walk(problem, limits, 1, &mut all);
    unbeaten(all.plans)
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

/// Visits every `step`th size that fits and is worth it. Gives the SRAM of those that take least, of all that were looked at.
fn walk(problem: &Problem, limits: Limits, step: usize, visitor: &mut dyn Visitor) -> u64 {
    let sizes = problem.axes.iter().map(|axis| candidates(*axis).into_iter().step_by(step).collect());
    let sizes: Vec<Vec<u64>> = sizes.collect();
    let end = |at: fn(&[u64]) -> Option<&u64>| -> Vec<u64> {
        sizes.iter().map(|sizes| *at(sizes).expect("a candidate")).collect()
    };
    let (least, most) = (end(<[u64]>::last), end(<[u64]>::first));
    let mut grid = Grid { problem, limits, sizes, least, most, visitor, needed_bytes: u64::MAX };
    let mut tiles = grid.least.clone();
    grid.descend(&mut tiles, 0);
    grid.needed_bytes
}

struct Grid<'p> {
    problem: &'p Problem,
    limits: Limits,
    /// Candidates by axis, descending.
    sizes: Vec<Vec<u64>>,
    /// The smallest of each axis, and the largest.
    least: Vec<u64>,
    most: Vec<u64>,
    visitor: &'p mut dyn Visitor,
    needed_bytes: u64,
}

impl Grid<'_> {
    /// All sizes of an axis and of those behind it; those before it are decided.
    fn descend(&mut self, tiles: &mut [u64], axis: usize) {
        if axis == self.sizes.len() {
            let sram_bytes = sram_bytes(self.problem, tiles);
            self.needed_bytes = self.needed_bytes.min(sram_bytes);
            let accumulators = accumulator_bytes(self.problem, tiles);
            if sram_bytes <= self.limits.sram_bytes && accumulators <= self.limits.accumulator_bytes {
                self.visitor.visit(tiles, sram_bytes);
            }
            return;
        }
        for at in 0..self.sizes[axis].len() {
            tiles[axis] = self.sizes[axis][at];
            // The others at their smallest, each with one buffer only: no plan with these sizes takes less.
            tiles[axis + 1..].copy_from_slice(&self.least[axis + 1..]);
            let least = sram_bytes_of(self.problem, tiles, axis + 1);
            if least > self.limits.sram_bytes {
                self.needed_bytes = self.needed_bytes.min(sram_bytes(self.problem, tiles));
                continue;
            }
            // The others at their largest: no plan with these sizes costs less.
            tiles[axis + 1..].copy_from_slice(&self.most[axis + 1..]);
            if axis + 1 == tiles.len() || !self.visitor.passes_over(tiles) {
                self.descend(tiles, axis + 1);
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
