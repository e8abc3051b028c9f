//! What tiles of a nest cost in a loop order: bytes, transfers, cycles; and what they cost at least.
//!
//! ```text
//! m=128 n=512 k=512, loops n m k: w once, x once per tile of n; cycles = max(computing, moving) and the first tiles
//! ```

use super::{Axis, BURST_BYTES, Flow, Limits, Operand, Plan, Problem};

/// What moves for one operand.
struct Traffic {
    /// All its bytes.
    bytes: u64,
    /// Number of transfers.
    transfers: u64,
    /// Loops that are open when it moves.
    depth: usize,
}

fn traffic(tiling: &Tiling, operand: &Operand, order: &[usize]) -> Traffic {
    let trips = |axis: usize| tiling.trips[axis];
    // The tile changes with every loop down to the innermost one that it depends on.
    let depends = |axis: &usize| trips(*axis) > 1 && operand.spans.iter().any(|span| span.axis == *axis);
    let depth = order.iter().rposition(depends).map_or(0, |at| at + 1);
    let transfers = order[..depth].iter().fold(1u64, |product, axis| product.saturating_mul(trips(*axis)));
    let sweep: u64 = order.iter().filter(|axis| depends(axis)).map(|axis| trips(*axis)).product();
    // Tails are shorter: the whole operand, once per sweep, instead of full tiles.
    let bytes = tiling.whole_bytes(operand).saturating_mul(transfers / sweep.max(1));
    Traffic { bytes, transfers, depth }
}

/// A cycle of DRAM beside a cycle of time: with Horowitz's figures (`machine.toml`) 32 bytes of DRAM take 5.2 nJ, a cycle of int8 by int4
/// products 0.8 nJ and its SRAM accesses as much again.
const TRANSFER_WEIGHT: u64 = 2;

/// What plans are compared by.
pub fn cost(cycles: u64, dram_bytes: u64, limits: Limits) -> u64 {
    let transfer = dram_bytes / limits.dram_bytes_per_cycle.max(1);
    cycles.max(transfer).saturating_add(transfer.saturating_mul(TRANSFER_WEIGHT))
}

/// What a plan takes.
pub(super) struct Score {
    cycles: u64,
    pub(super) cost: u64,
    dram_bytes: u64,
    kept: u64,
    kept_bytes: u64,
}

impl Score {
    pub(super) fn plan(&self, tiles: &[u64], order: &[usize], sram_bytes: u64) -> Plan {
        let Score { cycles, cost, dram_bytes, kept, kept_bytes } = *self;
        let (tiles, order) = (tiles.to_vec(), order.to_vec());
        Plan { tiles, order, cycles, cost, dram_bytes, sram_bytes: sram_bytes + kept_bytes, kept }
    }
}

/// Operands that move, with the share of each that does: nearly all of them whole. `kept` steps of one stay.
fn moved(problem: &Problem, kept: u64) -> impl Iterator<Item = (&Operand, Option<Share>)> {
    let moves = |operand: &Operand| matches!(operand.flow, Flow::Load | Flow::Store);
    let operands = problem.operands.iter().enumerate().filter(move |(_, operand)| moves(operand));
    operands.map(move |(index, operand)| {
        let share = problem.keeps.filter(|keeps| keeps.operand == index).map(|keeps| {
            let of = problem.axes[keeps.axis].extent;
            Share { steps: of - kept.min(of), of, is_written: keeps.is_written }
        });
        (operand, share)
    })
}

/// So many of an operand's steps move.
#[derive(Clone, Copy)]
struct Share {
    steps: u64,
    of: u64,
    is_written: bool,
}

impl Share {
    fn apply(self, tiling: &Tiling, operand: &Operand, traffic: &mut Traffic) {
        let written = if self.is_written { tiling.whole_bytes(operand) } else { 0 };
        let part = |count: u64| (u128::from(count) * u128::from(self.steps) / u128::from(self.of)) as u64;
        traffic.bytes = part(traffic.bytes.saturating_add(written));
        traffic.transfers = part(traffic.transfers);
    }
}

/// Tile sizes, with what all loop orders have in common.
pub(super) struct Tiling<'t> {
    problem: &'t Problem,
    limits: Limits,
    tiles: &'t [u64],
    /// Tiles of each axis.
    trips: Vec<u64>,
    /// Number of tiles.
    steps: u64,
    /// Cycles of the compute engines and of giving them their commands.
    compute_cycles: u64,
}

impl<'t> Tiling<'t> {
    pub(super) fn new(problem: &'t Problem, limits: Limits, tiles: &'t [u64]) -> Tiling<'t> {
        let trips: Vec<u64> =
            problem.axes.iter().zip(tiles).map(|(axis, tile)| axis.extent.div_ceil(*tile)).collect();
        let steps = trips.iter().fold(1u64, |product, trips| product.saturating_mul(*trips));
        let commands = 1 + problem.work.len() as u64;
        let commands = steps.saturating_mul(limits.command_cycles * commands);
        let compute_cycles = work_cycles(problem, tiles).saturating_add(commands);
        Tiling { problem, limits, tiles, trips, steps, compute_cycles }
    }

    fn whole_bytes(&self, operand: &Operand) -> u64 {
        whole_bytes(self.problem, operand, self.tiles)
    }
}

/// No loop order costs less than this.
pub(super) fn cost_at_least(tiling: &Tiling) -> u64 {
    let bytes = moved(tiling.problem, 0).fold(0u64, |sum, (operand, share)| match share {
        // All of it may stay.
        Some(_) => sum,
        None => sum.saturating_add(tiling.whole_bytes(operand)),
    });
    cost(tiling.compute_cycles, bytes, tiling.limits)
}

/// What tiles cost at least in a loop order, where each is as large as it may become: what is cut more moves no less often.
pub(super) fn order_cost_at_least(tiling: &Tiling, order: &[usize]) -> u64 {
    let bytes = moved(tiling.problem, 0).fold(0u64, |sum, (operand, share)| match share {
        Some(_) => sum,
        None => sum.saturating_add(traffic(tiling, operand, order).bytes),
    });
    cost(tiling.compute_cycles, bytes, tiling.limits)
}

/// Bytes and the most transfers of one kind: a queue takes the next transfer while the bytes of the last are on their way, so that tiles
/// wait for memory once, however many tensors they are of.
#[derive(Default)]
struct Queue {
    bytes: u64,
    transfers: u64,
}

impl Queue {
    fn add(&mut self, traffic: &Traffic) {
        self.bytes = self.bytes.saturating_add(traffic.bytes);
        self.transfers = self.transfers.max(traffic.transfers);
    }

    fn cycles(&self, limits: Limits) -> u64 {
        let setup = self.transfers.saturating_mul(limits.transfer_cycles);
        (self.bytes / limits.dram_bytes_per_cycle.max(1)).saturating_add(setup)
    }
}

/// What tiles that take `sram_bytes` cost in a loop order.
pub(super) fn score(tiling: &Tiling, order: &[usize], sram_bytes: u64) -> Score {
    let Tiling { problem, limits, tiles, ref trips, steps, .. } = *tiling;
    let kept = problem.keeps.map_or(0, |keeps| keeps.steps(problem, limits, tiles, sram_bytes));
    let innermost = order.iter().rposition(|axis| trips[*axis] > 1).map_or(0, |at| at + 1);
    let per_cycle = limits.dram_bytes_per_cycle.max(1);
    // Streamed tiles overlap with computing, but for the first of each run of the innermost loop; others are waited for. Loads
    // and stores have a queue each, and share the memory.
    let (mut dram_bytes, mut first_bytes) = (0u64, 0u64);
    let (mut waited, mut loads, mut stores) = (Queue::default(), Queue::default(), Queue::default());
    for (operand, share) in moved(problem, kept) {
        let mut traffic = traffic(tiling, operand, order);
        if let Some(share) = share {
            share.apply(tiling, operand, &mut traffic);
        }
        dram_bytes = dram_bytes.saturating_add(traffic.bytes);
        match operand.flow {
            Flow::Load if traffic.depth < innermost => waited.add(&traffic),
            Flow::Load => {
                loads.add(&traffic);
                first_bytes = first_bytes.saturating_add(operand.tile_bytes(tiles));
            }
            _ => stores.add(&traffic),
        }
    }
    let first = if loads.transfers > 0 { first_bytes / per_cycle + limits.transfer_cycles } else { 0 };
    let fills = steps / innermost.checked_sub(1).map_or(1, |at| trips[order[at]]);
    // The innermost loop runs over what stays, then over the rest.
    let fills = fills * if kept > 0 { 2 } else { 1 };
    let transfer = dram_bytes / per_cycle;
    let movement = loads.cycles(limits).max(stores.cycles(limits)).max(transfer);
    let streamed = tiling.compute_cycles.max(movement);
    let cycles = waited.cycles(limits).saturating_add(fills.saturating_mul(first)).saturating_add(streamed);
    let kept_bytes = problem.keeps.map_or(0, |keeps| kept * keeps.step_bytes);
    Score { cycles, cost: cost(cycles, dram_bytes, limits), dram_bytes, kept, kept_bytes }
}

/// Cycles of the compute engines for all tiles, each rounded up to the granules.
fn work_cycles(problem: &Problem, tiles: &[u64]) -> u64 {
    problem.work.iter().fold(0u64, |sum, work| {
        let points = work.axes.iter().fold(work.factor, |product, axis| {
            let Axis { extent, granule, .. } = problem.axes[*axis];
            let tile = tiles[*axis];
            let rounded = match tile {
                // Whole granules, but for the last tile.
                tile if tile == extent || tile.is_multiple_of(granule) => extent.next_multiple_of(granule),
                tile => {
                    let tail = extent % tile;
                    let full = (extent / tile).saturating_mul(tile.next_multiple_of(granule));
                    full + if tail > 0 { tail.next_multiple_of(granule) } else { 0 }
                }
            };
            product.saturating_mul(rounded)
        });
        sum.saturating_add(points.div_ceil(work.per_cycle.max(1)))
    })
}

/// Bytes of one pass over the whole operand, overlaps of windows included.
pub(super) fn whole_bytes(problem: &Problem, operand: &Operand, tiles: &[u64]) -> u64 {
    let elements = operand.spans.iter().fold(operand.fixed, |product, span| {
        let (extent, tile) = (problem.axes[span.axis].extent, tiles[span.axis]);
        if span.stride == 1 && span.reach == 1 {
            return product.saturating_mul(extent);
        }
        let tail = extent % tile;
        let length = (extent / tile) * span.length(tile) + if tail > 0 { span.length(tail) } else { 0 };
        product.saturating_mul(length)
    });
    let bytes = elements.saturating_mul(operand.bits).div_ceil(8);
    match operand.burst {
        Some(axis) if tiles[axis] < problem.axes[axis].extent => {
            let row_bytes = (tiles[axis] * operand.bits).div_ceil(8).max(1);
            bytes.div_ceil(row_bytes).saturating_mul(row_bytes.next_multiple_of(BURST_BYTES))
        }
        _ => bytes,
    }
}
