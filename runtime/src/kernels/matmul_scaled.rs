//! Products of integers with a float result: exact sums in int32 over each block of k, then one scale per block and column in f32.
//!
//! Both operands have at most 8 bits, so a sum over [`DEPTH`] products stays below 2^24 and is exact in f32 too: a longer block is summed in
//! pieces of that length, each scaled. The order of additions depends on extents and strides only.

use super::Fault;
use super::lanes::{load, store};
use super::matmul::{
    COLUMNS, DEPTH, Factors, Place, Problem, Quantized, ROWS, ROWS_PER_PASS, batches, check, multiply, pack,
    pack_run,
};
use crate::element::Element;
use crate::memory::{Destination, Source, Workspace};

/// Whether [`product`] takes operands of these elements. Codes are no numbers: a codebook makes floats of them.
pub(super) fn fits(destination: Element, a: Element, b: &Quantized<'_, '_>) -> bool {
    let is_byte = |element: Element| element.is_integer() && element.bits() <= 8;
    let is_integer = is_byte(a) && is_byte(b.values.element()) && b.codebook.is_none();
    is_integer && destination.is_float() && destination != Element::F64
}

/// `destination [.., m, n] (+)= a [.., m, k] * (b - zero) [.., k, n] * scale`.
pub(super) fn product(
    destination: &mut Destination<'_>,
    a: &Source<'_>,
    b: Quantized<'_, '_>,
    accumulate: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    let a = Quantized::plain(a);
    let problem = check(destination, &a, &b)?;
    let room = workspace.two::<i32, f32>(
        DEPTH * COLUMNS + ROWS_PER_PASS * COLUMNS + ROWS * DEPTH,
        ROWS_PER_PASS * COLUMNS + COLUMNS,
    )?;
    let (integers, floats) = room;
    let (panel, rest) = integers.split_at_mut(DEPTH * COLUMNS);
    let (sums, left) = rest.split_at_mut(ROWS_PER_PASS * COLUMNS);
    let (totals, scales) = floats.split_at_mut(ROWS_PER_PASS * COLUMNS);
    let factors = [Factors::new(), Factors::new()];
    let mut room = Room { panel, sums, left, totals, scales, factors };
    batches(&destination.window.clone(), &a, &b, |to, left, right| {
        matrix(destination, to, (&a, left), (&b, right), &problem, accumulate, &mut room);
        Ok(())
    })
}

/// Buffers: a piece of b, its integer sums, a few rows of a, the scaled sums, and one row of scales.
struct Room<'w> {
    panel: &'w mut [i32],
    sums: &'w mut [i32],
    left: &'w mut [i32],
    totals: &'w mut [f32],
    scales: &'w mut [f32],
    /// Zero points read last, of a and of b.
    factors: [Factors<i32>; 2],
}

fn matrix(
    destination: &mut Destination<'_>,
    to: i64,
    a: (&Quantized<'_, '_>, Place),
    b: (&Quantized<'_, '_>, Place),
    problem: &Problem,
    accumulate: bool,
    room: &mut Room<'_>,
) {
    let rank = destination.rank();
    let (row_step, column_step) = (destination.strides()[rank - 2], destination.strides()[rank - 1]);
    // Zero points are subtracted while b is packed; scales come behind.
    let unscaled = Quantized { scale: None, ..*b.0 };
    for column in (0..problem.n).step_by(COLUMNS) {
        let columns = COLUMNS.min(problem.n - column);
        for first in (0..problem.m).step_by(ROWS_PER_PASS) {
            let rows = ROWS_PER_PASS.min(problem.m - first);
            room.totals[..rows * COLUMNS].fill(0.0);
            let mut start = 0;
            while start < problem.k {
                let depth = piece(b.0.block, start, problem.k);
                room.sums[..rows * COLUMNS].fill(0);
                let [a_factors, b_factors] = &mut room.factors;
                let panel = pack((&unscaled, b.1), [start, column], [depth, columns], room.panel, b_factors);
                for row in (first..first + rows).step_by(ROWS) {
                    let count = ROWS.min(first + rows - row);
                    for index in 0..count {
                        let lanes = &mut room.left[index * DEPTH..index * DEPTH + depth];
                        pack_run(a, [row + index, start], depth, false, lanes, a_factors);
                    }
                    let sums = &mut room.sums[(row - first) * COLUMNS..(row - first + count) * COLUMNS];
                    multiply(room.left, &panel, sums, columns, depth);
                }
                read_scales(b, start, column, &mut room.scales[..columns]);
                let pairs = room.totals.chunks_exact_mut(COLUMNS).zip(room.sums.chunks_exact(COLUMNS));
                for (totals, sums) in pairs.take(rows) {
                    for ((total, sum), scale) in totals.iter_mut().zip(sums).zip(&room.scales[..columns]) {
                        *total += *sum as f32 * scale;
                    }
                }
                start += depth;
            }
            for row in 0..rows {
                let place = to + (first + row) as i64 * row_step + column as i64 * column_step;
                let totals = &mut room.totals[row * COLUMNS..row * COLUMNS + columns];
                if accumulate {
                    let mut old = [0f32; COLUMNS];
                    load(&destination.as_source(), place, column_step, &mut old[..columns]);
                    totals.iter_mut().zip(&old).for_each(|(total, old)| *total += old);
                }
                store(destination, place, column_step, totals);
            }
        }
    }
}

/// Rows of b from `start` on that share a scale and fit the panel.
fn piece(block: usize, start: usize, k: usize) -> usize {
    let end = match block {
        0 => k,
        block => ((start / block + 1) * block).min(k),
    };
    DEPTH.min(end - start)
}

fn read_scales((b, place): (&Quantized<'_, '_>, Place), row: usize, column: usize, scales: &mut [f32]) {
    let Some(source) = b.scale else { return scales.fill(1.0) };
    let rank = source.rank();
    let block = row.checked_div(b.block).unwrap_or(0);
    let [down, across] = [source.strides()[rank - 2], source.strides()[rank - 1]];
    load(source, place.scale + block as i64 * down + column as i64 * across, across, scales);
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
