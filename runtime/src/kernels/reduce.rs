//! Reductions, running sums, positions of extremes.

use super::lanes::{Lane, LaneKind, lane_kind, load, store};
use super::walk::{Lines, for_each_index};
use super::{Fault, require, same};
use crate::functions::{ArgFunction, CumulativeFunction, ReduceFunction};
use crate::memory::{Destination, Source, Workspace};
use crate::view::RANK_MAX;

const CHUNK: usize = 256;
/// Partial sums kept side by side; fixes the order of additions on every machine.
pub(crate) const WAYS: usize = 16;

/// Adds partial sums: the upper half to the lower, until one is left.
#[inline(always)]
pub(crate) fn fold_lanes<L: Lane>(partial: [L; WAYS]) -> L {
    let eight: [L; 8] = std::array::from_fn(|index| partial[index].add(partial[index + 8]));
    let four: [L; 4] = std::array::from_fn(|index| eight[index].add(eight[index + 4]));
    let two: [L; 2] = std::array::from_fn(|index| four[index].add(four[index + 2]));
    two[0].add(two[1])
}

/// Dot product in [`WAYS`] interleaved partial sums.
#[inline(always)]
pub(crate) fn dot<L: Lane>(a: &[L], b: &[L]) -> L {
    let mut partial = [L::default(); WAYS];
    let (left, right) = (a.chunks_exact(WAYS), b.chunks_exact(WAYS));
    let rest = left.remainder().iter().zip(right.remainder());
    for (a, b) in left.zip(right) {
        for ((sum, &a), &b) in partial.iter_mut().zip(a).zip(b) {
            *sum = sum.add(a.multiply(b));
        }
    }
    for (sum, (&a, &b)) in partial.iter_mut().zip(rest) {
        *sum = sum.add(a.multiply(b));
    }
    fold_lanes(partial)
}

/// Sum of a row in [`WAYS`] interleaved partial sums.
pub(crate) fn sum_lanes<L: Lane>(lanes: &[L]) -> L {
    let mut partial = [L::default(); WAYS];
    let chunks = lanes.chunks_exact(WAYS);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, &lane) in partial.iter_mut().zip(chunk) {
            *sum = sum.add(lane);
        }
    }
    for (sum, &lane) in partial.iter_mut().zip(rest) {
        *sum = sum.add(lane);
    }
    fold_lanes(partial)
}

fn combine<L: Lane>(function: ReduceFunction, a: L, b: L) -> L {
    match function {
        ReduceFunction::Sum | ReduceFunction::Mean | ReduceFunction::SumSquare => a.add(b),
        ReduceFunction::Maximum => a.maximum(b),
        ReduceFunction::Minimum => a.minimum(b),
        ReduceFunction::Product => a.multiply(b),
    }
}

fn reduce_run<L: Lane>(function: ReduceFunction, lanes: &mut [L]) -> L {
    match function {
        ReduceFunction::Sum | ReduceFunction::Mean => sum_lanes(lanes),
        ReduceFunction::SumSquare => {
            lanes.iter_mut().for_each(|lane| *lane = lane.multiply(*lane));
            sum_lanes(lanes)
        }
        _ => lanes[1..].iter().fold(lanes[0], |a, &b| combine(function, a, b)),
    }
}

/// Reduces every dimension where the destination has extent 1 (or stride 0) and x has not.
pub fn reduce(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    function: ReduceFunction,
    accumulate: bool,
) -> Result<(), Fault> {
    require(!(accumulate && function == ReduceFunction::Mean), "a mean cannot accumulate")?;
    match lane_kind(&[x.element()]) {
        LaneKind::F32 => reduce_lanes::<f32>(destination, x, function, accumulate),
        LaneKind::F64 => reduce_lanes::<f64>(destination, x, function, accumulate),
        LaneKind::I64 => reduce_lanes::<i64>(destination, x, function, accumulate),
        LaneKind::I128 => reduce_lanes::<i128>(destination, x, function, accumulate),
    }
}

fn reduce_lanes<L: Lane>(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    function: ReduceFunction,
    accumulate: bool,
) -> Result<(), Fault> {
    require(destination.rank() == x.rank(), "reduce needs equal ranks")?;
    if destination.is_empty() {
        return Ok(());
    }
    let window = destination.window.clone();
    let (mut kept, mut kept_steps, mut kept_rank) = ([1usize; RANK_MAX], [[0i64; 2]; RANK_MAX], 0);
    let (mut gone, mut gone_steps, mut gone_rank) = ([1usize; RANK_MAX], [[0i64; 1]; RANK_MAX], 0);
    for axis in 0..x.rank() {
        let (out, from, stride) = (window.dims()[axis], x.dims()[axis], window.strides()[axis]);
        if from == out && (stride != 0 || from == 1) {
            kept[kept_rank] = from;
            kept_steps[kept_rank] = [stride, x.strides()[axis]];
            kept_rank += 1;
        } else {
            require(out == 1 || stride == 0, "reduce: an extent is neither kept nor reduced to 1")?;
            gone[gone_rank] = from;
            gone_steps[gone_rank] = [x.strides()[axis]];
            gone_rank += 1;
        }
    }
    let count: usize = gone[..gone_rank].iter().product();
    if count == 0
        && !matches!(function, ReduceFunction::Sum | ReduceFunction::SumSquare | ReduceFunction::Product)
    {
        return require(
            accumulate || kept[..kept_rank].contains(&0),
            "reduce: nothing to take an extreme of",
        );
    }
    let (row, row_step) = match gone_rank {
        0 => (1, 0),
        _ => (gone[gone_rank - 1], gone_steps[gone_rank - 1][0]),
    };
    let outer = gone_rank.saturating_sub(1);
    for_each_index(&kept[..kept_rank], &kept_steps[..kept_rank], |[out, from]| {
        let mut total: Option<L> = None;
        for_each_index::<1, Fault>(&gone[..outer], &gone_steps[..outer], |[offset]| {
            let mut buffer = [L::default(); CHUNK];
            for start in (0..row).step_by(CHUNK) {
                let lanes = &mut buffer[..CHUNK.min(row - start)];
                load(x, from + offset + start as i64 * row_step, row_step, lanes);
                let part = reduce_run(function, lanes);
                total = Some(total.map_or(part, |total| combine(function, total, part)));
            }
            Ok(())
        })?;
        let empty = if function == ReduceFunction::Product { L::from_i64(1) } else { L::default() };
        let mut value = total.unwrap_or(empty);
        if function == ReduceFunction::Mean {
            value = divide_by_count(value, count);
        }
        if accumulate {
            let mut old = [L::default()];
            load(&destination.as_source(), out, 1, &mut old);
            value = combine(function, old[0], value);
        }
        store(destination, out, 1, &[value]);
        Ok(())
    })
}

fn divide_by_count<L: Lane>(sum: L, count: usize) -> L {
    if !L::IS_FLOAT {
        return L::from_i64(sum.to_i64() / count as i64);
    }
    if size_of::<L>() == 4 {
        L::from_f32(sum.to_f32() / count as f32)
    } else {
        L::from_f64(sum.to_f64() / count as f64)
    }
}

/// Running sum or product along an axis.
pub fn cumulative(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    function: CumulativeFunction,
    axis: usize,
    exclusive: bool,
    reverse: bool,
) -> Result<(), Fault> {
    same("extents of destination and x differ", destination.dims(), x.dims())?;
    require(axis < x.rank(), "the axis is not less than the rank")?;
    super::lanes::with_lane!([x.element()], L => {
        let window = destination.window.clone();
        let lines = Lines::new(window.dims(), [window.strides(), x.strides()], axis);
        let count = window.dims()[axis];
        lines.for_each(|[out, from]| {
            let mut running = L::from_i64(i64::from(function == CumulativeFunction::Product));
            for step in 0..count {
                let place = if reverse { count - 1 - step } else { step } as i64;
                let mut lane = [L::default()];
                load(x, from + place * lines.along[1], 1, &mut lane);
                let before = running;
                running = match function {
                    CumulativeFunction::Sum => running.add(lane[0]),
                    CumulativeFunction::Product => running.multiply(lane[0]),
                };
                store(destination, out + place * lines.along[0], 1, &[if exclusive { before } else { running }]);
            }
            Ok(())
        })
    })
}

/// Index of the largest or smallest element along an axis; NaN counts as the extreme.
pub fn arg_reduce(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    function: ArgFunction,
    axis: usize,
    select_last: bool,
) -> Result<(), Fault> {
    check_axis_result(destination.dims(), x.dims(), axis)?;
    let count = x.dims()[axis];
    require(destination.dims()[axis] == 1, "arg_reduce: the axis must have extent 1 in the destination")?;
    require(count > 0 || x.is_empty(), "arg_reduce: nothing to search")?;
    super::lanes::with_lane!([x.element()], L => {
        let window = destination.window.clone();
        let lines = Lines::new(window.dims(), [window.strides(), x.strides()], axis);
        if count == 0 {
            return Ok(());
        }
        lines.for_each(|[out, from]| {
            let mut buffer = [L::default(); CHUNK];
            let (mut best, mut best_index) = (None, 0usize);
            for start in (0..count).step_by(CHUNK) {
                let lanes = &mut buffer[..CHUNK.min(count - start)];
                load(x, from + start as i64 * lines.along[1], lines.along[1], lanes);
                for (index, &lane) in lanes.iter().enumerate() {
                    let is_better = best.is_none_or(|best: L| match function {
                        _ if best.is_nan() => select_last && lane.is_nan(),
                        _ if lane.is_nan() => true,
                        ArgFunction::Maximum => lane > best || (select_last && lane == best),
                        ArgFunction::Minimum => lane < best || (select_last && lane == best),
                    });
                    if is_better {
                        (best, best_index) = (Some(lane), start + index);
                    }
                }
            }
            store(destination, out, 1, &[best_index as i64]);
            Ok(())
        })
    })
}

fn check_axis_result(result: &[usize], x: &[usize], axis: usize) -> Result<(), Fault> {
    require(
        result.len() == x.len() && axis < x.len(),
        "ranks differ, or the axis is not less than the rank",
    )?;
    let others = (0..x.len()).filter(|&other| other != axis).all(|other| result[other] == x[other]);
    require(others, "extents beside the axis differ")
}

/// The k largest (or smallest) along an axis, in order; equals by index. k is the destinations' extent there.
pub fn top_k(
    values: &mut Destination<'_>,
    indices: &mut Destination<'_>,
    x: &Source<'_>,
    axis: usize,
    largest: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    check_axis_result(values.dims(), x.dims(), axis)?;
    same("extents of values and indices differ", values.dims(), indices.dims())?;
    let (count, k) = (x.dims()[axis], values.dims()[axis]);
    require(k <= count, "top_k: k exceeds the extent")?;
    super::lanes::with_lane!([x.element()], L => {
        let (value_window, index_window) = (values.window.clone(), indices.window.clone());
        let strides = [value_window.strides(), index_window.strides(), x.strides()];
        let lines = Lines::new(value_window.dims(), strides, axis);
        if k == 0 {
            return Ok(());
        }
        lines.for_each(|[value_place, index_place, from]| {
            let (lanes, order) = workspace.two::<L, u32>(count, count)?;
            load(x, from, lines.along[2], lanes);
            order.iter_mut().zip(0..).for_each(|(slot, index)| *slot = index);
            let compare = |&left: &u32, &right: &u32| {
                let (a, b) = (lanes[left as usize], lanes[right as usize]);
                let by_value = a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
                let by_value = if largest { by_value.reverse() } else { by_value };
                by_value.then(left.cmp(&right))
            };
            if k < count {
                order.select_nth_unstable_by(k - 1, compare);
            }
            order[..k].sort_unstable_by(compare);
            for (rank, &index) in order[..k].iter().enumerate() {
                store(values, value_place + rank as i64 * lines.along[0], 1, &[lanes[index as usize]]);
                store(indices, index_place + rank as i64 * lines.along[1], 1, &[i64::from(index)]);
            }
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Element;
    use crate::kernels::testing::{assert_close, random, read, values};

    #[test]
    fn reductions_match_naive_sums() {
        let x = random(Element::F32, &[3, 40, 5], 3);
        let numbers = read(&x.source());
        for (function, start, fold) in [
            (ReduceFunction::Sum, 0.0, (|a, b| a + b) as fn(f64, f64) -> f64),
            (ReduceFunction::Maximum, f64::MIN, f64::max),
            (ReduceFunction::SumSquare, 0.0, |a, b| a + b * b),
        ] {
            let mut out = values(Element::F32, &[3, 1, 5], &[]);
            reduce(&mut out.destination(), &x.source(), function, false).expect("extents agree");
            let mut expected = vec![start; 15];
            for (index, &number) in numbers.iter().enumerate() {
                let slot = &mut expected[index / 200 * 5 + index % 5];
                *slot = fold(*slot, number);
            }
            assert_close(&read(&out.source()), &expected, 1e-5);
        }
        let mut total = values(Element::F32, &[1, 1, 1], &[100.0]);
        reduce(&mut total.destination(), &x.source(), ReduceFunction::Sum, true).expect("extents agree");
        assert_close(&read(&total.source()), &[100.0 + numbers.iter().sum::<f64>()], 1e-5);
        assert!(reduce(&mut total.destination(), &x.source(), ReduceFunction::Mean, true).is_err());
        reduce(&mut total.destination(), &x.source(), ReduceFunction::Mean, false).expect("extents agree");
        assert_close(&read(&total.source()), &[numbers.iter().sum::<f64>() / 600.0], 1e-6);
    }

    #[test]
    fn running_sums_in_all_modes() {
        let x = values(Element::I32, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let mut out = values(Element::I32, &[2, 3], &[]);
        let mut run = |function, exclusive, reverse| {
            cumulative(&mut out.destination(), &x.source(), function, 1, exclusive, reverse).expect("fits");
            read(&out.source())
        };
        assert_eq!(run(CumulativeFunction::Sum, false, false), [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
        assert_eq!(run(CumulativeFunction::Sum, true, true), [5.0, 3.0, 0.0, 11.0, 6.0, 0.0]);
        assert_eq!(run(CumulativeFunction::Product, true, false), [1.0, 1.0, 2.0, 1.0, 4.0, 20.0]);
    }

    #[test]
    fn extremes_and_ties() {
        let x = values(Element::F32, &[2, 4], &[1.0, 3.0, 3.0, 0.0, -1.0, -5.0, 2.0, -5.0]);
        let mut index = values(Element::I64, &[2, 1], &[]);
        arg_reduce(&mut index.destination(), &x.source(), ArgFunction::Maximum, 1, false).expect("fits");
        assert_eq!(read(&index.source()), [1.0, 2.0]);
        arg_reduce(&mut index.destination(), &x.source(), ArgFunction::Minimum, 1, true).expect("fits");
        assert_eq!(read(&index.source()), [3.0, 3.0]);
        let (mut top, mut places) = (values(Element::F32, &[2, 3], &[]), values(Element::I64, &[2, 3], &[]));
        let mut workspace = Workspace::default();
        top_k(&mut top.destination(), &mut places.destination(), &x.source(), 1, true, &mut workspace)
            .expect("fits");
        assert_eq!(read(&top.source()), [3.0, 3.0, 1.0, 2.0, -1.0, -5.0]);
        assert_eq!(read(&places.source()), [1.0, 2.0, 0.0, 2.0, 0.0, 1.0]);
    }
}
