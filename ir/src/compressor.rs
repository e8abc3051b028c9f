//! Weights to fewer of them: magnitude pruning, 2:4 sparsity, palettes. From packed bytes to packed bytes, in parallel over pieces whose
//! borders depend on the tensor alone, so that the result is the same at any number of threads. Knows no op.
//!
//! ```text
//! sparse_2_4:  0.1 -3 2 0.5 | ..   ->  values -3 2 | ..   places 1 2 | ..
//! palette:     [k, n] of f16       ->  [k, n] of u4 and 16 levels
//! ```

use crate::element::Element;
use crate::quantizer::{Weights, pack};
use rayon::prelude::*;

/// Entries of a palette.
pub const PALETTE: usize = 16;
/// Of this many neighbours..
pub const SPARSE_OF: usize = 4;
/// ..this many are kept.
pub const SPARSE_KEPT: usize = 2;

/// Elements per piece; a multiple of 8, so that pieces begin at whole bytes.
const PIECE: usize = 1 << 16;
/// Elements read at a time.
const RUN: usize = 1024;
/// Bins of a histogram: the upper half of a binary32.
const BINS: usize = 1 << 16;
/// Histograms that are made side by side; their sums are joined in order.
const HISTOGRAMS: usize = 16;
/// Rounds of k-means: what is left after as many moves no level by a visible amount.
const ROUNDS_MAX: usize = 200;

/// What is left of pruned weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sparse {
    /// The kept weights, packed, half as many along the axis.
    pub values: Vec<u8>,
    /// Where each stood in its four, 2 bits each, ascending within a pair.
    pub places: Vec<u8>,
}

/// Weights as codes.
#[derive(Clone, Debug, PartialEq)]
pub struct Palette {
    /// One code of 4 bits per weight.
    pub codes: Vec<u8>,
    /// The levels, ascending.
    pub levels: [f32; PALETTE],
}

fn check(weights: &Weights) -> Result<(), String> {
    weights.check().map_err(|error| error.to_string())?;
    match weights.survey().first {
        Some((index, value)) => Err(format!("weight {index} is {value}, expected finite numbers")),
        None => Ok(()),
    }
}

/// Keeps the two weights of largest magnitude of every four neighbours along `axis`; of equal ones the first.
///
/// # Errors
/// When four does not divide the axis, or a weight is not finite.
pub fn sparse_2_4(weights: Weights, axis: usize) -> Result<Sparse, String> {
    check(&weights)?;
    let length = weights.shape[axis];
    if !length.is_multiple_of(SPARSE_OF) {
        return Err(format!("2:4 sparsity needs an axis of a multiple of 4, found {length}"));
    }
    let inner: usize = weights.shape[axis + 1..].iter().product();
    let width = weights.element.bits() / 8;
    let rows = weights.count() / (SPARSE_OF * inner).max(1);
    // An even number of rows of fours has whole bytes of places.
    let rows_per_piece = (PIECE / (SPARSE_OF * inner).max(1)).next_multiple_of(2).max(2);
    let kept = rows * SPARSE_KEPT * inner;
    let mut sparse = Sparse { values: vec![0; kept * width], places: vec![0; kept.div_ceil(4)] };
    if kept == 0 {
        return Ok(sparse);
    }
    let per_piece = rows_per_piece * SPARSE_KEPT * inner;
    let values = sparse.values.par_chunks_mut(per_piece * width);
    let places = sparse.places.par_chunks_mut(per_piece / 4);
    values.zip(places).enumerate().for_each(|(piece, (values, places))| {
        let first = piece * rows_per_piece;
        for row in first..(first + rows_per_piece).min(rows) {
            thin_row(&weights, row, inner, (row - first) * SPARSE_KEPT * inner, values, places);
        }
    });
    Ok(sparse)
}

/// One row of fours: `inner` fours, whose members are `inner` apart. Writes at element `at`.
fn thin_row(weights: &Weights, row: usize, inner: usize, at: usize, values: &mut [u8], places: &mut [u8]) {
    let width = weights.element.bits() / 8;
    let start = row * SPARSE_OF * inner;
    let mut room = [[0f32; RUN]; SPARSE_OF];
    let mut codes = [[0u8; RUN]; SPARSE_KEPT];
    for column in (0..inner).step_by(RUN) {
        let count = RUN.min(inner - column);
        for (member, run) in room.iter_mut().enumerate() {
            weights.read(start + member * inner + column, &mut run[..count]);
        }
        for index in 0..count {
            let [first, second] = two_largest([0, 1, 2, 3].map(|member: usize| room[member][index].abs()));
            for (slot, member) in [first, second].into_iter().enumerate() {
                codes[slot][index] = member as u8;
                let from = (start + member * inner + column + index) * width;
                let to = (at + slot * inner + column + index) * width;
                values[to..to + width].copy_from_slice(&weights.bytes[from..from + width]);
            }
        }
        for (slot, codes) in codes.iter().enumerate() {
            pack(&codes[..count], at + slot * inner + column, 2, places);
        }
    }
}

/// The places of the two largest, ascending; the first of equal ones.
fn two_largest(values: [f32; SPARSE_OF]) -> [usize; SPARSE_KEPT] {
    let (mut best, mut next) = (0, 1);
    if values[1] > values[0] {
        (best, next) = (1, 0);
    }
    for at in 2..SPARSE_OF {
        if values[at] > values[best] {
            (best, next) = (at, best);
        } else if values[at] > values[next] {
            next = at;
        }
    }
    [best.min(next), best.max(next)]
}

/// Sets the `fraction` of smallest magnitude to 0; weights as large as the smallest kept one are all kept.
///
/// # Errors
/// When a weight is not finite.
pub fn prune(weights: Weights, fraction: f64) -> Result<Vec<u8>, String> {
    check(&weights)?;
    let width = weights.element.bits() / 8;
    let wanted = (fraction.clamp(0.0, 1.0) * weights.count() as f64) as u64;
    let threshold = magnitude_of_rank(&weights, wanted);
    let mut bytes = weights.bytes.to_vec();
    bytes.par_chunks_mut(PIECE * width).enumerate().for_each(|(piece, bytes)| {
        let mut run = [0f32; RUN];
        let count = bytes.len() / width;
        for start in (0..count).step_by(RUN) {
            let run = &mut run[..RUN.min(count - start)];
            weights.read(piece * PIECE + start, run);
            for (index, value) in run.iter().enumerate() {
                if value.abs().to_bits() < threshold {
                    bytes[(start + index) * width..(start + index + 1) * width].fill(0);
                }
            }
        }
    });
    Ok(bytes)
}

/// The bits of the magnitude that has `rank` smaller or equal ones before it: found by halves of the word.
fn magnitude_of_rank(weights: &Weights, rank: u64) -> u32 {
    let high = histogram(weights, |value| Some(value.abs().to_bits() >> 16));
    let (top, before) = bin_of_rank(&high, rank);
    let low = histogram(weights, |value| {
        let bits = value.abs().to_bits();
        (bits >> 16 == top).then_some(bits & 0xffff)
    });
    let (bottom, _) = bin_of_rank(&low, rank - before);
    top << 16 | bottom
}

/// The bin that holds the element of this rank, and how many come before the bin.
fn bin_of_rank(bins: &[u64], rank: u64) -> (u32, u64) {
    let mut before = 0;
    for (bin, count) in bins.iter().enumerate() {
        if before + count > rank {
            return (bin as u32, before);
        }
        before += count;
    }
    (bins.len() as u32 - 1, before.min(rank))
}

fn histogram(weights: &Weights, bin: impl Fn(f32) -> Option<u32> + Sync) -> Vec<u64> {
    let parts = over_parts(
        weights,
        || vec![0u64; BINS],
        |bins, value| {
            if let Some(bin) = bin(value) {
                bins[bin as usize] += 1;
            }
        },
    );
    let join = |mut all: Vec<u64>, part: Vec<u64>| {
        all.iter_mut().zip(part).for_each(|(all, part)| *all += part);
        all
    };
    parts.into_iter().reduce(join).unwrap_or_else(|| vec![0; BINS])
}

/// Runs over a fixed number of parts of the tensor side by side.
fn over_parts<T: Send>(
    weights: &Weights,
    start: impl Fn() -> T + Sync,
    add: impl Fn(&mut T, f32) + Sync,
) -> Vec<T> {
    let count = weights.count();
    let part = count.div_ceil(HISTOGRAMS).max(RUN);
    let run_part = |first: usize| {
        let (mut state, mut room) = (start(), [0f32; RUN]);
        let end = (first + part).min(count);
        for start in (first..end).step_by(RUN) {
            let run = &mut room[..RUN.min(end - start)];
            weights.read(start, run);
            run.iter().for_each(|value| add(&mut state, *value));
        }
        state
    };
    (0..count.div_ceil(part)).into_par_iter().map(|index| run_part(index * part)).collect()
}

/// Weights of one bin: how many and their sum.
type Bin = (u64, f64);

/// Sixteen levels by k-means (Lloyd's algorithm on a histogram of the upper 16 bits, from quantiles), rounded to `level`, and each
/// weight's nearest one.
///
/// # Errors
/// When a weight is not finite.
pub fn palette(weights: Weights, level: Element) -> Result<Palette, String> {
    check(&weights)?;
    let levels = levels(&weights, level);
    let mut codes = vec![0u8; weights.count().div_ceil(2)];
    let borders: Vec<f32> = levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
    codes.par_chunks_mut(PIECE / 2).enumerate().for_each(|(piece, bytes)| {
        let (first, mut room, mut found) = (piece * PIECE, [0f32; RUN], [0u8; RUN]);
        let end = (first + PIECE).min(weights.count());
        for start in (first..end).step_by(RUN) {
            let run = &mut room[..RUN.min(end - start)];
            weights.read(start, run);
            for (code, value) in found.iter_mut().zip(run.iter()) {
                // Counting is faster than searching: the borders fit a register.
                *code = borders.iter().map(|border| u8::from(value > border)).sum();
            }
            pack(&found[..run.len()], start - first, 4, bytes);
        }
    });
    Ok(Palette { codes, levels })
}

/// The sum of squares of the weights and of what [`palette`] changes.
///
/// # Errors
/// As [`palette`].
pub fn palette_squared_error(weights: Weights, level: Element) -> Result<(f64, f64), String> {
    check(&weights)?;
    let levels = levels(&weights, level);
    let parts = over_parts(
        &weights,
        || (0f64, 0f64),
        |sums, value| {
            let away = levels.iter().map(|level| (level - value).powi(2)).fold(f32::MAX, f32::min);
            *sums = (sums.0 + f64::from(value).powi(2), sums.1 + f64::from(away));
        },
    );
    Ok(parts.into_iter().fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1)))
}

fn levels(weights: &Weights, level: Element) -> [f32; PALETTE] {
    let parts = over_parts(
        weights,
        || vec![(0u64, 0f64); BINS],
        |bins: &mut Vec<Bin>, value| {
            let bits = value.to_bits();
            // Ascending by value: negative numbers are turned round.
            let order = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
            let bin = &mut bins[(order >> 16) as usize];
            *bin = (bin.0 + 1, bin.1 + f64::from(value));
        },
    );
    let mut bins = vec![(0u64, 0f64); BINS];
    for part in parts {
        bins.iter_mut().zip(part).for_each(|(all, part)| *all = (all.0 + part.0, all.1 + part.1));
    }
    bins.retain(|bin| bin.0 > 0);
    k_means(&bins).map(|value| crate::number::round_float(level, value) as f32)
}

fn k_means(bins: &[Bin]) -> [f64; PALETTE] {
    let total: u64 = bins.iter().map(|bin| bin.0).sum();
    let mut levels = [0f64; PALETTE];
    let (mut before, mut at) = (0u64, 0);
    for (index, level) in levels.iter_mut().enumerate() {
        let rank = (total as f64 * (index as f64 + 0.5) / PALETTE as f64) as u64;
        while at + 1 < bins.len() && before + bins[at].0 <= rank {
            before += bins[at].0;
            at += 1;
        }
        *level = bins.get(at).map_or(0.0, |bin| bin.1 / bin.0 as f64);
    }
    for _ in 0..ROUNDS_MAX {
        let mut sums = [(0u64, 0f64); PALETTE];
        let mut nearest = 0;
        for (count, sum) in bins {
            let mean = sum / *count as f64;
            while nearest + 1 < PALETTE && (levels[nearest] + levels[nearest + 1]) / 2.0 < mean {
                nearest += 1;
            }
            sums[nearest] = (sums[nearest].0 + count, sums[nearest].1 + sum);
        }
        let mut moved = levels;
        for (level, (count, sum)) in moved.iter_mut().zip(sums) {
            if count > 0 {
                *level = sum / count as f64;
            }
        }
        // A level without weights may have been passed by its neighbour.
        moved.sort_by(f64::total_cmp);
        if moved == levels {
            break;
        }
        levels = moved;
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn weights<'a>(shape: &'a [usize], bytes: &'a [u8]) -> Weights<'a> {
        Weights { element: Element::F32, shape, bytes }
    }

    #[test]
    fn fours_keep_their_two_largest_along_either_axis() {
        let values = [0.1, -3.0, 2.0, 0.5, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 9.0, 4.0, 3.0, 2.0, 1.0];
        let bytes = bytes_of(&values);
        let along = sparse_2_4(weights(&[4, 4], &bytes), 1).unwrap();
        assert_eq!(along.values, bytes_of(&[-3.0, 2.0, 1.0, 1.0, 0.0, 9.0, 4.0, 3.0]));
        assert_eq!(along.places, [0b01_00_10_01, 0b01_00_11_00]);
        let down = sparse_2_4(weights(&[4, 4], &bytes), 0).unwrap();
        assert_eq!(down.values, bytes_of(&[1.0, -3.0, 2.0, 1.0, 4.0, 3.0, 2.0, 9.0]));
        assert_eq!(down.places, [0b01_00_00_01, 0b10_11_11_11]);
        let error = sparse_2_4(weights(&[2, 6], &bytes_of(&[0.0; 12])), 1).unwrap_err();
        assert_eq!(error, "2:4 sparsity needs an axis of a multiple of 4, found 6");
    }

    #[test]
    fn pruning_takes_the_smallest() {
        let bytes = bytes_of(&[0.5, -0.1, 3.0, -2.0, 0.2, 1.0]);
        let half = prune(weights(&[6], &bytes), 0.5).unwrap();
        assert_eq!(half, bytes_of(&[0.0, 0.0, 3.0, -2.0, 0.0, 1.0]));
        assert_eq!(prune(weights(&[6], &bytes), 0.0).unwrap(), bytes);
        let nan = bytes_of(&[1.0, f32::NAN]);
        assert!(prune(weights(&[2], &nan), 0.5).unwrap_err().contains("weight 1 is NaN"));
    }

    #[test]
    fn levels_that_suffice_are_found_exactly() {
        let levels: Vec<f32> = (0..16).map(|level| (level as f32 - 6.0) * 0.25).collect();
        let values: Vec<f32> = (0..4096).map(|index: usize| levels[index * 7 % 16]).collect();
        let bytes = bytes_of(&values);
        let found = palette(weights(&[64, 64], &bytes), Element::F32).unwrap();
        assert_eq!(found.levels.to_vec(), levels);
        let code = |index: usize| (found.codes[index / 2] >> (4 * (index % 2)) & 15) as usize;
        assert!((0..4096).all(|index| levels[code(index)] == values[index]));
        // Fewer values than levels, and none at all.
        assert!(palette(weights(&[2], &bytes_of(&[1.0, 2.0])), Element::F16).is_ok());
        assert!(palette(weights(&[0], &[]), Element::F16).is_ok());
    }

    #[test]
    fn k_means_beats_even_levels_on_normal_weights() {
        // Box and Muller's transform of points that fill the unit square evenly.
        let normal = |index: i32| {
            let (first, second) = ((f64::from(index) + 0.5) / 20_000.0, f64::from(index) * 0.618_033_988_7);
            ((-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos()) as f32
        };
        let values: Vec<f32> = (0..20_000).map(normal).collect();
        let bytes = bytes_of(&values);
        let found = palette(weights(&[20_000], &bytes), Element::F32).unwrap();
        let (signal, noise) = palette_squared_error(weights(&[20_000], &bytes), Element::F32).unwrap();
        assert!((signal / 20_000.0 - 1.0).abs() < 0.01, "the weights have a variance of 1: {signal}");
        let nearest = |levels: &[f32]| -> f64 {
            let away =
                |value: f32| levels.iter().map(|level| (level - value).powi(2)).fold(f32::MAX, f32::min);
            values.iter().map(|value| f64::from(away(*value))).sum()
        };
        let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let even: Vec<f32> = (0..16).map(|level| (level as f32 / 7.5 - 1.0) * largest).collect();
        assert!((noise / nearest(&found.levels) - 1.0).abs() < 1e-9);
        // Max 1960: the best 16 levels for normal numbers change 0.0095 of the variance.
        assert!((noise / signal - 0.0095).abs() < 0.0003, "{}", noise / signal);
        assert!(noise < 0.6 * nearest(&even));
    }
}
