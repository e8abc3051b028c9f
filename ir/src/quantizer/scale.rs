//! The choice of scales and zero points.
//!
//! `max` takes the largest magnitude to the largest number of the format; for OCP MX to its power of two (MX specification 1.0, section
//! 6.3). `squared_error` tries that scale and some smaller and larger ones and takes the one with the least squared error, weighted by
//! importance where that is given; for signed integers the side that reaches further (-8 of -8..7) goes to the largest weight, by
//! a negative scale where that is positive (as llama.cpp's Q4_0 does).

use super::grid::Grid;
use super::lattice::Lattice;
use super::{QuantizeError, RUN, Spec, Weights};
use crate::element::Element;
use crate::number;
use half::{bf16, f16};
use rayon::prelude::*;

/// How scales may be chosen.
pub const METHODS: &[&str] = &["max", "squared_error"];

/// What `squared_error` tries: the scale of `max`, and these factors of the one that takes the largest weight to the end of the range.
const CHOICES: [Option<f32>; 20] = {
    let mut choices = [None; 20];
    let factors = [
        0.62, 0.66, 0.70, 0.74, 0.77, 0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98, 1.0, 1.03,
        1.07, 1.12,
    ];
    let mut at = 0;
    while at < factors.len() {
        choices[at + 1] = Some(factors[at]);
        at += 1;
    }
    choices
};
/// Weights per task of the first pass, about.
const TASK: usize = 1 << 16;
/// Fewest columns that a task reads together, so that it reads whole cache lines.
const COLUMNS_MIN: usize = 64;

/// Scales and zero points as numbers that their elements hold.
pub(super) struct Scales {
    pub(super) values: Vec<f32>,
    /// Empty without zero points.
    pub(super) zeros: Vec<f32>,
}

impl Scales {
    pub(super) fn bytes(&self, element: Element) -> Vec<u8> {
        match element {
            Element::F16 => self.values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            Element::BF16 => self.values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            Element::F8E8M0 => self.values.iter().map(|v| exponent(*v)).collect(),
            _ => self.values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    pub(super) fn zero_bytes(&self, spec: &Spec) -> Vec<u8> {
        let mut bytes = vec![0; spec.storage.bytes_of(self.zeros.len())];
        let codes: Vec<u8> = self.zeros.iter().map(|zero| *zero as i32 as u8).collect();
        super::pack(&codes, 0, spec.storage.bits(), &mut bytes);
        bytes
    }
}

/// The code of a power of two.
fn exponent(value: f32) -> u8 {
    (value.to_bits() >> 23) as u8
}

/// The smallest scale of an element type; smaller ones would lose what they scale.
fn smallest(element: Element) -> f32 {
    match element {
        Element::F16 => 2f32.powi(-24),
        _ => f32::MIN_POSITIVE,
    }
}

/// A scale as its element holds it; 1 where all weights are 0.
fn stored(scale: f32, element: Element) -> f32 {
    if scale == 0.0 {
        return 1.0;
    }
    let scale = if scale.abs() < smallest(element) { smallest(element).copysign(scale) } else { scale };
    match element {
        Element::F16 => f16::from_f32(scale).to_f32(),
        Element::BF16 => bf16::from_f32(scale).to_f32(),
        Element::F8E8M0 => scale.clamp(2f32.powi(-126), 2f32.powi(127)),
        _ => scale,
    }
}

/// What is known of the weights under one scale.
#[derive(Clone, Copy)]
struct Range {
    low: f32,
    high: f32,
    is_finite: bool,
}

impl Range {
    const EMPTY: Range = Range { low: 0.0, high: 0.0, is_finite: true };

    fn add(&mut self, value: f32) {
        self.low = self.low.min(value);
        self.high = self.high.max(value);
        self.is_finite &= value.is_finite();
    }

    fn largest(&self) -> f32 {
        self.high.max(-self.low)
    }
}

/// How ranges become scales.
struct Chooser<'a> {
    weights: Weights<'a>,
    spec: &'a Spec,
    grid: &'a Grid,
    lattice: &'a Lattice,
    importance: Option<&'a [f32]>,
}

/// Chooses all scales.
pub(super) fn choose(
    weights: Weights,
    spec: &Spec,
    grid: &Grid,
    lattice: &Lattice,
    importance: Option<&[f32]>,
) -> Result<Scales, QuantizeError> {
    if !METHODS.contains(&spec.method) {
        return Err(QuantizeError::Form(format!("unknown method '{}'", spec.method)));
    }
    let count = grid.scale_count();
    let mut values = vec![1f32; count];
    let mut zeros = vec![0f32; if spec.has_zero_point { count } else { 0 }];
    let per_task = (TASK / grid.block.max(1)).max(COLUMNS_MIN.min(grid.columns)).max(1);
    let chooser = Chooser { weights, spec, grid, lattice, importance };
    let mut no_zeros = vec![[0f32; 0]; count.div_ceil(per_task)];
    let tasks: Vec<Result<(), QuantizeError>> = if spec.has_zero_point {
        let chunks = values.par_chunks_mut(per_task).zip(zeros.par_chunks_mut(per_task)).enumerate();
        chunks.map(|(task, (values, zeros))| chooser.task(task * per_task, values, zeros)).collect()
    } else {
        let chunks = values.par_chunks_mut(per_task).zip(no_zeros.par_iter_mut()).enumerate();
        chunks.map(|(task, (values, zeros))| chooser.task(task * per_task, values, zeros)).collect()
    };
    tasks.into_iter().collect::<Result<(), _>>()?;
    Ok(Scales { values, zeros })
}

impl Chooser<'_> {
    /// Chooses the scales from number `first` on.
    fn task(&self, first: usize, values: &mut [f32], zeros: &mut [f32]) -> Result<(), QuantizeError> {
        let mut done = 0;
        while done < values.len() {
            let (panel, column) = ((first + done) / self.grid.columns, (first + done) % self.grid.columns);
            let count = (self.grid.columns - column).min(values.len() - done).min(RUN);
            let zeros = if zeros.is_empty() { &mut [] } else { &mut zeros[done..done + count] };
            self.panel(panel, column, &mut values[done..done + count], zeros)?;
            done += count;
        }
        Ok(())
    }

    /// Hands out the weights of some columns of a panel: the column of the first, and the place along the depth.
    fn each(&self, panel: usize, column: usize, count: usize, mut each: impl FnMut(usize, &[f32])) {
        let (first, rows, within) = self.grid.rows(panel);
        let mut room = [0f32; RUN];
        if self.grid.columns == 1 {
            for start in (0..rows).step_by(RUN) {
                let run = &mut room[..RUN.min(rows - start)];
                self.weights.read(first + start, run);
                each(within + start, run);
            }
            return;
        }
        for row in 0..rows {
            let run = &mut room[..count];
            self.weights.read((first + row) * self.grid.columns + column, run);
            each(within + row, run);
        }
    }

    fn panel(
        &self,
        panel: usize,
        column: usize,
        values: &mut [f32],
        zeros: &mut [f32],
    ) -> Result<(), QuantizeError> {
        let is_single = self.grid.columns == 1;
        let mut ranges = vec![Range::EMPTY; values.len()];
        self.each(panel, column, values.len(), |_, run| {
            if is_single {
                run.iter().for_each(|value| ranges[0].add(*value));
            } else {
                ranges.iter_mut().zip(run).for_each(|(range, value)| range.add(*value));
            }
        });
        if ranges.iter().any(|range| !range.is_finite) {
            return Err(self.not_finite());
        }
        let candidates = self.candidates(panel, column, &ranges);
        for (at, (scale, zero)) in candidates.into_iter().enumerate() {
            let held = stored(scale, self.spec.scale);
            if !held.is_finite() {
                let largest = ranges[at].largest();
                return Err(QuantizeError::ScaleOverflow { scale, largest, element: self.spec.scale });
            }
            values[at] = held;
            if let Some(slot) = zeros.get_mut(at) {
                *slot = zero;
            }
        }
        Ok(())
    }

    fn not_finite(&self) -> QuantizeError {
        let (index, value) = self.weights.survey().first.unwrap_or((0, f32::NAN));
        QuantizeError::NotFinite { index, value }
    }

    /// The scale and zero point of each range.
    fn candidates(&self, panel: usize, column: usize, ranges: &[Range]) -> Vec<(f32, f32)> {
        if self.spec.method == "max" {
            return ranges.iter().map(|range| self.scale_of(range, None)).collect();
        }
        let tried: Vec<Vec<(f32, f32)>> = ranges
            .iter()
            .map(|range| CHOICES.iter().map(|factor| self.scale_of(range, *factor)).collect())
            .collect();
        let held: Vec<Vec<f32>> = tried
            .iter()
            .map(|row| row.iter().map(|pair| stored(pair.0, self.spec.scale)).collect())
            .collect();
        let mut errors = vec![[0f64; CHOICES.len()]; ranges.len()];
        let is_single = self.grid.columns == 1;
        self.each(panel, column, ranges.len(), |place, run| {
            for (at, value) in run.iter().enumerate() {
                let (slot, place) = if is_single { (0, place + at) } else { (at, place) };
                let weight = self.importance.map_or(1.0, |importance| importance[place]);
                for (choice, error) in errors[slot].iter_mut().enumerate() {
                    let scale = held[slot][choice];
                    let away = value - self.lattice.nearest(value / scale, tried[slot][choice].1) * scale;
                    *error += f64::from(weight * away * away);
                }
            }
        });
        let best = |slot: usize| {
            let order = |a: &usize, b: &usize| errors[slot][*a].total_cmp(&errors[slot][*b]);
            tried[slot][(0..CHOICES.len()).min_by(order).unwrap_or(0)]
        };
        (0..ranges.len()).map(best).collect()
    }

    /// The scale and zero point of a range: of `max`, or a candidate of the search at a factor.
    fn scale_of(&self, range: &Range, factor: Option<f32>) -> (f32, f32) {
        let (largest, times) = (range.largest(), factor.unwrap_or(1.0));
        if largest == 0.0 {
            return (0.0, 0.0);
        }
        if self.spec.scale == Element::F8E8M0 {
            // The element's own largest power of two meets the block's; the search also tries the ones beside it.
            let top = number::largest(self.spec.storage).unwrap_or(1.0).log2().floor() as i32;
            let own = f32::from(exponent(largest)) as i32 - 127;
            let beside = if times < 0.8 { -1 } else { i32::from(times > 1.0) };
            return (2f32.powi((own - top + beside).clamp(-126, 127)), 0.0);
        }
        match self.lattice {
            Lattice::Integers { low, high } if self.spec.has_zero_point => {
                let (from, to) = (range.low * times, range.high * times);
                let scale = (to - from) / (high - low);
                // Rounded with the scale that is stored, so that 0 stays 0.
                let zero = (low - from / stored(scale, self.spec.scale)).round_ties_even();
                (scale, zero.clamp(*low, *high))
            }
            Lattice::Integers { low, .. } if factor.is_some() => {
                let sign = if range.high > -range.low { 1.0 } else { -1.0 };
                (sign * largest * times / low, 0.0)
            }
            _ => (largest * times / self.lattice.largest(), 0.0),
        }
    }
}
