//! Views: which bytes of which space a command reads or writes, as affine functions of the registers.
//!
//! A [`View`] is a base address, up to eight extents and as many strides. Base and extents are [`Expression`]s over
//! registers, so that one command inside a loop, or one program at any context length, addresses the right bytes. This
//! file is pure arithmetic: it must not know commands, memory or files.
//!
//! ```text
//! sram[0x400 + 0x80*r1] f32<min(32, r0 - r1)x64:64,1>
//! space base            element extents        strides in elements
//! ```

use crate::element::Element;

/// Most dimensions a view may have.
pub const RANK_MAX: usize = 8;
/// Most registers an expression may name.
pub const TERMS_MAX: usize = 4;

/// A memory space. The discriminant is the wire tag and the index into [`crate::stream::Program::space_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Space {
    /// Weights, mapped from the artifact; never written.
    Constant = 0,
    /// Inputs and outputs of one run.
    Io = 1,
    /// What persists between runs: key/value caches, convolution states.
    State = 2,
    /// The activation arena in DRAM.
    Dram = 3,
    /// On-chip scratch memory.
    Sram = 4,
    /// The matrix engine's accumulators.
    Accumulator = 5,
}

impl Space {
    /// Number of spaces.
    pub const COUNT: usize = 6;
    /// Every space, in wire order.
    pub const ALL: [Space; Space::COUNT] =
        [Space::Constant, Space::Io, Space::State, Space::Dram, Space::Sram, Space::Accumulator];

    /// The space with this wire tag.
    pub fn from_tag(tag: u8) -> Option<Space> {
        Space::ALL.get(usize::from(tag)).copied()
    }

    /// The name used in dumps.
    pub const fn name(self) -> &'static str {
        match self {
            Space::Constant => "const",
            Space::Io => "io",
            Space::State => "state",
            Space::Dram => "dram",
            Space::Sram => "sram",
            Space::Accumulator => "acc",
        }
    }

    /// Whether the bytes live on the chip.
    pub const fn is_on_chip(self) -> bool {
        matches!(self, Space::Sram | Space::Accumulator)
    }
}

impl std::fmt::Display for Space {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A register of a program: a context length bound by the caller, a loop counter, or a value read from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register(pub u16);

/// `constant + sum of coefficient * register`, at most [`TERMS_MAX`] terms.
///
/// Kept normal: terms ascend by register, no coefficient is zero. All arithmetic saturates, so that hostile numbers fail a
/// bounds check instead of wrapping into range.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expression {
    constant: i64,
    terms: Vec<(Register, i64)>,
}

impl Expression {
    /// A plain number.
    pub fn constant(constant: i64) -> Expression {
        Expression { constant, terms: Vec::new() }
    }

    /// `1 * register`.
    pub fn register(register: Register) -> Expression {
        Expression { constant: 0, terms: vec![(register, 1)] }
    }

    /// From parts in any order; registers that occur twice are added. The term limit is checked by whoever accepts the
    /// expression (the encoder asserts it, the decoder refuses it).
    pub fn new(constant: i64, terms: impl IntoIterator<Item = (Register, i64)>) -> Expression {
        let mut result = Expression::constant(constant);
        for (register, coefficient) in terms {
            result.add_term(register, coefficient);
        }
        result
    }

    fn add_term(&mut self, register: Register, coefficient: i64) {
        match self.terms.binary_search_by_key(&register, |term| term.0) {
            Ok(found) => {
                self.terms[found].1 = self.terms[found].1.saturating_add(coefficient);
                if self.terms[found].1 == 0 {
                    self.terms.remove(found);
                }
            }
            Err(place) if coefficient != 0 => self.terms.insert(place, (register, coefficient)),
            Err(_) => {}
        }
    }

    /// The number without registers.
    pub fn constant_part(&self) -> i64 {
        self.constant
    }

    /// The terms, ascending by register.
    pub fn terms(&self) -> &[(Register, i64)] {
        &self.terms
    }

    /// The value, if no register is involved.
    pub fn as_constant(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// The coefficient of a register, 0 when it does not occur.
    pub fn coefficient(&self, register: Register) -> i64 {
        self.terms.binary_search_by_key(&register, |term| term.0).map_or(0, |found| self.terms[found].1)
    }

    /// `self + other`.
    pub fn plus(&self, other: &Expression) -> Expression {
        let mut result = self.clone();
        result.constant = result.constant.saturating_add(other.constant);
        for &(register, coefficient) in &other.terms {
            result.add_term(register, coefficient);
        }
        result
    }

    /// `self + number`.
    pub fn plus_constant(&self, number: i64) -> Expression {
        Expression { constant: self.constant.saturating_add(number), terms: self.terms.clone() }
    }

    /// `self * factor`.
    pub fn times(&self, factor: i64) -> Expression {
        Expression::new(
            self.constant.saturating_mul(factor),
            self.terms.iter().map(|&(register, coefficient)| (register, coefficient.saturating_mul(factor))),
        )
    }

    /// `self - other`.
    pub fn minus(&self, other: &Expression) -> Expression {
        self.plus(&other.times(-1))
    }

    /// The value for these registers. Registers that do not exist count as 0 (the checker refuses them before).
    #[inline]
    pub fn evaluate(&self, registers: &[i64]) -> i64 {
        let mut value = self.constant;
        for &(register, coefficient) in &self.terms {
            let operand = registers.get(usize::from(register.0)).copied().unwrap_or(0);
            value = value.saturating_add(coefficient.saturating_mul(operand));
        }
        value
    }
}

impl From<i64> for Expression {
    fn from(constant: i64) -> Expression {
        Expression::constant(constant)
    }
}

impl From<Register> for Expression {
    fn from(register: Register) -> Expression {
        Expression::register(register)
    }
}

/// The length of one dimension: `max(0, min(cap, bound))`.
///
/// The cap is known at compile time (the tile); the bound, when there is one, is what is left (`total - i`). A plain number is
/// a cap without a bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// Largest length.
    pub cap: u32,
    /// What is left, when that depends on registers.
    pub bound: Option<Expression>,
}

impl Extent {
    /// A fixed length.
    pub fn fixed(cap: u32) -> Extent {
        Extent { cap, bound: None }
    }

    /// `min(cap, bound)`; folds to a fixed length when the bound is a number.
    pub fn bounded(cap: u32, bound: Expression) -> Extent {
        match bound.as_constant() {
            Some(number) => Extent::fixed(number.clamp(0, i64::from(cap)) as u32),
            None => Extent { cap, bound: Some(bound) },
        }
    }

    /// The length for these registers.
    #[inline]
    pub fn evaluate(&self, registers: &[i64]) -> u32 {
        match &self.bound {
            None => self.cap,
            Some(bound) => bound.evaluate(registers).clamp(0, i64::from(self.cap)) as u32,
        }
    }
}

impl From<u32> for Extent {
    fn from(cap: u32) -> Extent {
        Extent::fixed(cap)
    }
}

/// A strided window on a space.
///
/// Element `(i0, i1, ..)` lies `sum(i * stride)` elements after the base. Strides may be 0 (broadcast) or negative (reversal).
/// Elements below a byte are addressed by element index from the byte-aligned base: bit `index * bits` from there, lowest
/// bits first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct View {
    /// Which memory.
    pub space: Space,
    /// What is in it.
    pub element: Element,
    /// Address of element (0, 0, ..) in bytes from the start of the space.
    pub base_bytes: Expression,
    /// Lengths, outermost first; at most [`RANK_MAX`]. No dimensions is a scalar.
    pub dims: Vec<Extent>,
    /// Distances in elements, one per dimension.
    pub strides: Vec<i64>,
}

impl View {
    /// A row-major view without gaps. Lengths that depend on registers are laid out by their caps.
    pub fn contiguous(
        space: Space,
        element: Element,
        base_bytes: impl Into<Expression>,
        dims: impl IntoIterator<Item = impl Into<Extent>>,
    ) -> View {
        let dims: Vec<Extent> = dims.into_iter().map(Into::into).collect();
        let strides = row_major_strides(&dims);
        View { space, element, base_bytes: base_bytes.into(), dims, strides }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The lengths for these registers.
    pub fn shape(&self, registers: &[i64]) -> Vec<usize> {
        self.dims.iter().map(|dim| dim.evaluate(registers) as usize).collect()
    }

    /// Number of elements at the caps (saturating).
    pub fn elements_max(&self) -> u64 {
        self.dims.iter().fold(1u64, |product, dim| product.saturating_mul(u64::from(dim.cap)))
    }

    /// The same window with dimensions in another order: new dimension `i` is old dimension `permutation[i]`.
    ///
    /// # Panics
    /// When an entry of the permutation is out of range (our own bug).
    pub fn transposed(&self, permutation: &[usize]) -> View {
        View {
            dims: permutation.iter().map(|&axis| self.dims[axis].clone()).collect(),
            strides: permutation.iter().map(|&axis| self.strides[axis]).collect(),
            ..self.clone()
        }
    }
}

/// Row-major strides in elements, laid out by the caps.
pub fn row_major_strides(dims: &[Extent]) -> Vec<i64> {
    let mut strides = vec![1i64; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(i64::from(dims[axis].cap.max(1)));
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_stay_normal() {
        let (a, b) = (Register(1), Register(2));
        let sum = Expression::new(3, [(b, 2), (a, 1), (b, -2)]);
        assert_eq!(sum, Expression::new(3, [(a, 1)]));
        assert_eq!(sum.minus(&Expression::register(a)).as_constant(), Some(3));
        assert_eq!(sum.times(4).evaluate(&[0, 10]), 52);
        assert_eq!(Expression::new(1, [(a, i64::MAX)]).evaluate(&[0, 9]), i64::MAX);
    }

    #[test]
    fn extents_clamp() {
        let tail = Extent::bounded(32, Expression::new(40, [(Register(0), -1)]));
        assert_eq!((tail.evaluate(&[0]), tail.evaluate(&[32]), tail.evaluate(&[64])), (32, 8, 0));
        assert_eq!(Extent::bounded(32, Expression::constant(-4)), Extent::fixed(0));
    }

    #[test]
    fn contiguous_views_are_laid_out_by_caps() {
        let view = View::contiguous(Space::Sram, Element::F32, 0, [2u32, 3, 4]);
        assert_eq!(view.strides, [12, 4, 1]);
        assert_eq!(view.transposed(&[2, 0, 1]).strides, [1, 12, 4]);
    }
}
