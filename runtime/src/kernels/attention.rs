//! One flash-attention step over a tile of keys, and the division at the end.
//!
//! Keys are taken in blocks of 64, so that room does not depend on the tile; running maximum and sum make the result the
//! same as over all keys at once, up to rounding.

use super::exponential;
use super::lanes::{float_run, load, store};
use super::parallel;
use super::pool::WORK_MIN;
use super::reduce::{dot, sum_lanes};
use super::walk::for_each_index;
use super::wide::widest;
use super::{Fault, require, same};
use crate::element::Element;
use crate::functions::KeyPart;
use crate::memory::{Destination, Source, Workspace};
use crate::view::RANK_MAX;
use std::sync::{Mutex, PoisonError};

/// Keys per block, from the tile's first key on: tiles that begin at multiples of it give the same bits as one tile of all keys.
pub const KEYS: usize = 64;

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
    /// Keys that share a row of scales.
    pub block: u32,
    /// Which keys a row may see by their age.
    pub part: KeyPart,
    /// Keys that follow a settled block.
    pub keep: u32,
    /// Whether keys after a row's position are seen too.
    pub ahead: bool,
}

/// Scale and offset of quantised keys or values, `[rows, groups]` each.
pub struct Grouped<'m, 's> {
    /// multiplies
    pub scale: Option<&'s Source<'m>>,
    /// is added
    pub offset: Option<&'s Source<'m>>,
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
    /// Of k: `[t / block, groups]`
    pub k_grouped: Grouped<'m, 's>,
    /// Of v: `[t, groups]`
    pub v_grouped: Grouped<'m, 's>,
}

impl<'m, 's> Inputs<'m, 's> {
    /// Scales and offsets with the keys that share a row and the width of what they scale, in the order of [`SCALES`].
    fn scales(&self, block: usize, extents: &Extents) -> [(Option<&'s Source<'m>>, usize, usize); 4] {
        let (k, v) = (&self.k_grouped, &self.v_grouped);
        [
            (k.scale, block, extents.d),
            (k.offset, block, extents.d),
            (v.scale, 1, extents.e),
            (v.offset, 1, extents.e),
        ]
    }
}

/// Places of a block in all views: accumulator, maximum, sum, q, k, v, mask, then k's scale and offset, then v's.
const PLACES: usize = 11;
/// The first of the scales.
const SCALES: usize = 7;

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
    let Inputs { q, k, v, mask, .. } = inputs;
    require(
        rank >= 2 && q.rank() == rank && k.rank() == rank && v.rank() == rank,
        "attention: ranks differ",
    )?;
    require(running.maximum.rank() == rank - 1 && running.sum.rank() == rank - 1, "attention: ranks differ")?;
    require(step.group >= 1 && step.block >= 1, "attention: group and block must be at least 1")?;
    let knows_age = step.part == KeyPart::All || step.causal_offset.is_some();
    require(knows_age, "attention: a part of the keys needs an offset")?;
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
    for (scale, block, width) in inputs.scales(step.block as usize, &extents) {
        let Some(scale) = scale else { continue };
        require(scale.rank() == rank, "attention: a scale has another rank")?;
        same("attention: scale", &scale.dims()[..batch], lead)?;
        let (rows, groups) = (scale.dims()[batch], scale.last_dim());
        require(rows >= extents.keys.div_ceil(block), "attention: too few rows of scales")?;
        require(groups >= 1 && width.is_multiple_of(groups), "attention: groups do not divide the width")?;
    }
    let float32 = |destination: &Destination<'_>| destination.element() == Element::F32;
    let all = float32(running.accumulator) && float32(running.maximum) && float32(running.sum);
    require(all, "attention: accumulator, maximum and sum must be f32")?;
    Ok(extents)
}

/// Updates accumulator, maximum and sum with one tile of keys. Heads, or what else leads, are shared among threads.
pub fn attention(
    running: Running<'_, '_>,
    inputs: &Inputs<'_, '_>,
    step: &Step,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    let extents = check(&running, inputs, step)?;
    let Running { accumulator, maximum, sum } = running;
    let batch = accumulator.rank() - 2;
    let room = [KEYS * (extents.d + extents.e), 3 * extents.d.max(extents.e)];
    let pool = workspace.pool();
    let lead: usize = inputs.q.dims()[..batch].iter().product();
    let work = [lead, extents.rows, extents.keys, extents.d + extents.e];
    let work = work.iter().fold(1u64, |product, &extent| product.saturating_mul(extent as u64));
    let scales = inputs.scales(step.block as usize, &extents).map(|scale| scale.0);
    let [a, b, c, d] = scales;
    let sources = [Some(inputs.q), Some(inputs.k), Some(inputs.v), inputs.mask, a, b, c, d];
    let axis = (0..batch).find(|&axis| inputs.q.dims()[axis] > 1).filter(|&axis| {
        let destinations = [&*accumulator, &*maximum, &*sum];
        pool.threads() > 1 && work >= WORK_MIN && parallel::can_cut(axis, &destinations, &sources)
    });
    let parts = if axis.is_some() { pool.threads() } else { 1 };
    let (tiles, rows) = workspace.two::<f32, f32>(parts * room[0], parts * room[1])?;
    let Some(axis) = axis else {
        return heads(Running { accumulator, maximum, sum }, inputs, step, &extents, tiles, rows);
    };
    let rooms: Vec<Mutex<(&mut [f32], &mut [f32])>> =
        tiles.chunks_exact_mut(room[0]).zip(rows.chunks_exact_mut(room[1])).map(Mutex::new).collect();
    parallel::along(axis, [accumulator, maximum, sum], sources, &pool, |index, to, from| {
        let [mut accumulator, mut maximum, mut sum] = to;
        let [Some(q), Some(k), Some(v), mask, a, b, c, d] = &from else {
            return Err(Fault::Shape("attention: q, k and v"));
        };
        let (k_grouped, v_grouped) = (
            Grouped { scale: a.as_ref(), offset: b.as_ref() },
            Grouped { scale: c.as_ref(), offset: d.as_ref() },
        );
        let inputs = Inputs { q, k, v, mask: mask.as_ref(), k_grouped, v_grouped };
        let running = Running { accumulator: &mut accumulator, maximum: &mut maximum, sum: &mut sum };
        let mut room = rooms[index].lock().unwrap_or_else(PoisonError::into_inner);
        let (tile, rows) = &mut *room;
        heads(running, &inputs, step, &extents, tile, rows)
    })
}

/// All keys for every index of the leading dimensions.
fn heads(
    mut running: Running<'_, '_>,
    inputs: &Inputs<'_, '_>,
    step: &Step,
    extents: &Extents,
    tile: &mut [f32],
    rows: &mut [f32],
) -> Result<(), Fault> {
    let batch = running.accumulator.rank() - 2;
    let mut steps = [[0i64; PLACES]; RANK_MAX];
    let scales = inputs.scales(step.block as usize, extents).map(|scale| scale.0);
    for (axis, step) in steps.iter_mut().enumerate().take(batch) {
        let mask = inputs.mask.map_or(0, |mask| mask.strides()[axis]);
        let (accumulator, maximum, sum) = (&running.accumulator, &running.maximum, &running.sum);
        let (q, k, v) = (inputs.q.strides()[axis], inputs.k.strides()[axis], inputs.v.strides()[axis]);
        let [a, b, c, d] = scales.map(|scale| scale.map_or(0, |scale| scale.strides()[axis]));
        let running = [accumulator, maximum, sum].map(|view| view.strides()[axis]);
        *step = [running[0], running[1], running[2], q, k, v, mask, a, b, c, d];
    }
    let lead: [usize; RANK_MAX] = std::array::from_fn(|axis| inputs.q.dims().get(axis).copied().unwrap_or(1));
    for_each_index(&lead[..batch], &steps[..batch], |places| {
        for start in (0..extents.keys).step_by(KEYS) {
            let keys = start..extents.keys.min(start + KEYS);
            block(&mut running, inputs, step, extents, places, keys, tile, rows);
        }
        Ok(())
    })
}

widest! {
fn block[][](
    running: &mut Running<'_, '_>, inputs: &Inputs<'_, '_>, step: &Step, extents: &Extents, places: [i64; PLACES],
    keys: std::ops::Range<usize>, tile: &mut [f32], rows: &mut [f32],
) {
    let [accumulator_at, maximum_at, sum_at, q_at, k_at, v_at, mask_at, ..] = places;
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
    let scales = inputs.scales(step.block as usize, extents);
    for (index, (scale, block, width)) in scales.into_iter().enumerate() {
        let Some(scale) = scale else { continue };
        let tile = if index < 2 { &mut k_tile[..count * d] } else { &mut v_tile[..count * e] };
        let group = (width / scale.last_dim()).max(1);
        for (at, row) in tile.chunks_exact_mut(width).enumerate() {
            let from = places[SCALES + index] + ((keys.start + at) / block) as i64 * outer(scale.strides());
            for (column, lanes) in row.chunks_exact_mut(group).enumerate() {
                let mut factor = [0f32];
                load(scale, from + column as i64 * scale.last_stride(), 1, &mut factor);
                if index % 2 == 0 {
                    lanes.iter_mut().for_each(|lane| *lane *= factor[0]);
                } else {
                    lanes.iter_mut().for_each(|lane| *lane += factor[0]);
                }
            }
        }
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
        scores[..count].iter_mut().for_each(|score| *score -= largest);
        exponential::exp(&mut scores[..count]);
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
    let end = if step.ahead { keys.len() } else { relative(last.saturating_add(1)) };
    let start = relative(first);
    let block = i64::from(step.block.max(1));
    let settled = || {
        let old = last.saturating_add(1).saturating_sub(i64::from(step.keep));
        relative(old.div_euclid(block).saturating_mul(block))
    };
    let (start, end) = match step.part {
        KeyPart::All => (start, end),
        KeyPart::Settled => (start, end.min(settled())),
        KeyPart::Recent => (start.max(settled()), end),
    };
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
    const PLAIN: Step = Step {
        scale: 1.0,
        softcap: 0.0,
        causal_offset: None,
        window: 0,
        group: 1,
        block: 1,
        part: KeyPart::All,
        keep: 0,
        ahead: false,
    };

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
                if key as i64 > position && !step.ahead || far || hides(row, key) {
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
            let none = || Grouped { scale: None, offset: None };
            let inputs =
                Inputs { q: &q, k: &k, v: &v, mask: mask.as_ref(), k_grouped: none(), v_grouped: none() };
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
        for ((offset, window, softcap, group), ahead) in
            [(None, 0, 0.0, 1), (Some(94), 0, 5.0, 1), (Some(90), 20, 0.0, 2), (Some(-2), 0, 0.0, 1)]
                .into_iter()
                .flat_map(|one| [(one, false), (one, true)])
        {
            let step = Step { scale: 0.7, softcap, causal_offset: offset, window, group, ahead, ..PLAIN };
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
        let step = PLAIN;
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

    #[test]
    fn settled_and_recent_keys_are_all_keys() {
        let keys = 80;
        let q = random(Element::F32, &[ROWS, D], 7);
        let (k, v) = (random(Element::F32, &[keys, D], 8), random(Element::F32, &[keys, E], 9));
        for (offset, window) in [(74, 0), (40, 0), (3, 0), (74, 30)] {
            let step = Step { causal_offset: Some(offset), window, block: 4, keep: 8, ..PLAIN };
            let expected = naive(&q, &k, &v, &step, |_, _| false);
            let copy = |tensor: &Values, width| values(Element::F32, &[keys, width], &read(&tensor.source()));
            let part = |part| (copy(&k, D), copy(&v, E), None, Step { part, ..step });
            assert_close(&run(&q, &[part(KeyPart::Settled), part(KeyPart::Recent)]), &expected, 1e-5);
            // Row 0 at position `offset` has settled what 8 keys follow, in fours.
            let seen = visible_keys(&Step { part: KeyPart::Settled, window: 0, ..step }, 0, &(0..keys));
            assert_eq!(seen.end as i64, ((offset + 1 - 8) / 4 * 4).max(0));
        }
    }

    #[test]
    fn scaled_keys_and_values_are_what_they_stand_for() {
        let keys = 70;
        let q = random(Element::F32, &[ROWS, D], 1);
        let (k, v) = (random(Element::U4, &[keys, D], 2), random(Element::U8, &[keys, 6], 3));
        let rows = keys.div_ceil(32);
        let (ks, ko) = (random(Element::F16, &[rows, D], 4), random(Element::F16, &[rows, D], 5));
        let (vs, vo) = (random(Element::F16, &[keys, 2], 6), random(Element::F16, &[keys, 2], 7));
        let plain = |x: &Values, scale: &Values, offset: &Values, width: usize, block: usize| {
            let (x, scale, offset) = (read(&x.source()), read(&scale.source()), read(&offset.source()));
            let groups = scale.len() / keys.div_ceil(block);
            let value = |at: usize| {
                let place = at / width / block * groups + at % width / (width / groups);
                x[at] * scale[place] + offset[place]
            };
            values(Element::F32, &[keys, width], &(0..keys * width).map(value).collect::<Vec<_>>())
        };
        let mut results = Vec::new();
        for quantised in [false, true] {
            let mut workspace = Workspace::default();
            let mut accumulator = values(Element::F32, &[ROWS, 6], &[]);
            let mut maximum = values(Element::F32, &[ROWS], &[f64::NEG_INFINITY; ROWS]);
            let mut sum = values(Element::F32, &[ROWS], &[]);
            let (pk, pv) = (plain(&k, &ks, &ko, D, 32), plain(&v, &vs, &vo, 6, 1));
            let (kk, vv) = if quantised { (k.source(), v.source()) } else { (pk.source(), pv.source()) };
            let (ks, ko, vs, vo, q) = (ks.source(), ko.source(), vs.source(), vo.source(), q.source());
            let grouped = |scale, offset| match quantised {
                true => Grouped { scale: Some(scale), offset: Some(offset) },
                false => Grouped { scale: None, offset: None },
            };
            let inputs = Inputs {
                q: &q,
                k: &kk,
                v: &vv,
                mask: None,
                k_grouped: grouped(&ks, &ko),
                v_grouped: grouped(&vs, &vo),
            };
            let (mut a, mut b, mut c) = (accumulator.destination(), maximum.destination(), sum.destination());
            let running = Running { accumulator: &mut a, maximum: &mut b, sum: &mut c };
            let step = Step { block: if quantised { 32 } else { 1 }, ..PLAIN };
            attention(running, &inputs, &step, &mut workspace).expect("fits");
            results.push(read(&accumulator.source()));
        }
        assert_close(&results[1], &results[0], 1e-4);
    }
}
