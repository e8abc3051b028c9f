//! How scales lie over a tensor, and walks over it piece by piece.

use super::lattice::Lattice;
use super::scale::Scales;
use super::{RUN, Sharing, Weights};
use std::ops::Range;

/// A tensor as `outer * depth` rows of `columns`; `block` rows of one `outer` make a panel, each column of a panel has one scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) outer: usize,
    /// Rows per `outer`.
    pub(super) depth: usize,
    /// Rows per panel; the last panel of an `outer` may have fewer.
    pub(super) block: usize,
    pub(super) columns: usize,
}

impl Grid {
    pub(super) fn of(shape: &[usize], sharing: Sharing) -> Result<Grid, String> {
        let rank = shape.len();
        let product = |dims: &[usize]| dims.iter().product::<usize>();
        let in_range = |axis: usize| {
            if axis < rank { Ok(()) } else { Err(format!("axis {axis} is out of range for rank {rank}")) }
        };
        Ok(match sharing {
            Sharing::Tensor => {
                let depth = product(shape);
                Grid { outer: 1, depth, block: depth.max(1), columns: 1 }
            }
            Sharing::Channel(axis) => {
                in_range(axis)?;
                let (before, after) = (product(&shape[..axis]), product(&shape[axis + 1..]));
                let dim = shape[axis];
                if before == 1 {
                    Grid { outer: dim, depth: after, block: after.max(1), columns: 1 }
                } else if after == 1 {
                    Grid { outer: 1, depth: before, block: before.max(1), columns: dim }
                } else {
                    return Err(format!(
                        "a scale per index of axis {axis} of {shape:?} is neither first nor last"
                    ));
                }
            }
            Sharing::Blocks(axis, block) => {
                in_range(axis)?;
                if block == 0 {
                    return Err("a block needs at least one weight".into());
                }
                Grid {
                    outer: product(&shape[..axis]),
                    depth: shape[axis],
                    block,
                    columns: product(&shape[axis + 1..]),
                }
            }
        })
    }

    /// Panels per `outer`.
    pub(super) fn panels(&self) -> usize {
        self.depth.div_ceil(self.block)
    }

    /// Number of scales.
    pub(super) fn scale_count(&self) -> usize {
        self.outer * self.panels() * self.columns
    }

    /// First row and number of rows of a panel, and its first place along `depth`.
    pub(super) fn rows(&self, panel: usize) -> (usize, usize, usize) {
        let within = panel % self.panels() * self.block;
        (panel / self.panels() * self.depth + within, self.block.min(self.depth - within), within)
    }

    /// Runs of weights with the scales of each: `count` weights from `start`, at place `depth` along the depth, under scales from
    /// `scale`, one for all when there is one column, else one each.
    fn runs(&self, range: Range<usize>, mut each: impl FnMut(usize, usize, usize, usize)) {
        let mut at = range.start;
        while at < range.end {
            let (row, column) = (at / self.columns, at % self.columns);
            let (outer, within) = (row / self.depth, row % self.depth);
            let panel = outer * self.panels() + within / self.block;
            let scale = panel * self.columns + column;
            let left = if self.columns == 1 {
                self.block.min(self.depth - within / self.block * self.block) - within % self.block
            } else {
                self.columns - column
            };
            let count = left.min(range.end - at).min(RUN);
            each(at, count, scale, within);
            at += count;
        }
    }

    /// Hands out `weight / scale` in order, run by run, with the zero points.
    pub(super) fn walk(
        &self,
        weights: Weights,
        scales: &Scales,
        range: Range<usize>,
        mut each: impl FnMut(&[f32], Zeros),
    ) {
        let mut room = [0f32; RUN];
        self.runs(range, |start, count, scale, _| {
            let run = &mut room[..count];
            weights.read(start, run);
            if self.columns == 1 {
                let factor = scales.values[scale];
                run.iter_mut().for_each(|value| *value /= factor);
                each(run, Zeros::One(scales.zeros.get(scale).copied().unwrap_or(0.0)));
            } else {
                let factors = &scales.values[scale..scale + count];
                run.iter_mut().zip(factors).for_each(|(value, factor)| *value /= factor);
                each(run, Zeros::Each(scales.zeros.get(scale..scale + count).unwrap_or(&[])));
            }
        });
    }

    /// Sums of squares of the weights and of their errors, weighted by importance.
    pub(super) fn squared_error(
        &self,
        weights: Weights,
        lattice: &Lattice,
        scales: &Scales,
        range: Range<usize>,
        importance: Option<&[f32]>,
    ) -> (f64, f64) {
        let (mut signal, mut noise) = (0f64, 0f64);
        let mut room = [0f32; RUN];
        self.runs(range, |start, count, scale, within| {
            let run = &mut room[..count];
            weights.read(start, run);
            for (at, value) in run.iter().enumerate() {
                let (scale, place) =
                    if self.columns == 1 { (scale, within + at) } else { (scale + at, within) };
                let (factor, zero) = (scales.values[scale], scales.zeros.get(scale).copied().unwrap_or(0.0));
                let error = value - lattice.nearest(value / factor, zero) * factor;
                let weight = importance.map_or(1.0, |importance| f64::from(importance[place]));
                signal += weight * f64::from(*value) * f64::from(*value);
                noise += weight * f64::from(error) * f64::from(error);
            }
        });
        (signal, noise)
    }
}

/// Zero points of a run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Zeros<'a> {
    /// The same for all.
    One(f32),
    /// One each; empty for none.
    Each(&'a [f32]),
}
