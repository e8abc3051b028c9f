//! One dimension of a shape: a number or an expression over named symbols, always in canonical form.
//!
//! Knows nothing of tensors. `past + seq` and `seq + past` are the same value.
//!
//! ```text
//! past_seq + seq      2*seq      floordiv(seq + 3, 4)      max(seq, 1)
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A dimension. Ordered and hashed by its canonical form, so equal expressions are equal values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dim {
    /// A number, in elements.
    Known(i64),
    /// A sum of products that holds at least one atom.
    Symbolic(Arc<Polynomial>),
}

/// A sum of products: product of atoms (sorted) to its coefficient, never zero. The empty product is the constant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Polynomial(BTreeMap<Vec<Atom>, i64>);

/// What cannot be taken apart by addition and multiplication.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// A named symbol.
    Symbol(Arc<str>),
    /// A function of two dimensions.
    Call(Function, Dim, Dim),
}

/// Functions of two dimensions that stay as they are when an argument is symbolic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// Quotient rounded towards minus infinity.
    FloorDiv,
    /// Remainder with the sign of the divisor.
    Mod,
    /// The larger.
    Max,
    /// The smaller.
    Min,
}

impl Function {
    const ALL: [(Function, &'static str); 4] = [
        (Function::FloorDiv, "floordiv"),
        (Function::Mod, "mod"),
        (Function::Max, "max"),
        (Function::Min, "min"),
    ];

    fn text(self) -> &'static str {
        Function::ALL.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    fn apply(self, a: i64, b: i64) -> Option<i64> {
        match self {
            Function::FloorDiv => (b != 0).then(|| floor_div(a, b)),
            Function::Mod => (b != 0).then(|| a.wrapping_sub(b.wrapping_mul(floor_div(a, b)))),
            Function::Max => Some(a.max(b)),
            Function::Min => Some(a.min(b)),
        }
    }
}

fn floor_div(a: i64, b: i64) -> i64 {
    let quotient = a.wrapping_div(b);
    if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { quotient.wrapping_sub(1) } else { quotient }
}

/// Constant part, and coefficients of single symbols.
pub type Affine = (i64, Vec<(Arc<str>, i64)>);

/// Values of symbols.
pub type Bindings = BTreeMap<Arc<str>, i64>;

impl Dim {
    /// A named symbol.
    pub fn symbol(name: &str) -> Dim {
        Dim::from_terms(BTreeMap::from([(vec![Atom::Symbol(name.into())], 1)]))
    }

    /// The number, if it is one.
    pub fn known(&self) -> Option<i64> {
        match self {
            Dim::Known(value) => Some(*value),
            Dim::Symbolic(_) => None,
        }
    }

    /// The name, if this is exactly one symbol.
    pub fn as_symbol(&self) -> Option<&Arc<str>> {
        match self {
            Dim::Symbolic(polynomial) if polynomial.0.len() == 1 => match polynomial.0.iter().next() {
                Some((product, 1)) => match product.as_slice() {
                    [Atom::Symbol(name)] => Some(name),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// The products and their coefficients; the empty product is the constant part.
    pub fn terms(&self) -> BTreeMap<Vec<Atom>, i64> {
        match self {
            Dim::Known(0) => BTreeMap::new(),
            Dim::Known(value) => BTreeMap::from([(Vec::new(), *value)]),
            Dim::Symbolic(polynomial) => polynomial.0.clone(),
        }
    }

    /// Constant part and coefficients of single symbols, if the expression is affine in symbols.
    pub fn affine(&self) -> Option<Affine> {
        let mut constant = 0;
        let mut linear = Vec::new();
        for (product, coefficient) in self.terms() {
            match product.as_slice() {
                [] => constant = coefficient,
                [Atom::Symbol(name)] => linear.push((name.clone(), coefficient)),
                _ => return None,
            }
        }
        Some((constant, linear))
    }

    fn from_terms(mut terms: BTreeMap<Vec<Atom>, i64>) -> Dim {
        terms.retain(|_, coefficient| *coefficient != 0);
        match terms.len() {
            0 => Dim::Known(0),
            1 if terms.contains_key(&Vec::new()) => Dim::Known(terms[&Vec::new()]),
            _ => Dim::Symbolic(Arc::new(Polynomial(terms))),
        }
    }

    /// `self / other` when the division is exact as polynomials (a number divides every coefficient, or one product
    /// divides every product); otherwise `None`.
    pub fn divide_exactly(&self, other: &Dim) -> Option<Dim> {
        if self == other && *self != Dim::Known(0) {
            return Some(Dim::Known(1));
        }
        let divisor = other.terms();
        if divisor.len() != 1 {
            return self.divide_by_sum(&divisor);
        }
        let (product, coefficient) = divisor.into_iter().next()?;
        let mut terms = BTreeMap::new();
        for (mut from, value) in self.terms() {
            if value.checked_rem(coefficient)? != 0 {
                return None;
            }
            for atom in &product {
                let at = from.iter().position(|other| other == atom)?;
                from.remove(at);
            }
            terms.insert(from, value.checked_div(coefficient)?);
        }
        Some(Dim::from_terms(terms))
    }

    fn divide_by_sum(&self, divisor: &BTreeMap<Vec<Atom>, i64>) -> Option<Dim> {
        // Long division by the largest product; exact or nothing.
        let (lead, lead_coefficient) = divisor.iter().next_back()?;
        let divisor_dim = Dim::from_terms(divisor.clone());
        let mut rest = self.clone();
        let mut quotient = Dim::Known(0);
        for _ in 0..64 {
            if rest == Dim::Known(0) {
                return Some(quotient);
            }
            let (product, coefficient) = rest.terms().into_iter().next_back()?;
            if coefficient.checked_rem(*lead_coefficient)? != 0 {
                return None;
            }
            let mut left = product;
            for atom in lead {
                let at = left.iter().position(|other| other == atom)?;
                left.remove(at);
            }
            let step = Dim::from_terms(BTreeMap::from([(left, coefficient.checked_div(*lead_coefficient)?)]));
            quotient = &quotient + &step;
            rest = &rest - &(&step * &divisor_dim);
        }
        None
    }

    /// Applies a function, folded when both arguments are known or it is trivially decided.
    pub fn call(function: Function, a: &Dim, b: &Dim) -> Dim {
        if let (Dim::Known(a), Dim::Known(b)) = (a, b)
            && let Some(value) = function.apply(*a, *b)
        {
            return Dim::Known(value);
        }
        if let Some(exact) = a.divide_exactly(b) {
            match function {
                Function::FloorDiv => return exact,
                Function::Mod => return Dim::Known(0),
                Function::Max | Function::Min => {}
            }
        }
        match function {
            Function::Max | Function::Min if a == b => a.clone(),
            Function::Max | Function::Min => {
                let (a, b) = if a <= b { (a, b) } else { (b, a) };
                // A constant distance decides without knowing the symbols.
                if let Dim::Known(distance) = b - a {
                    let b_is_larger = distance >= 0;
                    return if b_is_larger == (function == Function::Max) { b.clone() } else { a.clone() };
                }
                Dim::atom(Atom::Call(function, a.clone(), b.clone()))
            }
            _ => Dim::atom(Atom::Call(function, a.clone(), b.clone())),
        }
    }

    fn atom(atom: Atom) -> Dim {
        Dim::from_terms(BTreeMap::from([(vec![atom], 1)]))
    }

    /// Replaces symbols by expressions, to a fixed depth of one replacement per symbol occurrence.
    pub fn substitute(&self, with: &BTreeMap<Arc<str>, Dim>) -> Dim {
        let Dim::Symbolic(polynomial) = self else { return self.clone() };
        let mut sum = Dim::Known(0);
        for (product, coefficient) in &polynomial.0 {
            let mut value = Dim::Known(*coefficient);
            for atom in product {
                let factor = match atom {
                    Atom::Symbol(name) => with.get(name).cloned().unwrap_or_else(|| Dim::atom(atom.clone())),
                    Atom::Call(function, a, b) => {
                        Dim::call(*function, &a.substitute(with), &b.substitute(with))
                    }
                };
                value = &value * &factor;
            }
            sum = &sum + &value;
        }
        sum
    }

    /// The value under bindings; `None` when a symbol is unbound, on overflow or on division by zero.
    pub fn evaluate(&self, bindings: &Bindings) -> Option<i64> {
        let Dim::Symbolic(polynomial) = self else { return self.known() };
        let mut sum = 0i64;
        for (product, coefficient) in &polynomial.0 {
            let mut value = *coefficient;
            for atom in product {
                let factor = match atom {
                    Atom::Symbol(name) => *bindings.get(name)?,
                    Atom::Call(function, a, b) => {
                        function.apply(a.evaluate(bindings)?, b.evaluate(bindings)?)?
                    }
                };
                value = value.checked_mul(factor)?;
            }
            sum = sum.checked_add(value)?;
        }
        Some(sum)
    }

    /// Adds every symbol that occurs to `into`.
    pub fn collect_symbols(&self, into: &mut std::collections::BTreeSet<Arc<str>>) {
        let Dim::Symbolic(polynomial) = self else { return };
        for atom in polynomial.0.keys().flatten() {
            match atom {
                Atom::Symbol(name) => {
                    into.insert(name.clone());
                }
                Atom::Call(_, a, b) => {
                    a.collect_symbols(into);
                    b.collect_symbols(into);
                }
            }
        }
    }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Dim {
        Dim::Known(value)
    }
}

fn combine(a: &Dim, b: &Dim, sign: i64) -> Dim {
    if let (Dim::Known(a), Dim::Known(b)) = (a, b) {
        return Dim::Known(a.saturating_add(b.saturating_mul(sign)));
    }
    let mut terms = a.terms();
    for (product, coefficient) in b.terms() {
        let entry = terms.entry(product).or_insert(0);
        *entry = entry.saturating_add(coefficient.saturating_mul(sign));
    }
    Dim::from_terms(terms)
}

impl std::ops::Add for &Dim {
    type Output = Dim;
    fn add(self, other: &Dim) -> Dim {
        combine(self, other, 1)
    }
}

impl std::ops::Sub for &Dim {
    type Output = Dim;
    fn sub(self, other: &Dim) -> Dim {
        combine(self, other, -1)
    }
}

impl std::ops::Mul for &Dim {
    type Output = Dim;
    fn mul(self, other: &Dim) -> Dim {
        if let (Dim::Known(a), Dim::Known(b)) = (self, other) {
            return Dim::Known(a.saturating_mul(*b));
        }
        let mut terms: BTreeMap<Vec<Atom>, i64> = BTreeMap::new();
        for (left, a) in self.terms() {
            for (right, b) in other.terms() {
                let mut product = left.clone();
                product.extend(right.iter().cloned());
                product.sort();
                let entry = terms.entry(product).or_insert(0);
                *entry = entry.saturating_add(a.saturating_mul(b));
            }
        }
        Dim::from_terms(terms)
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(name) => f.write_str(name),
            Atom::Call(function, a, b) => write!(f, "{}({a}, {b})", function.text()),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let polynomial = match self {
            Dim::Known(value) => return write!(f, "{value}"),
            Dim::Symbolic(polynomial) => polynomial,
        };
        // The constant sorts first (empty product) but reads better last.
        let (constant, products): (Vec<_>, Vec<_>) =
            polynomial.0.iter().partition(|(product, _)| product.is_empty());
        for (at, (product, coefficient)) in products.into_iter().chain(constant).enumerate() {
            let sign = match (at, *coefficient < 0) {
                (0, true) => "-",
                (0, false) => "",
                (_, true) => " - ",
                (_, false) => " + ",
            };
            f.write_str(sign)?;
            let magnitude = coefficient.unsigned_abs();
            if product.is_empty() || magnitude != 1 {
                write!(f, "{magnitude}{}", if product.is_empty() { "" } else { "*" })?;
            }
            let atoms: Vec<String> = product.iter().map(ToString::to_string).collect();
            f.write_str(&atoms.join("*"))?;
        }
        Ok(())
    }
}

/// Why a dimension's text could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read dimension '{text}': {reason} at byte {at}")]
pub struct DimError {
    /// The whole text.
    pub text: String,
    /// What was wrong.
    pub reason: &'static str,
    /// Byte offset of the fault.
    pub at: usize,
}

impl std::str::FromStr for Dim {
    type Err = DimError;

    /// Reads sums, differences, products, `//`, parentheses and the functions `floordiv mod max min`. Names may hold letters,
    /// digits, `_`, `.`, `:` and `/` inside a name is not allowed.
    fn from_str(text: &str) -> Result<Dim, DimError> {
        let mut reader = Reader { text, at: 0, depth: 0 };
        let dim = reader.sum()?;
        reader.space();
        if reader.at < text.len() { Err(reader.error("unexpected text")) } else { Ok(dim) }
    }
}

/// Most terms that one product in a text may expand to.
const TERMS_MAX: usize = 4096;

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn error(&self, reason: &'static str) -> DimError {
        DimError { text: self.text.to_string(), reason, at: self.at }
    }

    fn space(&mut self) {
        while self.text.as_bytes().get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let found = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(token));
        if found {
            self.at += token.len();
        }
        found
    }

    fn sum(&mut self) -> Result<Dim, DimError> {
        self.depth += 1;
        // A limit keeps hostile text from exhausting the stack.
        if self.depth > 64 {
            return Err(self.error("nested too deep"));
        }
        let mut value = if self.eat("-") { &Dim::Known(0) - &self.product()? } else { self.product()? };
        loop {
            if self.eat("+") {
                value = &value + &self.product()?;
            } else if self.eat("-") {
                value = &value - &self.product()?;
            } else {
                self.depth -= 1;
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<Dim, DimError> {
        let mut value = self.primary()?;
        loop {
            if self.eat("*") {
                let factor = self.primary()?;
                // A product of sums can grow without bound from little text.
                if value.terms().len() * factor.terms().len() > TERMS_MAX {
                    return Err(self.error("too many terms"));
                }
                value = &value * &factor;
            } else if self.eat("//") {
                value = Dim::call(Function::FloorDiv, &value, &self.primary()?);
            } else {
                return Ok(value);
            }
        }
    }

    fn primary(&mut self) -> Result<Dim, DimError> {
        if self.eat("(") {
            let value = self.sum()?;
            return if self.eat(")") { Ok(value) } else { Err(self.error("missing ')'")) };
        }
        self.space();
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_.:".contains(c))).unwrap_or(rest.len());
        let word = &rest[..end];
        if word.is_empty() {
            return Err(self.error("expected a name or a number"));
        }
        self.at += end;
        if word.starts_with(|c: char| c.is_ascii_digit()) && word.bytes().all(|byte| byte.is_ascii_digit()) {
            return word.parse().map(Dim::Known).map_err(|_| self.error("number too large"));
        }
        let function = Function::ALL.iter().find(|row| row.1.eq_ignore_ascii_case(word)).map(|row| row.0);
        if let Some(function) = function
            && self.eat("(")
        {
            let a = self.sum()?;
            if !self.eat(",") {
                return Err(self.error("missing ','"));
            }
            let b = self.sum()?;
            return if self.eat(")") {
                Ok(Dim::call(function, &a, &b))
            } else {
                Err(self.error("missing ')'"))
            };
        }
        Ok(Dim::symbol(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dim(text: &str) -> Dim {
        text.parse().unwrap()
    }

    #[test]
    fn both_spellings_of_a_sum_are_one_value() {
        assert_eq!(dim("past_seq + seq"), dim("seq + past_seq"));
        assert_eq!(dim("2*(a + b) - b").to_string(), "2*a + b");
        assert_eq!(dim("a - a"), Dim::Known(0));
    }

    #[test]
    fn division_is_exact_or_stays() {
        assert_eq!(dim("6*a*b").divide_exactly(&dim("2*b")), Some(dim("3*a")));
        assert_eq!(dim("a + 1").divide_exactly(&dim("2")), None);
        assert_eq!(dim("8*a + 8*b").divide_exactly(&dim("a + b")), Some(Dim::Known(8)));
        assert_eq!(dim("floordiv(seq + 3, 4)").evaluate(&Bindings::from([("seq".into(), 6)])), Some(2));
        assert_eq!(dim("(0-7)//2"), Dim::Known(-4));
    }

    #[test]
    fn functions_fold_when_decided() {
        assert_eq!(dim("max(a, a + 2)"), dim("a + 2"));
        assert_eq!(dim("min(a, a + 2)"), dim("a"));
        assert_eq!(dim("mod(4*a, 4)"), Dim::Known(0));
    }

    #[test]
    fn bad_text_is_an_error() {
        for text in ["", "a +", "(a", "a b", "max(a)", "99999999999999999999"] {
            assert!(text.parse::<Dim>().is_err(), "{text}");
        }
    }
}
