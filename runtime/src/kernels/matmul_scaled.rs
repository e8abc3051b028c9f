//! Products of integers with a float result: exact sums in int32 over each block of k, then one scale per block and column in f32.
//!
//! Both operands have at most 8 bits, so a sum over [`DEPTH`] products stays below 2^24 and is exact in f32 too: a longer block is summed in
//! pieces of that length, each scaled. The order of additions depends on extents and strides only.

use super::Fault;
use super::lanes::load;
use super::matmul::{Accumulation, COLUMNS, DEPTH, Place, Quantized, ROWS, product};
use super::matmul_panel::{Panel, multiply};
use crate::element::Element;
use crate::memory::{Destination, Source, Workspace};

/// Whether [`scaled`] takes operands of these elements. Codes are no numbers: a codebook makes floats of them.
pub(super) fn fits(destination: Element, a: Element, b: &Quantized<'_, '_>) -> bool {
    let is_byte = |element: Element| element.is_integer() && element.bits() <= 8;
    let is_integer = is_byte(a) && is_byte(b.values.element()) && b.codebook.is_none();
    is_integer && destination.is_float() && destination != Element::F64
}

/// `destination [.., m, n] (+)= a [.., m, k] * (b - zero) [.., k, n] * scale`.
pub(super) fn scaled(
    destination: &mut Destination<'_>,
    a: &Source<'_>,
    b: Quantized<'_, '_>,
    accumulate: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    let a = Quantized::plain(a);
    let scaled = Scaled { block: b.block, scales: [0.0; COLUMNS], sums: [0; ROWS * COLUMNS] };
    product(destination, &a, &b, accumulate, workspace, scaled)
}

/// Sums a piece in int32 (zero points are subtracted while b is packed), then scales it.
struct Scaled {
    block: usize,
    scales: [f32; COLUMNS],
    sums: [i32; ROWS * COLUMNS],
}

impl Accumulation for Scaled {
    type Lane = i32;
    type Sum = f32;
    const SCALES: bool = true;

    /// Rows that share a scale and fit the panel.
    fn piece(&self, start: usize, k: usize) -> usize {
        let end = match self.block {
            0 => k,
            block => ((start / block + 1) * block).min(k),
        };
        DEPTH.min(end - start)
    }

    fn begin(&mut self, (b, place): (&Quantized<'_, '_>, Place), [row, column]: [usize; 2], columns: usize) {
        let scales = &mut self.scales[..columns];
        let Some(source) = b.scale else { return scales.fill(1.0) };
        let rank = source.rank();
        let block = row.checked_div(self.block).unwrap_or(0);
        let [down, across] = [source.strides()[rank - 2], source.strides()[rank - 1]];
        load(source, place.scale + block as i64 * down + column as i64 * across, across, scales);
    }

    fn add(&mut self, left: &[i32], panel: &Panel<'_, i32>, sums: &mut [f32], columns: usize, depth: usize) {
        let products = &mut self.sums[..sums.len()];
        products.fill(0);
        multiply(left, panel, products, columns, depth);
        for (sums, products) in sums.chunks_exact_mut(COLUMNS).zip(products.chunks_exact(COLUMNS)) {
            for ((sum, product), scale) in sums.iter_mut().zip(products).zip(&self.scales[..columns]) {
                *sum += *product as f32 * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::matmul::matmul;
    use super::super::testing::{random, read, values};
    use super::*;

    #[test]
    fn sums_are_exact_and_scaled_by_block() {
        let mut workspace = Workspace::default();
        let (m, n, k) = (5, 70, 600);
        for (element, block) in
            [(Element::I8, 0), (Element::I4, 32), (Element::U4, 128), (Element::U8, 300), (Element::I8, 7)]
        {
            let a = random(Element::I8, &[m, k], 1);
            let b = random(element, &[k, n], 2);
            let blocks = if block == 0 { 1 } else { k.div_ceil(block) };
            // Powers of two: every product and sum below is exact in f32, so the comparison is one of bits.
            let powers: Vec<f64> = (0..blocks * n).map(|at| 2f64.powi((at % 3) as i32 - 1)).collect();
            let scale = values(Element::F16, &[blocks, n], &powers);
            let zero = values(element, &[blocks, n], &vec![1.0; blocks * n]);
            let (left, right) = (read(&a.source()), read(&b.source()));
            let mut expected = vec![3.0; m * n];
            for (at, sum) in expected.iter_mut().enumerate() {
                let (row, column) = (at / n, at % n);
                for inner in 0..k {
                    let group = inner.checked_div(block).unwrap_or(0);
                    *sum += left[row * k + inner]
                        * (right[inner * n + column] - 1.0)
                        * powers[group * n + column];
                }
            }
            let (scale, zero) = (scale.source(), zero.source());
            let b = b.source();
            let b = Quantized { scale: Some(&scale), zero: Some(&zero), block, ..Quantized::plain(&b) };
            let mut out = values(Element::F32, &[m, n], &vec![3.0; m * n]);
            matmul(&mut out.destination(), &a.source(), b, true, &mut workspace).expect("fits");
            assert_eq!(read(&out.source()), expected, "{element:?} {block}");
        }
    }
}
