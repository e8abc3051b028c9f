//! Proves that a view stays inside its space for all register values.
//!
//! The end of a view is `base + sum of (extent - 1) * stride`. Each extent is at most its cap and at most its bound, and every
//! choice gives an upper limit that is linear in the registers; the smallest of their maxima counts. With the bound chosen, the
//! `i*tile + min(tile, total - i*tile)` of a tiled loop becomes `total`. The maximum of a linear form is taken over the ranges
//! of the registers, and once more with every loop counter replaced by its own limit (`i <= end - 1`, or the last multiple of the step where
//! `end` is a number; innermost first).

use crate::commands::Register;
use crate::stream::RegisterInfo;
use crate::view::{Expression, View};
use std::collections::BTreeMap;

/// An open loop: its counter runs over 0, step, 2 step, .. below `end`.
#[derive(Clone)]
pub(super) struct Loop<'a> {
    pub(super) register: Register,
    pub(super) end: &'a Expression,
    pub(super) step: u32,
}

impl Loop<'_> {
    /// Adds `factor` times the largest value of the counter. Where `end` is a number it is a multiple of the step.
    fn add_last(&self, form: &mut Linear, factor: i128) {
        match self.end.as_constant() {
            Some(end) => {
                let (last, step) = (i128::from(end.max(1)) - 1, i128::from(self.step.max(1)));
                form.constant += last / step * step * factor;
            }
            None => {
                form.add(self.end, factor);
                form.constant -= factor;
            }
        }
    }
}

/// Smallest and largest value of every register.
pub(super) struct Ranges(Vec<(i128, i128)>);

impl Ranges {
    pub(super) fn new(registers: &[RegisterInfo]) -> Ranges {
        Ranges(registers.iter().map(|info| (i128::from(info.minimum), i128::from(info.maximum))).collect())
    }

    fn of(&self, register: u16) -> (i128, i128) {
        self.0.get(usize::from(register)).copied().unwrap_or((0, 0))
    }
}

/// A linear form in i128. Numbers are at most 2^44 and ranks at most 8, so that sums of products stay below 2^110.
#[derive(Clone, Default)]
struct Linear {
    constant: i128,
    terms: BTreeMap<u16, i128>,
}

impl Linear {
    fn add(&mut self, expression: &Expression, factor: i128) {
        self.constant += i128::from(expression.constant_part()) * factor;
        for &(register, coefficient) in expression.terms() {
            *self.terms.entry(register.0).or_default() += i128::from(coefficient) * factor;
        }
    }

    fn maximum_over_ranges(&self, ranges: &Ranges) -> i128 {
        self.terms.iter().fold(self.constant, |sum, (&register, &coefficient)| {
            let (low, high) = ranges.of(register);
            sum.saturating_add(coefficient.saturating_mul(if coefficient > 0 { high } else { low }))
        })
    }

    fn maximum(&self, ranges: &Ranges, loops: &[Loop<'_>]) -> i128 {
        let plain = self.maximum_over_ranges(ranges);
        let mut replaced = self.clone();
        for outer in loops.iter().rev() {
            let coefficient = replaced.terms.remove(&outer.register.0).unwrap_or(0);
            if coefficient > 0 {
                if coefficient > 1 << 80 {
                    return plain; // products would leave i128; the plain range decides
                }
                outer.add_last(&mut replaced, coefficient);
            }
            // A negative coefficient is largest at 0, where the counter begins.
        }
        plain.min(replaced.maximum_over_ranges(ranges))
    }

    fn negated(mut self) -> Linear {
        self.constant = -self.constant;
        self.terms.values_mut().for_each(|coefficient| *coefficient = -*coefficient);
        self
    }
}

/// Whether the view lies in `0..space_bytes` for all register values; the message says how far it reaches.
pub(super) fn check_view(
    view: &View,
    space_bytes: u64,
    ranges: &Ranges,
    loops: &[Loop<'_>],
) -> Result<(), String> {
    if view.dims.iter().any(|dim| dim.cap == 0) {
        return Ok(());
    }
    let bits = i128::from(view.element.bits());
    // In bits, relative to the space: the last bit's end upwards, the first bit downwards.
    let end = reach(view, ranges, loops, 1).saturating_add(bits);
    let start = -reach(view, ranges, loops, -1);
    if start < 0 || end > i128::from(space_bytes) * 8 {
        return Err(format!(
            "may touch bytes {}..{} of {}, which has {space_bytes}",
            start.div_euclid(8),
            end.saturating_add(7).div_euclid(8),
            view.space
        ));
    }
    Ok(())
}

/// Largest bit offset of an element's first bit upwards (`sign` 1), or downwards and negated (`sign` -1).
fn reach(view: &View, ranges: &Ranges, loops: &[Loop<'_>], sign: i64) -> i128 {
    let bits = i128::from(view.element.bits());
    let mut fixed = Linear::default();
    fixed.add(&view.base_bytes, 8);
    let mut chosen: Vec<(i128, i128, &Expression)> = Vec::new();
    for (dim, &stride) in view.dims.iter().zip(&view.strides) {
        if stride.signum() != sign {
            continue;
        }
        let step = i128::from(stride) * bits;
        match &dim.bound {
            None => fixed.constant += (i128::from(dim.cap) - 1) * step,
            Some(bound) => chosen.push((step, i128::from(dim.cap), bound)),
        }
    }
    let mut best = i128::MAX;
    for choice in 0..1u32 << chosen.len() {
        let mut form = fixed.clone();
        for (index, (step, cap, bound)) in chosen.iter().enumerate() {
            if choice >> index & 1 == 0 {
                form.constant += (cap - 1) * step;
            } else {
                form.add(bound, *step);
                form.constant -= step;
            }
        }
        let form = if sign < 0 { form.negated() } else { form };
        best = best.min(form.maximum(ranges, loops));
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Element;
    use crate::view::{Extent, Space};

    fn register(minimum: i64, maximum: i64) -> RegisterInfo {
        RegisterInfo { name: String::new(), minimum, maximum, is_bound: false }
    }

    #[test]
    fn tile_tails_are_proven_by_their_bound() {
        // total in 1..=100 (r0), counter r1 below total in steps of 32, rows of 8 f32.
        let ranges = Ranges::new(&[register(1, 100), register(0, 1 << 40)]);
        let total = Expression::register(Register(0));
        let counter = Expression::register(Register(1));
        let tile = View {
            space: Space::Dram,
            element: Element::F32,
            base_bytes: counter.times(32),
            dims: vec![Extent::bounded(32, total.minus(&counter)), Extent::fixed(8)],
            strides: vec![8, 1],
        };
        let loops = [Loop { register: Register(1), end: &total, step: 32 }];
        assert_eq!(check_view(&tile, 100 * 32, &ranges, &loops), Ok(()));
        assert!(check_view(&tile, 100 * 32 - 1, &ranges, &loops).is_err());
        let without_tail = View { dims: vec![Extent::fixed(32), Extent::fixed(8)], ..tile };
        assert!(check_view(&without_tail, 100 * 32, &ranges, &loops).is_err());
        assert_eq!(check_view(&without_tail, 131 * 32, &ranges, &loops), Ok(()));
    }

    #[test]
    fn counters_take_multiples_of_their_step() {
        let ranges = Ranges::new(&[register(0, 1 << 40)]);
        let (end, counter) = (Expression::constant(7), Expression::register(Register(0)));
        let view = View::contiguous(Space::Dram, Element::I8, counter, [4u32]);
        // 0, 4: the last byte is the eighth.
        let loops = [Loop { register: Register(0), end: &end, step: 4 }];
        assert_eq!(check_view(&view, 8, &ranges, &loops), Ok(()));
        assert!(check_view(&view, 7, &ranges, &loops).is_err());
    }

    #[test]
    fn negative_strides_reach_downwards() {
        let ranges = Ranges::new(&[register(3, 9)]);
        let view = View {
            space: Space::Sram,
            element: Element::I16,
            base_bytes: Expression::new(-2, [(Register(0), 2)]),
            dims: vec![Extent::bounded(1 << 20, Expression::register(Register(0)))],
            strides: vec![-1],
        };
        assert_eq!(check_view(&view, 18, &ranges, &[]), Ok(()));
        assert!(check_view(&view, 17, &ranges, &[]).is_err());
        let lower = View { base_bytes: Expression::new(-4, [(Register(0), 2)]), ..view };
        assert!(check_view(&lower, 18, &ranges, &[]).is_err());
    }
}
