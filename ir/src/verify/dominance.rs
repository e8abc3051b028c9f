//! Which definitions a place in a module sees.

use crate::module::{BlockId, Module, OpId, RegionId, Source, ValueId};
use crate::op_def::Traits;
use petgraph::algo::dominators::{Dominators, simple_fast};
use petgraph::graph::{DiGraph, NodeIndex};
use std::collections::BTreeMap;

/// Where every op stands in its block, and which blocks dominate which in regions of several.
pub(super) struct Order {
    positions: Vec<Option<u32>>,
    dominators: BTreeMap<RegionId, (BTreeMap<BlockId, NodeIndex>, Dominators<NodeIndex>)>,
}

impl Order {
    /// Of all ops below the module op.
    pub(super) fn of(module: &Module) -> Order {
        let mut order = Order { positions: vec![None; module.op_count()], dominators: BTreeMap::new() };
        for op in module.all_ops() {
            for region in &module.op(op).regions {
                let blocks = &module.region(*region).blocks;
                for block in blocks {
                    for (position, inner) in module.block(*block).ops.iter().enumerate() {
                        order.positions[inner.index()] = Some(position as u32);
                    }
                }
                if blocks.len() > 1 {
                    order.dominators.insert(*region, dominators_of(module, blocks));
                }
            }
        }
        order
    }

    /// True if `op` comes before `other` in one block.
    fn is_before(&self, op: OpId, other: OpId) -> bool {
        self.positions[op.index()] < self.positions[other.index()]
    }

    fn block_dominates(&self, module: &Module, block: BlockId, other: BlockId) -> bool {
        if block == other {
            return true;
        }
        let Some(region) = module.block(block).parent else { return false };
        let Some((nodes, dominators)) = self.dominators.get(&region) else { return false };
        let (Some(block), Some(other)) = (nodes.get(&block), nodes.get(&other)) else { return false };
        // A block that is never reached sees everything, as in MLIR.
        dominators.dominators(*other).is_none_or(|mut above| above.any(|node| node == *block))
    }

    /// Checks that `user` sees `value`.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn check_use(&self, module: &Module, user: OpId, value: ValueId) -> Result<(), String> {
        let (home, maker) = match module.value(value).source {
            Source::Argument(block, _) => (block, None),
            Source::Result(op, _) => match module.op(op).parent {
                Some(block) => (block, Some(op)),
                None => return Err("is a result of an op that was taken out".into()),
            },
        };
        let region = module.block(home).parent;
        let mut at = user;
        // Climb from the user to the region that holds the definition.
        loop {
            let Some(block) = module.op(at).parent else {
                return Err("is not defined around its user".into());
            };
            if module.block(block).parent == region {
                return self.check_order(module, (home, maker), (block, at));
            }
            let Some(parent) = module.parent_op(at) else {
                return Err("is not defined around its user".into());
            };
            if module.op(parent).def.is(Traits::ISOLATED) {
                return Err(format!(
                    "comes from outside of '{}', which sees nothing from outside",
                    module.op(parent).def.name
                ));
            }
            at = parent;
        }
    }

    fn check_order(
        &self,
        module: &Module,
        (home, maker): (BlockId, Option<OpId>),
        (block, at): (BlockId, OpId),
    ) -> Result<(), String> {
        match maker {
            Some(maker) if home == block && maker == at => Err("is used inside the op that makes it".into()),
            Some(maker) if home == block && !self.is_before(maker, at) => {
                Err("is used before it is defined".into())
            }
            _ if self.block_dominates(module, home, block) => Ok(()),
            _ => Err("is defined in a block that does not dominate its use".into()),
        }
    }
}

fn dominators_of(
    module: &Module,
    blocks: &[BlockId],
) -> (BTreeMap<BlockId, NodeIndex>, Dominators<NodeIndex>) {
    let mut graph = DiGraph::<BlockId, ()>::new();
    let nodes: BTreeMap<BlockId, NodeIndex> =
        blocks.iter().map(|block| (*block, graph.add_node(*block))).collect();
    for block in blocks {
        let successors = module.block(*block).ops.iter().flat_map(|op| &module.op(*op).successors);
        for successor in successors.filter_map(|successor| nodes.get(successor)) {
            graph.add_edge(nodes[block], *successor, ());
        }
    }
    let dominators = simple_fast(&graph, nodes[&blocks[0]]);
    (nodes, dominators)
}
