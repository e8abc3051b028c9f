//! Blocks of a matrix product's operands as rows of lanes, and the inner loops over them.
//!
//! A block is used in place where it lies so already, is widened run by run where it does not, and is turned where its neighbours in
//! memory follow k. It must not know what becomes of sums.

use super::lanes::{Lane, direct_run, load};
use super::matmul::{COLUMNS, DEPTH, Place, Quantized, ROWS};
use super::matmul_compressed;
use super::wide::widest;
use crate::memory::Source;

/// Columns per strip: 4 x 16 f32 sums stay in registers.
const STRIP: usize = 16;
/// Runs of k that are turned into columns together: one vector of f32.
pub(super) const TURNED: usize = 8;

/// Scales and zero points of a run of columns, kept for the rows that share them.
pub(super) struct Factors<L> {
    /// Where they were read, and how many.
    place: Option<(i64, i64, usize)>,
    scale: [L; DEPTH],
    zero: [L; DEPTH],
}

impl<L: Lane> Factors<L> {
    pub(super) fn new() -> Factors<L> {
        Factors { place: None, scale: [L::default(); DEPTH], zero: [L::default(); DEPTH] }
    }
}

/// A block of b in lanes: rows of columns, `stride` lanes apart.
pub(super) struct Panel<'p, L> {
    lanes: &'p [L],
    stride: usize,
}

/// `sums [rows][COLUMNS] += left [rows][DEPTH] * panel`.
pub(super) fn multiply<L: Lane>(
    left: &[L],
    panel: &Panel<'_, L>,
    sums: &mut [L],
    columns: usize,
    depth: usize,
) {
    let &Panel { lanes, stride } = panel;
    let mut groups = sums.chunks_exact_mut(ROWS * COLUMNS);
    let mut row = 0;
    for sums in &mut groups {
        outer_block::<L, ROWS, STRIP>(&left[row * DEPTH..], lanes, stride, sums, columns, depth);
        row += ROWS;
    }
    for sums in groups.into_remainder().chunks_exact_mut(COLUMNS) {
        // A chain waits for each of its additions: one row alone needs many columns side by side.
        let left = &left[row * DEPTH..];
        match columns {
            COLUMNS => outer_block::<L, 1, COLUMNS>(left, lanes, stride, sums, columns, depth),
            _ => outer_block::<L, 1, STRIP>(left, lanes, stride, sums, columns, depth),
        }
        row += 1;
    }
}

/// A block of an operand from `origin` as lanes: in place when it is stored as lanes, else widened into `room` (the panel, and
/// space for runs that must be turned).
pub(super) fn pack<'p, L: Lane>(
    b: (&'p Quantized<'_, '_>, Place),
    origin: [usize; 2],
    extents: [usize; 2],
    (room, turned): (&'p mut [L], &mut [L]),
    factors: &mut Factors<L>,
) -> Panel<'p, L> {
    // Another block of columns has other factors.
    factors.place = None;
    let source = b.0.values;
    let rank = source.rank();
    let [down, across] = [source.strides()[rank - 2], source.strides()[rank - 1]];
    // Contiguous along k and not along columns: read so, and turned.
    let by_k = down == 1 && across != 1 && extents[0] > 1;
    let (apart, along, runs) =
        if by_k { (across, extents[0], extents[1]) } else { (down, extents[1], extents[0]) };
    let is_plain = b.0.is_plain() && apart >= along as i64;
    let lanes_in_place = |run: usize, count: usize| {
        if !is_plain {
            return None;
        }
        let [row, column] = if by_k { [0, run] } else { [run, 0] };
        let offset = b.1.values + (origin[0] + row) as i64 * down + (origin[1] + column) as i64 * across;
        direct_run(source, offset, (count - 1) * apart as usize + along)
    };
    if by_k {
        for first in (0..runs).step_by(TURNED) {
            let count = TURNED.min(runs - first);
            if let Some(lanes) = lanes_in_place(first, count) {
                turn(lanes, apart as usize, count, along, &mut room[first..]);
                continue;
            }
            for run in 0..count {
                let place = [origin[0], origin[1] + first + run];
                pack_run(b, place, along, true, &mut turned[run * DEPTH..][..along], factors);
            }
            turn(turned, DEPTH, count, along, &mut room[first..]);
        }
        return Panel { lanes: room, stride: COLUMNS };
    }
    // Runs of columns are used in whole strips.
    if across == 1
        && along.is_multiple_of(STRIP)
        && let Some(lanes) = lanes_in_place(0, runs)
    {
        return Panel { lanes, stride: apart as usize };
    }
    for run in 0..runs {
        let lanes = &mut room[run * COLUMNS..(run + 1) * COLUMNS];
        pack_run(b, [origin[0] + run, origin[1]], along, false, &mut lanes[..along], factors);
        lanes[along..].fill(L::default());
    }
    Panel { lanes: room, stride: COLUMNS }
}

/// Widens one run of an operand, along its rows' dimension (`down`) or along its columns'.
pub(super) fn pack_run<L: Lane>(
    (operand, place): (&Quantized<'_, '_>, Place),
    [row, column]: [usize; 2],
    count: usize,
    down: bool,
    lanes: &mut [L],
    factors: &mut Factors<L>,
) {
    let rank = operand.values.rank();
    let offset = |source: &Source<'_>, base: i64, row: usize| {
        base + row as i64 * source.strides()[rank - 2] + column as i64 * source.strides()[rank - 1]
    };
    let lanes = &mut lanes[..count];
    matmul_compressed::load_values(operand, place.values, [row, column], down, lanes);
    if operand.scale.is_none() && operand.zero.is_none() {
        return;
    }
    let block_of = |row: usize| row.checked_div(operand.block).unwrap_or(0);
    if !down {
        // Along columns every element has a factor of its own, the same for all rows of a block.
        let at = |factor: Option<&Source<'_>>, base: i64| {
            factor.map_or(0, |factor| offset(factor, base, block_of(row)))
        };
        let (scale_place, zero_place) = (at(operand.scale, place.scale), at(operand.zero, place.zero));
        let place = Some((scale_place, zero_place, count));
        let is_known = std::mem::replace(&mut factors.place, place) == place;
        if let Some(zero) = operand.zero {
            if !is_known {
                load(zero, zero_place, zero.last_stride(), &mut factors.zero[..count]);
            }
            lanes.iter_mut().zip(&factors.zero).for_each(|(lane, &zero)| *lane = lane.subtract(zero));
        }
        if let Some(scale) = operand.scale {
            if !is_known {
                load(scale, scale_place, scale.last_stride(), &mut factors.scale[..count]);
            }
            lanes.iter_mut().zip(&factors.scale).for_each(|(lane, &scale)| *lane = lane.multiply(scale));
        }
        return;
    }
    // Along rows a block shares one factor.
    let mut start = 0;
    while start < count {
        let block = block_of(row + start);
        let end = if operand.block == 0 { count } else { ((block + 1) * operand.block - row).min(count) };
        let run = &mut lanes[start..end];
        let mut factor = [L::default()];
        if let Some(zero) = operand.zero {
            load(zero, offset(zero, place.zero, block), 1, &mut factor);
            run.iter_mut().for_each(|lane| *lane = lane.subtract(factor[0]));
        }
        if let Some(scale) = operand.scale {
            load(scale, offset(scale, place.scale, block), 1, &mut factor);
            run.iter_mut().for_each(|lane| *lane = lane.multiply(factor[0]));
        }
        start = end;
    }
}

widest! {
    /// Writes `count` runs of k (at most [`TURNED`]) from `runs [run][stride]` as columns of `to [k][COLUMNS]`; zeros up to [`TURNED`].
    fn turn[L: Lane][L](runs: &[L], stride: usize, count: usize, depth: usize, to: &mut [L]) {
        // The last run again where there are fewer: its columns are not used.
        let runs: [&[L]; TURNED] =
            std::array::from_fn(|column| &runs[column.min(count - 1) * stride..][..depth]);
        for (k, to) in to.chunks_mut(COLUMNS).take(depth).enumerate() {
            let lanes: [L; TURNED] = std::array::from_fn(|column| runs[column][k]);
            to[..TURNED].copy_from_slice(&lanes);
        }
    }
}

widest! {
    /// `sums [R][COLUMNS] += left [R][DEPTH] * panel [k][stride]`, each sum over ascending k, `W` columns at a time.
    fn outer_block[L: Lane, const R: usize, const W: usize][L, R, W](
        left: &[L], panel: &[L], stride: usize, sums: &mut [L], columns: usize, depth: usize,
    ) {
        for strip in (0..columns).step_by(W) {
            let mut total = [[L::default(); W]; R];
            for (row, total) in total.iter_mut().enumerate() {
                total.copy_from_slice(&sums[row * COLUMNS + strip..][..W]);
            }
            for k in 0..depth {
                let row = &panel[k * stride + strip..][..W];
                for (index, total) in total.iter_mut().enumerate() {
                    let factor = left[index * DEPTH + k];
                    for (sum, &lane) in total.iter_mut().zip(row) {
                        *sum = sum.add(factor.multiply(lane));
                    }
                }
            }
            for (row, total) in total.iter().enumerate() {
                sums[row * COLUMNS + strip..][..W].copy_from_slice(total);
            }
        }
    }
}
