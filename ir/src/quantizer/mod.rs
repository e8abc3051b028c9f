//! Weights to few bits: chooses scales and rounds, straight from packed bytes to packed bytes.
//!
//! A tensor is walked as panels of rows: each column of a panel shares one scale. Scales are chosen in a first pass, storage is written in
//! a second one, both in parallel over pieces whose borders depend on the tensor alone, so that the result is the same at any
//! number of threads. Nothing but the results and a small buffer per thread is held. Knows no op.
//!
//! ```text
//! [k, n], groups of 32 along k:  panels of 32 rows, n columns     scale [k / 32, n]
//! [n, k], one scale per row:     panels of k rows, 1 column       scale [n]
//! ```

mod gptq;
mod grid;
mod hessian;
mod lattice;
mod scale;

pub use gptq::{InverseFactor, gptq};
pub use hessian::Hessian;
pub use scale::METHODS;

use crate::element::Element;
use grid::Grid;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use lattice::Lattice;
use rayon::prelude::*;

/// Elements per piece of the parallel walks; a multiple of 8, so that pieces begin at whole bytes.
const PIECE: usize = 1 << 16;
/// Elements read at a time.
const RUN: usize = 1024;
/// Binary16 numbers converted at a time: few, since a run may be as short as a group.
const HALVES: usize = 128;

/// A float tensor in memory.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// f64, f32, f16 or bf16.
    pub element: Element,
    /// Dimensions.
    pub shape: &'a [usize],
    /// Little-endian elements, row-major.
    pub bytes: &'a [u8],
}

/// What to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What a weight is stored as.
    pub storage: Element,
    /// What a scale is stored as.
    pub scale: Element,
    /// Whether there are zero points.
    pub has_zero_point: bool,
    /// Which weights share a scale.
    pub sharing: Sharing,
    /// How scales are chosen, one of [`METHODS`].
    pub method: &'static str,
}

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All.
    Tensor,
    /// Those at one index of the first or last axis.
    Channel(usize),
    /// Blocks along an axis.
    Blocks(usize, usize),
}

/// A quantised tensor, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantized {
    /// The weights.
    pub storage: Vec<u8>,
    /// The scales.
    pub scale: Vec<u8>,
    /// The zero points; empty without.
    pub zero_point: Vec<u8>,
}

/// Why weights cannot be quantised.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantizeError {
    /// A weight is NaN or infinite.
    #[error("weight {index} is {value}, expected finite numbers")]
    NotFinite {
        /// Row-major index.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// A scale does not fit its element type.
    #[error("a scale of {scale:e} (largest weight {largest:e}) overflows {element}")]
    ScaleOverflow {
        /// The scale that is needed.
        scale: f32,
        /// The largest magnitude of the weights that share it.
        largest: f32,
        /// The element type of scales.
        element: Element,
    },
    /// The parts do not fit together.
    #[error("{0}")]
    Form(String),
}

/// What a look at all weights of a tensor gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Survey {
    /// Largest finite magnitude.
    pub largest: f32,
    /// How many are NaN or infinite.
    pub not_finite: usize,
    /// The first of them: index and value.
    pub first: Option<(usize, f32)>,
}

impl Weights<'_> {
    /// Number of weights.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// All weights as f32.
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0f32; self.count()];
        self.read(0, &mut values);
        values
    }

    /// Reads `out.len()` weights from index `start`.
    pub(crate) fn read(&self, start: usize, out: &mut [f32]) {
        fn each<T, const N: usize>(bytes: &[u8], start: usize, out: &mut [T], read: impl Fn([u8; N]) -> T) {
            let bytes = &bytes[start * N..(start + out.len()) * N];
            for (value, chunk) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
                *value = read(*chunk);
            }
        }
        match self.element {
            Element::F64 => each(self.bytes, start, out, |b| f64::from_le_bytes(b) as f32),
            Element::F16 => {
                // Converted by the slice: eight at a time where the processor can. The bytes may lie at odd addresses.
                let mut halves = [f16::ZERO; HALVES];
                for (run, out) in out.chunks_mut(HALVES).enumerate() {
                    let halves = &mut halves[..out.len()];
                    each(self.bytes, start + run * HALVES, halves, f16::from_le_bytes);
                    halves.convert_to_f32_slice(out);
                }
            }
            Element::BF16 => each(self.bytes, start, out, |b| bf16::from_le_bytes(b).to_f32()),
            _ => each(self.bytes, start, out, f32::from_le_bytes),
        }
    }

    pub(crate) fn check(&self) -> Result<(), QuantizeError> {
        let is_float = matches!(self.element, Element::F64 | Element::F32 | Element::F16 | Element::BF16);
        let form = |what: String| Err(QuantizeError::Form(what));
        if !is_float {
            return form(format!("weights of {} are not quantised", self.element));
        }
        let expected = self.element.bytes_of(self.count());
        if self.bytes.len() != expected {
            return form(format!("expected {expected} bytes, found {}", self.bytes.len()));
        }
        Ok(())
    }

    /// Looks at every weight once.
    pub fn survey(&self) -> Survey {
        let pieces = self.count().div_ceil(PIECE);
        let found: Vec<Survey> = (0..pieces).into_par_iter().map(|piece| self.survey_piece(piece)).collect();
        let none = Survey { largest: 0.0, not_finite: 0, first: None };
        found.into_iter().fold(none, |all, one| Survey {
            largest: all.largest.max(one.largest),
            not_finite: all.not_finite + one.not_finite,
            first: all.first.or(one.first),
        })
    }

    fn survey_piece(&self, piece: usize) -> Survey {
        let mut survey = Survey { largest: 0.0, not_finite: 0, first: None };
        let mut room = [0f32; RUN];
        let end = ((piece + 1) * PIECE).min(self.count());
        for start in (piece * PIECE..end).step_by(RUN) {
            let run = &mut room[..RUN.min(end - start)];
            self.read(start, run);
            // The common case in one quick loop: a sum of magnitudes is finite only when all of them are.
            let largest = run.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            if run.iter().fold(0f32, |sum, value| sum + value * 0.0) == 0.0 {
                survey.largest = survey.largest.max(largest);
                continue;
            }
            for (at, value) in run.iter().enumerate() {
                if value.is_finite() {
                    survey.largest = survey.largest.max(value.abs());
                } else {
                    survey.not_finite += 1;
                    survey.first = survey.first.or(Some((start + at, *value)));
                }
            }
        }
        survey
    }
}

/// Quantises a tensor. `importance` weighs the squared error of each place along the dimension that a product sums over (the axis
/// of blocks, the other one per channel).
///
/// # Errors
/// Weights that are not finite, scales that overflow their element, parts that do not fit together.
pub fn quantize(
    weights: Weights,
    spec: &Spec,
    importance: Option<&[f32]>,
) -> Result<Quantized, QuantizeError> {
    let (grid, lattice, scales) = prepare(weights, spec, importance)?;
    Ok(encode(weights, spec, &grid, &lattice, &scales))
}

/// Rounds weights by scales that were chosen.
fn encode(
    weights: Weights,
    spec: &Spec,
    grid: &Grid,
    lattice: &Lattice,
    scales: &scale::Scales,
) -> Quantized {
    let bits = spec.storage.bits();
    let mut storage = vec![0u8; spec.storage.bytes_of(weights.count())];
    storage.par_chunks_mut(PIECE * bits / 8).enumerate().for_each(|(piece, bytes)| {
        let start = piece * PIECE;
        let end = (start + PIECE).min(weights.count());
        let mut codes = [0u8; RUN];
        let mut at = start;
        grid.walk(weights, scales, start..end, |quotients, zeros| {
            lattice.encode(quotients, zeros, &mut codes[..quotients.len()]);
            pack(&codes[..quotients.len()], at - start, bits, bytes);
            at += quotients.len();
        });
    });
    Quantized { storage, scale: scales.bytes(spec.scale), zero_point: scales.zero_bytes(spec) }
}

/// The numbers that a quantised tensor stands for, row-major, as f32.
///
/// # Errors
/// When parts do not fit together.
pub fn restore(quantized: &Quantized, shape: &[usize], spec: &Spec) -> Result<Vec<f32>, QuantizeError> {
    let grid = Grid::of(shape, spec.sharing).map_err(QuantizeError::Form)?;
    let unpack = |element: Element, bytes: &[u8], count: usize| {
        let ty = crate::types::TensorType::of(element, &[count as i64]);
        let tensor = crate::tensor::Tensor::from_bytes(&ty, bytes).map_err(QuantizeError::Form)?;
        Ok(tensor.floats().into_iter().map(|value| value as f32).collect::<Vec<f32>>())
    };
    let mut values = unpack(spec.storage, &quantized.storage, shape.iter().product())?;
    let scales = unpack(spec.scale, &quantized.scale, grid.scale_count())?;
    let zeros = if spec.has_zero_point {
        unpack(spec.storage, &quantized.zero_point, grid.scale_count())?
    } else {
        Vec::new()
    };
    let columns = grid.columns.max(1);
    for (row, run) in values.chunks_mut(columns).enumerate() {
        let panel = row / grid.depth * grid.panels() + row % grid.depth / grid.block;
        for (column, value) in run.iter_mut().enumerate() {
            let at = panel * columns + column;
            *value = (*value - zeros.get(at).copied().unwrap_or(0.0)) * scales[at];
        }
    }
    Ok(values)
}

/// The sum of squares of the weights and of what quantisation changes, as a sensitivity report and a budget solver need them.
///
/// # Errors
/// As [`quantize`].
pub fn squared_error(
    weights: Weights,
    spec: &Spec,
    importance: Option<&[f32]>,
) -> Result<(f64, f64), QuantizeError> {
    let (grid, lattice, scales) = prepare(weights, spec, importance)?;
    let pieces = weights.count().div_ceil(PIECE);
    let sums: Vec<(f64, f64)> = (0..pieces)
        .into_par_iter()
        .map(|piece| {
            let range = piece * PIECE..((piece + 1) * PIECE).min(weights.count());
            grid.squared_error(weights, &lattice, &scales, range, importance)
        })
        .collect();
    // In order: the sum does not depend on threads.
    Ok(sums.into_iter().fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1)))
}

fn prepare(
    weights: Weights,
    spec: &Spec,
    importance: Option<&[f32]>,
) -> Result<(Grid, Lattice, scale::Scales), QuantizeError> {
    weights.check()?;
    let grid = Grid::of(weights.shape, spec.sharing).map_err(QuantizeError::Form)?;
    if let Some(importance) = importance
        && importance.len() != grid.depth
    {
        let what = format!("importance has {} numbers, expected {}", importance.len(), grid.depth);
        return Err(QuantizeError::Form(what));
    }
    let lattice = Lattice::of(spec.storage)
        .ok_or_else(|| QuantizeError::Form(format!("weights are not stored as {}", spec.storage)))?;
    if !spec.has_zero_point && spec.storage.integer_range().is_some_and(|(low, _)| low == 0) {
        return Err(QuantizeError::Form(format!(
            "weights in {} need zero points: it has no sign",
            spec.storage
        )));
    }
    let scales = scale::choose(weights, spec, &grid, &lattice, importance)?;
    Ok((grid, lattice, scales))
}

/// Puts codes of `bits` bits (8, 4 or 2) at element `at` of packed bytes that are zero there.
pub(crate) fn pack(codes: &[u8], at: usize, bits: usize, bytes: &mut [u8]) {
    if bits == 8 {
        bytes[at..at + codes.len()].copy_from_slice(codes);
        return;
    }
    let per_byte = 8 / bits;
    let mask = (1u8 << bits) - 1;
    if bits == 4 && at.is_multiple_of(2) {
        let bytes = &mut bytes[at / 2..];
        let pairs = codes.as_chunks::<2>();
        for (byte, pair) in bytes.iter_mut().zip(pairs.0) {
            *byte = pair[0] & mask | (pair[1] & mask) << 4;
        }
        if let [last] = pairs.1 {
            bytes[codes.len() / 2] = last & mask;
        }
        return;
    }
    for (index, code) in codes.iter().enumerate() {
        let place = at + index;
        bytes[place / per_byte] |= (code & mask) << (place % per_byte * bits);
    }
}

#[cfg(test)]
mod tests;
