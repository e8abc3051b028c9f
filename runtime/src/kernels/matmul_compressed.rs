//! Right operands of a product in fewer bytes: codes of a palette, 2:4 sparse rows, or both.
//!
//! Stored rows `2 g` and `2 g + 1` of a sparse operand are rows `4 g + index` of k, in ascending order; the other two are 0. Codes stand
//! for the entry of the codebook with their number.

use super::lanes::{Lane, load};
use super::matmul::{DEPTH, Quantized};
use super::{Fault, require, same};
use crate::memory::Source;

/// Rows of k that two stored rows stand for.
const GROUP: usize = 4;
/// Entries of a codebook: as many as 4 bits tell apart.
const CODES: usize = 16;

/// Rows of k that an operand stands for.
pub(super) fn depth(operand: &Quantized<'_, '_>) -> usize {
    let stored = operand.values.dims()[operand.values.rank() - 2];
    if operand.indices.is_some() { stored / 2 * GROUP } else { stored }
}

/// Checks the parts of a compressed operand, and every index: they are data.
pub(super) fn check(operand: &Quantized<'_, '_>) -> Result<(), Fault> {
    if let Some(codebook) = operand.codebook {
        require(codebook.rank() == 1 && codebook.dims()[0] >= CODES, "matmul: a codebook needs 16 entries")?;
        require(operand.values.element().bits() <= 4, "matmul: a codebook needs codes of at most 4 bits")?;
    }
    let Some(indices) = operand.indices else { return Ok(()) };
    let rank = indices.rank();
    same("matmul: extents of b and its indices differ", operand.values.dims(), indices.dims())?;
    let [rows, columns] = [indices.dims()[rank - 2], indices.dims()[rank - 1]];
    require(rows.is_multiple_of(2), "matmul: 2:4 sparse rows come in pairs")?;
    // A weight is one matrix; a batch may only repeat it.
    let repeats = |axis: usize| indices.dims()[axis] == 1 || indices.strides()[axis] == 0;
    require((0..rank - 2).all(repeats), "matmul: sparse operands have no batch")?;
    let mut pair = [[0f32; DEPTH]; 2];
    for row in (0..rows).step_by(2) {
        for column in (0..columns).step_by(DEPTH) {
            let count = DEPTH.min(columns - column);
            for (slot, run) in pair.iter_mut().enumerate() {
                load(
                    indices,
                    offset(indices, 0, row + slot, column),
                    indices.last_stride(),
                    &mut run[..count],
                );
            }
            let ascends = pair[0].iter().zip(&pair[1]).take(count).all(|(first, second)| first < second);
            require(ascends, "matmul: indices of a 2:4 sparse pair do not ascend")?;
        }
    }
    Ok(())
}

fn offset(source: &Source<'_>, base: i64, row: usize, column: usize) -> i64 {
    let rank = source.rank();
    base + row as i64 * source.strides()[rank - 2] + column as i64 * source.strides()[rank - 1]
}

/// Loads values from `[row, column]` on, along rows of k (`down`) or along columns.
pub(super) fn load_values<L: Lane>(
    operand: &Quantized<'_, '_>,
    base: i64,
    [row, column]: [usize; 2],
    down: bool,
    lanes: &mut [L],
) {
    let Some(indices) = operand.indices else {
        return load_stored(operand, base, [row, column], down, lanes);
    };
    lanes.fill(L::default());
    let step = indices.strides()[indices.rank() - if down { 2 } else { 1 }];
    let mut room = [L::default(); DEPTH + GROUP];
    let mut places = [0f32; DEPTH + GROUP];
    if down {
        let (first, end) = (row / GROUP, (row + lanes.len()).div_ceil(GROUP));
        let (values, places) = (&mut room[..2 * (end - first)], &mut places[..2 * (end - first)]);
        load_stored(operand, base, [2 * first, column], true, values);
        load(indices, offset(indices, 0, 2 * first, column), step, places);
        for (slot, (value, place)) in values.iter().zip(places.iter()).enumerate() {
            let at = GROUP * (first + slot / 2) + *place as usize;
            if let Some(lane) = at.checked_sub(row).and_then(|at| lanes.get_mut(at)) {
                *lane = *value;
            }
        }
        return;
    }
    let member = (row % GROUP) as f32;
    let (values, places) = (&mut room[..lanes.len()], &mut places[..lanes.len()]);
    for stored in [row / GROUP * 2, row / GROUP * 2 + 1] {
        load_stored(operand, base, [stored, column], false, values);
        load(indices, offset(indices, 0, stored, column), step, places);
        for ((lane, value), place) in lanes.iter_mut().zip(values.iter()).zip(places.iter()) {
            if *place == member {
                *lane = *value;
            }
        }
    }
}

/// Loads stored values.
fn load_stored<L: Lane>(
    operand: &Quantized<'_, '_>,
    base: i64,
    [row, column]: [usize; 2],
    down: bool,
    lanes: &mut [L],
) {
    let values = operand.values;
    let step = values.strides()[values.rank() - if down { 2 } else { 1 }];
    load_codes(operand, offset(values, base, row, column), step, lanes);
}

/// Loads values `step` elements apart, codes through the codebook.
pub(super) fn load_codes<L: Lane>(operand: &Quantized<'_, '_>, offset: i64, step: i64, lanes: &mut [L]) {
    load(operand.values, offset, step, lanes);
    if let Some(codebook) = operand.codebook {
        let mut levels = [L::default(); CODES];
        load(codebook, 0, codebook.last_stride(), &mut levels);
        lanes.iter_mut().for_each(|lane| *lane = levels[lane.to_i64() as usize % CODES]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::matmul::{Quantized, matmul};
    use super::super::testing::{assert_close, random, read, values};
    use super::*;
    use crate::element::Element;
    use crate::memory::Workspace;

    /// Two ascending places for every pair of [rows, columns].
    fn places(rows: usize, columns: usize) -> Vec<f64> {
        const PAIRS: [[f64; 2]; 6] = [[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [1.0, 2.0], [1.0, 3.0], [2.0, 3.0]];
        (0..rows * columns)
            .map(|at| PAIRS[(at / columns / 2 * 7 + at % columns * 5) % 6][at / columns % 2])
            .collect()
    }

    /// What a sparse matrix stands for.
    fn expanded(stored: &[f64], indices: &[f64], rows: usize, columns: usize) -> Vec<f64> {
        let mut dense = vec![0.0; 2 * rows * columns];
        for at in 0..rows * columns {
            let (row, column) = (at / columns, at % columns);
            dense[(row / 2 * 4 + indices[at] as usize) * columns + column] = stored[at];
        }
        dense
    }

    fn turned(numbers: &[f64], rows: usize, columns: usize) -> Vec<f64> {
        (0..rows * columns).map(|at| numbers[at % rows * columns + at / rows]).collect()
    }

    #[test]
    fn sparse_and_coded_products_equal_dense_ones() {
        let mut workspace = Workspace::default();
        for (element, is_coded, m, n, k) in [
            (Element::F16, false, 3, 70, 520),
            (Element::I4, false, 1, 5, 96),
            (Element::I8, false, 5, 64, 256),
            (Element::U4, true, 2, 33, 300),
            (Element::F32, false, 2, 3, 4),
        ] {
            let levels: Vec<f64> = (0..16).map(|level| f64::from(level * level) / 16.0 - 3.0).collect();
            let codebook = values(Element::F32, &[16], &levels);
            let a = random(Element::F32, &[m, k], 1);
            let stored = random(element, &[k / 2, n], 2);
            let numbers = read(&stored.source());
            let decoded: Vec<f64> =
                numbers.iter().map(|code| if is_coded { levels[*code as usize] } else { *code }).collect();
            let index = places(k / 2, n);
            let dense = expanded(&decoded, &index, k / 2, n);
            let left = read(&a.source());
            let expected: Vec<f64> = (0..m * n)
                .map(|at| (0..k).map(|row| left[at / n * k + row] * dense[row * n + at % n]).sum())
                .collect();
            for is_turned in [false, true] {
                let shape = if is_turned { [n, k / 2] } else { [k / 2, n] };
                let order = |numbers: &[f64]| {
                    if is_turned { turned(numbers, k / 2, n) } else { numbers.to_vec() }
                };
                let b = values(element, &shape, &order(&numbers));
                let indices = values(Element::U2, &shape, &order(&index));
                let (mut b, mut indices) = (b.source(), indices.source());
                if is_turned {
                    b.window.transpose_for_test();
                    indices.window.transpose_for_test();
                }
                let codebook = codebook.source();
                let compressed = Quantized {
                    indices: Some(&indices),
                    codebook: is_coded.then_some(&codebook),
                    ..Quantized::plain(&b)
                };
                let mut out = values(Element::F32, &[m, n], &[]);
                matmul(&mut out.destination(), &a.source(), compressed, false, &mut workspace).expect("fits");
                assert_close(&read(&out.source()), &expected, 1e-4);
            }
        }
    }

    #[test]
    fn hostile_parts_are_faults() {
        let mut workspace = Workspace::default();
        let (a, b) = (random(Element::F32, &[2, 8], 1), random(Element::F32, &[4, 3], 2));
        let mut out = values(Element::F32, &[2, 3], &[]);
        let mut index = places(4, 3);
        let good = values(Element::U2, &[4, 3], &index);
        index[7] = index[10];
        let equal = values(Element::U2, &[4, 3], &index);
        let short = values(Element::U2, &[2, 3], &places(2, 3));
        let mut run = |indices: &Source<'_>, codebook: Option<&Source<'_>>| {
            let b = b.source();
            let b = Quantized { indices: Some(indices), codebook, ..Quantized::plain(&b) };
            matmul(&mut out.destination(), &a.source(), b, false, &mut workspace)
        };
        assert_eq!(run(&good.source(), None), Ok(()));
        let ascend = Fault::Shape("matmul: indices of a 2:4 sparse pair do not ascend");
        assert_eq!(run(&equal.source(), None), Err(ascend));
        assert!(matches!(run(&short.source(), None), Err(Fault::Extents { .. })));
        let few = values(Element::F32, &[8], &[]);
        assert_eq!(
            run(&good.source(), Some(&few.source())),
            Err(Fault::Shape("matmul: a codebook needs 16 entries"))
        );
    }
}
