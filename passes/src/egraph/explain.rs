//! Which rules made an op, and what the optimiser did to a block.
//!
//! Always on and cheap: each node a rule adds remembers the rule and the source ops that the left side matched. The op made from
//! it carries the rules as the tag of its fused location.
//!
//! ```text
//! loc(fused<"fuse_linear,linear_silu">["/mlp/MatMul", "/mlp/Add"])
//! ```

use super::budget::{RuleCount, Stop};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Where a node comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Positions of source ops in the slice, sorted.
    pub sources: Vec<usize>,
    /// Rules, in the order in which they applied.
    pub rules: Vec<Arc<str>>,
}

impl Origin {
    /// Adds another origin's sources and rules.
    pub fn join(&mut self, other: &Origin) {
        for source in &other.sources {
            if let Err(at) = self.sources.binary_search(source) {
                self.sources.insert(at, *source);
            }
        }
        for rule in &other.rules {
            if !self.rules.contains(rule) {
                self.rules.push(rule.clone());
            }
        }
    }
}

/// What the optimiser did to one unique block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockReport {
    /// A name: function and number of the first slice.
    pub name: String,
    /// How many slices of the model are equal to it.
    pub instances: usize,
    /// Ops before and after, constants left out.
    pub ops: (usize, usize),
    /// Cost before and after, in picoseconds of the cost model.
    pub cost: (u64, u64),
    /// Nodes of the e-graph at the end.
    pub nodes: usize,
    /// Iterations run.
    pub iterations: usize,
    /// Why it ended.
    pub stop: Stop,
    /// Rules that changed something.
    pub rules: BTreeMap<Arc<str>, RuleCount>,
    /// With the exact mode: the optimum, and whether it is proved.
    pub exact: Option<(u64, bool)>,
    /// Refused merges of different types, as text: faults of rules.
    pub conflicts: Vec<String>,
}

impl BlockReport {
    /// How far the default extraction is above the exact one, in millionths.
    pub fn gap_millionths(&self) -> Option<u64> {
        let (exact, _) = self.exact?;
        Some((self.cost.1.saturating_sub(exact)).saturating_mul(1_000_000) / exact.max(1))
    }
}

impl fmt::Display for BlockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "block {} x{}: {} ops -> {}, cost {} -> {}, {} nodes, {} iterations, {}",
            self.name,
            self.instances,
            self.ops.0,
            self.ops.1,
            self.cost.0,
            self.cost.1,
            self.nodes,
            self.iterations,
            match &self.stop {
                Stop::Saturated => "saturated",
                Stop::Exhausted(why) => why,
            }
        )?;
        for (name, count) in &self.rules {
            writeln!(f, "  {name}: applied {}, nodes {}", count.applied, count.nodes)?;
        }
        if let Some((exact, proved)) = self.exact {
            let gap = self.gap_millionths().unwrap_or(0);
            writeln!(
                f,
                "  exact {exact}{}: gap {gap} ppm",
                if proved { " (proved)" } else { " (fuel ended)" }
            )?;
        }
        Ok(())
    }
}
