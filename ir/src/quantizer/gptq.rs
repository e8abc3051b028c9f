//! GPTQ (Frantar, Ashkboos, Hoefler and Alistarh 2022, arXiv:2210.17323): rounds the weights of an output channel one after another and
//! lets those that are still to come make up for the error so far.
//!
//! With `H` the input's second moments and `U` the upper Cholesky factor of its damped inverse, `H^-1 = U^T U`, the rounding error of weight
//! `i` is divided by `U[i, i]` and taken from each later weight `j` times `U[i, j]` (algorithm 1, without its lazy batches). A group's
//! scale is chosen when its turn comes, by the squared error weighted with H's diagonal, for every format alike. Channels do not know each
//! other: they run in parallel.

use super::grid::Grid;
use super::hessian::{Hessian, dot};
use super::lattice::Lattice;
use super::scale::Scales;
use super::{QuantizeError, Quantized, Sharing, Spec, Weights};
use crate::element::Element;
use rayon::prelude::*;

/// What is added to the diagonal, as a share of its mean (section 3.3, step 3), before the first try.
const DAMPING: f64 = 0.01;
/// How often damping is multiplied by ten before giving up.
const TRIES: usize = 4;
/// Output channels that are worked on together: their weights at one place fill cache lines.
const CHANNELS: usize = 32;

/// The upper factor `U` of a damped inverse, `[k, k]` row-major.
pub struct InverseFactor {
    size: usize,
    upper: Vec<f64>,
}

impl InverseFactor {
    /// Of second moments. Channels that are always 0 get a diagonal of the mean, so that they neither give nor take.
    ///
    /// # Errors
    /// When the moments are not finite, or even strong damping does not make them positive definite.
    pub fn of(hessian: &Hessian) -> Result<InverseFactor, QuantizeError> {
        if !hessian.is_finite() {
            return Err(QuantizeError::Form("the activations of the calibration are not finite".into()));
        }
        let size = hessian.size();
        let mean = (0..size).map(|at| hessian.at(at, at)).sum::<f64>() / size.max(1) as f64;
        let mean = if mean > 0.0 { mean } else { 1.0 };
        let mut damping = DAMPING;
        for _ in 0..TRIES {
            // Backwards, so that the factor of the inverse comes out upper.
            let mut lower = vec![0f64; size * size];
            for (row, values) in lower.chunks_exact_mut(size.max(1)).enumerate() {
                for (column, value) in values[..=row].iter_mut().enumerate() {
                    *value = hessian.at(size - 1 - row, size - 1 - column);
                }
                if values[row] == 0.0 {
                    values[row] = mean;
                }
                values[row] += damping * mean;
            }
            if factorize(&mut lower, size) {
                return Ok(InverseFactor { size, upper: inverted(&lower, size) });
            }
            damping *= 10.0;
        }
        Err(QuantizeError::Form("the second moments of the calibration are not positive definite".into()))
    }
}

/// The Cholesky factor in place, column by column; false when the matrix is not positive definite.
fn factorize(lower: &mut [f64], size: usize) -> bool {
    for column in 0..size {
        let (above, below) = lower.split_at_mut((column + 1) * size);
        let row = &mut above[column * size..];
        let pivot = row[column] - dot(&row[..column], &row[..column]);
        if pivot.is_nan() || pivot <= 0.0 {
            return false;
        }
        row[column] = pivot.sqrt();
        let row = &row[..=column];
        let step = |other: &mut [f64]| {
            other[column] = (other[column] - dot(&other[..column], &row[..column])) / row[column];
        };
        // Small rests are not worth a task.
        if (size - column) * column < 1 << 15 {
            below.chunks_exact_mut(size).for_each(step);
        } else {
            below.par_chunks_exact_mut(size).for_each(step);
        }
    }
    true
}

/// The inverse of a lower factor, turned about both ends: element `[i, j]` is that of `[k-1-i, k-1-j]`.
fn inverted(lower: &[f64], size: usize) -> Vec<f64> {
    let columns: Vec<Vec<f64>> = (0..size)
        .into_par_iter()
        .map(|column| {
            let mut values = vec![0f64; size - column];
            values[0] = 1.0 / lower[column * size + column];
            for row in column + 1..size {
                let known = &lower[row * size + column..row * size + row];
                values[row - column] = -dot(known, &values[..row - column]) / lower[row * size + row];
            }
            values
        })
        .collect();
    let mut upper = vec![0f64; size * size];
    for (column, values) in columns.iter().enumerate() {
        for (below, value) in values.iter().enumerate() {
            upper[(size - 1 - column - below) * size + size - 1 - column] = *value;
        }
    }
    upper
}

/// Quantises a matrix. `axis` is the one that the product sums over, whose extent is the factor's.
///
/// # Errors
/// As [`super::quantize`]; a tensor that is no matrix, or whose axis does not fit the factor.
pub fn gptq(
    weights: Weights,
    spec: &Spec,
    axis: usize,
    hessian: &Hessian,
    factor: &InverseFactor,
) -> Result<Quantized, QuantizeError> {
    let &[first, second] = weights.shape else {
        return Err(QuantizeError::Form(format!("GPTQ takes matrices, found shape {:?}", weights.shape)));
    };
    let (depth, channels) = if axis == 0 { (first, second) } else { (second, first) };
    if axis > 1 || depth != factor.size || depth != hessian.size() {
        let what = format!("axis {axis} of {:?} does not fit {} input channels", weights.shape, factor.size);
        return Err(QuantizeError::Form(what));
    }
    let spec = Spec { method: "squared_error", ..*spec };
    let importance = hessian.diagonal();
    let (grid, lattice, mut scales) = match spec.sharing {
        // One scale for all has no channel of its own to follow.
        Sharing::Tensor => super::prepare(weights, &spec, None)?,
        _ => super::prepare(weights, &Spec { method: "max", ..spec }, None)?,
    };
    let problem = Problem { weights, depth, channels, axis, spec, grid, lattice, importance, factor };
    let chunks: Vec<usize> = (0..channels).step_by(CHANNELS).collect();
    let done: Vec<Chunk> =
        chunks.into_par_iter().map(|start| problem.compensate(start, &scales)).collect::<Result<_, _>>()?;
    let mut values = vec![0f32; depth * channels];
    for chunk in &done {
        for (index, value) in chunk.values.iter().enumerate() {
            values[problem.index(index / chunk.count, chunk.start + index % chunk.count)] = *value;
        }
        for (index, (scale, zero)) in chunk.scales.iter().enumerate() {
            let at = problem.scale(index / chunk.count, chunk.start + index % chunk.count);
            scales.values[at] = *scale;
            if let Some(slot) = scales.zeros.get_mut(at) {
                *slot = *zero;
            }
        }
    }
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let compensated = Weights { element: Element::F32, shape: weights.shape, bytes: &bytes };
    Ok(super::encode(compensated, &spec, &problem.grid, &problem.lattice, &scales))
}

/// A matrix to be quantised.
struct Problem<'a> {
    weights: Weights<'a>,
    depth: usize,
    channels: usize,
    axis: usize,
    spec: Spec,
    grid: Grid,
    lattice: Lattice,
    importance: Vec<f32>,
    factor: &'a InverseFactor,
}

/// Some channels from `start` on.
struct Chunk {
    start: usize,
    count: usize,
    /// Weights as they stand just before each is rounded, `[depth, count]`.
    values: Vec<f32>,
    /// Scales and zero points, `[groups, count]`.
    scales: Vec<(f32, f32)>,
}

impl Problem<'_> {
    fn index(&self, place: usize, channel: usize) -> usize {
        if self.axis == 0 { place * self.channels + channel } else { channel * self.depth + place }
    }

    /// Weights of a channel that share a scale.
    fn block(&self) -> usize {
        if self.spec.sharing == Sharing::Tensor { self.depth } else { self.grid.block.min(self.depth) }
    }

    /// The number of a group's scale.
    fn scale(&self, group: usize, channel: usize) -> usize {
        match self.spec.sharing {
            Sharing::Tensor => 0,
            _ if self.axis == 0 => group * self.channels + channel,
            _ => channel * self.depth.div_ceil(self.block()) + group,
        }
    }

    /// The scales of a group, by the weights as they stand when its turn comes: `[places, count]`.
    fn choose(&self, values: &[f64], count: usize, first: usize) -> Result<Scales, QuantizeError> {
        let rows = values.len() / count;
        let bytes: Vec<u8> = values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
        let group = Weights { element: Element::F32, shape: &[rows, count], bytes: &bytes };
        let spec = Spec { sharing: Sharing::Channel(1), ..self.spec };
        let (_, _, scales) = super::prepare(group, &spec, Some(&self.importance[first..first + rows]))?;
        Ok(scales)
    }

    fn compensate(&self, start: usize, whole: &Scales) -> Result<Chunk, QuantizeError> {
        let count = CHANNELS.min(self.channels - start);
        let mut values = vec![0f64; self.depth * count];
        let mut one = [0f32];
        for (index, value) in values.iter_mut().enumerate() {
            self.weights.read(self.index(index / count, start + index % count), &mut one);
            *value = f64::from(one[0]);
        }
        let (size, block) = (self.factor.size, self.block());
        let mut errors = [0f64; CHANNELS];
        let mut chunk = Chunk { start, count, values: vec![0f32; values.len()], scales: Vec::new() };
        let pair =
            |scales: &Scales, at: usize| (scales.values[at], scales.zeros.get(at).copied().unwrap_or(0.0));
        for place in 0..self.depth {
            if place.is_multiple_of(block) {
                let end = (place + block).min(self.depth);
                if self.spec.sharing == Sharing::Tensor {
                    chunk.scales.extend(std::iter::repeat_n(pair(whole, 0), count));
                } else {
                    let scales = self.choose(&values[place * count..end * count], count, place)?;
                    chunk.scales.extend((0..count).map(|at| pair(&scales, at)));
                }
            }
            let upper = &self.factor.upper[place * size..(place + 1) * size];
            let (now, later) = values.split_at_mut((place + 1) * count);
            for (channel, value) in now[place * count..].iter().enumerate() {
                let (scale, zero) = chunk.scales[place / block * count + channel];
                // As it will be stored and read again, so that both round alike.
                let held = *value as f32;
                chunk.values[place * count + channel] = held;
                let rounded = self.lattice.nearest(held / scale, zero) * scale;
                errors[channel] = (value - f64::from(rounded)) / upper[place];
            }
            for (row, factor) in later.chunks_exact_mut(count).zip(&upper[place + 1..]) {
                row.iter_mut().zip(&errors).for_each(|(value, error)| *value -= factor * error);
            }
        }
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_that_of_the_inverse() {
        let mut hessian = Hessian::new(3);
        hessian.add(&[1.0, 2.0, 0.5, -1.0, 0.25, 2.0, 0.5, 0.5, 0.5, 3.0, -2.0, 1.0]);
        let factor = InverseFactor::of(&hessian).unwrap();
        let mean = (0..3).map(|at| hessian.at(at, at)).sum::<f64>() / 3.0;
        // U^T U times the damped moments is the identity.
        for row in 0..3 {
            for column in 0..3 {
                let product: f64 = (0..3)
                    .map(|inner| {
                        let inverse: f64 =
                            (0..3).map(|at| factor.upper[at * 3 + row] * factor.upper[at * 3 + inner]).sum();
                        let damping = if inner == column { DAMPING * mean } else { 0.0 };
                        inverse * (hessian.at(inner, column) + damping)
                    })
                    .sum();
                let expected = f64::from(u8::from(row == column));
                assert!((product - expected).abs() < 1e-9, "[{row}, {column}] = {product}");
            }
        }
        assert!(factor.upper[3] == 0.0 && factor.upper[6] == 0.0 && factor.upper[7] == 0.0);
    }

    /// The squared error of the outputs, over all channels.
    fn output_error(weights: &[f32], found: &Quantized, spec: &Spec, axis: usize, hessian: &Hessian) -> f64 {
        let shape = if axis == 0 { [64, 6] } else { [6, 64] };
        let restored = super::super::restore(found, &shape, spec).unwrap();
        let change = |channel: usize| -> Vec<f64> {
            let index = |place: usize| if axis == 0 { place * 6 + channel } else { channel * 64 + place };
            (0..64).map(|place| f64::from(restored[index(place)] - weights[index(place)])).collect()
        };
        (0..6).map(|channel| hessian.error(&change(channel))).sum()
    }

    #[test]
    fn outputs_change_less_than_by_rounding_to_the_nearest() {
        use crate::sample::Sampler;
        for (seed, format) in
            ["int4_g32", "int4_g32_asym", "nf4_g64", "int8", "int4_tensor", "fp8_e4m3", "mxfp4"]
                .iter()
                .enumerate()
        {
            let format: crate::weight_format::WeightFormat = format.parse().unwrap();
            for axis in [0, 1] {
                let mut sampler = Sampler::new(seed as u64 * 2 + axis as u64);
                // Channels that follow each other: what one loses the next can make up for.
                let mut rows = vec![0f32; 256 * 64];
                for row in rows.chunks_exact_mut(64) {
                    let mut last = 0.0;
                    for value in row {
                        last = 0.9 * last + sampler.real() as f32;
                        *value = last;
                    }
                }
                let mut hessian = Hessian::new(64);
                hessian.add(&rows);
                let weights: Vec<f32> = (0..64 * 6).map(|_| sampler.real() as f32).collect();
                let bytes: Vec<u8> = weights.iter().flat_map(|value| value.to_le_bytes()).collect();
                let shape: &[usize] = if axis == 0 { &[64, 6] } else { &[6, 64] };
                let matrix = Weights { element: Element::F32, shape, bytes: &bytes };
                let sharing = match format.granularity {
                    crate::weight_format::Granularity::Tensor => Sharing::Tensor,
                    crate::weight_format::Granularity::Channel => Sharing::Channel(1 - axis),
                    crate::weight_format::Granularity::Group(group) => Sharing::Blocks(axis, group as usize),
                };
                let spec = Spec {
                    storage: format.storage,
                    scale: format.scale,
                    has_zero_point: format.has_zero_point,
                    sharing,
                    method: "squared_error",
                };
                let factor = InverseFactor::of(&hessian).unwrap();
                let better = gptq(matrix, &spec, axis, &hessian, &factor).unwrap();
                let importance = hessian.diagonal();
                let importance = (sharing != Sharing::Tensor).then_some(&importance[..]);
                let nearest = super::super::quantize(matrix, &spec, importance).unwrap();
                let error = |found| output_error(&weights, found, &spec, axis, &hessian);
                assert!(
                    error(&better) < 0.8 * error(&nearest),
                    "{format}, axis {axis}: {} and {}",
                    error(&better),
                    error(&nearest)
                );
            }
        }
    }
}
