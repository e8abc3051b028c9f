//! The numbers that a storage element can hold, and the nearest one to a quotient. Ties go to the even code, as everywhere.

use super::grid::Zeros;
use crate::element::Element;
use crate::number;

/// The numbers of a storage element.
#[derive(Clone, Debug)]
pub(super) enum Lattice {
    /// All integers of a range.
    Integers { low: f32, high: f32 },
    /// A list.
    Levels(Levels),
}

/// Ascending numbers with their codes.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    values: Vec<f32>,
    codes: Vec<u8>,
    /// A quotient above cut `i` is at least level `i + 1`.
    cuts: Vec<f32>,
}

impl Lattice {
    pub(super) fn of(storage: Element) -> Option<Lattice> {
        if storage.bits() > 8 || storage == Element::F8E8M0 || storage == Element::Bool {
            return None;
        }
        if let Some((low, high)) = storage.integer_range() {
            return Some(Lattice::Integers { low: low as f32, high: high as f32 });
        }
        Some(Lattice::Levels(Levels::of(storage)))
    }

    /// The magnitude that the largest weight is scaled to.
    pub(super) fn largest(&self) -> f32 {
        match self {
            Lattice::Integers { high, .. } => *high,
            Lattice::Levels(levels) => levels.values.last().copied().unwrap_or(1.0),
        }
    }

    /// The number that a quotient is rounded to, less the zero point.
    pub(super) fn nearest(&self, quotient: f32, zero: f32) -> f32 {
        match self {
            Lattice::Integers { low, high } => round(quotient + zero, *low, *high) - zero,
            Lattice::Levels(levels) => levels.values[levels.index(quotient)],
        }
    }

    /// Codes of quotients.
    pub(super) fn encode(&self, quotients: &[f32], zeros: Zeros, codes: &mut [u8]) {
        match (self, zeros) {
            (Lattice::Integers { low, high }, Zeros::One(zero)) => {
                let pairs = codes.iter_mut().zip(quotients);
                pairs.for_each(|(code, quotient)| *code = round(quotient + zero, *low, *high) as i32 as u8);
            }
            (Lattice::Integers { low, high }, Zeros::Each([])) => {
                let pairs = codes.iter_mut().zip(quotients);
                pairs.for_each(|(code, quotient)| *code = round(*quotient, *low, *high) as i32 as u8);
            }
            (Lattice::Integers { low, high }, Zeros::Each(zeros)) => {
                for ((code, quotient), zero) in codes.iter_mut().zip(quotients).zip(zeros) {
                    *code = round(quotient + zero, *low, *high) as i32 as u8;
                }
            }
            (Lattice::Levels(levels), _) => {
                let pairs = codes.iter_mut().zip(quotients);
                pairs.for_each(|(code, quotient)| *code = levels.codes[levels.index(*quotient)]);
            }
        }
    }
}

/// Adding and subtracting it rounds to the nearest integer, ties to even, where there is no instruction for that.
const ROUNDING: f32 = 12_582_912.0;

fn round(value: f32, low: f32, high: f32) -> f32 {
    (value.clamp(low, high) + ROUNDING) - ROUNDING
}

impl Levels {
    fn of(storage: Element) -> Levels {
        let mut pairs: Vec<(f32, u8)> = (0..1u16 << storage.bits())
            .map(|code| (number::decode(storage, code as u8) as f32, code as u8))
            // Of the two zeros the positive one is kept.
            .filter(|pair| pair.0.is_finite() && !(pair.0 == 0.0 && pair.0.is_sign_negative()))
            .collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (values, codes): (Vec<f32>, Vec<u8>) = pairs.into_iter().unzip();
        let cut = |at: usize| {
            let middle = ((f64::from(values[at]) + f64::from(values[at + 1])) / 2.0) as f32;
            // A tie goes up unless the lower code is even.
            if codes[at].is_multiple_of(2) { middle } else { middle.next_down() }
        };
        let cuts = (0..values.len() - 1).map(cut).collect();
        Levels { values, codes, cuts }
    }

    fn index(&self, quotient: f32) -> usize {
        if self.cuts.len() <= 16 {
            // Without branches: there are vector instructions for it.
            return self.cuts.iter().map(|cut| usize::from(quotient > *cut)).sum();
        }
        self.cuts.partition_point(|cut| quotient > *cut)
    }
}
