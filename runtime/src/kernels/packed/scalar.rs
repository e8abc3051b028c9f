//! Packed products for every element, layout and machine: what all others are compared with.
//!
//! Rows of a panel are widened to lanes up to [`DEPTH`] at a time, then used by all rows of a.

use super::{Problem, batches};
use crate::kernels::Fault;
use crate::kernels::lanes::{Lane, load, store};
use crate::kernels::matmul::{COLUMNS, DEPTH, Place, Quantized};
use crate::kernels::matmul_compressed::load_codes;
use crate::kernels::wide::widest;
use crate::memory::{Destination, Source, Workspace};
use std::marker::PhantomData;

/// Rows of a per pass: bounds the sums.
const ROWS_PER_PASS: usize = 64;

/// How numbers are multiplied and added.
pub(super) trait Arithmetic {
    /// What is multiplied, and what products of a block are summed in.
    type Lane: Lane;
    /// What scaled sums are added up in.
    type Total: Lane;
    /// Most rows of a block that are summed before they are scaled.
    const ROWS_MAX: usize;
    /// `sum + left * right`.
    fn add(sum: Self::Lane, left: Self::Lane, right: Self::Lane) -> Self::Lane;
    /// `total + sum * scale`.
    fn scale(total: Self::Total, sum: Self::Lane, scale: Self::Total) -> Self::Total;
}

/// Fused multiply-add in f32 or f64.
pub(super) struct Floats<L>(PhantomData<L>);

macro_rules! floats {
    ($type:ty) => {
        impl Arithmetic for Floats<$type> {
            type Lane = $type;
            type Total = $type;
            const ROWS_MAX: usize = usize::MAX;
            #[inline(always)]
            fn add(sum: $type, left: $type, right: $type) -> $type {
                left.mul_add(right, sum)
            }
            #[inline(always)]
            fn scale(total: $type, sum: $type, scale: $type) -> $type {
                sum.mul_add(scale, total)
            }
        }
    };
}
floats!(f32);
floats!(f64);

/// Wrapping 64-bit integers.
pub(super) struct Integers;

impl Arithmetic for Integers {
    type Lane = i64;
    type Total = i64;
    const ROWS_MAX: usize = usize::MAX;
    #[inline(always)]
    fn add(sum: i64, left: i64, right: i64) -> i64 {
        sum.wrapping_add(left.wrapping_mul(right))
    }
    #[inline(always)]
    fn scale(total: i64, sum: i64, scale: i64) -> i64 {
        total.wrapping_add(sum.wrapping_mul(scale))
    }
}

/// Integers of at most 8 bits with a float result: as the unpacked product.
pub(super) struct ScaledIntegers;

impl Arithmetic for ScaledIntegers {
    type Lane = i32;
    type Total = f32;
    const ROWS_MAX: usize = DEPTH;
    #[inline(always)]
    fn add(sum: i32, left: i32, right: i32) -> i32 {
        sum.wrapping_add(left.wrapping_mul(right))
    }
    #[inline(always)]
    fn scale(total: f32, sum: i32, scale: f32) -> f32 {
        total + sum as f32 * scale
    }
}

/// Buffers of one product.
struct Room<'w, L, T> {
    /// Rows of a panel, [`DEPTH`] x [`COLUMNS`].
    panel: &'w mut [L],
    /// A run of a row of a.
    left: &'w mut [L],
    /// Sums of the block at hand, [`ROWS_PER_PASS`] x [`COLUMNS`].
    sums: &'w mut [L],
    /// Sums of blocks, scaled.
    totals: &'w mut [T],
}

/// `destination [.., m, n] (+)= a [.., m, k] * b`.
pub(super) fn product<A: Arithmetic>(
    destination: &mut Destination<'_>,
    a: &Source<'_>,
    b: &Quantized<'_, '_>,
    problem: &Problem,
    accumulate: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    let pass = ROWS_PER_PASS * COLUMNS;
    let (lanes, totals) = workspace.two::<A::Lane, A::Total>(DEPTH * COLUMNS + DEPTH + pass, pass)?;
    let (panel, rest) = lanes.split_at_mut(DEPTH * COLUMNS);
    let (left, sums) = rest.split_at_mut(DEPTH);
    let mut room = Room { panel, left, sums, totals };
    let window = destination.window.clone();
    batches(&window, &Quantized::plain(a), b, |to, left, right| {
        for panel in 0..problem.n.div_ceil(problem.columns) {
            let of_panel = problem.columns.min(problem.n - panel * problem.columns);
            for column in (0..of_panel).step_by(COLUMNS) {
                let part = Part { panel, column, columns: COLUMNS.min(of_panel - column) };
                for first in (0..problem.m).step_by(ROWS_PER_PASS) {
                    let rows = first..problem.m.min(first + ROWS_PER_PASS);
                    pass_of::<A>(
                        (destination, to),
                        (a, left),
                        (b, right),
                        problem,
                        &part,
                        rows,
                        accumulate,
                        &mut room,
                    );
                }
            }
        }
        Ok(())
    })
}

/// Columns of one panel.
struct Part {
    panel: usize,
    column: usize,
    columns: usize,
}

#[allow(clippy::too_many_arguments, reason = "two operands, a destination, and which part of them")]
fn pass_of<A: Arithmetic>(
    (destination, to): (&mut Destination<'_>, i64),
    (a, left): (&Source<'_>, Place),
    b: (&Quantized<'_, '_>, Place),
    problem: &Problem,
    part: &Part,
    rows: std::ops::Range<usize>,
    accumulate: bool,
    room: &mut Room<'_, A::Lane, A::Total>,
) {
    let rank = destination.rank();
    let [down, across] = [destination.strides()[rank - 2], destination.strides()[rank - 1]];
    let [a_down, a_across] = [a.strides()[rank - 2], a.strides()[rank - 1]];
    let first_column = part.panel * problem.columns + part.column;
    let place = |row: usize| to + (rows.start + row) as i64 * down + first_column as i64 * across;
    let is_scaled = b.0.scale.is_some();
    let (count, columns) = (rows.len(), part.columns);
    let totals = &mut room.totals[..count * COLUMNS];
    let sums = &mut room.sums[..count * COLUMNS];
    totals.fill(A::Total::default());
    sums.fill(A::Lane::default());
    if accumulate {
        let old = destination.as_source();
        for row in 0..count {
            let run = row * COLUMNS..row * COLUMNS + columns;
            match is_scaled {
                true => load(&old, place(row), across, &mut totals[run]),
                false => load(&old, place(row), across, &mut sums[run]),
            }
        }
    }
    let mut start = 0;
    while start < problem.k {
        let block = start / problem.block;
        let block_end = problem.k.min((block + 1) * problem.block);
        let end = block_end.min(start + DEPTH);
        unpack(b, problem, part, start..end, room.panel);
        for (row, sums) in sums.chunks_exact_mut(COLUMNS).enumerate() {
            let run = &mut room.left[..end - start];
            let offset = left.values + (rows.start + row) as i64 * a_down + start as i64 * a_across;
            load(a, offset, a_across, run);
            multiply::<A>(run, room.panel, sums);
        }
        if let Some(scale) = b.0.scale
            && (end == block_end || A::ROWS_MAX <= DEPTH)
        {
            let mut scales = [A::Total::default(); COLUMNS];
            let [offset, step] = factor_place(scale, b.1.scale, part, block);
            load(scale, offset, step, &mut scales[..columns]);
            for (total, sum) in totals.chunks_exact_mut(COLUMNS).zip(sums.chunks_exact_mut(COLUMNS)) {
                for ((total, sum), &scale) in total.iter_mut().zip(sum).zip(&scales) {
                    *total = A::scale(*total, std::mem::take(sum), scale);
                }
            }
        }
        start = end;
    }
    for row in 0..count {
        let run = row * COLUMNS..row * COLUMNS + columns;
        match is_scaled {
            true => store(destination, place(row), across, &totals[run]),
            false => store(destination, place(row), across, &sums[run]),
        }
    }
}

/// Where the factors of a block begin for the columns of a part, and how far apart they lie.
fn factor_place(factor: &Source<'_>, base: i64, part: &Part, block: usize) -> [i64; 2] {
    let rank = factor.rank();
    let [panels, down, across] = [3, 2, 1].map(|from_end| factor.strides()[rank - from_end]);
    let offset = base + part.panel as i64 * panels + block as i64 * down + part.column as i64 * across;
    [offset, across]
}

/// Rows of a part of a panel as lanes, less their zero points; zeros in the columns that it does not have.
fn unpack<L: Lane>(
    (b, place): (&Quantized<'_, '_>, Place),
    problem: &Problem,
    part: &Part,
    rows: std::ops::Range<usize>,
    room: &mut [L],
) {
    let rank = b.values.rank();
    let [panels, steps, groups, across, side] =
        [5, 4, 3, 2, 1].map(|from_end| b.values.strides()[rank - from_end]);
    let mut zeros = [L::default(); COLUMNS];
    let mut zeros_of = None;
    for (row, lanes) in rows.zip(room.chunks_exact_mut(COLUMNS)) {
        let (inner, group, step) =
            (row % problem.rows, row / problem.rows % problem.groups, row / (problem.rows * problem.groups));
        let offset = place.values
            + part.panel as i64 * panels
            + step as i64 * steps
            + group as i64 * groups
            + part.column as i64 * across
            + inner as i64 * side;
        let (lanes, rest) = lanes.split_at_mut(part.columns);
        rest.fill(L::default());
        load_codes(b, offset, across, lanes);
        let Some(zero) = b.zero else { continue };
        let block = row / problem.block;
        if zeros_of.replace(block) != Some(block) {
            let [offset, step] = factor_place(zero, place.zero, part, block);
            load(zero, offset, step, &mut zeros[..part.columns]);
        }
        lanes.iter_mut().zip(&zeros).for_each(|(lane, &zero)| *lane = lane.subtract(zero));
    }
}

widest! {
    /// `sums [COLUMNS] += left [k] * panel [k][COLUMNS]`, each sum over ascending k.
    fn multiply[A: Arithmetic][A](left: &[A::Lane], panel: &[A::Lane], sums: &mut [A::Lane]) {
        const STRIP: usize = 16;
        for strip in (0..COLUMNS).step_by(STRIP) {
            let mut total = [A::Lane::default(); STRIP];
            total.copy_from_slice(&sums[strip..strip + STRIP]);
            for (&left, row) in left.iter().zip(panel.chunks_exact(COLUMNS)) {
                for (sum, &lane) in total.iter_mut().zip(&row[strip..strip + STRIP]) {
                    *sum = A::add(*sum, left, lane);
                }
            }
            sums[strip..strip + STRIP].copy_from_slice(&total);
        }
    }
}
