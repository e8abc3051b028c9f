//! What calibration knows of a product's input: second moments per pair of input channels, and the largest magnitudes.
//!
//! For a product `y = x w` with rows `x` the squared error of `y` under a change `d` of one output channel of `w` is `d^T H d` with
//! `H = sum of x^T x` (Frantar and Alistarh 2022, arXiv:2208.11580, section 3). Sums are in f64, row by row in order, so that they do not
//! depend on the number of threads.
//!
//! ```text
//! hessian.add(&rows)        [rows, k] activations
//! hessian.diagonal()        mean square of each input channel: importance for the choice of scales
//! ```

use rayon::prelude::*;

/// Lanes of [`dot`].
const LANES: usize = 8;

/// The sum of products, in [`LANES`] partial sums that are added in order.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0f64; LANES];
    let (left, right) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in left.0.iter().zip(right.0) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = left.1.iter().zip(right.1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Second moments of a product's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Hessian {
    size: usize,
    rows: usize,
    /// [k, k]; only `column >= row` is kept, the rest is 0.
    sums: Vec<f64>,
    largest: Vec<f32>,
}

impl Hessian {
    /// Of an input with `size` channels, nothing seen yet. It takes `8 size^2` bytes.
    pub fn new(size: usize) -> Hessian {
        Hessian { size, rows: 0, sums: vec![0.0; size * size], largest: vec![0.0; size] }
    }

    /// Bytes that [`Hessian::new`] takes.
    pub fn bytes(size: usize) -> usize {
        size * size * 8 + size * 4
    }

    /// Number of input channels, k.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Rows seen.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adds rows of activations, `[rows, k]` row-major.
    ///
    /// # Panics
    /// When the count is no multiple of k.
    pub fn add(&mut self, activations: &[f32]) {
        let size = self.size;
        assert!(size > 0 && activations.len().is_multiple_of(size), "activations are [rows, {size}]");
        self.rows += activations.len() / size;
        for row in activations.chunks_exact(size) {
            for (largest, value) in self.largest.iter_mut().zip(row) {
                *largest = largest.max(value.abs());
            }
        }
        let wide: Vec<f64> = activations.iter().map(|value| f64::from(*value)).collect();
        self.sums.par_chunks_mut(size).enumerate().for_each(|(at, sums)| {
            let sums = &mut sums[at..];
            for row in wide.chunks_exact(size) {
                let factor = row[at];
                if factor != 0.0 {
                    sums.iter_mut().zip(&row[at..]).for_each(|(sum, value)| *sum += factor * value);
                }
            }
        });
    }

    /// Adds what another one of the same input has seen.
    ///
    /// # Panics
    /// When the sizes differ.
    pub fn merge(&mut self, other: &Hessian) {
        assert_eq!(self.size, other.size, "second moments of one input");
        self.rows += other.rows;
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, other)| *sum += other);
        let pairs = self.largest.iter_mut().zip(&other.largest);
        pairs.for_each(|(largest, other)| *largest = largest.max(*other));
    }

    /// The largest magnitude of each input channel.
    pub fn largest(&self) -> &[f32] {
        &self.largest
    }

    /// The mean square of each input channel.
    pub fn diagonal(&self) -> Vec<f32> {
        let rows = self.rows.max(1) as f64;
        (0..self.size).map(|at| (self.sums[at * self.size + at] / rows) as f32).collect()
    }

    /// True when every sum is a finite number.
    pub fn is_finite(&self) -> bool {
        self.sums.iter().all(|sum| sum.is_finite())
    }

    /// The element at `row`, `column` of the sum of `x^T x`.
    pub(super) fn at(&self, row: usize, column: usize) -> f64 {
        self.sums[row.min(column) * self.size + row.max(column)]
    }

    /// The same for inputs whose channels are divided by `factors`: what the input looks like after the division was moved into its producer.
    #[must_use]
    pub fn divided(&self, factors: &[f32]) -> Hessian {
        let mut divided = self.clone();
        for row in 0..self.size {
            let (outer, sums) = (f64::from(factors[row]), &mut divided.sums[row * self.size..]);
            for (sum, factor) in sums[..self.size].iter_mut().zip(factors) {
                *sum /= outer * f64::from(*factor);
            }
        }
        divided.largest.iter_mut().zip(factors).for_each(|(largest, factor)| *largest /= factor);
        divided
    }

    /// `d^T H d` of one output channel: the squared error of its outputs over all rows when its weights change by `d`.
    pub fn error(&self, change: &[f64]) -> f64 {
        let mut total = 0.0;
        for (at, value) in change.iter().enumerate() {
            if *value != 0.0 {
                let row = &self.sums[at * self.size..(at + 1) * self.size];
                // Twice what is beside the diagonal: the lower half is the upper one's mirror.
                total += value * (value * row[at] + 2.0 * dot(&row[at + 1..], &change[at + 1..]));
            }
        }
        total.max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_the_outputs() {
        let rows = [1.0f32, 2.0, -1.0, 0.5, 0.0, 3.0];
        let mut hessian = Hessian::new(3);
        hessian.add(&rows[..3]);
        hessian.add(&rows[3..]);
        let change = [0.5, -1.0, 2.0];
        let expected: f64 = rows
            .chunks(3)
            .map(|row| row.iter().zip(&change).map(|(x, d)| f64::from(*x) * d).sum::<f64>().powi(2))
            .sum();
        assert!((hessian.error(&change) - expected).abs() < 1e-12);
        assert_eq!((hessian.rows(), hessian.largest()), (2, &[1.0, 2.0, 3.0][..]));
        assert_eq!(hessian.diagonal(), [0.625, 2.0, 5.0]);
        assert_eq!(hessian.at(2, 0), hessian.at(0, 2));
    }

    #[test]
    fn division_of_channels_divides_both_ways() {
        let mut hessian = Hessian::new(2);
        hessian.add(&[3.0, 4.0, -1.0, 2.0]);
        let mut expected = Hessian::new(2);
        expected.add(&[1.5, 1.0, -0.5, 0.5]);
        assert_eq!(hessian.divided(&[2.0, 4.0]), expected);
    }
}
