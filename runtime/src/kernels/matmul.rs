//! Matrix products: blocked, with dequantisation of the right operand while it is packed.
//!
//! Every output is one chain of additions over ascending k, which begins at the destination's old value when it accumulates: how
//! k is cut into commands, how the operands lie in memory and which machine computes changes no bit. Work goes in blocks of 64
//! columns and 256 of k. A block of b is widened to lanes once (through its scale and zero point when it has them) as
//! rows of columns, then used by all rows of a. f32 rows that already lie right are used in place. One loop nest serves all products; an
//! `Accumulation` says what becomes of each piece of k.

use super::lanes::{Lane, LaneKind, lane_kind, load, store};
use super::matmul_panel::{Factors, Panel, TURNED, multiply, pack, pack_run};
use super::walk::for_each_index;
use super::{Fault, matmul_compressed, packed, require, same};
use crate::element::Element;
use crate::memory::{Destination, Source, Window, Workspace};
use crate::view::RANK_MAX;
use std::marker::PhantomData;

/// Columns of the destination per block: 64 f32 are four cache lines.
pub(super) const COLUMNS: usize = 64;
/// k per block: a panel of 256 x 64 f32 is 64 KiB and stays in second-level cache. Integers that are scaled afterwards are summed over so
/// many rows at most.
pub const DEPTH: usize = 256;
/// Rows worked on together.
pub(super) const ROWS: usize = 4;
/// Rows per pass: bounds the accumulators to 128 x 64 lanes.
const ROWS_PER_PASS: usize = 128;

/// An operand with what turns its storage into numbers: `(value - zero) * scale`, row `k` using row `k / block` of both.
#[derive(Clone, Copy)]
pub struct Quantized<'m, 's> {
    /// The stored values.
    pub values: &'s Source<'m>,
    /// Factor, [batch.., blocks, n]; [batch.., n1, blocks, n0] of packed values.
    pub scale: Option<&'s Source<'m>>,
    /// Zero point, of the same extents.
    pub zero: Option<&'s Source<'m>>,
    /// Rows per block; 0 for one block.
    pub block: usize,
    /// What stored codes stand for, `[16]`.
    pub codebook: Option<&'s Source<'m>>,
    /// Places of the stored rows of a 2:4 sparse operand, of the values' extents.
    pub indices: Option<&'s Source<'m>>,
}

impl<'m, 's> Quantized<'m, 's> {
    /// Values that stand for themselves.
    pub fn plain(values: &'s Source<'m>) -> Quantized<'m, 's> {
        Quantized { values, scale: None, zero: None, block: 0, codebook: None, indices: None }
    }

    pub(super) fn is_plain(&self) -> bool {
        [self.scale, self.zero, self.codebook, self.indices].iter().all(Option::is_none)
    }
}

/// `destination [.., m, n] (+)= a [.., m, k] * b [.., k, n]`; b may be packed into panels, see [`super::packed`].
pub fn matmul(
    destination: &mut Destination<'_>,
    a: &Source<'_>,
    b: Quantized<'_, '_>,
    accumulate: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    if b.values.rank() == destination.rank() + packed::PACKED_DIMS {
        return packed::matmul(destination, a, &b, accumulate, workspace);
    }
    if b.scale.is_some() && super::matmul_scaled::fits(destination.element(), a.element(), &b) {
        return super::matmul_scaled::scaled(destination, a, b, accumulate, workspace);
    }
    let a = Quantized::plain(a);
    match lane_kind(&[destination.element(), a.values.element(), b.values.element()]) {
        LaneKind::F32 => product(destination, &a, &b, accumulate, workspace, Chain::<f32>(PhantomData)),
        LaneKind::F64 => product(destination, &a, &b, accumulate, workspace, Chain::<f64>(PhantomData)),
        LaneKind::I64 | LaneKind::I128 => {
            product(destination, &a, &b, accumulate, workspace, Chain::<i64>(PhantomData))
        }
    }
}

/// `destination i32 (+)= (a - a_zero) * (b - b_zero)`; zero points have the operands' extents.
pub fn matmul_integer(
    destination: &mut Destination<'_>,
    a: &Source<'_>,
    b: &Source<'_>,
    a_zero: Option<&Source<'_>>,
    b_zero: Option<&Source<'_>>,
    accumulate: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    let is_narrow = |operand: &Source<'_>| operand.element().is_integer() && operand.element().bits() <= 16;
    require(is_narrow(a) && is_narrow(b), "matmul_integer needs integers of at most 16 bits")?;
    require(destination.element() == Element::I32, "matmul_integer makes i32")?;
    let a = Quantized { zero: a_zero, block: 1, ..Quantized::plain(a) };
    let b = Quantized { zero: b_zero, block: 1, ..Quantized::plain(b) };
    product(destination, &a, &b, accumulate, workspace, Chain::<i32>(PhantomData))
}

/// Extents of one matrix product.
struct Problem {
    m: usize,
    n: usize,
    k: usize,
}

fn check(
    destination: &Destination<'_>,
    a: &Quantized<'_, '_>,
    b: &Quantized<'_, '_>,
) -> Result<Problem, Fault> {
    let rank = destination.rank();
    require(
        rank >= 2 && a.values.rank() == rank && b.values.rank() == rank,
        "matmul needs equal ranks of at least 2",
    )?;
    let batch = rank - 2;
    let (out, left, right) = (destination.dims(), a.values.dims(), b.values.dims());
    same("matmul: batch extents of destination and a differ", &out[..batch], &left[..batch])?;
    same("matmul: batch extents of destination and b differ", &out[..batch], &right[..batch])?;
    let problem = Problem { m: out[batch], n: out[batch + 1], k: left[batch + 1] };
    same("matmul: rows of destination and a differ", &[problem.m], &[left[batch]])?;
    matmul_compressed::check(b)?;
    same("matmul: inner dimensions differ", &[problem.k], &[matmul_compressed::depth(b)])?;
    same("matmul: columns of destination and b differ", &[problem.n], &[right[batch + 1]])?;
    for operand in [a, b] {
        let dims = operand.values.dims();
        let rows = match operand.block {
            0 => usize::from(dims[batch] > 0),
            block => matmul_compressed::depth(operand).div_ceil(block),
        };
        for factor in [operand.scale, operand.zero].into_iter().flatten() {
            require(factor.rank() == rank, "matmul: a scale or zero point has another rank")?;
            same(
                "matmul: batch extents of a scale or zero point differ",
                &factor.dims()[..batch],
                &dims[..batch],
            )?;
            let fits = factor.dims()[batch] >= rows && factor.dims()[batch + 1] == dims[batch + 1];
            require(fits, "matmul: a scale or zero point does not cover its operand")?;
        }
    }
    Ok(problem)
}

/// One matrix of a batch: where it and its factors begin.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) values: i64,
    pub(super) scale: i64,
    pub(super) zero: i64,
}

/// Calls `each` with the places of destination, a and b for every index of the leading dimensions.
pub(super) fn batches(
    window: &Window,
    a: &Quantized<'_, '_>,
    b: &Quantized<'_, '_>,
    mut each: impl FnMut(i64, Place, Place) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let batch = window.dims().len() - 2;
    let stride =
        |operand: Option<&Source<'_>>, axis: usize| operand.map_or(0, |operand| operand.strides()[axis]);
    let mut steps = [[0i64; 7]; RANK_MAX];
    for (axis, step) in steps.iter_mut().enumerate().take(batch) {
        let of = |operand: &Quantized<'_, '_>| {
            [Some(operand.values), operand.scale, operand.zero].map(|source| stride(source, axis))
        };
        let (left, right) = (of(a), of(b));
        *step = [window.strides()[axis], left[0], left[1], left[2], right[0], right[1], right[2]];
    }
    for_each_index(&window.dims()[..batch], &steps[..batch], |[to, a0, a1, a2, b0, b1, b2]| {
        let left = Place { values: a0, scale: a1, zero: a2 };
        let right = Place { values: b0, scale: b1, zero: b2 };
        each(to, left, right)
    })
}

/// What becomes of the products of a piece of k.
pub(super) trait Accumulation {
    /// What is multiplied.
    type Lane: Lane;
    /// What sums over all of k are kept in.
    type Sum: Lane;
    /// Whether the scales of b are this one's business; else they are applied before products are made.
    const SCALES: bool = false;
    /// Rows of b from `start` on that make one piece: at least 1, at most [`DEPTH`].
    fn piece(&self, start: usize, k: usize) -> usize;
    /// A piece that begins at row and column `origin` comes next.
    fn begin(&mut self, _b: (&Quantized<'_, '_>, Place), _origin: [usize; 2], _columns: usize) {}
    /// `sums [rows][COLUMNS] += left [rows][DEPTH] * panel`, for at most [`ROWS`] rows.
    fn add(
        &mut self,
        left: &[Self::Lane],
        panel: &Panel<'_, Self::Lane>,
        sums: &mut [Self::Sum],
        columns: usize,
        depth: usize,
    );
}

/// Products go right into the sums.
struct Chain<L>(PhantomData<L>);

impl<L: Lane> Accumulation for Chain<L> {
    type Lane = L;
    type Sum = L;
    fn piece(&self, start: usize, k: usize) -> usize {
        DEPTH.min(k - start)
    }
    fn add(&mut self, left: &[L], panel: &Panel<'_, L>, sums: &mut [L], columns: usize, depth: usize) {
        multiply(left, panel, sums, columns, depth);
    }
}

/// `destination [.., m, n] (+)= a [.., m, k] * b [.., k, n]`, through an accumulation.
pub(super) fn product<A: Accumulation>(
    destination: &mut Destination<'_>,
    a: &Quantized<'_, '_>,
    b: &Quantized<'_, '_>,
    accumulate: bool,
    workspace: &mut Workspace,
    mut accumulation: A,
) -> Result<(), Fault> {
    let problem = check(destination, a, b)?;
    let lanes = (DEPTH * COLUMNS, TURNED * DEPTH, ROWS * DEPTH);
    let (lanes, sums) =
        workspace.two::<A::Lane, A::Sum>(lanes.0 + lanes.1 + lanes.2, ROWS_PER_PASS * COLUMNS)?;
    let (panel, rest) = lanes.split_at_mut(DEPTH * COLUMNS);
    let (turned, left) = rest.split_at_mut(TURNED * DEPTH);
    let factors = [Factors::new(), Factors::new()];
    let mut room = Room { panel, turned, left, sums, factors };
    batches(&destination.window.clone(), a, b, |to, left, right| {
        matrix(destination, to, (a, left), (b, right), &problem, accumulate, &mut room, &mut accumulation);
        Ok(())
    })
}

/// Buffers of one product: a block of b, runs of it that are to be turned, a few rows of a, and sums of a pass.
struct Room<'w, L, S> {
    panel: &'w mut [L],
    turned: &'w mut [L],
    left: &'w mut [L],
    sums: &'w mut [S],
    /// Scales and zero points read last, of a and of b.
    factors: [Factors<L>; 2],
}

#[allow(clippy::too_many_arguments, reason = "two operands, a destination, and where to work")]
fn matrix<A: Accumulation>(
    destination: &mut Destination<'_>,
    to: i64,
    a: (&Quantized<'_, '_>, Place),
    b: (&Quantized<'_, '_>, Place),
    problem: &Problem,
    accumulate: bool,
    room: &mut Room<'_, A::Lane, A::Sum>,
    accumulation: &mut A,
) {
    let rank = destination.rank();
    let (row_step, column_step) = (destination.strides()[rank - 2], destination.strides()[rank - 1]);
    let packed = Quantized { scale: b.0.scale.filter(|_| !A::SCALES), ..*b.0 };
    for column in (0..problem.n).step_by(COLUMNS) {
        let columns = COLUMNS.min(problem.n - column);
        for first in (0..problem.m).step_by(ROWS_PER_PASS) {
            let rows = ROWS_PER_PASS.min(problem.m - first);
            let place = |row: usize| to + (first + row) as i64 * row_step + column as i64 * column_step;
            room.sums[..rows * COLUMNS].fill(A::Sum::default());
            if accumulate {
                for (row, sums) in room.sums.chunks_exact_mut(COLUMNS).take(rows).enumerate() {
                    load(&destination.as_source(), place(row), column_step, &mut sums[..columns]);
                }
            }
            let mut start = 0;
            while start < problem.k {
                let depth = accumulation.piece(start, problem.k);
                accumulation.begin(b, [start, column], columns);
                let [a_factors, b_factors] = &mut room.factors;
                let lanes = (&mut *room.panel, &mut *room.turned);
                let panel = pack((&packed, b.1), [start, column], [depth, columns], lanes, b_factors);
                for row in (first..first + rows).step_by(ROWS) {
                    let count = ROWS.min(first + rows - row);
                    for index in 0..count {
                        let lanes = &mut room.left[index * DEPTH..index * DEPTH + depth];
                        pack_run(a, [row + index, start], depth, false, lanes, a_factors);
                    }
                    let sums = &mut room.sums[(row - first) * COLUMNS..(row - first + count) * COLUMNS];
                    accumulation.add(room.left, &panel, sums, columns, depth);
                }
                start += depth;
            }
            for (row, sums) in room.sums.chunks_exact(COLUMNS).take(rows).enumerate() {
                store(destination, place(row), column_step, &sums[..columns]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{Values, assert_close, random, read, values};

    fn naive(a: &[f64], b: &[f64], m: usize, n: usize, k: usize) -> Vec<f64> {
        (0..m * n).map(|at| (0..k).map(|k_at| a[at / n * k + k_at] * b[k_at * n + at % n]).sum()).collect()
    }

    fn plain<'m, 's>(values: &'s Source<'m>) -> Quantized<'m, 's> {
        Quantized::plain(values)
    }

    fn transposed(tensor: &Values) -> Source<'_> {
        let mut view = tensor.source();
        view.window.transpose_for_test();
        view
    }

    #[test]
    fn products_match_in_every_type_and_layout() {
        let mut workspace = Workspace::default();
        for (element, tolerance) in [
            (Element::F32, 1e-5),
            (Element::F64, 1e-12),
            (Element::F16, 3e-3),
            (Element::BF16, 2e-2),
            (Element::I32, 0.0),
        ] {
            for (m, n, k) in [(1, 70, 300), (5, 3, 1), (7, 65, 33), (130, 9, 17)] {
                let (a, b) = (random(element, &[m, k], 1), random(element, &[k, n], 2));
                let expected = naive(&read(&a.source()), &read(&b.source()), m, n, k);
                let mut out = values(element, &[m, n], &[]);
                matmul(&mut out.destination(), &a.source(), plain(&b.source()), false, &mut workspace)
                    .expect("fits");
                assert_close(&read(&out.source()), &expected, tolerance);
                let numbers = read(&b.source());
                let turned: Vec<f64> = (0..n * k).map(|at| numbers[at % k * n + at / k]).collect();
                let turned = values(element, &[n, k], &turned);
                matmul(
                    &mut out.destination(),
                    &a.source(),
                    plain(&transposed(&turned)),
                    true,
                    &mut workspace,
                )
                .expect("fits");
                let doubled: Vec<f64> = expected.iter().map(|x| 2.0 * x).collect();
                assert_close(&read(&out.source()), &doubled, 2.0 * tolerance);
            }
        }
    }

    #[test]
    fn every_sum_is_one_chain_however_k_is_cut_and_b_is_stored() {
        let mut workspace = Workspace::default();
        let (m, n, k) = (6, 83, 700);
        let (a, b) = (random(Element::F32, &[m, k], 1), random(Element::F32, &[k, n], 2));
        let (left, right) = (read(&a.source()), read(&b.source()));
        let chain = |at: usize| {
            let products =
                (0..k).map(|inner| left[at / n * k + inner] as f32 * right[inner * n + at % n] as f32);
            f64::from(products.fold(0.5f32, |sum, product| sum + product))
        };
        let expected: Vec<f64> = (0..m * n).map(chain).collect();
        for (cuts, is_turned) in [&[700][..], &[256, 444], &[1, 15, 300, 384], &[513, 187]]
            .iter()
            .flat_map(|cuts| [(cuts, false), (cuts, true)])
        {
            let mut out = values(Element::F32, &[m, n], &vec![0.5; m * n]);
            let mut start = 0;
            for &depth in *cuts {
                let part = |rows: usize, columns: usize, value: &dyn Fn(usize, usize) -> f64| {
                    let numbers = (0..rows * columns).map(|at| value(at / columns, at % columns));
                    values(Element::F32, &[rows, columns], &numbers.collect::<Vec<_>>())
                };
                let a = part(m, depth, &|row, inner| left[row * k + start + inner]);
                let b = match is_turned {
                    true => part(n, depth, &|column, inner| right[(start + inner) * n + column]),
                    false => part(depth, n, &|inner, column| right[(start + inner) * n + column]),
                };
                let b = if is_turned { transposed(&b) } else { b.source() };
                matmul(&mut out.destination(), &a.source(), plain(&b), true, &mut workspace).expect("fits");
                start += depth;
            }
            assert_eq!(read(&out.source()), expected, "{cuts:?} {is_turned}");
        }
    }

    #[test]
    fn integer_weights_are_dequantised_by_blocks() {
        let mut workspace = Workspace::default();
        let (m, n, k, block) = (3, 40, 96, 32);
        for element in [Element::I4, Element::U4, Element::I8, Element::U8, Element::NF4, Element::F8E4M3FN] {
            let a = random(Element::F32, &[m, k], 1);
            let scale = random(Element::F32, &[k / block, n], 3);
            let zero = values(
                element,
                &[k / block, n],
                &vec![if element == Element::NF4 { 0.0 } else { 1.0 }; 3 * n],
            );
            let (s, z) = (read(&scale.source()), read(&zero.source()));
            for is_turned in [false, true] {
                let b = random(element, &if is_turned { [n, k] } else { [k, n] }, 2);
                let numbers = read(&b.source());
                let wide: Vec<f64> = (0..k * n)
                    .map(|at| {
                        let (row, column) = (at / n, at % n);
                        let value = if is_turned { numbers[column * k + row] } else { numbers[at] };
                        (value - z[row / block * n + column]) * s[row / block * n + column]
                    })
                    .collect();
                let expected = naive(&read(&a.source()), &wide, m, n, k);
                let view = if is_turned { transposed(&b) } else { b.source() };
                let (scale, zero) = (scale.source(), zero.source());
                let quantized =
                    Quantized { scale: Some(&scale), zero: Some(&zero), block, ..Quantized::plain(&view) };
                let mut out = values(Element::F32, &[m, n], &[]);
                matmul(&mut out.destination(), &a.source(), quantized, false, &mut workspace).expect("fits");
                assert_close(&read(&out.source()), &expected, 1e-4);
            }
        }
    }

    #[test]
    fn integer_products_are_exact() {
        let mut workspace = Workspace::default();
        let (m, n, k) = (5, 66, 257);
        let (a, b) = (random(Element::U8, &[m, k], 1), random(Element::I8, &[k, n], 2));
        let (a_zero, b_zero) = (
            values(Element::U8, &[m, k], &vec![128.0; m * k]),
            values(Element::I8, &[k, n], &vec![-3.0; k * n]),
        );
        let wide_a: Vec<f64> = read(&a.source()).iter().map(|x| x - 128.0).collect();
        let wide_b: Vec<f64> = read(&b.source()).iter().map(|x| x + 3.0).collect();
        let mut out = values(Element::I32, &[m, n], &[]);
        let (a, b, a_zero, b_zero) = (a.source(), b.source(), a_zero.source(), b_zero.source());
        matmul_integer(&mut out.destination(), &a, &b, Some(&a_zero), Some(&b_zero), false, &mut workspace)
            .expect("fits");
        assert_eq!(read(&out.source()), naive(&wide_a, &wide_b, m, n, k));
    }

    #[test]
    fn extents_that_do_not_fit_are_faults() {
        let mut workspace = Workspace::default();
        let (a, b) = (random(Element::F32, &[2, 8], 1), random(Element::F32, &[9, 3], 2));
        let mut out = values(Element::F32, &[2, 3], &[]);
        let fault = matmul(&mut out.destination(), &a.source(), plain(&b.source()), false, &mut workspace);
        assert_eq!(
            fault,
            Err(Fault::Extents { what: "matmul: inner dimensions differ", left: vec![8], right: vec![9] })
        );
    }
}
