//! Convolution, transposed convolution and pooling over one to three spatial dimensions.
//!
//! All work on rows along the last spatial dimension; fewer dimensions are padded with extents of 1 in front.

use super::lanes::{Lane, LaneKind, lane_kind, load, store};
use super::{Fault, require, same};
use crate::functions::PoolFunction;
use crate::memory::{Destination, Source, Workspace};

/// How a window moves. Arrays have one entry per spatial dimension, the first ones used.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Steps of the window.
    pub strides: [u32; 3],
    /// Steps inside the window.
    pub dilations: [u32; 3],
    /// Padding before x.
    pub pads_low: [u32; 3],
}

/// An operand that counts from a zero point.
#[derive(Clone, Copy)]
pub struct Centered<'o, 'b> {
    /// Its values.
    pub values: &'o Source<'b>,
    /// What is subtracted from each; 0 for floats.
    pub zero: i32,
}

/// Extents and strides of an operand as [outer, channels, depth, height, width].
struct Spatial {
    dims: [usize; 5],
    strides: [i64; 5],
}

impl Spatial {
    fn new(dims: &[usize], strides: &[i64]) -> Spatial {
        let mut result = Spatial { dims: [1; 5], strides: [0; 5] };
        let rank = dims.len();
        result.dims[..2].copy_from_slice(&dims[..2]);
        result.strides[..2].copy_from_slice(&strides[..2]);
        result.dims[7 - rank..].copy_from_slice(&dims[2..]);
        result.strides[7 - rank..].copy_from_slice(&strides[2..]);
        result
    }
    fn offset(&self, index: [usize; 5]) -> i64 {
        index.iter().zip(&self.strides).map(|(&index, &stride)| index as i64 * stride).sum()
    }
}

/// Entries moved to the last places, as [`Spatial`] does.
fn aligned(entries: [u32; 3], spatial_rank: usize, missing: i64) -> [i64; 3] {
    let mut result = [missing; 3];
    for axis in 0..spatial_rank {
        result[3 - spatial_rank + axis] = i64::from(entries[axis]);
    }
    result
}

struct Window3 {
    strides: [i64; 3],
    dilations: [i64; 3],
    pads: [i64; 3],
}

fn window_of(geometry: &Geometry, rank: usize) -> Result<Window3, Fault> {
    require((3..=5).contains(&rank), "a window moves over 1 to 3 spatial dimensions")?;
    let spatial = rank - 2;
    let positive = |entries: [u32; 3]| entries[..spatial].iter().all(|&entry| entry >= 1);
    require(
        positive(geometry.strides) && positive(geometry.dilations),
        "strides and dilations must be at least 1",
    )?;
    Ok(Window3 {
        strides: aligned(geometry.strides, spatial, 1),
        dilations: aligned(geometry.dilations, spatial, 1),
        pads: aligned(geometry.pads_low, spatial, 0),
    })
}

/// The outputs `first..last` of a row whose inputs `o * stride + shift` lie in `0..extent`.
fn valid_range(outputs: usize, stride: i64, shift: i64, extent: usize) -> (usize, usize) {
    let first = if shift >= 0 { 0 } else { (-shift + stride - 1) / stride };
    let last = if shift >= extent as i64 { 0 } else { (extent as i64 - 1 - shift).div_euclid(stride) + 1 };
    (first.clamp(0, outputs as i64) as usize, last.clamp(0, outputs as i64) as usize)
}

/// `destination [n, o, ..] (+)= x [n, c, ..] * w [o, c / groups, ..]`.
pub fn convolution(
    destination: &mut Destination<'_>,
    x: &Centered<'_, '_>,
    w: &Centered<'_, '_>,
    geometry: &Geometry,
    groups: usize,
    accumulate: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    let rank = destination.rank();
    // A tile past the end: other views may be empty too, and their channels prove nothing.
    if destination.dims().contains(&0) {
        return Ok(());
    }
    require(x.values.rank() == rank && w.values.rank() == rank, "convolution needs equal ranks")?;
    let window = window_of(geometry, rank)?;
    let (out, input, kernel) = (destination.dims(), x.values.dims(), w.values.dims());
    same("convolution: batches differ", &out[..1], &input[..1])?;
    require(
        groups >= 1 && out[1].is_multiple_of(groups),
        "convolution: groups do not divide the output channels",
    )?;
    same("convolution: output channels differ", &[out[1]], &[kernel[0]])?;
    same("convolution: input channels differ", &[input[1]], &[kernel[1].saturating_mul(groups)])?;
    let width = destination.last_dim();
    match lane_kind(&[destination.element(), x.values.element(), w.values.element()]) {
        LaneKind::F32 => {
            let (row, total) = workspace.two::<f32, f32>(width, width)?;
            convolution_rows(destination, x, w, &window, groups, accumulate, row, total)
        }
        LaneKind::F64 => {
            let (row, total) = workspace.two::<f64, f64>(width, width)?;
            convolution_rows(destination, x, w, &window, groups, accumulate, row, total)
        }
        LaneKind::I64 | LaneKind::I128 => {
            let (row, total) = workspace.two::<i64, i64>(width, width)?;
            convolution_rows(destination, x, w, &window, groups, accumulate, row, total)
        }
    }
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "the checked parts of one command and two rows of room")]
fn convolution_rows<L: Lane>(
    destination: &mut Destination<'_>,
    x: &Centered<'_, '_>,
    w: &Centered<'_, '_>,
    window: &Window3,
    groups: usize,
    accumulate: bool,
    row: &mut [L],
    total: &mut [L],
) {
    let [x_zero, w_zero] = [x, w].map(|operand| L::from_i32(operand.zero));
    let (is_centered, x, w) = (x.zero != 0, x.values, w.values);
    let to = Spatial::new(destination.dims(), destination.strides());
    let (from, kernel) = (Spatial::new(x.dims(), x.strides()), Spatial::new(w.dims(), w.strides()));
    let channels_out = to.dims[1] / groups;
    let channels_in = kernel.dims[1];
    let [n_max, o_max, d_max, h_max, _] = to.dims;
    for_each_of([n_max, o_max, d_max, h_max], |[n, o, d, h]| {
        let (place, step) = (to.offset([n, o, d, h, 0]), to.strides[4]);
        begin_row(destination, place, step, total, accumulate);
        let first_channel = o / channels_out.max(1) * channels_in;
        for_each_of([channels_in, kernel.dims[2], kernel.dims[3], kernel.dims[4]], |[c, kd, kh, kw]| {
            let at = |axis: usize, out: usize, k: usize| {
                out as i64 * window.strides[axis] + k as i64 * window.dilations[axis] - window.pads[axis]
            };
            let (z, y, shift) = (at(0, d, kd), at(1, h, kh), at(2, 0, kw));
            let is_inside = |place: i64, extent: usize| (0..extent as i64).contains(&place);
            if !is_inside(z, from.dims[2]) || !is_inside(y, from.dims[3]) {
                return;
            }
            let (first, last) = valid_range(total.len(), window.strides[2], shift, from.dims[4]);
            if first >= last {
                return;
            }
            let column = (first as i64 * window.strides[2] + shift) as usize;
            let source = from.offset([n, first_channel + c, z as usize, y as usize, column]);
            let row = &mut row[..last - first];
            load(x, source, from.strides[4] * window.strides[2], row);
            if is_centered {
                row.iter_mut().for_each(|lane| *lane = lane.subtract(x_zero));
            }
            let mut factor = [L::default()];
            load(w, kernel.offset([o, c, kd, kh, kw]), 1, &mut factor);
            factor[0] = factor[0].subtract(w_zero);
            for (sum, &lane) in total[first..last].iter_mut().zip(&*row) {
                *sum = sum.add(factor[0].multiply(lane));
            }
        });
        store(destination, place, step, total);
    });
}

/// Where the sums of a row begin: at what is there when accumulating, else at 0.
fn begin_row<L: Lane>(
    destination: &Destination<'_>,
    place: i64,
    step: i64,
    total: &mut [L],
    accumulate: bool,
) {
    match accumulate {
        true => load(&destination.as_source(), place, step, total),
        false => total.fill(L::default()),
    }
}

/// Every index of four nested loops.
fn for_each_of(extents: [usize; 4], mut body: impl FnMut([usize; 4])) {
    for a in 0..extents[0] {
        for b in 0..extents[1] {
            for c in 0..extents[2] {
                for d in 0..extents[3] {
                    body([a, b, c, d]);
                }
            }
        }
    }
}

/// Transposed convolution: x [n, c, ..], w [c, o / groups, ..], destination [n, o, ..].
pub fn conv_transpose(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    w: &Source<'_>,
    geometry: &Geometry,
    groups: usize,
    accumulate: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    let rank = destination.rank();
    // A tile past the end: other views may be empty too, and their channels prove nothing.
    if destination.dims().contains(&0) {
        return Ok(());
    }
    require(x.rank() == rank && w.rank() == rank, "conv_transpose needs equal ranks")?;
    let window = window_of(geometry, rank)?;
    let (out, input, kernel) = (destination.dims(), x.dims(), w.dims());
    same("conv_transpose: batches differ", &out[..1], &input[..1])?;
    require(
        groups >= 1 && input[1].is_multiple_of(groups),
        "conv_transpose: groups do not divide the input channels",
    )?;
    same("conv_transpose: input channels differ", &[input[1]], &[kernel[0]])?;
    same("conv_transpose: output channels differ", &[out[1]], &[kernel[1].saturating_mul(groups)])?;
    let kind = lane_kind(&[destination.element(), x.element(), w.element()]);
    require(kind == LaneKind::F32 || kind == LaneKind::F64, "conv_transpose needs floats")?;
    let width = destination.last_dim();
    if kind == LaneKind::F32 {
        transpose_rows(destination, x, w, &window, accumulate, workspace.lanes::<f32>(width)?);
    } else {
        transpose_rows(destination, x, w, &window, accumulate, workspace.lanes::<f64>(width)?);
    }
    Ok(())
}

fn transpose_rows<L: Lane>(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    w: &Source<'_>,
    window: &Window3,
    accumulate: bool,
    total: &mut [L],
) {
    let to = Spatial::new(destination.dims(), destination.strides());
    let (from, kernel) = (Spatial::new(x.dims(), x.strides()), Spatial::new(w.dims(), w.strides()));
    let group_out = kernel.dims[1].max(1);
    let group_in = from.dims[1] / (to.dims[1] / group_out).max(1);
    let [n_max, o_max, d_max, h_max, width] = to.dims;
    // The input position that reaches output `out` through kernel position `k`, if there is one.
    let source = |axis: usize, out: usize, k: usize, extent: usize| {
        let place = out as i64 + window.pads[axis] - k as i64 * window.dilations[axis];
        let index = place.div_euclid(window.strides[axis]);
        (place.rem_euclid(window.strides[axis]) == 0 && (0..extent as i64).contains(&index))
            .then_some(index as usize)
    };
    for_each_of([n_max, o_max, d_max, h_max], |[n, o, d, h]| {
        let (place, step) = (to.offset([n, o, d, h, 0]), to.strides[4]);
        begin_row(destination, place, step, total, accumulate);
        let first_channel = o / group_out * group_in;
        for_each_of([group_in, kernel.dims[2], kernel.dims[3], kernel.dims[4]], |[c, kd, kh, kw]| {
            let (Some(z), Some(y)) = (source(0, d, kd, from.dims[2]), source(1, h, kh, from.dims[3])) else {
                return;
            };
            let channel = first_channel + c;
            let mut factor = [L::default()];
            load(w, kernel.offset([channel, o % group_out, kd, kh, kw]), 1, &mut factor);
            for (column, sum) in total.iter_mut().enumerate().take(width) {
                if let Some(at) = source(2, column, kw, from.dims[4]) {
                    let mut lane = [L::default()];
                    load(x, from.offset([n, channel, z, y, at]), 1, &mut lane);
                    *sum = sum.add(factor[0].multiply(lane[0]));
                }
            }
        });
        store(destination, place, step, total);
    });
}

/// The window of `pool`.
#[derive(Clone, Copy, Debug)]
pub struct Pooling {
    /// Maximum or mean.
    pub function: PoolFunction,
    /// Extents of the window.
    pub kernel: [u32; 3],
    /// Padding after x.
    pub pads_high: [u32; 3],
    /// Whether the mean counts padding.
    pub count_include_pad: bool,
}

/// Window maximum or mean over the spatial dimensions of x [n, c, ..].
pub fn pool(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    geometry: &Geometry,
    pooling: &Pooling,
) -> Result<(), Fault> {
    let rank = destination.rank();
    require(x.rank() == rank, "pool needs equal ranks")?;
    let window = window_of(geometry, rank)?;
    same("pool: batches and channels differ", &destination.dims()[..2], &x.dims()[..2])?;
    match lane_kind(&[x.element()]) {
        LaneKind::F32 => pool_windows::<f32>(destination, x, &window, pooling),
        LaneKind::F64 => pool_windows::<f64>(destination, x, &window, pooling),
        LaneKind::I64 | LaneKind::I128 => pool_windows::<i64>(destination, x, &window, pooling),
    }
    Ok(())
}

fn pool_windows<L: Lane>(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    window: &Window3,
    pooling: &Pooling,
) {
    let spatial = destination.rank() - 2;
    let kernel = aligned(pooling.kernel, spatial, 1).map(|extent| extent as usize);
    let high = aligned(pooling.pads_high, spatial, 0);
    let to = Spatial::new(destination.dims(), destination.strides());
    let from = Spatial::new(x.dims(), x.strides());
    for_each_of([to.dims[0], to.dims[1], to.dims[2], to.dims[3] * to.dims[4]], |[n, c, d, rest]| {
        let (h, w) = (rest / to.dims[4], rest % to.dims[4]);
        let mut best: Option<L> = None;
        let mut sum = L::default();
        let (mut inside, mut padded) = (0u64, 0u64);
        for_each_of([1, kernel[0], kernel[1], kernel[2]], |[_, kd, kh, kw]| {
            let (out, k) = ([d, h, w], [kd, kh, kw]);
            let place: [i64; 3] = std::array::from_fn(|axis| {
                out[axis] as i64 * window.strides[axis] + k[axis] as i64 * window.dilations[axis]
                    - window.pads[axis]
            });
            let extents = &from.dims[2..];
            padded += u64::from((0..3).all(|axis| place[axis] < extents[axis] as i64 + high[axis]));
            if (0..3).all(|axis| (0..extents[axis] as i64).contains(&place[axis])) {
                let [z, y, column] = place.map(|place| place as usize);
                let mut lane = [L::default()];
                load(x, from.offset([n, c, z, y, column]), 1, &mut lane);
                best = Some(best.map_or(lane[0], |best| best.maximum(lane[0])));
                sum = sum.add(lane[0]);
                inside += 1;
            }
        });
        let count = if pooling.count_include_pad { padded } else { inside }.max(1);
        let mean = if L::IS_FLOAT {
            L::from_f64(sum.to_f64() / count as f64)
        } else {
            L::from_i64(sum.to_i64() / count as i64)
        };
        let value = match pooling.function {
            PoolFunction::Maximum => best.unwrap_or(L::from_f64(f64::NEG_INFINITY)),
            PoolFunction::Average => mean,
        };
        store(destination, to.offset([n, c, d, h, w]), 1, &[value]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Element;
    use crate::kernels::testing::{assert_close, random, read, values};

    fn run_convolution(
        out: &mut Destination<'_>,
        x: &Source<'_>,
        w: &Source<'_>,
        geometry: &Geometry,
        groups: usize,
    ) {
        let (x, w) = (Centered { values: x, zero: 0 }, Centered { values: w, zero: 0 });
        convolution(out, &x, &w, geometry, groups, false, &mut Workspace::default()).expect("fits");
    }

    #[test]
    fn integers_count_from_their_zero_points() {
        let (x, w) = (
            values(Element::U8, &[1, 1, 3], &[10.0, 12.0, 255.0]),
            values(Element::I8, &[1, 1, 2], &[-128.0, 5.0]),
        );
        let geometry = Geometry { strides: [1; 3], dilations: [1; 3], pads_low: [1, 0, 0] };
        let (x, w) = (x.source(), w.source());
        let mut out = values(Element::I32, &[1, 1, 4], &[]);
        let (x, w) = (Centered { values: &x, zero: 10 }, Centered { values: &w, zero: 4 });
        let mut workspace = Workspace::default();
        convolution(&mut out.destination(), &x, &w, &geometry, 1, false, &mut workspace).expect("fits");
        assert_eq!(read(&out.source()), [0.0, 2.0, -264.0 + 245.0, -132.0 * 245.0]);
    }

    #[test]
    fn convolution_matches_its_definition() {
        // [n, c, h, w] = [2, 4, 7, 9], two groups, 3 x 2 kernel.
        let (x, w) = (random(Element::F32, &[2, 4, 7, 9], 1), random(Element::F32, &[6, 2, 3, 2], 2));
        let geometry = Geometry { strides: [2, 1, 1], dilations: [1, 2, 1], pads_low: [1, 1, 0] };
        let mut out = values(Element::F32, &[2, 6, 4, 9], &[]);
        run_convolution(&mut out.destination(), &x.source(), &w.source(), &geometry, 2);
        let (xs, ws) = (read(&x.source()), read(&w.source()));
        let mut expected = vec![0.0; 2 * 6 * 4 * 9];
        for (at, value) in expected.iter_mut().enumerate() {
            let (n, o, h, column) = (at / 216, at / 36 % 6, at / 9 % 4, at % 9);
            for (c, kh, kw) in (0..12).map(|i| (i / 6, i / 2 % 3, i % 2)) {
                let (y, z) = ((2 * h + kh) as i64 - 1, (column + 2 * kw) as i64 - 1);
                if (0..7).contains(&y) && (0..9).contains(&z) {
                    let channel = o / 3 * 2 + c;
                    *value += xs[((n * 4 + channel) * 7 + y as usize) * 9 + z as usize]
                        * ws[((o * 2 + c) * 3 + kh) * 2 + kw];
                }
            }
        }
        assert_close(&read(&out.source()), &expected, 1e-5);
    }

    #[test]
    fn the_transpose_is_the_adjoint() {
        // <conv(x), y> = <x, conv_transpose(y)> for every x and y.
        let mut workspace = Workspace::default();
        let geometry = Geometry { strides: [2, 1, 1], dilations: [1, 1, 1], pads_low: [1, 0, 0] };
        let (x, y) = (random(Element::F64, &[1, 3, 9], 1), random(Element::F64, &[1, 4, 5], 2));
        let w = random(Element::F64, &[4, 3, 3], 3);
        let mut forward = values(Element::F64, &[1, 4, 5], &[]);
        run_convolution(&mut forward.destination(), &x.source(), &w.source(), &geometry, 1);
        let mut back = values(Element::F64, &[1, 3, 9], &[]);
        conv_transpose(
            &mut back.destination(),
            &y.source(),
            &w.source(),
            &geometry,
            1,
            false,
            &mut workspace,
        )
        .expect("fits");
        let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let left = inner(&read(&forward.source()), &read(&y.source()));
        assert_close(&[left], &[inner(&read(&x.source()), &read(&back.source()))], 1e-12);
    }

    #[test]
    fn pools_know_padding() {
        let x = values(Element::F32, &[1, 1, 4], &[1.0, 2.0, 3.0, 4.0]);
        let geometry = Geometry { strides: [2, 1, 1], dilations: [1, 1, 1], pads_low: [1, 0, 0] };
        let mut out = values(Element::F32, &[1, 1, 3], &[]);
        let mut run = |function, count_include_pad| {
            let pooling = Pooling { function, kernel: [2, 1, 1], pads_high: [1, 0, 0], count_include_pad };
            pool(&mut out.destination(), &x.source(), &geometry, &pooling).expect("fits");
            read(&out.source())
        };
        assert_eq!(run(PoolFunction::Maximum, false), [1.0, 3.0, 4.0]);
        assert_eq!(run(PoolFunction::Average, false), [1.0, 2.5, 4.0]);
        assert_eq!(run(PoolFunction::Average, true), [0.5, 2.5, 2.0]);
    }
}
