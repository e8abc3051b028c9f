//! Which dialects, and so which ops, are known. Always explicit: nothing registers itself.
//!
//! ```
//! # use tilewright_ir::registry::Registry;
//! let registry = Registry::builtin();
//! assert!(registry.find("core.matmul").is_some());
//! ```

use crate::op_def::OpDef;
use std::collections::BTreeMap;

/// A named set of ops.
pub struct Dialect {
    /// The part of an op's name before the dot.
    pub name: &'static str,
    /// One paragraph for the reference page.
    pub doc: &'static str,
    /// Its ops, in the order of the reference page.
    pub ops: &'static [&'static OpDef],
}

/// The known dialects. Ops keep the order in which they were registered: [`Registry::index_of`] is stable.
#[derive(Clone, Default)]
pub struct Registry {
    dialects: Vec<&'static Dialect>,
    by_name: BTreeMap<&'static str, (usize, &'static OpDef)>,
}

impl Registry {
    /// No dialects.
    pub fn empty() -> Registry {
        Registry::default()
    }

    /// All in-tree dialects.
    pub fn builtin() -> Registry {
        crate::dialects::ALL.iter().fold(Registry::empty(), |registry, dialect| registry.with(dialect))
    }

    /// Adds a dialect.
    ///
    /// # Panics
    /// When an op of that name, or an op outside the dialect's prefix, is registered: a fault of the program, found at start.
    #[must_use]
    pub fn with(mut self, dialect: &'static Dialect) -> Registry {
        for def in dialect.ops {
            let prefix = def.name.split('.').next().unwrap_or_default();
            assert!(
                prefix == dialect.name || dialect.name == "builtin",
                "op '{}' is not of dialect '{}'",
                def.name,
                dialect.name
            );
            let index = self.by_name.len();
            let clash = self.by_name.insert(def.name, (index, def));
            assert!(
                clash.is_none(),
                "op '{}' is registered twice, again by dialect '{}'",
                def.name,
                dialect.name
            );
        }
        self.dialects.push(dialect);
        self
    }

    /// The op of that name.
    pub fn find(&self, name: &str) -> Option<&'static OpDef> {
        self.by_name.get(name).map(|row| row.1)
    }

    /// Its number in registration order.
    pub fn index_of(&self, def: &OpDef) -> Option<usize> {
        self.by_name.get(def.name).map(|row| row.0)
    }

    /// The dialects in registration order.
    pub fn dialects(&self) -> &[&'static Dialect] {
        &self.dialects
    }

    /// All ops in registration order.
    pub fn ops(&self) -> impl Iterator<Item = &'static OpDef> + '_ {
        self.dialects.iter().flat_map(|dialect| dialect.ops.iter().copied())
    }

    /// The known name nearest to `name`, for "did you mean".
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.by_name.keys().copied())
    }
}

/// Of some names the one nearest to a word, for "did you mean": at most a third of the word's letters differ.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = word.len().div_ceil(3).max(1);
    let near = names.map(|name| (edit_distance(word, name), name)).filter(|row| row.0 <= limit);
    near.min().map(|row| row.1)
}

/// Levenshtein distance, in characters.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let next = (diagonal + usize::from(from != *to)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}
