//! Operators that read a map between its elements, at positions that are data: GridSample, AffineGrid, DeformConv.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since};
use super::convolution::{kernel_of, window};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::tensor::Tensor;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    since(20, "AffineGrid", affine_grid),
    since(19, "DeformConv", deform_conv).refuses("kernels of unknown size"),
    since(16, "GridSample", grid_sample).refuses("sizes that are symbols"),
];

/// What is outside the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outside {
    Zeros,
    Border,
    /// Mirrored at the outermost elements, or half an element beyond them.
    Reflection {
        corners: bool,
    },
}

/// Between elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    Nearest,
    Linear,
    Cubic,
}

/// The known sizes of all dimensions from `first` on.
pub(super) fn sizes_from(node: &NodeContext, x: ValueId, first: usize) -> Outcome<Vec<i64>> {
    let sizes: Option<Vec<i64>> = node.shape(x).iter().skip(first).map(Dim::known).collect();
    sizes.filter(|sizes| !sizes.is_empty()).ok_or_else(|| {
        Fault::unsupported(
            format!("the sizes must be known, found {}", node.ty(x)),
            "bind them with --bind NAME=VALUE",
        )
    })
}

fn known(sizes: &[i64]) -> Vec<Dim> {
    sizes.iter().map(|size| Dim::Known(*size)).collect()
}

pub(super) fn floats(node: &mut NodeContext, shape: &[usize], values: Vec<f64>) -> Outcome<ValueId> {
    node.tensor(&Tensor::from_floats(Element::F32, shape, values))
}

/// `x * factor + summand`.
pub(super) fn affine(node: &mut NodeContext, x: ValueId, factor: f64, summand: f64) -> Outcome<ValueId> {
    let scaled = node.scale(x, factor)?;
    let summand = node.scalar_like(x, summand)?;
    node.add(scaled, summand)
}

fn clamped(node: &mut NodeContext, x: ValueId, low: f64, high: f64) -> Outcome<ValueId> {
    let (low, high) = (node.scalar_like(x, low)?, node.scalar_like(x, high)?);
    let x = node.binary(&core::MAX, x, low)?;
    node.binary(&core::MIN, x, high)
}

pub(super) fn rounded(node: &mut NodeContext, x: ValueId, mode: &'static str) -> Outcome<ValueId> {
    node.make(&core::ROUND, |op| op.operand(x).attribute("mode", mode))
}

/// Positions folded into a map of `size` elements.
fn folded(node: &mut NodeContext, x: ValueId, size: i64, outside: Outside) -> Outcome<ValueId> {
    let last = (size - 1) as f64;
    match outside {
        Outside::Zeros => Ok(x),
        Outside::Border => clamped(node, x, 0.0, last),
        Outside::Reflection { corners } => {
            let (low, high) = if corners { (0.0, last) } else { (-0.5, last + 0.5) };
            if low == high {
                return affine(node, x, 0.0, low);
            }
            // A triangle wave: every second range runs backwards.
            let shifted = affine(node, x, 1.0, -low)?;
            let distance = node.unary(&core::ABS, shifted)?;
            let ranges = node.scale(distance, 1.0 / (high - low))?;
            let ranges = rounded(node, ranges, "floor")?;
            let whole = node.scale(ranges, high - low)?;
            let rest = node.sub(distance, whole)?;
            let half = node.scale(ranges, 0.5)?;
            let half_floor = rounded(node, half, "floor")?;
            let is_even = node.compare("eq", half, half_floor)?;
            let (forth, back) = (affine(node, rest, 1.0, low)?, affine(node, rest, -1.0, high)?);
            node.select(is_even, forth, back)
        }
    }
}

/// An offset from the element below a position and the weight of the element there.
type Tap = (f64, Option<ValueId>);

/// Weights along one axis of the elements around fractions from 0 to 1.
fn taps(node: &mut NodeContext, fraction: ValueId, between: Between) -> Outcome<Vec<Tap>> {
    let rest = affine(node, fraction, -1.0, 1.0)?;
    Ok(match between {
        Between::Nearest => vec![(0.0, None)],
        Between::Linear => vec![(0.0, Some(rest)), (1.0, Some(fraction))],
        Between::Cubic => {
            let mut taps = Vec::new();
            for (offset, t, is_far) in
                [(-1.0, fraction, true), (0.0, fraction, false), (1.0, rest, false), (2.0, rest, true)]
            {
                // Keys 1981 with a = -0.75; far ones are 1 + t away.
                let coefficients = if is_far { [-0.75, 1.5, -0.75, 0.0] } else { [1.25, -2.25, 0.0, 1.0] };
                let mut weight = affine(node, t, coefficients[0], coefficients[1])?;
                for coefficient in &coefficients[2..] {
                    weight = node.mul(weight, t)?;
                    weight = affine(node, weight, 1.0, *coefficient)?;
                }
                taps.push((offset, Some(weight)));
            }
            taps
        }
    })
}

/// One way to read the map: a flat index `[n, p]` and a weight.
pub(super) struct Read {
    index: ValueId,
    pub(super) weight: Option<ValueId>,
}

/// All elements that positions (one `[n, p]` of f32 per axis) are made of.
pub(super) fn reads(
    node: &mut NodeContext,
    positions: &[ValueId],
    sizes: &[i64],
    between: Between,
    outside: Outside,
) -> Outcome<Vec<Read>> {
    let mut all: Vec<Read> = Vec::new();
    for (axis, (position, size)) in positions.iter().zip(sizes).enumerate() {
        let position =
            if between == Between::Nearest { rounded(node, *position, "half_even")? } else { *position };
        let position = folded(node, position, *size, outside)?;
        let below = rounded(node, position, "floor")?;
        let fraction = node.sub(position, below)?;
        let mut next = Vec::new();
        for (offset, weight) in taps(node, fraction, between)? {
            let at = affine(node, below, 1.0, offset)?;
            let (at, weight) = inside(node, at, weight, *size, outside)?;
            if axis == 0 {
                next.push(Read { index: at, weight });
            }
            for read in &all {
                let row = node.scale(read.index, *size as f64)?;
                let index = node.add(row, at)?;
                let weight = match (read.weight, weight) {
                    (Some(a), Some(b)) => Some(node.mul(a, b)?),
                    (a, b) => a.or(b),
                };
                next.push(Read { index, weight });
            }
        }
        all = next;
    }
    Ok(all)
}

/// An element's index made valid; outside of a map with zeros around it its weight is 0.
fn inside(
    node: &mut NodeContext,
    at: ValueId,
    weight: Option<ValueId>,
    size: i64,
    outside: Outside,
) -> Outcome<(ValueId, Option<ValueId>)> {
    let at = if outside == Outside::Zeros { at } else { folded(node, at, size, outside)? };
    let at = if matches!(outside, Outside::Reflection { .. }) { rounded(node, at, "trunc")? } else { at };
    let valid = clamped(node, at, 0.0, (size - 1) as f64)?;
    if outside != Outside::Zeros {
        return Ok((valid, weight));
    }
    let is_inside = node.compare("eq", at, valid)?;
    let flag = node.cast(is_inside, Element::F32)?;
    let weight = match weight {
        Some(weight) => node.mul(weight, flag)?,
        None => flag,
    };
    Ok((valid, Some(weight)))
}

/// What each read gives: x `[n, c, s]`, as `[n, c, p]`.
pub(super) fn values(node: &mut NodeContext, x: ValueId, reads: &[Read]) -> Outcome<Vec<ValueId>> {
    let mut all = Vec::new();
    for read in reads {
        let (from, at) = (node.shape(x), node.shape(read.index));
        let index = node.cast(read.index, Element::I64)?;
        let index = node.reshape(index, &[at[0].clone(), Dim::Known(1), at[1].clone()])?;
        let index = node.broadcast(index, &[at[0].clone(), from[1].clone(), at[1].clone()])?;
        let value =
            node.make(&core::GATHER_ELEMENTS, |op| op.operands(&[x, index]).attribute("axis", 2usize))?;
        all.push(match read.weight {
            Some(weight) => {
                let weight = node.reshape(weight, &[at[0].clone(), Dim::Known(1), at[1].clone()])?;
                let weight = node.cast_like(weight, value)?;
                node.mul(value, weight)?
            }
            None => value,
        });
    }
    Ok(all)
}

pub(super) fn sum(node: &mut NodeContext, values: &[ValueId]) -> Outcome<ValueId> {
    let (first, rest) = values.split_first().ok_or_else(|| Fault::model("nothing to read"))?;
    rest.iter().try_fold(*first, |so_far, value| node.add(so_far, *value))
}

/// x `[n, c, spatial..]` as `[n, c, s]`.
pub(super) fn flat(node: &mut NodeContext, x: ValueId, sizes: &[i64]) -> Outcome<ValueId> {
    let shape = node.shape(x);
    node.reshape(x, &[shape[0].clone(), shape[1].clone(), Dim::Known(sizes.iter().product())])
}

fn grid_sample(node: &mut NodeContext) -> Made {
    let (x, grid) = (node.value(0)?, node.value(1)?);
    let (sizes, shape) = (sizes_from(node, x, 2)?, node.shape(grid));
    let rank = sizes.len();
    if shape.len() != rank + 2 || shape[rank + 1] != Dim::Known(rank as i64) {
        return Err(Fault::model(format!("grid {} does not fit input {}", node.ty(grid), node.ty(x))));
    }
    node.equate("batches of input and grid differ", &node.dim(x, 0)?, &shape[0])?;
    let corners = node.flag("align_corners", false)?;
    let between = match node.text("mode", "linear")?.as_str() {
        "nearest" => Between::Nearest,
        "linear" | "bilinear" => Between::Linear,
        "cubic" | "bicubic" => Between::Cubic,
        other => return Err(Fault::model(format!("attribute 'mode' = '{other}' is not known"))),
    };
    let outside = match node.text("padding_mode", "zeros")?.as_str() {
        "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Reflection { corners },
        other => return Err(Fault::model(format!("attribute 'padding_mode' = '{other}' is not known"))),
    };
    let points =
        super::super::dims::product(&shape[1..=rank]).ok_or_else(|| Fault::model("the grid is too large"))?;
    let grid = node.cast(grid, Element::F32)?;
    let mut positions = Vec::new();
    for (axis, size) in sizes.iter().enumerate() {
        // The grid names the last axis first.
        let part = node.slice_axis(grid, rank + 1, &Dim::Known((rank - 1 - axis) as i64), &Dim::Known(1))?;
        let part = node.reshape(part, &[shape[0].clone(), points.clone()])?;
        let size = *size as f64;
        let (factor, summand) =
            if corners { ((size - 1.0) / 2.0, (size - 1.0) / 2.0) } else { (size / 2.0, (size - 1.0) / 2.0) };
        positions.push(affine(node, part, factor, summand)?);
    }
    let reads = reads(node, &positions, &sizes, between, outside)?;
    let x_flat = flat(node, x, &sizes)?;
    let values = values(node, x_flat, &reads)?;
    let y = sum(node, &values)?;
    let mut to = vec![shape[0].clone(), node.dim(x, 1)?];
    to.extend(shape[1..=rank].iter().cloned());
    let y = node.reshape(y, &to)?;
    node.one(y)
}

/// theta `[n, d, d + 1]` times the homogeneous coordinates of a grid from -1 to 1, last axis first.
fn affine_grid(node: &mut NodeContext) -> Made {
    let theta = node.value(0)?;
    let sizes = node.known_ints(1)?;
    let spatial = sizes.get(2..).filter(|spatial| (2..=3).contains(&spatial.len()));
    let spatial = spatial.ok_or_else(|| Fault::model(format!("size {sizes:?} must have 4 or 5 entries")))?;
    if spatial.iter().any(|size| !(0..1 << 20).contains(size)) {
        return Err(Fault::model(format!("size {sizes:?} is out of range")));
    }
    let (corners, rank) = (node.flag("align_corners", false)?, spatial.len());
    let count: i64 = spatial.iter().product();
    let mut base = Vec::new();
    for point in 0..count {
        let mut rest = point;
        for size in spatial.iter().rev() {
            let (at, size) = ((rest % size) as f64, *size as f64);
            rest /= size as i64;
            base.push(if corners { at * 2.0 / (size - 1.0) - 1.0 } else { (at * 2.0 + 1.0) / size - 1.0 });
        }
        base.push(1.0);
    }
    let element = node.element(theta);
    let base = node.tensor(&Tensor::from_floats(element, &[count as usize, rank + 1], base))?;
    let columns = node.transpose_last(theta)?;
    let grid = node.matmul(base, columns)?;
    let mut to = vec![node.dim(theta, 0)?];
    to.extend(known(spatial));
    to.push(Dim::Known(rank as i64));
    let y = node.reshape(grid, &to)?;
    node.one(y)
}

/// A convolution whose window's positions are moved by data: the moved elements are read first, then multiplied as one matrix.
fn deform_conv(node: &mut NodeContext) -> Made {
    let (x, weight, offset) = (node.value(0)?, node.value(1)?, node.value(2)?);
    let (sizes, kernel) = (sizes_from(node, x, 2)?, kernel_of(node, weight)?);
    let (groups, offset_groups, rank) = (node.int("group", 1)?, node.int("offset_group", 1)?, sizes.len());
    let window = window(node, &known(&sizes), &kernel)?;
    let (batch, channels) = (sizes_from(node, x, 0)?[0], sizes_from(node, x, 1)?[0]);
    let outputs = sizes_from(node, weight, 0)?[0];
    let (taps, to) = (kernel.iter().product::<i64>(), sizes_from(node, offset, 2)?);
    let points: i64 = to.iter().product();
    let lists = offset_groups.checked_mul(taps).and_then(|lists| lists.checked_mul(rank as i64));
    let fits = lists.is_some() && node.shape(offset).get(1).and_then(Dim::known) == lists;
    if groups < 1 || offset_groups < 1 || channels % groups != 0 || channels % offset_groups != 0 || !fits {
        return Err(Fault::model(format!(
            "offsets {} do not fit input {} and weight {}",
            node.ty(offset),
            node.ty(x),
            node.ty(weight)
        )));
    }
    let maps = batch * offset_groups;
    let offset = node.cast(offset, Element::F32)?;
    let offset = node.reshape(offset, &known(&[maps, taps, rank as i64, points]))?;
    let mut positions = Vec::new();
    for axis in 0..rank {
        let inner: i64 = kernel[axis + 1..].iter().product();
        let after: i64 = to[axis + 1..].iter().product();
        let place = |tap: i64, point: i64| {
            (tap / inner % kernel[axis]) * window.dilations[axis]
                + (point / after % to[axis]) * window.strides[axis]
                - window.low[axis]
        };
        let base = (0..taps * points).map(|at| place(at / points, at % points) as f64).collect();
        let base = floats(node, &[1, (taps * points) as usize], base)?;
        let moved = node.slice_axis(offset, 2, &Dim::Known(axis as i64), &Dim::Known(1))?;
        let moved = node.reshape(moved, &known(&[maps, taps * points]))?;
        positions.push(node.add(moved, base)?);
    }
    let reads = reads(node, &positions, &sizes, Between::Linear, Outside::Zeros)?;
    let apart = node.reshape(x, &known(&[maps, channels / offset_groups, sizes.iter().product()]))?;
    let values = values(node, apart, &reads)?;
    let mut read = sum(node, &values)?;
    if let Some(mask) = node.optional_value(4)? {
        let mask = node.reshape(mask, &known(&[maps, 1, taps * points]))?;
        read = node.mul(read, mask)?;
    }
    let inner = channels / groups * taps;
    let columns = node.reshape(read, &known(&[batch, groups, inner, points]))?;
    let rows = node.reshape(weight, &known(&[groups, outputs / groups, inner]))?;
    let product = node.matmul(rows, columns)?;
    let mut y = node.reshape(product, &known(&[&[batch, outputs], to.as_slice()].concat()))?;
    if let Some(bias) = node.optional_value(3)? {
        let bias = super::normalization::per_channel(node, bias, rank + 2)?;
        y = node.add(y, bias)?;
    }
    node.one(y)
}
