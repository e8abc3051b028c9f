//! Tile sizes and loop order of one loop nest: an exact search over a thinned grid under the SRAM limit.
//!
//! A nest is axes (its loops), operands (what a tile of it loads, stores or holds in SRAM) and work (what a tile costs on the
//! compute engines). The search minimises modelled cycles and `TRANSFER_WEIGHT` times those that DRAM is busy: where computing hides the
//! transfers their bytes still cost most of the energy. Then DRAM bytes, SRAM bytes and the tile sizes themselves decide, so that one input has
//! one answer. What cannot be better than the best so far is passed over. Integers only. It must not know the IR, ops or the ISA.
//!
//! ```text
//! axes m=128 n=4096 k=2048; load x[m,k] f16, load w[k,n] i4, store y[m,n] f16; 1 MiB
//! -> m=128 n=512 k=2048, loops n m k, 131072 cycles
//! ```

mod grid;
mod score;

use grid::{Key, search_all};
pub use grid::{frontier, unbeaten};
pub use score::cost;
use score::{Tiling, cost_at_least, score};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// One loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Axis {
    /// Its name in messages.
    pub name: &'static str,
    /// Largest number of steps.
    pub extent: u64,
    /// Tile sizes are multiples of this, or the whole extent; work is rounded up to it.
    pub granule: u64,
    /// The only tile size to try, when it is decided already.
    pub tile: Option<u64>,
    /// Whether there are only whole tiles, one or an even number of them.
    pub is_even: bool,
}

impl Axis {
    /// An axis. Extent and granule count as at least 1.
    pub fn new(name: &'static str, extent: u64, granule: u64) -> Axis {
        Axis { name, extent: extent.max(1), granule: granule.max(1), tile: None, is_even: false }
    }

    /// An axis with one tile size.
    pub fn with_tile(name: &'static str, extent: u64, tile: u64) -> Axis {
        Axis { tile: Some(tile.clamp(1, extent.max(1))), ..Axis::new(name, extent, 1) }
    }
}

/// How long one dimension of an operand is for a tile of `t` steps of its axis: `(t - 1) * stride + reach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Index of the axis.
    pub axis: usize,
    /// Elements per step.
    pub stride: u64,
    /// Elements that one step touches (a window's reach).
    pub reach: u64,
}

impl Span {
    /// One element per step.
    pub fn plain(axis: usize) -> Span {
        Span { axis, stride: 1, reach: 1 }
    }

    fn length(self, tile: u64) -> u64 {
        (tile - 1) * self.stride + self.reach
    }
}

/// What happens to an operand's tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// Comes from DRAM.
    Load,
    /// Goes to DRAM.
    Store,
    /// Lives in SRAM only.
    Hold,
    /// Lives in the accumulators.
    Accumulate,
}

/// One operand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operand {
    /// Load, store or hold.
    pub flow: Flow,
    /// Dimensions that follow axes.
    pub spans: Vec<Span>,
    /// Product of the other dimensions.
    pub fixed: u64,
    /// Bits per element.
    pub bits: u64,
    /// The axis along which elements are neighbours in DRAM: a part of it moves in whole bursts.
    pub burst: Option<usize>,
    /// An axis of which SRAM holds at most so many steps at once: a tile passes in pieces.
    pub piece: Option<(usize, u64)>,
}

/// Bytes of a DRAM burst: 16 beats on two 16-bit channels in step (LPDDR5, JEDEC JESD209-5).
const BURST_BYTES: u64 = 64;

impl Operand {
    /// An operand whose dimensions are the given axes.
    pub fn new(flow: Flow, axes: &[usize], bits: u64) -> Operand {
        Operand {
            flow,
            spans: axes.iter().map(|axis| Span::plain(*axis)).collect(),
            fixed: 1,
            bits,
            burst: None,
            piece: None,
        }
    }

    /// Steps of an axis that SRAM holds at once.
    fn steps(&self, tiles: &[u64], axis: usize) -> u64 {
        match self.piece {
            Some((of, steps)) if of == axis => tiles[axis].min(steps),
            _ => tiles[axis],
        }
    }

    fn tile_bytes(&self, tiles: &[u64]) -> u64 {
        let elements = self.spans.iter().fold(self.fixed, |product, span| {
            product.saturating_mul(span.length(self.steps(tiles, span.axis)))
        });
        elements.saturating_mul(self.bits).div_ceil(8)
    }
}

/// What a tile costs on a compute engine: the product of its axes (rounded up to granules) times `factor`, over `per_cycle`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Work {
    /// Axes whose tile sizes are multiplied.
    pub axes: Vec<usize>,
    /// Steps per point.
    pub factor: u64,
    /// Steps per cycle.
    pub per_cycle: u64,
}

/// A loop nest to be tiled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Its loops.
    pub axes: Vec<Axis>,
    /// Its operands.
    pub operands: Vec<Operand>,
    /// Its work.
    pub work: Vec<Work>,
    /// Loop orders that are allowed, outermost first, each a permutation of the axes.
    pub orders: Vec<Vec<usize>>,
    /// SRAM that is needed whatever the tiles are.
    pub fixed_sram_bytes: u64,
    /// What fills the SRAM that tiles leave free.
    pub keeps: Option<Keeps>,
}

/// An operand that loops pass several times along an axis: as much of it as SRAM has room for beside the tiles, the first steps of the axis
/// for all steps of the others, lies there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keeps {
    /// Index of the operand.
    pub operand: usize,
    /// The axis.
    pub axis: usize,
    /// Bytes of one step.
    pub step_bytes: u64,
    /// Whether what does not stay has to be written first.
    pub is_written: bool,
}

impl Keeps {
    /// Steps that stay beside tiles that take so much: whole tiles, and not all.
    fn steps(&self, problem: &Problem, limits: Limits, tiles: &[u64], sram_bytes: u64) -> u64 {
        let (extent, tile) = (problem.axes[self.axis].extent, tiles[self.axis]);
        let free_bytes = limits.sram_bytes.saturating_sub(sram_bytes);
        (free_bytes / self.step_bytes.max(1)).min(extent - 1) / tile * tile
    }
}

/// What the search knows of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limits {
    /// SRAM that a kernel may use.
    pub sram_bytes: u64,
    /// Accumulators that a kernel may use.
    pub accumulator_bytes: u64,
    /// DRAM bandwidth.
    pub dram_bytes_per_cycle: u64,
    /// Cycles that a transfer costs beyond its bytes.
    pub transfer_cycles: u64,
    /// Cycles that a compute command costs beyond its work.
    pub command_cycles: u64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Tile size per axis.
    pub tiles: Vec<u64>,
    /// Loops, outermost first.
    pub order: Vec<usize>,
    /// Modelled cycles.
    pub cycles: u64,
    /// What plans are compared by, as [`cost`] has it.
    pub cost: u64,
    /// Bytes to and from DRAM.
    pub dram_bytes: u64,
    /// SRAM in use, double buffers included.
    pub sram_bytes: u64,
    /// Steps that stay in SRAM, as [`Keeps`] has it.
    pub kept: u64,
}

impl Plan {
    /// Number of tiles along an axis.
    pub fn trips(&self, problem: &Problem, axis: usize) -> u64 {
        problem.axes[axis].extent.div_ceil(self.tiles[axis])
    }
}

/// No tile fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// SRAM that the smallest tiles need.
    pub needed_bytes: u64,
    /// SRAM there is.
    pub available_bytes: u64,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the smallest tiles need {} bytes of SRAM, {} are available",
            self.needed_bytes, self.available_bytes
        )
    }
}

/// Whole bursts of 4-bit elements are 128 columns, four granules of the matrix engine: sizes that are multiples of it are tried too.
const GRANULES: u64 = 4;

/// Tile sizes worth trying, descending: for every number of tiles up to 8, then four per octave, the smallest size that gives it, and the
/// smallest multiple of four granules.
pub fn candidates(axis: Axis) -> Vec<u64> {
    if let Some(tile) = axis.tile {
        return vec![tile];
    }
    let mut sizes = std::collections::BTreeSet::new();
    let mut trips = 1u64;
    loop {
        let least = axis.extent.div_ceil(trips);
        let size = least.next_multiple_of(axis.granule).min(axis.extent);
        sizes.insert(size);
        if axis.granule > 1 {
            sizes.insert(least.next_multiple_of(GRANULES * axis.granule).min(axis.extent));
        }
        if size <= axis.granule {
            let fits =
                |size: &u64| !axis.is_even || *size == axis.extent || axis.extent.is_multiple_of(2 * size);
            return sizes.into_iter().rev().filter(fits).collect();
        }
        trips += if trips < 8 { 1 } else { 1 << (trips.ilog2() - 2) };
    }
}

/// A question: forms of a nest, limits, and a cost that is of no use any more.
pub type Question = (Vec<Problem>, Limits, Option<u64>);
type Found = BTreeMap<Question, Result<(usize, Plan), TooLarge>>;
/// Answers kept per thread; beyond it they are forgotten.
const FOUND_MAX: usize = 8192;

thread_local! {
    /// Layers of a model pose the same problems again and again: compile time stays flat in depth.
    static FOUND: RefCell<Found> = const { RefCell::new(Found::new()) };
}

/// The best plan, or how far the smallest tiles are from fitting.
///
/// # Errors
/// When not even the smallest tiles fit.
pub fn search(problem: &Problem, limits: Limits) -> Result<Plan, TooLarge> {
    best_of(std::slice::from_ref(problem), limits, None).map(|(_, plan)| plan)
}

/// The best plan of several forms of one nest, and which form it is of; the first of equals. A plan that costs as much as `known` or more is
/// of no use. Answers are remembered; they depend on the arguments alone.
///
/// # Errors
/// When not even the smallest tiles of any fit, or each plan is of no use.
pub fn best_of(forms: &[Problem], limits: Limits, known: Option<u64>) -> Result<(usize, Plan), TooLarge> {
    let key = (forms.to_vec(), limits, known);
    if let Some(known) = FOUND.with_borrow(|found| found.get(&key).cloned()) {
        return known;
    }
    let answer = solve(forms, limits, known);
    FOUND.with_borrow_mut(|found| {
        if found.len() >= FOUND_MAX {
            found.clear();
        }
        found.insert(key, answer.clone());
    });
    answer
}

/// What this thread has searched for and remembers, so that a bench can search for it again.
pub fn remembered() -> Vec<Question> {
    FOUND.with_borrow(|found| found.keys().cloned().collect())
}

/// As [`best_of`], without memory.
///
/// # Errors
/// As [`best_of`].
pub fn solve(forms: &[Problem], limits: Limits, known: Option<u64>) -> Result<(usize, Plan), TooLarge> {
    let mut best: Option<(usize, Key, Plan)> = None;
    let mut least: Option<TooLarge> = None;
    for (index, problem) in forms.iter().enumerate() {
        let found = best.as_ref().map(|best| best.1.0);
        // The whole nest as one tile costs least, if it fits.
        let whole: Vec<u64> = problem.axes.iter().map(|axis| axis.extent).collect();
        let least_cost = cost_at_least(&Tiling::new(problem, limits, &whole));
        if [found, known].into_iter().flatten().any(|bound| least_cost >= bound) {
            continue;
        }
        let bound = found.or(known.map(|known| known - 1));
        match search_all(problem, limits, bound) {
            Ok((key, plan)) if best.as_ref().is_none_or(|best| key < best.1) => {
                best = Some((index, key, plan))
            }
            Ok(_) => {}
            Err(large) if least.is_none_or(|least| large.needed_bytes < least.needed_bytes) => {
                least = Some(large)
            }
            Err(_) => {}
        }
    }
    let none = TooLarge { needed_bytes: u64::MAX, available_bytes: limits.sram_bytes };
    best.map(|(index, _, plan)| (index, plan)).ok_or(least.unwrap_or(none))
}

/// A plan for nests with many axes: axes are taken whole from the innermost on while they fit, the next one as far as it fits,
/// the others step by step. Axes are in loop order.
///
/// # Errors
/// When not even the smallest tiles fit.
pub fn fit_inner(problem: &Problem, limits: Limits) -> Result<Plan, TooLarge> {
    let sizes: Vec<Vec<u64>> = problem.axes.iter().map(|axis| candidates(*axis)).collect();
    let mut tiles: Vec<u64> = sizes.iter().map(|list| *list.last().expect("a candidate")).collect();
    let least = sram_bytes(problem, &tiles);
    if least > limits.sram_bytes {
        return Err(TooLarge { needed_bytes: least, available_bytes: limits.sram_bytes });
    }
    for axis in (0..tiles.len()).rev() {
        let fits = |size: &&u64| {
            let mut larger = tiles.clone();
            larger[axis] = **size;
            sram_bytes(problem, &larger) <= limits.sram_bytes
                && accumulator_bytes(problem, &larger) <= limits.accumulator_bytes
        };
        let size = *sizes[axis].iter().find(fits).expect("the smallest size fits");
        tiles[axis] = size;
        if size < problem.axes[axis].extent {
            break;
        }
    }
    let order: Vec<usize> = (0..tiles.len()).collect();
    let sram_bytes = sram_bytes(problem, &tiles);
    let tiling = Tiling::new(problem, limits, &tiles);
    Ok(score(&tiling, &order, sram_bytes).plan(&tiles, &order, sram_bytes))
}

/// Accumulators for these tiles.
pub fn accumulator_bytes(problem: &Problem, tiles: &[u64]) -> u64 {
    let held = problem.operands.iter().filter(|operand| operand.flow == Flow::Accumulate);
    held.fold(0, |sum, operand| sum.saturating_add(operand.tile_bytes(tiles).div_ceil(64) * 64))
}

/// SRAM for these tiles. A loaded or stored operand of which there is more than one tile has two buffers.
pub fn sram_bytes(problem: &Problem, tiles: &[u64]) -> u64 {
    sram_bytes_of(problem, tiles, problem.axes.len())
}

/// The same where only the first `decided` axes count as having several tiles.
fn sram_bytes_of(problem: &Problem, tiles: &[u64], decided: usize) -> u64 {
    let in_sram = problem.operands.iter().filter(|operand| operand.flow != Flow::Accumulate);
    in_sram.fold(problem.fixed_sram_bytes, |sum, operand| {
        let changes = |span: &Span| {
            span.axis < decided && operand.steps(tiles, span.axis) < problem.axes[span.axis].extent
        };
        let several = operand.flow != Flow::Hold && operand.spans.iter().any(changes);
        // Buffers begin at multiples of 64 bytes.
        let bytes = operand.tile_bytes(tiles).div_ceil(64) * 64;
        sum.saturating_add(bytes.saturating_mul(if several { 2 } else { 1 }))
    })
}

#[cfg(test)]
mod tests;
