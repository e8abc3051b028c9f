//! Chooses one node per needed class by DAG cost: every chosen node is paid once.
//!
//! Start: bottom-up tree costs, once plain and once with the cost of shared classes divided among their users. Then one-flip local
//! search. All integers, ties by structure, result checked to be acyclic. `exact` continues by branch and bound.
//!
//! ```text
//! choice[class] = node;   cost = sum of chosen node costs reachable from the roots
//! ```

use super::analysis::Graph;
use super::cost::{CostModel, CostQuery};
use super::node::{ENode, Kind};
use egg::{Id, Language};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// One alternative of a class.
pub struct Alternative {
    /// The node.
    pub node: ENode,
    /// Its own cost.
    pub cost: u64,
    /// Its children as class numbers.
    pub children: SmallVec<[usize; 4]>,
}

/// The e-graph as plain arrays.
pub struct Problem {
    /// Alternatives by class number.
    pub classes: Vec<Vec<Alternative>>,
    /// Number of each canonical class id.
    pub numbers: BTreeMap<Id, usize>,
    /// Classes that must be made.
    pub roots: Vec<usize>,
}

/// One node chosen per class; `usize::MAX` where a class cannot be made.
pub type Choice = Vec<usize>;

impl Problem {
    /// Reads the graph and prices its nodes.
    pub fn new(graph: &Graph, roots: &[Id], model: &dyn CostModel) -> Problem {
        let mut ids: Vec<Id> = graph.classes().map(|class| class.id).collect();
        ids.sort();
        let numbers: BTreeMap<Id, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        let mut classes = Vec::with_capacity(ids.len());
        for id in &ids {
            let mut nodes: Vec<ENode> = graph[*id].nodes.clone();
            nodes.sort_by(|a, b| a.order().cmp(&b.order()));
            let alternatives = nodes.into_iter().map(|node| {
                let children = node.children().iter().map(|child| numbers[&graph.find(*child)]).collect();
                Alternative { cost: price(graph, &node, model), node, children }
            });
            classes.push(alternatives.collect());
        }
        let roots = roots.iter().map(|root| numbers[&graph.find(*root)]).collect();
        Problem { classes, numbers, roots }
    }

    /// Cost of what the roots need under a choice; `None` when something is missing or cyclic.
    pub fn cost(&self, choice: &Choice) -> Option<u64> {
        self.order(choice).map(|order| order.iter().map(|class| self.chosen(choice, *class).cost).sum())
    }

    /// The alternative chosen for a class.
    pub fn chosen(&self, choice: &Choice, class: usize) -> &Alternative {
        &self.classes[class][choice[class]]
    }

    /// The needed classes, children before users; `None` when something is missing or cyclic.
    pub fn order(&self, choice: &Choice) -> Option<Vec<usize>> {
        let mut state = vec![0u8; self.classes.len()];
        let mut order = Vec::new();
        let mut stack: Vec<(usize, usize)> = Vec::new();
        for root in &self.roots {
            if state[*root] == 0 {
                stack.push((*root, 0));
                state[*root] = 1;
            }
            while let Some((class, at)) = stack.pop() {
                if choice[class] == usize::MAX {
                    return None;
                }
                match self.chosen(choice, class).children.get(at) {
                    None => {
                        state[class] = 2;
                        order.push(class);
                    }
                    Some(child) => {
                        stack.push((class, at + 1));
                        match state[*child] {
                            0 => {
                                state[*child] = 1;
                                stack.push((*child, 0));
                            }
                            1 => return None,
                            _ => {}
                        }
                    }
                }
            }
        }
        Some(order)
    }

    /// Bottom-up tree costs, where class `c` counts for `1 / share[c]` of its cost at each user.
    pub fn tree(&self, share: &[u64]) -> Choice {
        let mut choice = vec![usize::MAX; self.classes.len()];
        let mut costs = vec![u64::MAX; self.classes.len()];
        loop {
            let mut changed = false;
            for (class, alternatives) in self.classes.iter().enumerate() {
                for (at, alternative) in alternatives.iter().enumerate() {
                    if alternative.children.iter().any(|child| choice[*child] == usize::MAX) {
                        continue;
                    }
                    let below = |child: &usize| costs[*child] / share[*child] + 1;
                    let children = alternative.children.iter().map(below).fold(0, u64::saturating_add);
                    let cost = alternative.cost.saturating_add(children);
                    // Strictly less only: a first choice is acyclic by order of assignment, and no later one can undo it.
                    if choice[class] == usize::MAX || cost < costs[class] {
                        changed = true;
                        costs[class] = cost;
                        choice[class] = at;
                    }
                }
            }
            if !changed {
                return choice;
            }
        }
    }

    /// The default extraction: best of two starts, then local search with `fuel` visited classes.
    pub fn extract(&self, fuel: usize) -> Option<(Choice, u64)> {
        let plain = self.tree(&vec![1; self.classes.len()]);
        let cost = self.cost(&plain)?;
        let mut best = (plain, cost);
        let mut uses = vec![0u64; self.classes.len()];
        for class in self.order(&best.0)? {
            for child in &self.chosen(&best.0, class).children {
                uses[*child] += 1;
            }
        }
        let shared = self.tree(&uses.iter().map(|count| (*count).max(1)).collect::<Vec<_>>());
        if let Some(cost) = self.cost(&shared)
            && cost < best.1
        {
            best = (shared, cost);
        }
        self.improve(&mut best, fuel);
        Some(best)
    }

    /// Tries every other node of every needed class, one at a time, until nothing helps or fuel ends.
    fn improve(&self, best: &mut (Choice, u64), mut fuel: usize) {
        loop {
            let before = best.1;
            let Some(order) = self.order(&best.0) else { return };
            for class in order {
                for at in 0..self.classes[class].len() {
                    if at == best.0[class] {
                        continue;
                    }
                    let kept = std::mem::replace(&mut best.0[class], at);
                    match self.cost(&best.0) {
                        Some(cost) if cost < best.1 => best.1 = cost,
                        _ => best.0[class] = kept,
                    }
                    fuel = fuel.saturating_sub(self.classes.len());
                    if fuel == 0 {
                        return;
                    }
                }
            }
            if best.1 == before {
                return;
            }
        }
    }
}

fn price(graph: &Graph, node: &ENode, model: &dyn CostModel) -> u64 {
    let head = graph.analysis.heads.get(node.head);
    let Kind::Op(def) = head.kind else { return 1 };
    let data: SmallVec<[&super::analysis::Data; 4]> =
        node.children.iter().map(|child| &graph[*child].data).collect();
    let operands: SmallVec<[Option<&tilewright_ir::types::Type>; 4]> =
        data.iter().map(|data| data.types.first()).collect();
    let constant = !data.is_empty() && data.iter().all(|data| data.constant);
    model.cost(&CostQuery {
        def,
        attributes: &head.attributes,
        operands: &operands,
        results: &head.results,
        constant,
    })
}
