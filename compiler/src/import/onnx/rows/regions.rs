//! RoiAlign: regions of maps read at points between their elements, and pooled. The points of a bin are as many as the model says, or
//! as the region is large: then the points are read one after the other, for all regions and bins at once, in a loop that ends with
//! the largest region.
//!
//! ```text
//! at [r, bins] = start + bin * (0, 1, .. + (i + 0.5) / points)   for each point i of a bin along an axis
//! ```

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since};
use super::sampling::{Between, Outside, affine, flat, floats, reads, rounded, sizes_from, sum, values};
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::types::TensorType;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[since(10, "RoiAlign", roi_align)
    .refuses("sizes that are symbols; more than 1,024 points per bin and axis")];

/// What is read.
struct Maps {
    /// The map of each region: `[r, c, s]`.
    maps: ValueId,
    /// Height and width.
    sizes: Vec<i64>,
    /// Bins along both.
    bins: [i64; 2],
    is_max: bool,
}

/// Start and size of regions along one axis, in elements of the map: `[r, 1]` each.
fn region(node: &mut NodeContext, rois: ValueId, axis: usize) -> Outcome<[ValueId; 2]> {
    let scale = node.float("spatial_scale", 1.0)?;
    let default = if node.version < 16 { "output_half_pixel" } else { "half_pixel" };
    let half = node.text("coordinate_transformation_mode", default)? == "half_pixel";
    let shift = if half { -0.5 } else { 0.0 };
    let column = |node: &mut NodeContext, at: i64| -> Outcome<ValueId> {
        let part = node.slice_axis(rois, 1, &Dim::Known(at), &Dim::Known(1))?;
        let part = node.cast(part, Element::F32)?;
        affine(node, part, scale, shift)
    };
    // Regions are x1, y1, x2, y2.
    let (start, end) = (column(node, 1 - axis as i64)?, column(node, 3 - axis as i64)?);
    let mut size = node.sub(end, start)?;
    if !half {
        let one = node.scalar_like(size, 1.0)?;
        size = node.binary(&core::MAX, size, one)?;
    }
    Ok([start, size])
}

/// What maps hold at points, given along both axes as `[r, p]` and `[r, q]`: `[r, c, p * q]`. Far outside of a map it is 0.
fn read_at(node: &mut NodeContext, maps: &Maps, points: [ValueId; 2]) -> Outcome<ValueId> {
    let regions = node.dim(points[0], 0)?;
    let [p, q] = [node.dim(points[0], 1)?, node.dim(points[1], 1)?];
    let full = [regions.clone(), p.clone(), q.clone()];
    let (mut lists, mut flags) = (Vec::new(), Vec::new());
    for (axis, at) in points.into_iter().enumerate() {
        let (low, high) = (node.scalar_like(at, -1.0)?, node.scalar_like(at, maps.sizes[axis] as f64)?);
        let (above, below) = (node.compare("ge", at, low)?, node.compare("le", at, high)?);
        let flag = node.logical("and", above, below)?;
        let mut shape = vec![regions.clone(), Dim::Known(1), Dim::Known(1)];
        shape[1 + axis] = full[1 + axis].clone();
        for (value, list) in [(at, &mut lists), (flag, &mut flags)] {
            let value = node.reshape(value, &shape)?;
            let value = node.broadcast(value, &full)?;
            list.push(node.reshape(value, &[regions.clone(), &p * &q])?);
        }
    }
    let flag = node.logical("and", flags[0], flags[1])?;
    let flag = node.cast(flag, Element::F32)?;
    let mut reads = reads(node, &lists, &maps.sizes, Between::Linear, Outside::Border)?;
    for read in &mut reads {
        read.weight = read.weight.map(|weight| node.mul(weight, flag)).transpose()?;
    }
    let values = values(node, maps.maps, &reads)?;
    if !maps.is_max {
        return sum(node, &values);
    }
    let (first, rest) = values.split_first().ok_or_else(|| Fault::model("nothing to read"))?;
    rest.iter().try_fold(*first, |so_far, value| node.binary(&core::MAX, so_far, *value))
}

fn roi_align(node: &mut NodeContext) -> Made {
    let (x, rois, batch) = (node.value(0)?, node.value(1)?, node.value(2)?);
    let sizes = sizes_from(node, x, 2)?;
    let bins = [node.int("output_height", 1)?, node.int("output_width", 1)?];
    let samples = node.int("sampling_ratio", 0)?;
    if sizes.len() != 2
        || node.rank(rois) != 2
        || node.rank(batch) != 1
        || node.dim(rois, 1)? != Dim::Known(4)
    {
        return Err(Fault::model("an input of rank 4, regions [r, 4] and r batch indices are needed"));
    }
    if samples < 0 || bins.iter().any(|bins| !(1..1 << 20).contains(bins)) || samples > 1 << 10 {
        let what = format!("{bins:?} bins of {samples} points along each axis are not supported");
        return Err(Fault::unsupported(what, "give 'sampling_ratio' 1 to 1024, or 0"));
    }
    node.equate("regions and batch indices differ", &node.dim(rois, 0)?, &node.dim(batch, 0)?)?;
    let maps = node.gather(x, batch, 0)?;
    let maps = flat(node, maps, &sizes)?;
    let is_max = node.text("mode", "avg")? == "max";
    let maps = Maps { maps, sizes, bins, is_max };
    let regions = [region(node, rois, 0)?, region(node, rois, 1)?];
    let y =
        if samples == 0 { adaptive(node, &maps, regions)? } else { fixed(node, &maps, regions, samples)? };
    node.one(y)
}

/// As many points in each bin: all are read at once.
fn fixed(node: &mut NodeContext, maps: &Maps, regions: [[ValueId; 2]; 2], samples: i64) -> Outcome<ValueId> {
    let mut points = Vec::new();
    for ([start, size], bins) in regions.into_iter().zip(maps.bins) {
        let bin = node.scale(size, 1.0 / bins as f64)?;
        let places = (0..bins * samples)
            .map(|at| (at / samples) as f64 + ((at % samples) as f64 + 0.5) / samples as f64)
            .collect();
        let places = floats(node, &[1, (bins * samples) as usize], places)?;
        let inside = node.mul(bin, places)?;
        points.push(node.add(start, inside)?);
    }
    let joined = read_at(node, maps, [points[0], points[1]])?;
    let [count, channels] = [0, 1].map(|axis| node.ty(joined).shape[axis].clone());
    let (samples, bins) = (Dim::Known(samples), maps.bins.map(Dim::Known));
    let [height, width] = bins;
    let apart = node.reshape(joined, &[count, channels, height, samples.clone(), width, samples])?;
    node.reduce(if maps.is_max { &core::REDUCE_MAX } else { &core::REDUCE_MEAN }, apart, &[3, 5], false)
}

/// Points of a bin along one axis as a region is large: `[r, 1]` of whole f32.
fn points_of(node: &mut NodeContext, size: ValueId, bins: i64) -> Outcome<ValueId> {
    let size = node.scale(size, 1.0 / bins as f64)?;
    let points = rounded(node, size, "ceil")?;
    let zero = node.scalar_like(points, 0.0)?;
    node.binary(&core::MAX, points, zero)
}

fn at_least_one(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    let one = node.scalar_like(x, 1.0)?;
    node.binary(&core::MAX, x, one)
}

/// One point of all bins after the other, while the largest region has more.
fn adaptive(node: &mut NodeContext, maps: &Maps, regions: [[ValueId; 2]; 2]) -> Outcome<ValueId> {
    let mut points = Vec::new();
    for ([_, size], bins) in regions.iter().zip(maps.bins) {
        points.push(points_of(node, *size, bins)?);
    }
    let count = node.mul(points[0], points[1])?;
    // A row for the case that there are no regions.
    let none = floats(node, &[1, 1], vec![0.0])?;
    let all = node.concat(&[count, none], 0)?;
    let most = node.reduce(&core::REDUCE_MAX, all, &[0, 1], false)?;
    let trip = node.cast(most, Element::I64)?;
    let [rows, channels] = [0, 1].map(|axis| node.ty(maps.maps).shape[axis].clone());
    let element = node.element(maps.maps);
    let ty = TensorType::new(element, [rows, channels, Dim::Known(maps.bins[0] * maps.bins[1])]);
    let start = node.scalar(element, if maps.is_max { f64::NEG_INFINITY } else { 0.0 })?;
    let start = node.broadcast(start, &ty.shape)?;
    let sizes = Attributes::from([("operandSegmentSizes".into(), Attribute::Segments(vec![1, 0, 1].into()))]);
    let op = node.begin_region_op(&core::LOOP, &[trip, start], sizes, 1);
    let arguments = [TensorType::of(Element::I64, &[]), TensorType::of(Element::Bool, &[]), ty.clone()];
    let [number, _, so_far] = node.open_region(op, 0, &arguments)[..] else {
        return Err(Fault::model("a loop of one value"));
    };
    let next = step(node, maps, regions, [points[0], points[1]], (number, so_far))?;
    let proceed = node.ints(Element::Bool, &[], &[1])?;
    node.close_region(&[proceed, next])?;
    let total = node.end_region_op(op, &[ty])[0];
    let total = finished(node, maps, total, count)?;
    let dims = node.shape(total);
    let bins = maps.bins.map(Dim::Known);
    node.reshape(total, &[&dims[..2], &bins].concat())
}

/// Adds point `number` of all bins of the regions that have so many.
fn step(
    node: &mut NodeContext,
    maps: &Maps,
    regions: [[ValueId; 2]; 2],
    points: [ValueId; 2],
    (number, so_far): (ValueId, ValueId),
) -> Outcome<ValueId> {
    let number = node.cast(number, Element::F32)?;
    // Row after row of points.
    let width = at_least_one(node, points[1])?;
    let row = node.binary(&core::DIV, number, width)?;
    let row = rounded(node, row, "floor")?;
    let passed = node.mul(row, width)?;
    let column = node.sub(number, passed)?;
    let mut at = Vec::new();
    for (axis, own) in [row, column].into_iter().enumerate() {
        let [start, size] = regions[axis];
        let bins = maps.bins[axis];
        let bin = node.scale(size, 1.0 / bins as f64)?;
        let own = affine(node, own, 1.0, 0.5)?;
        let most = at_least_one(node, points[axis])?;
        let own = node.binary(&core::DIV, own, most)?;
        let places = floats(node, &[1, bins as usize], (0..bins).map(|bin| bin as f64).collect())?;
        let places = node.add(places, own)?;
        let inside = node.mul(bin, places)?;
        at.push(node.add(start, inside)?);
    }
    let found = read_at(node, maps, [at[0], at[1]])?;
    let count = node.mul(points[0], points[1])?;
    let is_there = node.compare("lt", number, count)?;
    let is_there = per_region(node, is_there)?;
    let joined = if maps.is_max { node.binary(&core::MAX, so_far, found)? } else { node.add(so_far, found)? };
    node.select(is_there, joined, so_far)
}

/// `[r, 1]` as `[r, 1, 1]`.
fn per_region(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    let rows = node.dim(x, 0)?;
    node.reshape(x, &[rows, Dim::Known(1), Dim::Known(1)])
}

/// The mean of sums, or the largest; 0 for regions without points.
fn finished(node: &mut NodeContext, maps: &Maps, total: ValueId, count: ValueId) -> Outcome<ValueId> {
    let count = per_region(node, count)?;
    let zero = node.scalar_like(count, 0.0)?;
    let is_empty = node.compare("eq", count, zero)?;
    let none = node.scalar_like(total, 0.0)?;
    if maps.is_max {
        return node.select(is_empty, none, total);
    }
    let count = at_least_one(node, count)?;
    let count = node.cast_like(count, total)?;
    node.binary(&core::DIV, total, count)
}
