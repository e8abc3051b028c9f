//! Tile sizes and loop order of one loop nest: an exact search over a thinned grid under the SRAM limit.
//!
//! A nest is axes (its loops), operands (what a tile of it loads, stores or holds in SRAM) and work (what a tile costs on the
//! compute engines). The search minimises modelled cycles, then DRAM bytes, then SRAM bytes, then the tile sizes themselves, so
//! that one input has one answer. Integers only. It must not know the IR, ops or the ISA.
//!
//! ```text
//! axes m=128 n=4096 k=2048; load x[m,k] f16, load w[k,n] i4, store y[m,n] f16; 1 MiB
//! -> m=128 n=512 k=2048, loops n m k, 131072 cycles
//! ```

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
}

impl Axis {
    /// An axis. Extent and granule count as at least 1.
    pub fn new(name: &'static str, extent: u64, granule: u64) -> Axis {
        Axis { name, extent: extent.max(1), granule: granule.max(1), tile: None }
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
        }
    }

    fn tile_bytes(&self, tiles: &[u64]) -> u64 {
        let elements = self
            .spans
            .iter()
            .fold(self.fixed, |product, span| product.saturating_mul(span.length(tiles[span.axis])));
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
    /// Bytes to and from DRAM.
    pub dram_bytes: u64,
    /// SRAM in use, double buffers included.
    pub sram_bytes: u64,
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

/// Tile sizes worth trying: for every number of tiles up to 8, then four per octave, the smallest size that gives it.
pub fn candidates(axis: Axis) -> Vec<u64> {
    if let Some(tile) = axis.tile {
        return vec![tile];
    }
    let mut sizes = Vec::new();
    let mut trips = 1u64;
    loop {
        let size = axis.extent.div_ceil(trips).div_ceil(axis.granule) * axis.granule;
        let size = size.min(axis.extent);
        if sizes.last() != Some(&size) {
            sizes.push(size);
        }
        if size <= axis.granule {
            return sizes;
        }
        trips += if trips < 8 { 1 } else { 1 << (trips.ilog2() - 2) };
    }
}

type Found = BTreeMap<(Problem, Limits), Result<Plan, TooLarge>>;
/// Answers kept per thread; beyond it they are forgotten.
const FOUND_MAX: usize = 8192;

thread_local! {
    /// Layers of a model pose the same problems again and again: compile time stays flat in depth.
    static FOUND: RefCell<Found> = const { RefCell::new(Found::new()) };
}

/// The best plan, or how far the smallest tiles are from fitting. Answers are remembered; they depend on the arguments alone.
///
/// # Errors
/// When not even the smallest tiles fit.
pub fn search(problem: &Problem, limits: Limits) -> Result<Plan, TooLarge> {
    let key = (problem.clone(), limits);
    if let Some(known) = FOUND.with_borrow(|found| found.get(&key).cloned()) {
        return known;
    }
    let answer = search_all(problem, limits);
    FOUND.with_borrow_mut(|found| {
        if found.len() >= FOUND_MAX {
            found.clear();
        }
        found.insert(key, answer.clone());
    });
    answer
}

fn search_all(problem: &Problem, limits: Limits) -> Result<Plan, TooLarge> {
    let sizes: Vec<Vec<u64>> = problem.axes.iter().map(|axis| candidates(*axis)).collect();
    let mut best: Option<(Key, Plan)> = None;
    let mut index = vec![0usize; sizes.len()];
    let mut needed_bytes = u64::MAX;
    loop {
        let tiles: Vec<u64> = index.iter().zip(&sizes).map(|(at, list)| list[*at]).collect();
        let sram_bytes = sram_bytes(problem, &tiles);
        needed_bytes = needed_bytes.min(sram_bytes);
        if sram_bytes <= limits.sram_bytes && accumulator_bytes(problem, &tiles) <= limits.accumulator_bytes {
            for order in &problem.orders {
                let plan = score(problem, limits, &tiles, order, sram_bytes);
                let key = Key::of(&plan);
                if best.as_ref().is_none_or(|(least, _)| key < *least) {
                    best = Some((key, plan));
                }
            }
        }
        if !advance(&mut index, &sizes) {
            break;
        }
    }
    best.map(|(_, plan)| plan).ok_or(TooLarge { needed_bytes, available_bytes: limits.sram_bytes })
}

/// Plans that none beats in both SRAM and cycles, least SRAM first; none when not even the smallest tiles fit.
pub fn frontier(problem: &Problem, limits: Limits) -> Vec<Plan> {
    let sizes: Vec<Vec<u64>> = problem.axes.iter().map(|axis| candidates(*axis)).collect();
    let mut plans = Vec::new();
    let mut index = vec![0usize; sizes.len()];
    loop {
        let tiles: Vec<u64> = index.iter().zip(&sizes).map(|(at, list)| list[*at]).collect();
        let sram_bytes = sram_bytes(problem, &tiles);
        if sram_bytes <= limits.sram_bytes && accumulator_bytes(problem, &tiles) <= limits.accumulator_bytes {
            plans
                .extend(problem.orders.iter().map(|order| score(problem, limits, &tiles, order, sram_bytes)));
        }
        if !advance(&mut index, &sizes) {
            return unbeaten(plans);
        }
    }
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
    Ok(score(problem, limits, &tiles, &order, sram_bytes(problem, &tiles)))
}

/// What plans are compared by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64, u64, u64, Vec<u64>, Vec<usize>);

impl Key {
    fn of(plan: &Plan) -> Key {
        Key(plan.cycles, plan.dram_bytes, plan.sram_bytes, plan.tiles.clone(), plan.order.clone())
    }
}

fn advance(index: &mut [usize], sizes: &[Vec<u64>]) -> bool {
    for (at, list) in index.iter_mut().zip(sizes).rev() {
        *at += 1;
        if *at < list.len() {
            return true;
        }
        *at = 0;
    }
    false
}

/// Accumulators for these tiles.
pub fn accumulator_bytes(problem: &Problem, tiles: &[u64]) -> u64 {
    let held = problem.operands.iter().filter(|operand| operand.flow == Flow::Accumulate);
    held.fold(0, |sum, operand| sum.saturating_add(operand.tile_bytes(tiles).div_ceil(64) * 64))
}

/// SRAM for these tiles. A loaded or stored operand of which there is more than one tile has two buffers.
pub fn sram_bytes(problem: &Problem, tiles: &[u64]) -> u64 {
    let trips = |axis: usize| problem.axes[axis].extent.div_ceil(tiles[axis]);
    let in_sram = problem.operands.iter().filter(|operand| operand.flow != Flow::Accumulate);
    in_sram.fold(problem.fixed_sram_bytes, |sum, operand| {
        let several = operand.flow != Flow::Hold && operand.spans.iter().any(|span| trips(span.axis) > 1);
        // Buffers begin at multiples of 64 bytes.
        let bytes = operand.tile_bytes(tiles).div_ceil(64) * 64;
        sum.saturating_add(bytes.saturating_mul(if several { 2 } else { 1 }))
    })
}

/// What moves for one operand.
struct Traffic {
    /// All its bytes.
    bytes: u64,
    /// Number of transfers.
    transfers: u64,
    /// Loops that are open when it moves.
    depth: usize,
}

fn traffic(problem: &Problem, operand: &Operand, tiles: &[u64], order: &[usize]) -> Traffic {
    let trips = |axis: usize| problem.axes[axis].extent.div_ceil(tiles[axis]);
    // The tile changes with every loop down to the innermost one that it depends on.
    let depends = |axis: &usize| trips(*axis) > 1 && operand.spans.iter().any(|span| span.axis == *axis);
    let depth = order.iter().rposition(depends).map_or(0, |at| at + 1);
    let transfers = order[..depth].iter().fold(1u64, |product, axis| product.saturating_mul(trips(*axis)));
    let sweep: u64 = order.iter().filter(|axis| depends(axis)).map(|axis| trips(*axis)).product();
    // Tails are shorter: the whole operand, once per sweep, instead of full tiles.
    let bytes = whole_bytes(problem, operand, tiles).saturating_mul(transfers / sweep.max(1));
    Traffic { bytes, transfers, depth }
}

fn score(problem: &Problem, limits: Limits, tiles: &[u64], order: &[usize], sram_bytes: u64) -> Plan {
    let trips = |axis: usize| problem.axes[axis].extent.div_ceil(tiles[axis]);
    let steps = order.iter().fold(1u64, |product, axis| product.saturating_mul(trips(*axis)));
    let innermost = order.iter().rposition(|axis| trips(*axis) > 1).map_or(0, |at| at + 1);
    let per_cycle = limits.dram_bytes_per_cycle.max(1);
    // Streamed tiles overlap with computing, but for the first of each run of the innermost loop; others are waited for. Loads
    // and stores have a queue each, and share the memory.
    let (mut dram_bytes, mut loads, mut stores) = (0u64, 0u64, 0u64);
    let (mut waited, mut first) = (0u64, 0u64);
    for operand in problem.operands.iter().filter(|operand| matches!(operand.flow, Flow::Load | Flow::Store))
    {
        let traffic = traffic(problem, operand, tiles, order);
        dram_bytes = dram_bytes.saturating_add(traffic.bytes);
        let setup = traffic.transfers.saturating_mul(limits.transfer_cycles);
        let cycles = traffic.bytes / per_cycle + setup;
        match operand.flow {
            Flow::Load if traffic.depth < innermost => waited = waited.saturating_add(cycles),
            Flow::Load => {
                loads = loads.saturating_add(cycles);
                first = first.saturating_add(operand.tile_bytes(tiles) / per_cycle + limits.transfer_cycles);
            }
            _ => stores = stores.saturating_add(cycles),
        }
    }
    let fills = steps / innermost.checked_sub(1).map_or(1, |at| trips(order[at]));
    waited = waited.saturating_add(fills.saturating_mul(first));
    let commands = 1 + problem.work.len() as u64;
    let issue = steps.saturating_mul(limits.command_cycles * commands);
    let compute = work_cycles(problem, tiles).saturating_add(issue);
    let movement = loads.max(stores).max(dram_bytes / per_cycle);
    let cycles = waited.saturating_add(compute.max(movement));
    Plan { tiles: tiles.to_vec(), order: order.to_vec(), cycles, dram_bytes, sram_bytes }
}

/// Cycles of the compute engines for all tiles, each rounded up to the granules.
fn work_cycles(problem: &Problem, tiles: &[u64]) -> u64 {
    problem.work.iter().fold(0u64, |sum, work| {
        let points = work.axes.iter().fold(work.factor, |product, axis| {
            let granule = problem.axes[*axis].granule;
            let rounded = |size: u64| size.div_ceil(granule) * granule;
            let full = problem.axes[*axis].extent / tiles[*axis];
            let tail = problem.axes[*axis].extent % tiles[*axis];
            product.saturating_mul(full * rounded(tiles[*axis]) + if tail > 0 { rounded(tail) } else { 0 })
        });
        sum.saturating_add(points.div_ceil(work.per_cycle.max(1)))
    })
}

/// Bytes of one pass over the whole operand, overlaps of windows included.
fn whole_bytes(problem: &Problem, operand: &Operand, tiles: &[u64]) -> u64 {
    let elements = operand.spans.iter().fold(operand.fixed, |product, span| {
        let (extent, tile) = (problem.axes[span.axis].extent, tiles[span.axis]);
        let tail = extent % tile;
        let length = (extent / tile) * span.length(tile) + if tail > 0 { span.length(tail) } else { 0 };
        product.saturating_mul(length)
    });
    let bytes = elements.saturating_mul(operand.bits).div_ceil(8);
    match operand.burst {
        Some(axis) if tiles[axis] < problem.axes[axis].extent => {
            let row_bytes = (tiles[axis] * operand.bits).div_ceil(8).max(1);
            let moved = row_bytes.div_ceil(BURST_BYTES) * BURST_BYTES;
            (u128::from(bytes) * u128::from(moved) / u128::from(row_bytes)) as u64
        }
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        sram_bytes: 1 << 20,
        accumulator_bytes: 64 << 10,
        dram_bytes_per_cycle: 32,
        transfer_cycles: 64,
        command_cycles: 16,
    };

    fn matmul(m: u64, n: u64, k: u64, weight_bits: u64, per_cycle: u64) -> Problem {
        Problem {
            axes: vec![Axis::new("m", m, 1), Axis::new("n", n, 16), Axis::new("k", k, 16)],
            operands: vec![
                Operand::new(Flow::Load, &[0, 2], 16),
                Operand::new(Flow::Load, &[1, 2], weight_bits),
                Operand::new(Flow::Accumulate, &[0, 1], 32),
                Operand::new(Flow::Store, &[0, 1], 16),
            ],
            work: vec![Work { axes: vec![0, 1, 2], factor: 1, per_cycle }],
            orders: vec![vec![0, 1, 2], vec![1, 0, 2]],
            fixed_sram_bytes: 0,
        }
    }

    #[test]
    fn decode_moves_every_weight_once() {
        let problem = matmul(1, 8192, 2048, 4, 4096);
        for sram_bytes in [256 << 10, 512 << 10, 1 << 20, 4 << 20] {
            let plan = search(&problem, Limits { sram_bytes, ..LIMITS }).unwrap();
            assert_eq!(plan.dram_bytes, 2048 * 2 + 8192 * 2048 / 2 + 8192 * 2);
            assert!(plan.sram_bytes <= sram_bytes);
        }
    }

    #[test]
    fn more_sram_is_never_worse() {
        let problem = matmul(512, 2048, 2048, 8, 2048);
        let mut last = u64::MAX;
        for sram_bytes in [128 << 10, 256 << 10, 512 << 10, 1 << 20, 4 << 20] {
            let plan = search(&problem, Limits { sram_bytes, ..LIMITS }).unwrap();
            assert!(plan.cycles <= last, "{sram_bytes}: {} > {last}", plan.cycles);
            last = plan.cycles;
        }
        // At 4 MiB the matrix engine is busy nearly all the time.
        assert!(last < 512 * 2048 * 2048 / 2048 * 108 / 100, "{last}");
    }

    #[test]
    fn the_best_of_the_grid_is_found() {
        // The same grid, walked by hand in another order, knows no better plan.
        let problem = matmul(96, 640, 384, 16, 1024);
        let limits = Limits { sram_bytes: 96 << 10, ..LIMITS };
        let found = search(&problem, limits).unwrap();
        for k in candidates(problem.axes[2]) {
            for n in candidates(problem.axes[1]) {
                for m in candidates(problem.axes[0]) {
                    let bytes = sram_bytes(&problem, &[m, n, k]);
                    for order in problem.orders.iter().filter(|_| bytes <= limits.sram_bytes) {
                        let plan = score(&problem, limits, &[m, n, k], order, bytes);
                        assert!(Key::of(&found) <= Key::of(&plan));
                    }
                }
            }
        }
    }

    #[test]
    fn windows_reload_their_halo() {
        let operand = Operand {
            flow: Flow::Load,
            spans: vec![Span { axis: 0, stride: 2, reach: 3 }],
            fixed: 8,
            bits: 32,
            burst: None,
        };
        let problem = Problem {
            axes: vec![Axis::new("row", 10, 1)],
            operands: vec![operand],
            work: vec![],
            orders: vec![vec![0]],
            fixed_sram_bytes: 0,
        };
        assert_eq!(whole_bytes(&problem, &problem.operands[0], &[10]), 21 * 32);
        // Tiles of 4, 4 and 2 rows read 9, 9 and 5 rows.
        assert_eq!(whole_bytes(&problem, &problem.operands[0], &[4]), 23 * 32);
    }

    #[test]
    fn what_cannot_fit_says_how_much_is_missing() {
        let problem = Problem { fixed_sram_bytes: 5000, ..matmul(4, 64, 64, 8, 64) };
        let error = search(&problem, Limits { sram_bytes: 4096, ..LIMITS }).unwrap_err();
        assert_eq!(error.available_bytes, 4096);
        assert!(error.needed_bytes > 5000);
        assert!(search(&problem, Limits { sram_bytes: error.needed_bytes, ..LIMITS }).is_ok());
    }

    #[test]
    fn candidates_end_at_the_granule() {
        assert_eq!(candidates(Axis::new("n", 1, 16)), [1]);
        assert_eq!(candidates(Axis::new("n", 48, 16)), [48, 32, 16]);
        assert!(candidates(Axis::new("n", 131_072, 16)).len() < 64);
    }
}
