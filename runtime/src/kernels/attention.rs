//! One flash-attention step over a tile of keys, and the division at the end.
//!
//! Keys are taken in blocks of 64, so that room does not depend on the tile; running maximum and sum make the result the
//! same as over all keys at once, up to rounding.

use super::lanes::{float_run, load, store};
use super::matmul::dot;
use super::reduce::sum_lanes;
use super::walk::for_each_index;
use super::wide::widest;
use super::{Fault, require, same};
use crate::element::Element;
use crate::memory::{Destination, Source, Workspace};
use crate::view::RANK_MAX;

/// Keys per block.
const KEYS: usize = 64;

/// Constants of one step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Multiplies q k^T.
    pub scale: f32,
    /// Scores become softcap * tanh(scores / softcap); 0 for none.
    pub softcap: f32,
    /// Key j is visible to row r when j <= r / group + offset.
    pub causal_offset: Option<i64>,
    /// And j > r / group + offset - window; 0 for no limit.
    pub window: u32,
    /// Query rows per position.
    pub group: u32,
}

/// What a step reads.
pub struct Inputs<'m, 's> {
    /// `[rows, d]`
    pub q: &'s Source<'m>,
    /// `[t, d]`
    pub k: &'s Source<'m>,
    /// `[t, e]`
    pub v: &'s Source<'m>,
    /// `[rows, t]`, bool or float
    pub mask: Option<&'s Source<'m>>,
}

/// What a step updates.
pub struct Running<'m, 's> {
    /// `[rows, e]`
    pub accumulator: &'s mut Destination<'m>,
    /// `[rows]`
    pub maximum: &'s mut Destination<'m>,
    /// `[rows]`
    pub sum: &'s mut Destination<'m>,
}

struct Extents {
    rows: usize,
    keys: usize,
    d: usize,
    e: usize,
}

fn check(running: &Running<'_, '_>, inputs: &Inputs<'_, '_>, step: &Step) -> Result<Extents, Fault> {
    let rank = running.accumulator.rank();
    let Inputs { q, k, v, mask } = inputs;
    require(
        rank >= 2 && q.rank() == rank && k.rank() == rank && v.rank() == rank,
        "attention: ranks differ",
    )?;
    require(running.maximum.rank() == rank - 1 && running.sum.rank() == rank - 1, "attention: ranks differ")?;
    require(step.group >= 1, "attention: group must be at least 1")?;
    let batch = rank - 2;
    let extents = Extents { rows: q.dims()[batch], keys: k.dims()[batch], d: q.last_dim(), e: v.last_dim() };
    let lead = &q.dims()[..batch];
    let fits = |what, dims: &[usize], last: [usize; 2]| {
        same(what, &dims[..batch], lead)?;
        same(what, &dims[batch..], &last[..dims.len() - batch])
    };
    fits("attention: accumulator", running.accumulator.dims(), [extents.rows, extents.e])?;
    fits("attention: running maximum", running.maximum.dims(), [extents.rows, 0])?;
    fits("attention: running sum", running.sum.dims(), [extents.rows, 0])?;
    fits("attention: k", k.dims(), [extents.keys, extents.d])?;
    fits("attention: v", v.dims(), [extents.keys, extents.e])?;
    if let Some(mask) = mask {
        require(mask.rank() == rank, "attention: the mask has another rank")?;
        fits("attention: mask", mask.dims(), [extents.rows, extents.keys])?;
    }
    let float32 = |destination: &Destination<'_>| destination.element() == Element::F32;
    let all = float32(running.accumulator) && float32(running.maximum) && float32(running.sum);
    require(all, "attention: accumulator, maximum and sum must be f32")?;
    Ok(extents)
}

/// Updates accumulator, maximum and sum with one tile of keys.
pub fn attention(
    mut running: Running<'_, '_>,
    inputs: &Inputs<'_, '_>,
    step: &Step,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    let extents = check(&running, inputs, step)?;
    let batch = running.accumulator.rank() - 2;
    let mut steps = [[0i64; 7]; RANK_MAX];
    for (axis, step) in steps.iter_mut().enumerate().take(batch) {
        let mask = inputs.mask.map_or(0, |mask| mask.strides()[axis]);
        let (accumulator, maximum, sum) = (&running.accumulator, &running.maximum, &running.sum);
        let (q, k, v) = (inputs.q.strides()[axis], inputs.k.strides()[axis], inputs.v.strides()[axis]);
        *step = [accumulator.strides()[axis], maximum.strides()[axis], sum.strides()[axis], q, k, v, mask];
    }
    let lead: [usize; RANK_MAX] = std::array::from_fn(|axis| inputs.q.dims().get(axis).copied().unwrap_or(1));
    let widest = extents.d.max(extents.e);
    let (tile, rows) = workspace.two::<f32, f32>(KEYS * (extents.d + extents.e), 3 * widest)?;
    for_each_index(&lead[..batch], &steps[..batch], |places| {
        for start in (0..extents.keys).step_by(KEYS) {
            let keys = start..extents.keys.min(start + KEYS);
            block(&mut running, inputs, step, &extents, places, keys, tile, rows);
        }
        Ok(())
    })
}

widest! {
fn block[][](
    running: &mut Running<'_, '_>, inputs: &Inputs<'_, '_>, step: &Step, extents: &Extents, places: [i64; 7],
    keys: std::ops::Range<usize>, tile: &mut [f32], rows: &mut [f32],
) {
    let [accumulator_at, maximum_at, sum_at, q_at, k_at, v_at, mask_at] = places;
    let Extents { d, e, .. } = *extents;
    let (k_tile, v_tile) = tile.split_at_mut(KEYS * d);
    let count = keys.len();
    let outer = |strides: &[i64]| strides[strides.len() - 2];
    for (index, key) in keys.clone().enumerate() {
        let place = |source: &Source<'_>, at: i64| at + key as i64 * outer(source.strides());
        load(
            inputs.k,
            place(inputs.k, k_at),
            inputs.k.last_stride(),
            &mut k_tile[index * d..(index + 1) * d],
        );
        load(
            inputs.v,
            place(inputs.v, v_at),
            inputs.v.last_stride(),
            &mut v_tile[index * e..(index + 1) * e],
        );
    }
    let (query_room, total) = rows.split_at_mut(d.max(e));
    for row in 0..extents.rows {
        let at = |strides: &[i64], origin: i64| origin + row as i64 * strides[strides.len() - 1];
        let (maximum_place, sum_place) =
            (at(running.maximum.strides(), maximum_at), at(running.sum.strides(), sum_at));
        let mut scores = [f32::NEG_INFINITY; KEYS];
        let q_place = q_at + row as i64 * outer(inputs.q.strides());
        let query = float_run(inputs.q, q_place, inputs.q.last_stride(), &mut query_room[..d]);
        let visible = visible_keys(step, row, &keys);
        for index in visible.clone() {
            let score = dot(query, &k_tile[index * d..(index + 1) * d]) * step.scale;
            scores[index] =
                if step.softcap > 0.0 { step.softcap * (score / step.softcap).tanh() } else { score };
        }
        if let Some(mask) = inputs.mask {
            let mask_place =
                mask_at + row as i64 * outer(mask.strides()) + keys.start as i64 * mask.last_stride();
            apply_mask(mask, mask_place, &mut scores[..count]);
        }
        let mut state = [0f32; 2];
        load(&running.maximum.as_source(), maximum_place, 1, &mut state[..1]);
        load(&running.sum.as_source(), sum_place, 1, &mut state[1..]);
        let largest = scores[..count].iter().fold(state[0], |a, &b| if b > a || b.is_nan() { b } else { a });
        if largest == f32::NEG_INFINITY {
            continue; // nothing visible so far
        }
        let rescale = (state[0] - largest).exp();
        scores[..count].iter_mut().for_each(|score| *score = (*score - largest).exp());
        store(running.maximum, maximum_place, 1, &[largest]);
        store(running.sum, sum_place, 1, &[state[1] * rescale + sum_lanes(&scores[..count])]);
        let total = &mut total[..e];
        let place = accumulator_at + row as i64 * outer(running.accumulator.strides());
        let column_step = running.accumulator.last_stride();
        load(&running.accumulator.as_source(), place, column_step, total);
        total.iter_mut().for_each(|lane| *lane *= rescale);
        for index in visible {
            let weight = scores[index];
            for (sum, &value) in total.iter_mut().zip(&v_tile[index * e..(index + 1) * e]) {
                *sum += weight * value;
            }
        }
        store(running.accumulator, place, column_step, total);
    }
}
}

/// Which keys of a block a row sees, relative to the block.
fn visible_keys(step: &Step, row: usize, keys: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let Some(offset) = step.causal_offset else { return 0..keys.len() };
    let last = offset.saturating_add(row as i64 / i64::from(step.group));
    let first = if step.window == 0 {
        i64::MIN
    } else {
        last.saturating_sub(i64::from(step.window)).saturating_add(1)
    };
    let relative = |key: i64| key.saturating_sub(keys.start as i64).clamp(0, keys.len() as i64) as usize;
    let (start, end) = (relative(first), relative(last.saturating_add(1)));
    start.min(end)..end
}

/// Adds a float mask, or hides what a boolean mask does not keep.
fn apply_mask(mask: &Source<'_>, place: i64, scores: &mut [f32]) {
    let mut lanes = [0f32; KEYS];
    let lanes = &mut lanes[..scores.len()];
    load(mask, place, mask.last_stride(), lanes);
    for (score, &lane) in scores.iter_mut().zip(&*lanes) {
        if mask.element() != Element::Bool {
            *score += lane;
        } else if lane == 0.0 {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// `destination[r, e] = accumulator[r, e] / sum[r]`, 0 where the sum is 0.
pub fn finish(
    destination: &mut Destination<'_>,
    accumulator: &Source<'_>,
    sum: &Source<'_>,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    super::same_dims("attention_finish: extents differ", destination, accumulator)?;
    let rank = destination.rank();
    require(rank >= 1 && sum.rank() == rank - 1, "attention_finish: ranks differ")?;
    same("attention_finish: rows differ", &destination.dims()[..rank - 1], sum.dims())?;
    let row = workspace.lanes::<f32>(accumulator.last_dim())?;
    let window = destination.window.clone();
    let (steps, outer) =
        super::walk::steps_of([&window.strides()[..rank - 1], accumulator.strides(), sum.strides()]);
    for_each_index(&window.dims()[..outer], &steps[..outer], |[to, from, sum_place]| {
        let mut total = [0f32];
        load(sum, sum_place, 1, &mut total);
        load(accumulator, from, accumulator.last_stride(), row);
        row.iter_mut().for_each(|lane| *lane = if total[0] == 0.0 { 0.0 } else { *lane / total[0] });
        store(destination, to, destination.last_stride(), row);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{Values, assert_close, random, read, values};

    const ROWS: usize = 6;
    const D: usize = 8;
    const E: usize = 5;

    fn naive(
        q: &Values,
        k: &Values,
        v: &Values,
        step: &Step,
        hides: impl Fn(usize, usize) -> bool,
    ) -> Vec<f64> {
        let (q, k, v) = (read(&q.source()), read(&k.source()), read(&v.source()));
        let keys = k.len() / D;
        let mut out = Vec::new();
        for row in 0..ROWS {
            let score = |key: usize| {
                let position =
                    row as i64 / i64::from(step.group) + step.causal_offset.unwrap_or(i64::MAX / 2);
                let far = step.window > 0 && key as i64 <= position - i64::from(step.window);
                if key as i64 > position || far || hides(row, key) {
                    return f64::NEG_INFINITY;
                }
                let product: f64 = (0..D).map(|i| q[row * D + i] * k[key * D + i]).sum();
                let cap = f64::from(step.softcap);
                let scaled = product * f64::from(step.scale);
                if cap > 0.0 { cap * (scaled / cap).tanh() } else { scaled }
            };
            let weights: Vec<f64> = (0..keys).map(|key| score(key).exp()).collect();
            let total: f64 = weights.iter().sum();
            out.extend((0..E).map(|column| {
                let sum: f64 = (0..keys).map(|key| weights[key] * v[key * E + column]).sum();
                if total == 0.0 { 0.0 } else { sum / total }
            }));
        }
        out
    }

    fn run(q: &Values, parts: &[(Values, Values, Option<Values>, Step)]) -> Vec<f64> {
        let mut workspace = Workspace::default();
        let mut accumulator = values(Element::F32, &[ROWS, E], &[]);
        let mut maximum = values(Element::F32, &[ROWS], &[f64::NEG_INFINITY; ROWS]);
        let mut sum = values(Element::F32, &[ROWS], &[]);
        for (k, v, mask, step) in parts {
            let (q, k, v, mask) = (q.source(), k.source(), v.source(), mask.as_ref().map(Values::source));
            let inputs = Inputs { q: &q, k: &k, v: &v, mask: mask.as_ref() };
            let (mut a, mut b, mut c) = (accumulator.destination(), maximum.destination(), sum.destination());
            let running = Running { accumulator: &mut a, maximum: &mut b, sum: &mut c };
            attention(running, &inputs, step, &mut workspace).expect("fits");
        }
        let mut out = values(Element::F32, &[ROWS, E], &[]);
        finish(&mut out.destination(), &accumulator.source(), &sum.source(), &mut workspace).expect("fits");
        read(&out.source())
    }

    #[test]
    fn tiles_give_what_all_keys_give() {
        let keys = 100;
        let q = random(Element::F32, &[ROWS, D], 1);
        let (k, v) = (random(Element::F32, &[keys, D], 2), random(Element::F32, &[keys, E], 3));
        for (offset, window, softcap, group) in
            [(None, 0, 0.0, 1), (Some(94), 0, 5.0, 1), (Some(90), 20, 0.0, 2), (Some(-2), 0, 0.0, 1)]
        {
            let step = Step { scale: 0.7, softcap, causal_offset: offset, window, group };
            let expected = naive(&q, &k, &v, &step, |_, _| false);
            let tiles: Vec<_> = [0usize, 30, 95]
                .iter()
                .zip([30usize, 95, 100])
                .map(|(&start, end)| {
                    let part = |tensor: &Values, width: usize| {
                        values(
                            Element::F32,
                            &[end - start, width],
                            &read(&tensor.source())[start * width..end * width],
                        )
                    };
                    let shifted = Step { causal_offset: offset.map(|offset| offset - start as i64), ..step };
                    (part(&k, D), part(&v, E), None, shifted)
                })
                .collect();
            assert_close(&run(&q, &tiles), &expected, 1e-5);
        }
    }

    #[test]
    fn masks_hide_or_add() {
        let keys = 9;
        let q = random(Element::F32, &[ROWS, D], 4);
        let (k, v) = (random(Element::F32, &[keys, D], 5), random(Element::F32, &[keys, E], 6));
        let step = Step { scale: 1.0, softcap: 0.0, causal_offset: None, window: 0, group: 1 };
        let hides = |row: usize, key: usize| row == 2 || (row + key).is_multiple_of(3);
        let expected = naive(&q, &k, &v, &step, hides);
        for element in [Element::Bool, Element::F32] {
            let (hidden, kept) = if element == Element::Bool { (0.0, 1.0) } else { (f64::NEG_INFINITY, 0.0) };
            let numbers: Vec<f64> =
                (0..ROWS * keys).map(|at| if hides(at / keys, at % keys) { hidden } else { kept }).collect();
            let mask = values(element, &[ROWS, keys], &numbers);
            let copy = |tensor: &Values, width| values(Element::F32, &[keys, width], &read(&tensor.source()));
            assert_close(&run(&q, &[(copy(&k, D), copy(&v, E), Some(mask), step)]), &expected, 1e-5);
        }
    }
}
