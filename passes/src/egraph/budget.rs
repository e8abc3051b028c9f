//! Fuel: how far a saturation may go, counted in nodes and matches, never in time. The same input stops at the same place on
//! every machine.

/// Limits of one saturation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Most nodes in the graph.
    pub nodes_max: usize,
    /// Most matches of one rule in one iteration.
    pub matches_max: usize,
    /// Most iterations.
    pub iterations_max: usize,
}

impl Budget {
    /// The default for a slice of `ops` ops: room for twenty alternatives per op.
    pub fn for_ops(ops: usize) -> Budget {
        Budget { nodes_max: 20 * ops + 2000, matches_max: 8 * ops + 200, iterations_max: 24 }
    }
}

/// Why a saturation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing more to do.
    Saturated,
    /// A limit was met; the text says which.
    Exhausted(String),
}

/// What a rule did in one saturation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCount {
    /// Matches that changed the graph.
    pub applied: usize,
    /// Nodes it added.
    pub nodes: usize,
    /// Matches whose right side did not check.
    pub refused: usize,
}
