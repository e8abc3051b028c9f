//! Which values a text has named so far. Values of a region are forgotten when it closes; an isolated op sees none from
//! outside.

use crate::module::ValueId;
use std::collections::{BTreeMap, HashMap};

/// Values that one result group or block argument defines: the first and how many follow each other.
#[derive(Clone, Copy)]
pub(super) struct Pack {
    pub(super) first: ValueId,
    pub(super) count: u32,
}

/// A use before the definition: the value that stands in, and where.
#[derive(Clone, Copy)]
pub(super) struct Forward {
    pub(super) value: ValueId,
    pub(super) at: usize,
}

/// Names within one isolated op.
#[derive(Default)]
struct Isolated<'a> {
    packs: HashMap<&'a str, Pack>,
    /// Names in order of definition, and where each open region began.
    defined: Vec<&'a str>,
    regions: Vec<usize>,
    forwards: BTreeMap<(&'a str, u32), Forward>,
}

/// Names at a place of the text.
pub(super) struct Scopes<'a> {
    stack: Vec<Isolated<'a>>,
}

/// How deep the scopes were, to come back after a fault.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    isolated: usize,
    regions: usize,
}

impl<'a> Scopes<'a> {
    pub(super) fn new() -> Scopes<'a> {
        Scopes { stack: vec![Isolated::default()] }
    }

    fn top(&mut self) -> &mut Isolated<'a> {
        if self.stack.is_empty() {
            self.stack.push(Isolated::default());
        }
        let last = self.stack.len() - 1;
        &mut self.stack[last]
    }

    pub(super) fn enter_region(&mut self, isolated: bool) {
        if isolated {
            self.stack.push(Isolated::default());
        }
        let top = self.top();
        top.regions.push(top.defined.len());
    }

    /// Closes a region; for an isolated one gives the first use of a name that was never defined.
    pub(super) fn leave_region(&mut self, isolated: bool) -> Option<(&'a str, u32, usize)> {
        if isolated {
            let left = self.stack.pop()?;
            return unresolved(&left);
        }
        let top = self.top();
        let start = top.regions.pop().unwrap_or(0);
        for name in top.defined.drain(start..) {
            top.packs.remove(name);
        }
        None
    }

    /// The first use of a name that the outermost ops never define.
    pub(super) fn unresolved(&self) -> Option<(&'a str, u32, usize)> {
        self.stack.first().and_then(unresolved)
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { isolated: self.stack.len(), regions: self.stack.last().map_or(0, |top| top.regions.len()) }
    }

    pub(super) fn restore(&mut self, mark: Mark) {
        self.stack.truncate(mark.isolated);
        while self.top().regions.len() > mark.regions {
            self.leave_region(false);
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<Pack> {
        self.stack.last().and_then(|top| top.packs.get(name)).copied()
    }

    /// False if the name is taken.
    pub(super) fn define(&mut self, name: &'a str, pack: Pack) -> bool {
        let top = self.top();
        top.defined.push(name);
        top.packs.insert(name, pack).is_none()
    }

    pub(super) fn forward(&mut self, name: &'a str, index: u32) -> Option<Forward> {
        self.top().forwards.get(&(name, index)).copied()
    }

    pub(super) fn add_forward(&mut self, name: &'a str, index: u32, forward: Forward) {
        self.top().forwards.insert((name, index), forward);
    }

    /// Takes out the stand-in of a value that is now defined.
    pub(super) fn resolve_forward(&mut self, name: &'a str, index: u32) -> Option<Forward> {
        let top = self.top();
        if top.forwards.is_empty() { None } else { top.forwards.remove(&(name, index)) }
    }
}

fn unresolved<'a>(scope: &Isolated<'a>) -> Option<(&'a str, u32, usize)> {
    scope.forwards.iter().map(|((name, index), forward)| (*name, *index, forward.at)).min_by_key(|row| row.2)
}
