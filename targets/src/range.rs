//! How large a dimension expression can get: interval arithmetic over registers and loop variables.
//!
//! Capacities (memory reserved for a dimension that follows a register) and caps of command extents come from here. It must not
//! know views or memory.
//!
//! ```
//! use tilewright_targets::range::Ranges;
//! let mut ranges = Ranges::default();
//! ranges.insert("past_seq", 0, 511);
//! assert_eq!(ranges.maximum(&"min(32, past_seq + 1)".parse().unwrap()), Some(32));
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use tilewright_ir::dim::{Atom, Dim, Function};

/// Smallest and largest value of each symbol.
#[derive(Clone, Debug, Default)]
pub struct Ranges(BTreeMap<Arc<str>, (i64, i64)>);

impl Ranges {
    /// Declares a symbol, inclusive at both ends.
    pub fn insert(&mut self, name: &str, minimum: i64, maximum: i64) {
        self.0.insert(name.into(), (minimum, maximum));
    }

    /// The symbols with their ranges, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, (i64, i64))> {
        self.0.iter().map(|(name, range)| (name, *range))
    }

    /// The range of one symbol.
    pub fn get(&self, name: &str) -> Option<(i64, i64)> {
        self.0.get(name).copied()
    }

    /// Smallest and largest value; `None` when a symbol is not declared. Never too narrow, but may be too wide when a symbol
    /// occurs twice.
    pub fn range(&self, dim: &Dim) -> Option<(i64, i64)> {
        if let Dim::Known(value) = dim {
            return Some((*value, *value));
        }
        let mut sum = (0i64, 0i64);
        for (product, coefficient) in dim.terms() {
            let mut range = (coefficient, coefficient);
            for atom in &product {
                range = multiply(range, self.atom(atom)?);
            }
            sum = (sum.0.saturating_add(range.0), sum.1.saturating_add(range.1));
        }
        Some(sum)
    }

    fn atom(&self, atom: &Atom) -> Option<(i64, i64)> {
        let (function, a, b) = match atom {
            Atom::Symbol(name) => return self.0.get(name).copied(),
            Atom::Call(function, a, b) => (function, self.range(a)?, self.range(b)?),
        };
        match function {
            Function::Max => Some((a.0.max(b.0), a.1.max(b.1))),
            Function::Min => Some((a.0.min(b.0), a.1.min(b.1))),
            // A divisor whose sign is open could be zero: no bound is known.
            Function::FloorDiv | Function::Mod if b.0 < 1 => None,
            Function::FloorDiv => {
                let ends = [(a.0, b.0), (a.0, b.1), (a.1, b.0), (a.1, b.1)].map(|(a, b)| a.div_euclid(b));
                Some((ends.into_iter().min()?, ends.into_iter().max()?))
            }
            Function::Mod => Some((0, b.1 - 1)),
        }
    }

    /// The largest value; `None` when a symbol is not declared.
    pub fn maximum(&self, dim: &Dim) -> Option<i64> {
        self.range(dim).map(|range| range.1)
    }
}

fn multiply(a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
    let ends = [(a.0, b.0), (a.0, b.1), (a.1, b.0), (a.1, b.1)].map(|(a, b)| a.saturating_mul(b));
    let minimum = ends.iter().copied().fold(i64::MAX, i64::min);
    let maximum = ends.iter().copied().fold(i64::MIN, i64::max);
    (minimum, maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_at_every_value() {
        let mut ranges = Ranges::default();
        ranges.insert("a", -3, 4);
        ranges.insert("b", 0, 5);
        for text in ["a*b - 2*a", "min(a, 2*b)", "floordiv(a, b + 1)", "mod(a, 3)", "max(a, b) - a"] {
            let dim: Dim = text.parse().unwrap();
            let (low, high) = ranges.range(&dim).unwrap();
            for a in -3..=4 {
                for b in 0..=5 {
                    let bindings = [("a".into(), a), ("b".into(), b)].into_iter().collect();
                    let value = dim.evaluate(&bindings).unwrap();
                    assert!((low..=high).contains(&value), "{text} = {value} outside {low}..={high}");
                }
            }
        }
        assert_eq!(ranges.range(&Dim::symbol("c")), None);
    }
}
