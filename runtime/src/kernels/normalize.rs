//! Row-wise functions of the last dimension: softmax, normalisation, rotary embedding.

use super::lanes::{Lane, LaneKind, lane_kind, load, store};
use super::reduce::sum_lanes;
use super::walk::{for_each_index, steps_of};
use super::{Fault, require, same_dims};
use crate::functions::NormalizeKind;
use crate::memory::{Destination, Source, Workspace};

/// A float lane with the functions that rows need.
trait FloatLane: Lane {
    fn exp_all(lanes: &mut [Self]);
    fn ln(self) -> Self;
    fn sqrt(self) -> Self;
    fn divide(self, other: Self) -> Self;
}

impl FloatLane for f32 {
    fn exp_all(lanes: &mut [f32]) {
        super::exponential::exp(lanes);
    }
    fn ln(self) -> f32 {
        f32::ln(self)
    }
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    fn divide(self, other: f32) -> f32 {
        self / other
    }
}

impl FloatLane for f64 {
    fn exp_all(lanes: &mut [f64]) {
        lanes.iter_mut().for_each(|lane| *lane = lane.exp());
    }
    fn ln(self) -> f64 {
        f64::ln(self)
    }
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    fn divide(self, other: f64) -> f64 {
        self / other
    }
}

/// Softmax, or its logarithm, over the last dimension.
pub fn softmax(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    log: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    same_dims("extents of destination and x differ", destination, x)?;
    match lane_kind(&[x.element()]) {
        LaneKind::F32 => softmax_rows(destination, x, log, workspace.lanes::<f32>(x.last_dim())?),
        LaneKind::F64 => softmax_rows(destination, x, log, workspace.lanes::<f64>(x.last_dim())?),
        _ => Err(Fault::Shape("softmax needs floats")),
    }
}

fn softmax_rows<L: FloatLane>(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    log: bool,
    row: &mut [L],
) -> Result<(), Fault> {
    let window = destination.window.clone();
    let (steps, rank) = steps_of([window.strides(), x.strides()]);
    let outer = rank.saturating_sub(1);
    let (to_step, from_step) = (destination.last_stride(), x.last_stride());
    for_each_index(&window.dims()[..outer], &steps[..outer], |[to, from]| {
        if row.is_empty() {
            return Ok(());
        }
        load(x, from, from_step, row);
        let largest = row.iter().fold(row[0], |a, &b| a.maximum(b));
        row.iter_mut().for_each(|lane| *lane = lane.subtract(largest));
        if log {
            // The row is consumed twice: once for the sum of exponentials, in chunks, and once for the result.
            let mut total = L::default();
            let mut buffer = [L::default(); 256];
            for part in row.chunks(buffer.len()) {
                let part_exp = &mut buffer[..part.len()];
                part_exp.copy_from_slice(part);
                L::exp_all(part_exp);
                total = total.add(sum_lanes(part_exp));
            }
            let logarithm = total.ln();
            row.iter_mut().for_each(|lane| *lane = lane.subtract(logarithm));
        } else {
            L::exp_all(row);
            let total = sum_lanes(row);
            row.iter_mut().for_each(|lane| *lane = lane.divide(total));
        }
        store(destination, to, to_step, row);
        Ok(())
    })
}

/// Root-mean-square or layer normalisation over the last dimension, then gain and bias.
pub fn normalize(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    gain: Option<&Source<'_>>,
    bias: Option<&Source<'_>>,
    kind: NormalizeKind,
    epsilon: f32,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    same_dims("extents of destination and x differ", destination, x)?;
    for factor in [gain, bias].into_iter().flatten() {
        same_dims("extents of destination and gain or bias differ", destination, factor)?;
    }
    let count = x.last_dim();
    match lane_kind(&[x.element()]) {
        LaneKind::F32 => {
            let (row, other) = workspace.two::<f32, f32>(count, count)?;
            normalize_rows(destination, x, [gain, bias], kind, epsilon, row, other)
        }
        LaneKind::F64 => {
            let (row, other) = workspace.two::<f64, f64>(count, count)?;
            normalize_rows(destination, x, [gain, bias], kind, epsilon, row, other)
        }
        _ => Err(Fault::Shape("normalize needs floats")),
    }
}

fn normalize_rows<L: FloatLane>(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    [gain, bias]: [Option<&Source<'_>>; 2],
    kind: NormalizeKind,
    epsilon: f32,
    row: &mut [L],
    other: &mut [L],
) -> Result<(), Fault> {
    let window = destination.window.clone();
    let strides =
        |operand: Option<&Source<'_>>| operand.map_or([0; 8], |operand| operand.window.strides_padded());
    let (gain_strides, bias_strides) = (strides(gain), strides(bias));
    let rank = window.dims().len();
    let (steps, _) = steps_of([window.strides(), x.strides(), &gain_strides[..rank], &bias_strides[..rank]]);
    let outer = rank.saturating_sub(1);
    let last = |strides: &[i64; 8]| if rank == 0 { 0 } else { strides[rank - 1] };
    let (to_step, from_step) = (destination.last_stride(), x.last_stride());
    let count = L::from_i64(row.len() as i64);
    for_each_index(&window.dims()[..outer], &steps[..outer], |[to, from, gain_place, bias_place]| {
        if row.is_empty() {
            return Ok(());
        }
        load(x, from, from_step, row);
        if kind == NormalizeKind::Layer {
            let mean = sum_lanes(row).divide(count);
            row.iter_mut().for_each(|lane| *lane = lane.subtract(mean));
        }
        other.iter_mut().zip(&*row).for_each(|(square, &lane)| *square = lane.multiply(lane));
        let mean_square = sum_lanes(other).divide(count);
        let root = mean_square.add(L::from_f32(epsilon)).sqrt();
        row.iter_mut().for_each(|lane| *lane = lane.divide(root));
        if let Some(gain) = gain {
            load(gain, gain_place, last(&gain_strides), other);
            row.iter_mut().zip(&*other).for_each(|(lane, &factor)| *lane = lane.multiply(factor));
        }
        if let Some(bias) = bias {
            load(bias, bias_place, last(&bias_strides), other);
            row.iter_mut().zip(&*other).for_each(|(lane, &summand)| *lane = lane.add(summand));
        }
        store(destination, to, to_step, row);
        Ok(())
    })
}

/// Rotary embedding of the last dimension; cos and sin have its extent or half of it.
pub fn rope(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    cos: &Source<'_>,
    sin: &Source<'_>,
    interleaved: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    same_dims("extents of destination and x differ", destination, x)?;
    let width = x.last_dim();
    let half = width / 2;
    require(x.rank() >= 1 && width.is_multiple_of(2), "rope needs an even last dimension")?;
    super::same("extents of cos and sin differ", cos.dims(), sin.dims())?;
    let angles = cos.last_dim();
    let outer = x.rank() - 1;
    require(
        cos.rank() == x.rank() && (angles == width || angles == half),
        "cos must have d or d / 2 columns",
    )?;
    super::same("leading extents of x and cos differ", &x.dims()[..outer], &cos.dims()[..outer])?;
    let (row, trigonometry) = workspace.two::<f32, f32>(2 * width, 2 * angles)?;
    let (row, result) = row.split_at_mut(width);
    let (c, s) = trigonometry.split_at_mut(angles);
    let window = destination.window.clone();
    let (steps, _) = steps_of([window.strides(), x.strides(), cos.strides(), sin.strides()]);
    let (to_step, from_step) = (destination.last_stride(), x.last_stride());
    for_each_index(&window.dims()[..outer], &steps[..outer], |[to, from, cos_place, sin_place]| {
        load(x, from, from_step, row);
        load(cos, cos_place, cos.last_stride(), c);
        load(sin, sin_place, sin.last_stride(), s);
        for pair in 0..half {
            let (first, second) = if interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
            // A full table gives each element its own angle; half a table one angle per pair.
            let (at_first, at_second) = if angles == width { (first, second) } else { (pair, pair) };
            result[first] = row[first] * c[at_first] - row[second] * s[at_first];
            result[second] = row[second] * c[at_second] + row[first] * s[at_second];
        }
        store(destination, to, to_step, result);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Element;
    use crate::kernels::testing::{assert_close, random, read, values};

    #[test]
    fn softmax_matches_its_formula() {
        let x = random(Element::F32, &[3, 300], 1);
        let mut workspace = Workspace::default();
        for log in [false, true] {
            let mut out = values(Element::F32, &[3, 300], &[]);
            softmax(&mut out.destination(), &x.source(), log, &mut workspace).expect("fits");
            let expected: Vec<f64> = read(&x.source())
                .chunks(300)
                .flat_map(|row| {
                    let total: f64 = row.iter().map(|x| x.exp()).sum();
                    row.iter()
                        .map(move |x| if log { x - total.ln() } else { x.exp() / total })
                        .collect::<Vec<_>>()
                })
                .collect();
            assert_close(&read(&out.source()), &expected, 1e-6);
        }
    }

    #[test]
    fn normalisations_match_their_formulas() {
        let mut workspace = Workspace::default();
        for (element, tolerance) in [(Element::F32, 1e-5), (Element::F64, 1e-7), (Element::F16, 4e-3)] {
            let (x, gain) = (random(element, &[4, 37], 2), random(element, &[4, 37], 3));
            let bias = random(element, &[4, 37], 4);
            for kind in [NormalizeKind::Rms, NormalizeKind::Layer] {
                let mut out = values(element, &[4, 37], &[]);
                let (gain_view, bias_view) = (gain.source(), bias.source());
                let (gain_given, bias_given) = (Some(&gain_view), Some(&bias_view));
                normalize(
                    &mut out.destination(),
                    &x.source(),
                    gain_given,
                    bias_given,
                    kind,
                    1e-5,
                    &mut workspace,
                )
                .expect("fits");
                let (x, gain, bias) = (read(&x.source()), read(&gain_view), read(&bias_view));
                let expected: Vec<f64> = (0..x.len())
                    .map(|index| {
                        let row = &x[index / 37 * 37..][..37];
                        let mean =
                            if kind == NormalizeKind::Layer { row.iter().sum::<f64>() / 37.0 } else { 0.0 };
                        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 37.0;
                        (x[index] - mean) / (variance + 1e-5).sqrt() * gain[index] + bias[index]
                    })
                    .collect();
                assert_close(&read(&out.source()), &expected, tolerance);
            }
        }
    }

    #[test]
    fn rope_rotates_pairs_in_both_layouts() {
        let mut workspace = Workspace::default();
        let x = random(Element::F32, &[2, 6], 5);
        let angle: Vec<f64> = (0..6).map(|index| f64::from(index) * 0.3).collect();
        let half = |f: fn(f64) -> f64| {
            values(Element::F32, &[2, 3], &angle.iter().map(|&a| f(a)).collect::<Vec<_>>())
        };
        let (cos, sin) = (half(f64::cos), half(f64::sin));
        for interleaved in [false, true] {
            let mut out = values(Element::F32, &[2, 6], &[]);
            rope(
                &mut out.destination(),
                &x.source(),
                &cos.source(),
                &sin.source(),
                interleaved,
                &mut workspace,
            )
            .expect("fits");
            let (x, out) = (read(&x.source()), read(&out.source()));
            for row in 0..2 {
                for pair in 0..3 {
                    let (i, j) = if interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + 3) };
                    let (a, b, t) = (x[row * 6 + i], x[row * 6 + j], angle[row * 3 + pair]);
                    let found = [out[row * 6 + i], out[row * 6 + j]];
                    assert_close(&found, &[a * t.cos() - b * t.sin(), b * t.cos() + a * t.sin()], 1e-6);
                }
            }
        }
    }
}
