//! Symbols of a model: reading `dim_param`, arithmetic with limits, bounds, and making two dimensions equal.
//!
//! Knows nothing of nodes. Symbols stand for numbers of at least 0. Hostile text and hostile arithmetic cannot grow an expression without bound:
//! every operation answers `None` once it would weigh more than [`WEIGHT_MAX`] atoms.
//!
//! ```text
//! equate(total_seq, past_seq + seq) = Replace(total_seq, past_seq + seq)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tilewright_ir::dim::{Atom, Dim, Function};

/// The most atoms that an expression made during import may hold.
const WEIGHT_MAX: usize = 256;
/// The longest `dim_param` that is read as an expression.
const TEXT_MAX: usize = 128;

/// What must be done to make two dimensions equal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Equate {
    /// They are equal.
    Equal,
    /// They are when this symbol is replaced.
    Replace(Arc<str>, Dim),
    /// They cannot be made equal.
    Differ,
}

/// The symbols of one import.
#[derive(Clone, Debug, Default)]
pub(crate) struct Symbols {
    /// What symbols stand for: bindings by the user and equalities found so far.
    pub(crate) substitution: BTreeMap<Arc<str>, Dim>,
    declared: Vec<Arc<str>>,
}

impl Symbols {
    /// Symbols with some replaced from the start.
    pub(crate) fn new(substitution: BTreeMap<Arc<str>, Dim>) -> Symbols {
        Symbols { substitution, declared: Vec::new() }
    }

    /// Symbols in order of their first appearance.
    pub(crate) fn declared(&self) -> &[Arc<str>] {
        &self.declared
    }

    fn declare(&mut self, dim: &Dim) {
        let mut found = BTreeSet::new();
        dim.collect_symbols(&mut found);
        for name in found {
            if !self.declared.contains(&name) {
                self.declared.push(name);
            }
        }
    }

    /// Reads a `dim_param`: an expression, or one symbol with the name made safe.
    pub(crate) fn read(&mut self, text: &str) -> Dim {
        let is_short = text.len() <= TEXT_MAX && text.matches(['*', '(']).count() <= 8;
        let parsed = if is_short { text.parse::<Dim>().ok() } else { None };
        let dim = match parsed {
            Some(dim) if weight(&dim) <= WEIGHT_MAX && bounds(&dim, 0).1.is_none_or(|upper| upper >= 0) => {
                dim
            }
            _ => Dim::symbol(&safe_name(text)),
        };
        self.declare(&dim);
        dim.substitute(&self.substitution)
    }

    /// A symbol of our own for a dimension that the model leaves open; the same hint gives the same symbol.
    pub(crate) fn open(&mut self, hint: &str) -> Dim {
        self.read(&safe_name(hint))
    }

    /// Adds an equality; older replacements are brought up to date.
    pub(crate) fn replace(&mut self, name: Arc<str>, dim: Dim) {
        let one = BTreeMap::from([(name.clone(), dim.clone())]);
        for old in self.substitution.values_mut() {
            *old = old.substitute(&one);
        }
        self.substitution.insert(name, dim);
    }

    fn age(&self, name: &Arc<str>) -> usize {
        self.declared.iter().position(|other| other == name).unwrap_or(usize::MAX)
    }

    /// What makes `a` and `b` equal. Of two symbols the one that appeared later is replaced.
    pub(crate) fn equate(&self, a: &Dim, b: &Dim) -> Equate {
        if a == b {
            return Equate::Equal;
        }
        let free_of = |dim: &Dim, name: &Arc<str>| {
            let mut symbols = BTreeSet::new();
            dim.collect_symbols(&mut symbols);
            !symbols.contains(name)
        };
        let can = |symbol: &Dim, other: &Dim| {
            let name = symbol.as_symbol()?.clone();
            let fits = other.known().is_none_or(|value| value >= 0);
            (fits && free_of(other, &name)).then_some(name)
        };
        match (can(a, b), can(b, a)) {
            (Some(left), Some(right)) if self.age(&left) >= self.age(&right) => {
                Equate::Replace(left, b.clone())
            }
            (_, Some(right)) => Equate::Replace(right, a.clone()),
            (Some(left), None) => Equate::Replace(left, b.clone()),
            (None, None) => {
                solve(&(a - b)).map_or(Equate::Differ, |(name, value)| Equate::Replace(name, value))
            }
        }
    }
}

/// The one symbol whose value makes a difference zero, if the difference is linear in a single symbol.
fn solve(difference: &Dim) -> Option<(Arc<str>, Dim)> {
    // `batch*4 - 4` and `batch*seq - seq` both say batch = 1: divide by what all products share.
    let (constant, linear) = match difference.affine() {
        Some(affine) => affine,
        None => shared_factor(difference)?.affine()?,
    };
    let [(name, coefficient)] = linear.as_slice() else { return None };
    let value = constant.checked_neg()?.checked_div_euclid(*coefficient)?;
    // A dimension is not made empty to fit.
    (value >= 1 && coefficient.checked_mul(value)? == constant.checked_neg()?)
        .then(|| (name.clone(), Dim::Known(value)))
}

fn shared_factor(dim: &Dim) -> Option<Dim> {
    let terms = dim.terms();
    let first = terms.keys().next()?;
    let atom = first.iter().find(|atom| terms.keys().all(|product| product.contains(atom)))?;
    let Atom::Symbol(name) = atom else { return None };
    let rest = dim.divide_exactly(&Dim::symbol(name))?;
    if rest.affine().is_some() { Some(rest) } else { shared_factor(&rest) }
}

/// Letters, digits and underscores only, starting with a letter.
pub(crate) fn safe_name(text: &str) -> String {
    let mut name: String =
        text.chars().take(64).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert_str(0, "d_");
    }
    name
}

/// Number of atoms in an expression, counted with repeats, up to a little above the limit.
pub(crate) fn weight(dim: &Dim) -> usize {
    let mut count = 0;
    count_atoms(dim, &mut count);
    count
}

fn count_atoms(dim: &Dim, count: &mut usize) {
    if dim.known().is_some() {
        *count += 1;
        return;
    }
    for product in dim.terms().keys() {
        for atom in product {
            if *count > WEIGHT_MAX {
                return;
            }
            *count += 1;
            if let Atom::Call(_, a, b) = atom {
                count_atoms(a, count);
                count_atoms(b, count);
            }
        }
        *count += 1;
    }
}

fn limited(dim: Dim) -> Option<Dim> {
    (weight(&dim) <= WEIGHT_MAX).then_some(dim)
}

/// `a + b`.
pub(crate) fn add(a: &Dim, b: &Dim) -> Option<Dim> {
    limited(a + b)
}

/// `a - b`.
pub(crate) fn subtract(a: &Dim, b: &Dim) -> Option<Dim> {
    limited(a - b)
}

/// `a * b`.
pub(crate) fn multiply(a: &Dim, b: &Dim) -> Option<Dim> {
    if weight(a).saturating_mul(weight(b)) > 4 * WEIGHT_MAX { None } else { limited(a * b) }
}

/// A function of two dimensions.
pub(crate) fn call(function: Function, a: &Dim, b: &Dim) -> Option<Dim> {
    if matches!(function, Function::FloorDiv | Function::Mod) && *b == Dim::Known(0) {
        return None;
    }
    limited(Dim::call(function, a, b))
}

/// The product of dimensions.
pub(crate) fn product<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Option<Dim> {
    dims.into_iter().try_fold(Dim::Known(1), |so_far, dim| multiply(&so_far, dim))
}

/// The larger of two; decided by bounds where possible.
pub(crate) fn larger(a: &Dim, b: &Dim) -> Option<Dim> {
    match (is_at_most(a, b), is_at_most(b, a)) {
        (Some(true), _) => Some(b.clone()),
        (_, Some(true)) => Some(a.clone()),
        _ => call(Function::Max, a, b),
    }
}

/// The smaller of two; decided by bounds where possible.
pub(crate) fn smaller(a: &Dim, b: &Dim) -> Option<Dim> {
    match (is_at_most(a, b), is_at_most(b, a)) {
        (Some(true), _) => Some(a.clone()),
        (_, Some(true)) => Some(b.clone()),
        _ => call(Function::Min, a, b),
    }
}

/// The smaller of two; where an empty dimension alone would change the answer, dimensions are taken not to be empty.
pub(crate) fn smaller_present(a: &Dim, b: &Dim) -> Option<Dim> {
    let (lower, upper) = bounds(&subtract(b, a)?, 1);
    if is_at_most(a, b).is_none() && is_at_most(b, a).is_none() {
        if lower.is_some_and(|lower| lower >= 0) {
            return Some(a.clone());
        }
        if upper.is_some_and(|upper| upper <= 0) {
            return Some(b.clone());
        }
    }
    smaller(a, b)
}

/// Smallest and largest value when every symbol is at least `least`; `None` where there is no bound.
pub(crate) fn bounds(dim: &Dim, least: i64) -> (Option<i64>, Option<i64>) {
    if let Some(value) = dim.known() {
        return (Some(value), Some(value));
    }
    let (mut lower, mut upper) = (Some(0i64), Some(0i64));
    for (product, coefficient) in dim.terms() {
        let (mut low, mut high) = (Some(1i64), Some(1i64));
        for atom in &product {
            let (atom_low, atom_high) = match atom {
                Atom::Symbol(_) => (Some(least), None),
                Atom::Call(function, a, b) => call_bounds(*function, a, b, least),
            };
            // Products are bounded only where every factor is at least 0.
            let usable = low.is_some() && atom_low.is_some_and(|value| value >= 0);
            low = if usable { low.zip(atom_low).and_then(|(a, b)| a.checked_mul(b)) } else { None };
            high = if usable { high.zip(atom_high).and_then(|(a, b)| a.checked_mul(b)) } else { None };
        }
        let scaled = |value: Option<i64>| value.and_then(|value| value.checked_mul(coefficient));
        let (term_low, term_high) =
            if coefficient >= 0 { (scaled(low), scaled(high)) } else { (scaled(high), scaled(low)) };
        lower = lower.zip(term_low).and_then(|(a, b)| a.checked_add(b));
        upper = upper.zip(term_high).and_then(|(a, b)| a.checked_add(b));
    }
    (lower, upper)
}

fn call_bounds(function: Function, a: &Dim, b: &Dim, least: i64) -> (Option<i64>, Option<i64>) {
    let (a_low, a_high) = bounds(a, least);
    let (b_low, b_high) = bounds(b, least);
    match function {
        Function::FloorDiv => match b.known() {
            Some(divisor) if divisor > 0 => {
                (a_low.map(|value| value.div_euclid(divisor)), a_high.map(|value| value.div_euclid(divisor)))
            }
            _ if a_low >= Some(0) && b_low >= Some(0) => (Some(0), a_high),
            _ => (None, None),
        },
        Function::Mod => match b.known() {
            Some(divisor) if divisor > 0 => (Some(0), Some(divisor - 1)),
            _ if b_low >= Some(0) => (Some(0), None),
            _ => (None, None),
        },
        Function::Max => (a_low.max(b_low), a_high.zip(b_high).map(|(a, b)| a.max(b))),
        Function::Min => {
            let upper = match (a_high, b_high) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            (a_low.zip(b_low).map(|(a, b)| a.min(b)), upper)
        }
    }
}

/// `a <= b`, when decided for all values of the symbols (0 is tried first, then the assumption that no dimension is empty).
pub(crate) fn is_at_most(a: &Dim, b: &Dim) -> Option<bool> {
    let difference = subtract(b, a)?;
    if bounds(&difference, 0).0.is_some_and(|lower| lower >= 0) {
        return Some(true);
    }
    let (_, upper) = bounds(&difference, 0);
    upper.is_some_and(|upper| upper < 0).then_some(false)
}

/// `a < b`, when decided. Where an empty dimension alone would change the answer, dimensions are taken not to be empty.
pub(crate) fn is_less(a: &Dim, b: &Dim) -> Option<bool> {
    let difference = subtract(b, a)?;
    for least in [0, 1] {
        let (lower, upper) = bounds(&difference, least);
        if lower.is_some_and(|lower| lower > 0) {
            return Some(true);
        }
        if upper.is_some_and(|upper| upper <= 0) {
            return Some(false);
        }
    }
    None
}

/// `a == b`, when decided. Where an empty dimension alone would change the answer, dimensions are taken not to be empty.
pub(crate) fn is_equal(a: &Dim, b: &Dim) -> Option<bool> {
    if a == b {
        return Some(true);
    }
    let difference = subtract(b, a)?;
    if let Some(value) = difference.known() {
        return Some(value == 0);
    }
    for least in [0, 1] {
        let (lower, upper) = bounds(&difference, least);
        if lower.is_some_and(|lower| lower > 0) || upper.is_some_and(|upper| upper < 0) {
            return Some(false);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dim(text: &str) -> Dim {
        text.parse().unwrap()
    }

    #[test]
    fn names_that_are_no_expressions_become_symbols() {
        let mut symbols = Symbols::default();
        assert_eq!(symbols.read("seq + past_seq"), dim("past_seq + seq"));
        assert_eq!(symbols.read("s0//2"), dim("floordiv(s0, 2)"));
        assert_eq!(symbols.read("Re shape,(dim"), Dim::symbol("Re_shape__dim"));
        assert_eq!(symbols.read("-1"), Dim::symbol("d__1"));
        let hostile = "(a+b)*".repeat(20) + "c";
        assert!(symbols.read(&hostile).as_symbol().is_some());
    }

    #[test]
    fn the_later_symbol_gives_way() {
        let mut symbols = Symbols::default();
        for text in ["batch", "seq", "past_seq", "total_seq"] {
            symbols.read(text);
        }
        let sum = dim("past_seq + seq");
        assert_eq!(symbols.equate(&sum, &dim("total_seq")), Equate::Replace("total_seq".into(), sum.clone()));
        assert_eq!(
            symbols.equate(&dim("total_seq"), &dim("seq")),
            Equate::Replace("total_seq".into(), dim("seq"))
        );
        assert_eq!(symbols.equate(&dim("seq"), &sum), Equate::Differ);
        assert_eq!(symbols.equate(&dim("4*batch"), &dim("4")), Equate::Replace("batch".into(), dim("1")));
        assert_eq!(symbols.equate(&dim("batch*seq"), &dim("seq")), Equate::Replace("batch".into(), dim("1")));
        assert_eq!(symbols.equate(&dim("3"), &dim("4")), Equate::Differ);
    }

    #[test]
    fn bounds_decide_shape_questions() {
        assert_eq!(is_equal(&dim("past + seq"), &dim("-1")), Some(false));
        assert_eq!(is_equal(&dim("seq"), &dim("0")), Some(false));
        assert_eq!(is_equal(&dim("seq"), &dim("1")), None);
        assert_eq!(is_at_most(&dim("seq"), &dim("past + seq")), Some(true));
        assert_eq!(is_at_most(&dim("past"), &dim("seq")), None);
        assert_eq!(is_less(&dim("mod(seq, 4)"), &dim("4")), Some(true));
    }

    #[test]
    fn expressions_cannot_grow_without_bound() {
        let mut value = dim("a + b + c + d");
        let mut steps = 0;
        while let Some(next) = multiply(&value, &value) {
            value = next;
            steps += 1;
            assert!(steps < 10, "the limit never came");
        }
    }
}
