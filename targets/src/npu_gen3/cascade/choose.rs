//! Where a chain of kernels is cut into cascades, how high their stripes are, and what stays in SRAM: the plan of the fewest modelled
//! cycles in a given amount of SRAM.
//!
//! A cascade runs stripe by stripe; of the results between its kernels only the rows in use lie in SRAM. What crosses a cut lies there as
//! a whole, or in memory when that does not fit. The cuts are an exact dynamic program over the chain (the way of TVM's cascader for
//! Ethos-U, apache/tvm-rfcs 37); the tiles of a kernel are those that none beats in SRAM and cycles, by the tile search's own model;
//! weights are kept from stripe to stripe where that saves cycles. It must not know how a plan is written.
//!
//! ```text
//! 3 kernels, 30 kB   =>   [0, 1] in stripes of 4 rows with kernel 0's weights kept: 9 kB, 41000 cycles; [2] at once: 28 kB, 12000 cycles
//! ```

use super::super::convolution::Resident;
use super::super::machine::limits;
use super::super::tile_search::{Limits, Plan};
use super::Chain;
use super::rows::{Stripes, stripes};
use crate::lowering::LoweringContext;
use std::collections::{BTreeMap, BTreeSet};

/// Kernels in one cascade at most: each costs buffers, and halos grow with every window.
const LINKS_MAX: usize = 12;
/// Steps of a cascade that are written out at most.
const STEPS_MAX: usize = 512;
/// Buffers begin at multiples of this.
const ALIGNMENT_BYTES: u64 = 64;

/// One cascade of a plan.
#[derive(Clone, Debug)]
pub struct Cascade {
    /// First kernel.
    pub first: usize,
    /// Last kernel.
    pub last: usize,
    /// What is computed when.
    pub stripes: Stripes,
    /// Values of which some rows at a time lie in SRAM.
    pub windows: BTreeSet<usize>,
    /// Kernels whose weights stay in SRAM.
    pub kept: BTreeSet<usize>,
    /// Tiles by kernel and number of rows.
    pub tiles: BTreeMap<(usize, i64), Plan>,
    /// Modelled cycles.
    pub cycles: u64,
    /// SRAM, values that others left there included.
    pub sram_bytes: u64,
}

/// How a chain runs.
#[derive(Clone, Debug)]
pub struct Choice {
    /// In order.
    pub cascades: Vec<Cascade>,
    /// Values that lie in SRAM as a whole; the others that are no windows lie in memory.
    pub whole: BTreeSet<usize>,
}

/// Rows of a kernel in a cascade, with how many stripes compute so many.
type Heights = BTreeMap<i64, u64>;

/// A cascade before its tiles are chosen: what does not depend on the SRAM there is.
struct Candidate {
    first: usize,
    last: usize,
    stripes: Stripes,
    windows: BTreeSet<usize>,
    heights: Vec<Heights>,
    window_bytes: u64,
    move_cycles: u64,
}

/// Plans of a kernel by what lies in SRAM beside it and the number of rows.
type Frontiers = BTreeMap<(usize, i64, Resident), Vec<Plan>>;

/// Chooses plans for one chain.
pub struct Chooser<'a, 'c> {
    context: &'a LoweringContext<'c>,
    chain: &'a Chain,
    limits: Limits,
    candidates: Vec<Candidate>,
    frontiers: Frontiers,
}

impl<'a, 'c> Chooser<'a, 'c> {
    /// Lists all cascades of a chain; without `cascading` those of one kernel each.
    pub fn new(context: &'a LoweringContext<'c>, chain: &'a Chain, cascading: bool) -> Chooser<'a, 'c> {
        let mut chooser = Chooser {
            context,
            chain,
            limits: limits(context),
            candidates: Vec::new(),
            frontiers: Frontiers::new(),
        };
        let count = chain.links.len();
        for first in 0..count {
            let most = if cascading { LINKS_MAX } else { 1 };
            for last in first..count.min(first + most) {
                for height in heights(chain.links[last].rows) {
                    chooser.candidates.extend(chooser.candidate(first, last, height));
                }
            }
        }
        chooser
    }

    fn candidate(&self, first: usize, last: usize, height: i64) -> Option<Candidate> {
        let chain = self.chain;
        let links = chain.rows_of(first, last);
        let stripes = stripes(&links, height);
        let steps: usize = stripes.stripes.iter().map(|stripe| stripe.steps.len()).sum();
        let is_single = stripes.stripes.len() == 1;
        // A cascade that is done at once keeps all of every map: its kernels might as well run one by one.
        if steps > STEPS_MAX || is_single && last > first {
            return None;
        }
        let mut heights = vec![Heights::new(); last - first + 1];
        let mut move_cycles = 0;
        let windows: BTreeSet<usize> =
            (0..chain.values.len()).filter(|value| chain.is_window(*value, first, last)).collect();
        let row_bytes = |maker: usize| -> u64 {
            let made = chain.links[maker].outputs.iter().filter(|output| windows.contains(&output.1));
            made.map(|output| chain.values[output.1].row_bytes).sum()
        };
        for stripe in &stripes.stripes {
            for step in &stripe.steps {
                *heights[step.link].entry(step.rows).or_default() += 1;
            }
            for moved in &stripe.moves {
                let lanes = 2 * self.context.machine.vector_lanes.max(1);
                let elements = moved.rows as u64 * row_bytes(first + moved.maker);
                let commands = if moved.from >= moved.rows { 1 } else { moved.rows as u64 };
                move_cycles += commands * self.limits.command_cycles + elements.div_ceil(lanes);
            }
        }
        let bytes = |value: &usize| {
            let value = &chain.values[*value];
            aligned(stripes.capacities[value.maker - first] as u64 * value.row_bytes)
        };
        let window_bytes = windows.iter().map(bytes).sum();
        Some(Candidate { first, last, stripes, windows, heights, window_bytes, move_cycles })
    }

    /// The plan of the fewest cycles.
    ///
    /// # Errors
    /// When no plan fits the SRAM.
    pub fn choose(&mut self) -> Result<Choice, String> {
        // The largest values go to memory first, one by one, until a plan fits.
        let mut order: Vec<usize> = (0..self.chain.values.len()).collect();
        order.sort_by_key(|value| std::cmp::Reverse(self.chain.values[*value].bytes()));
        let inner: BTreeSet<usize> =
            order.iter().copied().filter(|value| !self.chain.values[*value].leaves).collect();
        let mut in_memory: BTreeSet<usize> =
            order.iter().copied().filter(|value| self.chain.values[*value].leaves).collect();
        let mut spilled = order.iter().filter(|value| inner.contains(value));
        loop {
            if let Some(cascades) = self.cut(&in_memory)? {
                let windows: BTreeSet<usize> =
                    cascades.iter().flat_map(|cascade| cascade.windows.iter().copied()).collect();
                let is_whole = |value: &usize| !windows.contains(value) && !in_memory.contains(value);
                let whole = (0..self.chain.values.len()).filter(is_whole).collect();
                return Ok(Choice { cascades, whole });
            }
            match spilled.next() {
                Some(value) => in_memory.insert(*value),
                None => return Err(format!("no cascade fits {} bytes of SRAM", self.limits.sram_bytes)),
            };
        }
    }

    /// The best cuts when these values lie in memory.
    fn cut(&mut self, in_memory: &BTreeSet<usize>) -> Result<Option<Vec<Cascade>>, String> {
        let count = self.chain.links.len();
        // Up to each kernel: cycles and SRAM, and the cascade that ends there. Candidates come in the order of their first kernels.
        let mut best: Vec<Option<(u64, u64, Option<Fit>)>> = vec![None; count + 1];
        best[0] = Some((0, 0, None));
        for index in 0..self.candidates.len() {
            let Candidate { first, last, .. } = self.candidates[index];
            let Some((cycles, sram)) = best[first].as_ref().map(|known| (known.0, known.1)) else { continue };
            let Some(fit) = self.fit(index, in_memory)? else { continue };
            let key = (cycles.saturating_add(fit.cycles), sram.max(fit.sram_bytes));
            let place = &mut best[last + 1];
            if place.as_ref().is_none_or(|known| key < (known.0, known.1)) {
                *place = Some((key.0, key.1, Some(fit)));
            }
        }
        let mut cascades = Vec::new();
        let mut end = count;
        while end > 0 {
            let Some(fit) = best[end].take().and_then(|known| known.2) else { return Ok(None) };
            let Candidate { first, last, stripes, windows, .. } = &self.candidates[fit.candidate];
            end = *first;
            cascades.push(Cascade {
                first: *first,
                last: *last,
                stripes: stripes.clone(),
                windows: windows.clone(),
                kept: fit.kept,
                tiles: fit.tiles,
                cycles: fit.cycles,
                sram_bytes: fit.sram_bytes,
            });
        }
        cascades.reverse();
        Ok(Some(cascades))
    }

    /// Tiles, and weights to keep, for a cascade; `None` when it does not fit.
    fn fit(&mut self, index: usize, in_memory: &BTreeSet<usize>) -> Result<Option<Fit>, String> {
        let candidate = &self.candidates[index];
        let live: u64 = (0..self.chain.values.len())
            .filter(|value| !in_memory.contains(value) && !candidate.windows.contains(value))
            .filter(|value| self.chain.is_alive(*value, candidate.first, candidate.last))
            .map(|value| aligned(self.chain.values[value].bytes()))
            .sum();
        let Some(room) = self.limits.sram_bytes.checked_sub(live + candidate.window_bytes) else {
            return Ok(None);
        };
        let mut kept = BTreeSet::new();
        let (used_bytes, move_cycles) = (live + candidate.window_bytes, candidate.move_cycles);
        let mut links: Vec<usize> = (candidate.first..=candidate.last).collect();
        let is_repeated = candidate.stripes.stripes.len() > 1;
        let Some(mut tiled) = self.tiles(index, in_memory, &kept, room)? else { return Ok(None) };
        if is_repeated {
            links.sort_by_key(|link| (self.chain.links[*link].weight_bytes, *link));
            for link in links {
                kept.insert(link);
                let more = self.tiles(index, in_memory, &kept, room)?;
                match more.filter(|more| more.cycles < tiled.cycles) {
                    Some(more) => tiled = more,
                    None => {
                        kept.remove(&link);
                    }
                }
            }
        }
        Ok(Some(Fit {
            candidate: index,
            kept,
            tiles: tiled.tiles,
            cycles: tiled.cycles.saturating_add(move_cycles),
            sram_bytes: used_bytes + tiled.sram_bytes,
        }))
    }

    fn tiles(
        &mut self,
        index: usize,
        in_memory: &BTreeSet<usize>,
        kept: &BTreeSet<usize>,
        room: u64,
    ) -> Result<Option<Tiled>, String> {
        let candidate = &self.candidates[index];
        let kept_bytes: u64 = kept.iter().map(|link| self.chain.links[*link].weight_bytes).sum();
        let Some(room) = room.checked_sub(kept_bytes) else { return Ok(None) };
        let mut tiled = Tiled::default();
        let load = |link: &usize| {
            let link = &self.chain.links[*link];
            link.weight_bytes / self.limits.dram_bytes_per_cycle.max(1)
                + link.weight_count * self.limits.transfer_cycles
        };
        tiled.cycles = kept.iter().map(load).sum();
        let mut largest = 0;
        for link in candidate.first..=candidate.last {
            for (rows, times) in &candidate.heights[link - candidate.first] {
                let is_here =
                    |value: usize| candidate.windows.contains(&value) || !in_memory.contains(&value);
                let resident = self.chain.resident(link, kept.contains(&link), is_here);
                let key = (link, *rows, resident);
                if !self.frontiers.contains_key(&key) {
                    let convolution = &self.chain.links[link].convolution;
                    let plans = convolution.frontier(self.context, *rows, &key.2)?;
                    self.frontiers.insert(key.clone(), plans);
                }
                let plans = &self.frontiers[&key];
                let Some(plan) = plans[..plans.partition_point(|plan| plan.sram_bytes <= room)].last() else {
                    return Ok(None);
                };
                largest = largest.max(plan.sram_bytes);
                tiled.cycles = tiled.cycles.saturating_add(plan.cycles.saturating_mul(*times));
                tiled.tiles.insert((link, *rows), plan.clone());
            }
        }
        tiled.sram_bytes = kept_bytes + largest;
        Ok(Some(tiled))
    }
}

/// A cascade that fits.
#[derive(Clone)]
struct Fit {
    candidate: usize,
    kept: BTreeSet<usize>,
    tiles: BTreeMap<(usize, i64), Plan>,
    cycles: u64,
    sram_bytes: u64,
}

/// Tiles of all kernels of a cascade.
#[derive(Default)]
struct Tiled {
    tiles: BTreeMap<(usize, i64), Plan>,
    cycles: u64,
    sram_bytes: u64,
}

fn aligned(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT_BYTES)
}

/// Heights of stripes worth trying.
fn heights(rows: i64) -> Vec<i64> {
    let mut heights: Vec<i64> = (0..)
        .flat_map(|octave| [2i64 << octave, 3 << octave])
        .take_while(|height| *height < rows)
        .chain([1, rows])
        .collect();
    heights.sort_unstable();
    heights.dedup();
    heights
}
