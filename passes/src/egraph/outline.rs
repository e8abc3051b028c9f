//! Where to cut a block into slices, so that repeated layers give equal slices.
//!
//! A cut lies behind an op whose result has several users (the residual stream). Besides that result, other values may be alive
//! across it (rotary tables, a mask). Two cuts belong to one chain when the later one's other values are among the earlier one's:
//! then the slice between them gives exactly one value. The longest chain is taken. A value inside a layer is never a cut of that
//! chain, because the residual is alive beside it.
//!
//! ```text
//! prologue | attention of layer 0 | MLP of layer 0 | attention of layer 1 | ... | head
//! ```

use super::slice::{ancestor_in, is_derived, is_local, is_sliceable};
use std::collections::BTreeMap;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::op_def::Traits;

/// The slices of a block: each a list of ops in order. Constants and what follows from them, and ops that may not enter an e-graph, are in none.
pub fn slices(module: &Module, block: BlockId) -> Vec<Vec<OpId>> {
    let ops = &module.block(block).ops;
    let mut out = Vec::new();
    let mut run = Vec::new();
    for op in ops {
        if is_sliceable(module, *op) {
            run.push(*op);
        } else if !module.op(*op).def.is(Traits::CONSTANT) && !is_derived(module, *op) {
            cut(module, block, std::mem::take(&mut run), &mut out);
        }
    }
    cut(module, block, run, &mut out);
    out
}

struct Candidate {
    /// Cut behind this many ops of the run.
    position: usize,
    /// Values alive across the cut besides the one just made, sorted.
    others: Vec<ValueId>,
}

fn cut(module: &Module, block: BlockId, run: Vec<OpId>, out: &mut Vec<Vec<OpId>>) {
    if run.is_empty() {
        return;
    }
    let candidates = candidates(module, block, &run);
    let mut start = 0;
    for position in longest_chain(&candidates) {
        out.push(run[start..position].to_vec());
        start = position;
    }
    if start < run.len() {
        out.push(run[start..].to_vec());
    }
}

/// Last position in the run at which each value made in the run is used. Uses by the terminator do not count: a result of the
/// function is not handed from slice to slice.
fn last_uses(module: &Module, block: BlockId, run: &[OpId]) -> BTreeMap<ValueId, (usize, usize)> {
    let order: BTreeMap<OpId, usize> = run.iter().enumerate().map(|(at, op)| (*op, at)).collect();
    let mut last = BTreeMap::new();
    for op in run {
        for value in &module.op(*op).results {
            let mut at = 0;
            let mut count = 0;
            for user in &module.value(*value).users {
                let Some(user) = ancestor_in(module, *user, block) else { continue };
                if module.op(user).def.is(Traits::TERMINATOR) {
                    continue;
                }
                // A user behind the run (an anchor) keeps the value alive to the run's end.
                at = at.max(order.get(&user).copied().unwrap_or(run.len()));
                count += 1;
            }
            if count > 0 {
                last.insert(*value, (at, count));
            }
        }
    }
    last
}

fn candidates(module: &Module, block: BlockId, run: &[OpId]) -> Vec<Candidate> {
    let last = last_uses(module, block, run);
    let mut alive: Vec<ValueId> = Vec::new();
    let mut out = Vec::new();
    for (at, op) in run.iter().enumerate() {
        alive.retain(|value| last.get(value).is_some_and(|use_| use_.0 > at));
        let results = &module.op(*op).results;
        debug_assert!(results.iter().all(|value| is_local(module, *value, block)));
        if let [value] = results.as_slice()
            && last.get(value).is_some_and(|use_| use_.1 >= 2)
        {
            let mut others = alive.clone();
            others.sort();
            out.push(Candidate { position: at + 1, others });
        }
        alive.extend(results.iter().filter(|value| last.get(value).is_some_and(|use_| use_.0 > at)));
    }
    out
}

/// Positions of the longest chain of cuts whose other values only shrink; the earliest among equally long ones.
fn longest_chain(candidates: &[Candidate]) -> Vec<usize> {
    let mut length = vec![1usize; candidates.len()];
    let mut next = vec![usize::MAX; candidates.len()];
    for from in (0..candidates.len()).rev() {
        for to in from + 1..candidates.len() {
            // Longer sets cannot be subsets; checked first, since most pairs inside layers fail here.
            let fits = candidates[to].others.len() <= candidates[from].others.len()
                && length[to] + 1 > length[from]
                && is_subset(&candidates[to].others, &candidates[from].others);
            if fits {
                length[from] = length[to] + 1;
                next[from] = to;
            }
        }
    }
    let mut best = None;
    for (at, found) in length.iter().enumerate() {
        if best.is_none_or(|known: usize| *found > length[known]) {
            best = Some(at);
        }
    }
    let mut chain: Vec<&Candidate> = Vec::new();
    let mut at = best;
    while let Some(index) = at.filter(|index| *index != usize::MAX) {
        chain.push(&candidates[index]);
        at = Some(next[index]);
    }
    // A value inside the first layer would make the chain one longer; more is alive beside it than beside the rest.
    while chain.len() >= 2 && chain[0].others != chain[1].others {
        chain.remove(0);
    }
    // One cut alone separates nothing that repeats.
    if chain.len() < 2 { Vec::new() } else { chain.iter().map(|candidate| candidate.position).collect() }
}

fn is_subset(small: &[ValueId], large: &[ValueId]) -> bool {
    let mut rest = large.iter();
    small.iter().all(|value| rest.any(|other| other == value))
}
