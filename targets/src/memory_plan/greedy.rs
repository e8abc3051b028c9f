//! Greedy plans: buffers in some order, each at the lowest place that is free during its whole life.
//!
//! Several fixed orders (largest first is TensorFlow Lite's, Pisarchyk & Lee 2020, arXiv:2001.03288), then orders that learn: a buffer
//! that ended too high moves forward and the plan is made again ("squeaky wheel" optimisation, Joslin & Clements 1999).

use super::effort::Fuel;
use super::sections::{Part, Piece};
use std::cmp::Reverse;

/// Pairs of buffers that are remembered at most; with more of them one order is tried, without a list of pairs.
const PAIRS_MAX: usize = 8 << 20;
/// Rounds of the learning orders.
const ROUNDS: usize = 60;

/// Offsets and the peak.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) offsets: Vec<i64>,
    pub(super) peak: i64,
}

/// The best plan of all orders; stops at the first that ends at or below `goal`.
pub(super) fn plan(part: &Part, goal: i64, fuel: &mut Fuel) -> Found {
    let neighbours = Neighbours::of(&part.pieces);
    let mut best: Option<Found> = None;
    for order in orders(part, neighbours.is_complete()) {
        let found = place(part, &order, &neighbours);
        fuel.spend(part.pieces.len() as u64 / 8 + 1);
        if best.as_ref().is_none_or(|best| found.peak < best.peak) {
            best = Some(found);
        }
        if best.as_ref().is_some_and(|best| best.peak <= goal) {
            break;
        }
    }
    let mut best = best.unwrap_or(Found { offsets: Vec::new(), peak: 0 });
    if best.peak > goal && neighbours.is_complete() {
        learn(part, goal, &neighbours, &mut best, fuel);
    }
    best
}

fn orders(part: &Part, all: bool) -> Vec<Vec<usize>> {
    let pieces = &part.pieces;
    let size = |at: &usize| Reverse(pieces[*at].bytes);
    let life = |at: &usize| Reverse(pieces[*at].end - pieces[*at].start);
    let start = |at: &usize| pieces[*at].start;
    let identity: Vec<usize> = (0..pieces.len()).collect();
    let by = |compare: &dyn Fn(&usize, &usize) -> std::cmp::Ordering| {
        let mut order = identity.clone();
        order.sort_by(compare);
        order
    };
    let by_size = by(&|a, b| (size(a), start(a)).cmp(&(size(b), start(b))));
    if !all {
        return vec![by_size];
    }
    let area =
        |at: &usize| Reverse(pieces[*at].bytes as i128 * (pieces[*at].end - pieces[*at].start) as i128);
    let crowd: Vec<i64> =
        pieces.iter().map(|one| part.live[one.start..one.end].iter().copied().max().unwrap_or(0)).collect();
    vec![
        by_size,
        by(&|a, b| (life(a), size(a)).cmp(&(life(b), size(b)))),
        by(&|a, b| (area(a), start(a)).cmp(&(area(b), start(b)))),
        by(&|a, b| (Reverse(crowd[*a]), life(a), size(a)).cmp(&(Reverse(crowd[*b]), life(b), size(b)))),
        by(&|a, b| (Reverse(crowd[*a]), size(a), life(a)).cmp(&(Reverse(crowd[*b]), size(b), life(b)))),
        by(&|a, b| (start(a), life(a)).cmp(&(start(b), life(b)))),
    ]
}

/// Repeats the order by size with those that ended above the best peak moved forward.
fn learn(part: &Part, goal: i64, neighbours: &Neighbours, best: &mut Found, fuel: &mut Fuel) {
    let pieces = &part.pieces;
    let mut blame: Vec<i64> = vec![0; pieces.len()];
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    for _ in 0..ROUNDS {
        let life = |at: usize| pieces[at].end - pieces[at].start;
        order.sort_by_key(|at| (Reverse(blame[*at]), Reverse(pieces[*at].bytes), Reverse(life(*at)), *at));
        let found = place(part, &order, neighbours);
        fuel.spend(pieces.len() as u64 / 8 + 1);
        if found.peak < best.peak {
            *best = found.clone();
        }
        if best.peak <= goal || fuel.is_empty() {
            return;
        }
        let limit = goal.max(best.peak - part.grain);
        for (at, piece) in pieces.iter().enumerate() {
            if found.offsets[at] + piece.bytes > limit {
                blame[at] += 1;
            }
        }
    }
}

/// Places in an order: first fit from below.
fn place(part: &Part, order: &[usize], neighbours: &Neighbours) -> Found {
    const UNPLACED: i64 = -1;
    let pieces = &part.pieces;
    let mut offsets = vec![UNPLACED; pieces.len()];
    let mut peak = 0;
    let mut taken: Vec<(i64, i64)> = Vec::new();
    for at in order {
        let piece = &pieces[*at];
        taken.clear();
        neighbours.for_each(*at, pieces, |other| {
            if offsets[other] != UNPLACED {
                forbid(piece, &pieces[other], offsets[other], &mut taken);
            }
        });
        taken.sort_unstable();
        let mut offset = 0;
        for (low, high) in &taken {
            if offset <= *low {
                break;
            }
            offset = offset.max(piece.align(*high));
        }
        offsets[*at] = offset;
        peak = peak.max(offset + piece.bytes);
    }
    Found { offsets, peak }
}

/// Offsets of `piece` at which it would meet `other`: those above `low` and below `high`.
fn forbid(piece: &Piece, other: &Piece, offset: i64, taken: &mut Vec<(i64, i64)>) {
    for (start, end, low, high) in piece.needs() {
        for (other_start, other_end, other_low, other_high) in other.needs() {
            if start < other_end && other_start < end {
                taken.push((offset + other_low - high, offset + other_high - low));
            }
        }
    }
}

/// Who is alive together with whom.
struct Neighbours {
    starts: Vec<usize>,
    list: Vec<u32>,
}

impl Neighbours {
    fn of(pieces: &[Piece]) -> Neighbours {
        let mut order: Vec<u32> = (0..pieces.len() as u32).collect();
        order.sort_by_key(|at| pieces[*at as usize].start);
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        let mut alive: Vec<u32> = Vec::new();
        for at in order {
            let piece = &pieces[at as usize];
            alive.retain(|other| pieces[*other as usize].end > piece.start);
            pairs.extend(alive.iter().flat_map(|other| [(at, *other), (*other, at)]));
            if pairs.len() > PAIRS_MAX {
                return Neighbours { starts: Vec::new(), list: Vec::new() };
            }
            alive.push(at);
        }
        let mut starts = vec![0usize; pieces.len() + 1];
        for (at, _) in &pairs {
            starts[*at as usize + 1] += 1;
        }
        for at in 0..pieces.len() {
            starts[at + 1] += starts[at];
        }
        let mut next = starts.clone();
        let mut list = vec![0; pairs.len()];
        for (at, other) in pairs {
            list[next[at as usize]] = other;
            next[at as usize] += 1;
        }
        Neighbours { starts, list }
    }

    fn is_complete(&self) -> bool {
        !self.starts.is_empty()
    }

    fn for_each(&self, at: usize, pieces: &[Piece], mut visit: impl FnMut(usize)) {
        if self.is_complete() {
            self.list[self.starts[at]..self.starts[at + 1]].iter().for_each(|other| visit(*other as usize));
            return;
        }
        let piece = &pieces[at];
        for (other, that) in pieces.iter().enumerate() {
            if other != at && that.start < piece.end && piece.start < that.end {
                visit(other);
            }
        }
    }
}
