//! A block as a graph: ops are nodes, an edge goes from the op that makes a value to each op that uses it, also from within a
//! region. For orders, reachability and grouping; the module stays the truth.
//!
//! ```text
//! let graph = BlockGraph::of(&module, block);
//! let units = graph.order_units(|op| group_of.get(&op).copied())?;
//! ```

use crate::module::{BlockId, Module, OpId, ValueId};
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use std::collections::{BTreeMap, BTreeSet};

/// The graph of one block. Node numbers are positions in the block.
#[derive(Clone, Debug)]
pub struct BlockGraph {
    /// Nodes are ops, edges the values between them.
    pub graph: DiGraph<OpId, ValueId>,
    nodes: BTreeMap<OpId, NodeIndex>,
}

impl BlockGraph {
    /// Of a block as it is now.
    pub fn of(module: &Module, block: BlockId) -> BlockGraph {
        let ops = &module.block(block).ops;
        let mut graph = DiGraph::with_capacity(ops.len(), ops.len() * 2);
        let nodes: BTreeMap<OpId, NodeIndex> = ops.iter().map(|op| (*op, graph.add_node(*op))).collect();
        for op in ops {
            module.walk(*op, &mut |inner| {
                for value in &module.op(inner).operands {
                    let from = module.producer(*value).and_then(|maker| nodes.get(&maker));
                    if let Some(from) = from.filter(|from| **from != nodes[op]) {
                        graph.add_edge(*from, nodes[op], *value);
                    }
                }
            });
        }
        BlockGraph { graph, nodes }
    }

    fn neighbours(&self, op: OpId, direction: Direction) -> BTreeSet<NodeIndex> {
        let node = self.nodes.get(&op);
        node.into_iter().flat_map(|node| self.graph.neighbors_directed(*node, direction)).collect()
    }

    /// Ops that make what `op` uses, in block order, each once.
    pub fn producers(&self, op: OpId) -> Vec<OpId> {
        self.neighbours(op, Direction::Incoming).into_iter().map(|node| self.graph[node]).collect()
    }

    /// Ops that use what `op` makes, in block order, each once.
    pub fn users(&self, op: OpId) -> Vec<OpId> {
        self.neighbours(op, Direction::Outgoing).into_iter().map(|node| self.graph[node]).collect()
    }

    /// True if a value made by `from` flows, through any number of ops, into `to`.
    pub fn reaches(&self, from: OpId, to: OpId) -> bool {
        match (self.nodes.get(&from), self.nodes.get(&to)) {
            (Some(from), Some(to)) => petgraph::algo::has_path_connecting(&self.graph, *from, *to, None),
            _ => false,
        }
    }

    /// All ops so that makers come before users, otherwise in block order.
    ///
    /// # Errors
    /// The ops that wait for each other.
    pub fn order(&self) -> Result<Vec<OpId>, Vec<OpId>> {
        self.order_units(|_| None).map(|units| units.into_iter().flatten().collect())
    }

    /// Groups ops into units (an op without a group is a unit of its own) and orders the units so that makers come before
    /// users, otherwise by their first op. Ops of a unit keep block order.
    ///
    /// # Errors
    /// When units wait for each other, so that the groups cannot run one at a time: their ops in block order.
    pub fn order_units(&self, group_of: impl Fn(OpId) -> Option<usize>) -> Result<Vec<Vec<OpId>>, Vec<OpId>> {
        let mut units: Vec<Vec<OpId>> = Vec::new();
        let mut of_group: BTreeMap<usize, usize> = BTreeMap::new();
        let mut unit_of: Vec<usize> = Vec::with_capacity(self.graph.node_count());
        for op in self.graph.node_weights() {
            let fresh = units.len();
            let unit = group_of(*op).map_or(fresh, |group| *of_group.entry(group).or_insert(fresh));
            if unit == fresh {
                units.push(Vec::new());
            }
            units[unit].push(*op);
            unit_of.push(unit);
        }
        let mut edges: BTreeSet<(usize, usize)> = BTreeSet::new();
        for edge in self.graph.edge_indices() {
            if let Some((from, to)) = self.graph.edge_endpoints(edge) {
                edges.insert((unit_of[from.index()], unit_of[to.index()]));
            }
        }
        edges.retain(|(from, to)| from != to);
        let mut waits_for = vec![0usize; units.len()];
        let mut feeds: Vec<Vec<usize>> = vec![Vec::new(); units.len()];
        for (from, to) in edges {
            feeds[from].push(to);
            waits_for[to] += 1;
        }
        let mut ready: BTreeSet<usize> = (0..units.len()).filter(|unit| waits_for[*unit] == 0).collect();
        let mut order = Vec::with_capacity(units.len());
        while let Some(unit) = ready.pop_first() {
            order.push(unit);
            for next in &feeds[unit] {
                waits_for[*next] -= 1;
                if waits_for[*next] == 0 {
                    ready.insert(*next);
                }
            }
        }
        if order.len() < units.len() {
            let stuck = self.graph.node_weights().zip(&unit_of).filter(|(_, unit)| waits_for[**unit] > 0);
            return Err(stuck.map(|(op, _)| *op).collect());
        }
        Ok(order.into_iter().map(|unit| std::mem::take(&mut units[unit])).collect())
    }
}

/// Puts the ops of a block into an order in which makers come before users, otherwise as they are.
///
/// # Errors
/// As [`BlockGraph::order`]; the block is as it was.
pub fn sort_block(module: &mut Module, block: BlockId) -> Result<(), Vec<OpId>> {
    let order = BlockGraph::of(module, block).order()?;
    module.set_block_ops(block, order);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{ParseOptions, parse};
    use crate::registry::Registry;

    const TEXT: &str = r#"
"func.func"() <{function_type = (tensor<4xf32>) -> tensor<4xf32>, sym_name = "main"}> ({
^bb0(%x: tensor<4xf32>):
  %a = "core.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %b = "core.exp"(%a) : (tensor<4xf32>) -> tensor<4xf32>
  %c = "core.abs"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %d = "core.add"(%b, %c) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  "func.return"(%d) : (tensor<4xf32>) -> ()
}) : () -> ()
"#;

    #[test]
    fn units_are_ordered_or_refused() {
        let mut module =
            parse(TEXT, &Registry::builtin(), &ParseOptions::default()).expect("the text is right");
        let block = module.entry(module.functions()[0], 0);
        let ops = module.block(block).ops.clone();
        let graph = BlockGraph::of(&module, block);
        assert_eq!(graph.order(), Ok(ops.clone()));
        assert_eq!(graph.producers(ops[3]), [ops[1], ops[2]]);
        assert_eq!(graph.users(ops[0]), [ops[1]]);
        assert!(graph.reaches(ops[0], ops[4]) && !graph.reaches(ops[2], ops[1]));

        // neg and abs together: fine, and before exp.
        let units = graph.order_units(|op| (op == ops[0] || op == ops[2]).then_some(7));
        assert_eq!(units, Ok(vec![vec![ops[0], ops[2]], vec![ops[1]], vec![ops[3]], vec![ops[4]]]));
        // neg and add together would wait for exp, which waits for them.
        let units = graph.order_units(|op| (op == ops[0] || op == ops[3]).then_some(7));
        assert_eq!(units, Err(vec![ops[0], ops[1], ops[3], ops[4]]));

        let mut reversed = ops.clone();
        reversed.reverse();
        module.set_block_ops(block, reversed);
        assert_eq!(sort_block(&mut module, block), Ok(()));
        assert_eq!(module.block(block).ops.last(), Some(&ops[4]));
        assert_eq!(crate::verify::verify(&module), []);
    }
}
