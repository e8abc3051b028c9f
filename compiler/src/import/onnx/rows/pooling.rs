//! Pooling beyond maximum and mean of windows: indices of the largest, powers, regions, and responses of neighbouring channels.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since, standard};
use super::convolution::{Window, ceil_padding, window};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    standard("GlobalLpPool", global_lp_pool),
    standard("LpPool", lp_pool).refuses("ceil_mode and auto_pad over a symbol"),
    standard("LRN", local_response),
    standard("MaxRoiPool", max_roi_pool).refuses("sizes that are symbols"),
    since(9, "MaxUnpool", max_unpool).refuses("sizes that are symbols"),
];

/// The most entries of a table of window positions.
const TABLE_MAX: i64 = 1 << 22;

/// The known sizes of a value.
fn sizes(node: &NodeContext, x: ValueId) -> Outcome<Vec<i64>> {
    node.ty(x).known_shape().ok_or_else(|| {
        Fault::unsupported(
            format!("the dimensions must be known, found {}", node.ty(x)),
            "bind them with --bind NAME=VALUE",
        )
    })
}

fn dims(sizes: &[i64]) -> Vec<Dim> {
    sizes.iter().map(|size| Dim::Known(*size)).collect()
}

fn power(node: &mut NodeContext, x: ValueId, exponent: f64) -> Outcome<ValueId> {
    if exponent == 1.0 {
        return Ok(x);
    }
    let exponent = node.scalar_like(x, exponent)?;
    node.binary(&core::POW, x, exponent)
}

/// `|x|^p`.
fn magnitude(node: &mut NodeContext, x: ValueId, p: f64) -> Outcome<ValueId> {
    let x = node.unary(&core::ABS, x)?;
    power(node, x, p)
}

fn exponent(node: &NodeContext) -> Outcome<f64> {
    let p = if node.version < 2 { node.float("p", 2.0)? } else { node.int("p", 2)? as f64 };
    if p > 0.0 { Ok(p) } else { Err(Fault::model(format!("attribute 'p' = {p} must be more than 0"))) }
}

fn global_lp_pool(node: &mut NodeContext) -> Made {
    let (x, p) = (node.value(0)?, exponent(node)?);
    let axes: Vec<usize> = (2..node.rank(x)).collect();
    let x = magnitude(node, x, p)?;
    let sum = node.reduce(&core::REDUCE_SUM, x, &axes, true)?;
    let y = power(node, sum, 1.0 / p)?;
    node.one(y)
}

/// Means over windows, zeros around.
fn mean(node: &mut NodeContext, x: ValueId, kernel: &[i64], window: &Window) -> Outcome<ValueId> {
    node.make(&core::POOL, |op| {
        op.operand(x)
            .attribute("function", "average")
            .attribute("kernel", kernel)
            .attribute("strides", window.strides.clone())
            .attribute("pads_low", window.low.clone())
            .attribute("pads_high", window.high.clone())
            .attribute("dilations", window.dilations.clone())
            .attribute("count_include_pad", true)
    })
}

fn lp_pool(node: &mut NodeContext) -> Made {
    let (x, p) = (node.value(0)?, exponent(node)?);
    let spatial = node.shape(x).get(2..).map(<[Dim]>::to_vec).unwrap_or_default();
    let kernel = node
        .ints_attribute("kernel_shape")?
        .ok_or_else(|| Fault::model("attribute 'kernel_shape' is missing"))?;
    let mut window = window(node, &spatial, kernel)?;
    if node.flag("ceil_mode", false)? {
        for axis in 0..spatial.len() {
            window.high[axis] += ceil_padding(&spatial[axis], kernel[axis], &window, axis)?;
        }
    }
    let x = magnitude(node, x, p)?;
    let mean = mean(node, x, kernel, &window)?;
    let sum = node.scale(mean, kernel.iter().product::<i64>() as f64)?;
    let y = power(node, sum, 1.0 / p)?;
    node.one(y)
}

/// `x / (bias + alpha / size * sum of the squares of `size` channels around) ^ beta` (Krizhevsky et al. 2012, section 3.3).
fn local_response(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let (alpha, beta, bias) =
        (node.float("alpha", 1e-4)?, node.float("beta", 0.75)?, node.float("bias", 1.0)?);
    let size = node.required_int("size")?;
    let shape = node.shape(x);
    if shape.len() < 3 || !(1..1 << 20).contains(&size) {
        return Err(Fault::model(format!("{size} channels of {} cannot be summed", node.ty(x))));
    }
    let square = node.mul(x, x)?;
    // Channels as rows of an image of one channel.
    let inner = shape[2..].iter().fold(Dim::Known(1), |product, dim| &product * dim);
    let image = node.reshape(square, &[shape[0].clone(), Dim::Known(1), shape[1].clone(), inner])?;
    let (low, high) = ((size - 1) / 2, size - 1 - (size - 1) / 2);
    let window =
        Window { strides: vec![1, 1], dilations: vec![1, 1], low: vec![low, 0], high: vec![high, 0] };
    let mean = mean(node, image, &[size, 1], &window)?;
    let mean = node.reshape(mean, &shape)?;
    let scaled = node.scale(mean, alpha)?;
    let bias = node.scalar_like(x, bias)?;
    let sum = node.add(scaled, bias)?;
    let root = power(node, sum, beta)?;
    let y = node.binary(&core::DIV, x, root)?;
    node.one(y)
}

/// Where the windows of a pooling lie: for each of `outputs` windows and each of `taps` places the flat position, or -1 outside.
struct Table {
    to: Vec<i64>,
    taps: i64,
    places: Vec<i64>,
}

fn table(spatial: &[i64], kernel: &[i64], window: &Window) -> Outcome<Table> {
    let to: Vec<i64> = (0..spatial.len())
        .map(|axis| {
            let extent = (kernel[axis] - 1) * window.dilations[axis] + 1;
            (spatial[axis] + window.low[axis] + window.high[axis] - extent).div_euclid(window.strides[axis])
                + 1
        })
        .collect();
    let taps: i64 = kernel.iter().product();
    let outputs: i64 = to.iter().product();
    if to.iter().any(|size| *size < 1) || outputs.saturating_mul(taps) > TABLE_MAX {
        return Err(Fault::unsupported(
            format!("windows of {taps} over {spatial:?} are too many"),
            "pool without indices",
        ));
    }
    let mut places = Vec::new();
    for output in 0..outputs {
        for tap in 0..taps {
            let (mut flat, mut stride, mut is_inside) = (0, 1, true);
            let (mut output, mut tap) = (output, tap);
            for axis in (0..spatial.len()).rev() {
                let at = output % to[axis] * window.strides[axis]
                    + tap % kernel[axis] * window.dilations[axis]
                    - window.low[axis];
                is_inside &= (0..spatial[axis]).contains(&at);
                flat += at * stride;
                stride *= spatial[axis];
                (output, tap) = (output / to[axis], tap / kernel[axis]);
            }
            places.push(if is_inside { flat } else { -1 });
        }
    }
    Ok(Table { to, taps, places })
}

/// A flat position within an image counted along columns first.
fn column_major(flat: i64, spatial: &[i64]) -> i64 {
    let (mut rest, mut coordinates) = (flat, Vec::new());
    for size in spatial.iter().rev() {
        coordinates.push(rest % size);
        rest /= size;
    }
    let at = coordinates.iter().rev();
    at.zip(spatial).fold((0, 1), |(sum, stride), (at, size)| (sum + at * stride, stride * size)).0
}

/// Maximum pooling with the flat index of each largest element: every window is read by a table.
pub(super) fn max_pool_with_indices(
    node: &mut NodeContext,
    x: ValueId,
    kernel: &[i64],
    window: &Window,
) -> Made {
    let shape = sizes(node, x)?;
    let (batch, channels, spatial) = (shape[0], shape[1], &shape[2..]);
    let table = table(spatial, kernel, window)?;
    let (outputs, area) = (table.to.iter().product::<i64>(), spatial.iter().product::<i64>());
    let by_columns = node.int("storage_order", 0)? != 0;
    let count = outputs * table.taps;
    let flat = node.reshape(x, &dims(&[batch, channels, area]))?;
    let index =
        node.ints(Element::I64, &[count], &table.places.iter().map(|at| (*at).max(0)).collect::<Vec<_>>())?;
    let read = node.gather(flat, index, 2)?;
    let lowest = node.element(x).limits().0;
    let lowest = node.scalar_like(x, lowest)?;
    let inside = node.ints(
        Element::Bool,
        &[count],
        &table.places.iter().map(|at| i64::from(*at >= 0)).collect::<Vec<_>>(),
    )?;
    let read = node.select(inside, read, lowest)?;
    let read = node.reshape(read, &dims(&[batch, channels, outputs, table.taps]))?;
    let y = node.reduce(&core::REDUCE_MAX, read, &[3], false)?;
    let tap = node.make(&core::ARG_REDUCE, |op| {
        op.operand(read).attribute("function", "max").attribute("axis", 3usize).attribute("keep_dims", false)
    })?;
    // The tap's place in the table, then the position that stands there.
    let starts =
        node.ints(Element::I64, &[outputs], &(0..outputs).map(|at| at * table.taps).collect::<Vec<_>>())?;
    let entry = node.add(tap, starts)?;
    let numbers: Vec<i64> = table
        .places
        .iter()
        .map(|at| if by_columns { column_major((*at).max(0), spatial) } else { *at })
        .collect();
    let numbers = node.ints(Element::I64, &[count], &numbers)?;
    let place = node.gather(numbers, entry, 0)?;
    let images: Vec<i64> = (0..batch * channels).map(|at| at * area).collect();
    let images = node.ints(Element::I64, &[batch, channels, 1], &images)?;
    let place = node.add(place, images)?;
    let to = dims(&[&[batch, channels], table.to.as_slice()].concat());
    let (y, place) = (node.reshape(y, &to)?, node.reshape(place, &to)?);
    node.many(&[y, place])
}

/// Puts each element where its index says, zeros elsewhere.
fn max_unpool(node: &mut NodeContext) -> Made {
    let (x, indices) = (node.value(0)?, node.value(1)?);
    let shape = sizes(node, x)?;
    let kernel = node
        .ints_attribute("kernel_shape")?
        .ok_or_else(|| Fault::model("attribute 'kernel_shape' is missing"))?;
    let spatial: Vec<Dim> = dims(shape.get(2..).unwrap_or_default());
    let window = window(node, &spatial, kernel)?;
    let mut to = shape[..2.min(shape.len())].to_vec();
    for (axis, size) in kernel.iter().enumerate() {
        to.push((shape[axis + 2] - 1) * window.strides[axis] + size - window.low[axis] - window.high[axis]);
    }
    if to.iter().any(|size| !(0..1 << 31).contains(size)) {
        return Err(Fault::model(format!("the result {to:?} is out of range")));
    }
    let (count, total) = (shape.iter().product::<i64>(), to.iter().product::<i64>());
    let zero = node.scalar_like(x, 0.0)?;
    let empty = node.broadcast(zero, &[Dim::Known(total)])?;
    let (x, indices) = (node.reshape(x, &[Dim::Known(count)])?, node.reshape(indices, &[Dim::Known(count)])?);
    let y = node.make(&core::SCATTER_ELEMENTS, |op| {
        op.operands(&[empty, indices, x]).attribute("axis", 0usize).attribute("reduction", "none")
    })?;
    let mut y = node.reshape(y, &dims(&to))?;
    if node.optional(2).is_some() {
        let asked = node.known_ints(2)?;
        if asked.len() != to.len() || asked.iter().zip(&to).any(|(asked, found)| asked < found) {
            return Err(Fault::model(format!("a result of {to:?} does not fit into {asked:?}")));
        }
        let high: Vec<Dim> = asked.iter().zip(&to).map(|(asked, found)| Dim::Known(asked - found)).collect();
        let low = vec![Dim::Known(0); to.len()];
        y = node.make(&core::PAD, |op| {
            op.operand(y)
                .maybe(None)
                .attribute("low", low)
                .attribute("high", high)
                .attribute("mode", "constant")
        })?;
    }
    node.one(y)
}

/// `x` rounded towards one side.
fn rounded(node: &mut NodeContext, x: ValueId, mode: &'static str) -> Outcome<ValueId> {
    node.make(&core::ROUND, |op| op.operand(x).attribute("mode", mode))
}

/// `x` rounded to the nearest, ties away from zero.
fn rounded_away(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    let (sign, size) = (node.unary(&core::SIGN, x)?, node.unary(&core::ABS, x)?);
    let half = node.scalar_like(x, 0.5)?;
    let size = node.add(size, half)?;
    let size = rounded(node, size, "floor")?;
    node.mul(sign, size)
}

/// Which of `size` rows are in which of `bins` bins of each region: `[r, bins, size]` of bool.
fn region_mask(
    node: &mut NodeContext,
    start: ValueId,
    end: ValueId,
    bins: i64,
    size: i64,
) -> Outcome<ValueId> {
    let (one, zero) = (node.scalar_like(start, 1.0)?, node.scalar_like(start, 0.0)?);
    let length = node.sub(end, start)?;
    let length = node.add(length, one)?;
    let length = node.binary(&core::MAX, length, one)?;
    let count = node.scalar_like(length, bins as f64)?;
    let bin = node.binary(&core::DIV, length, count)?;
    let mut edges = Vec::new();
    for (shift, mode) in [(0.0, "floor"), (1.0, "ceil")] {
        let numbers = node.iota(Element::F32, &[Dim::Known(1), Dim::Known(bins)], 1)?;
        let shift = node.scalar(Element::F32, shift)?;
        let numbers = node.add(numbers, shift)?;
        let edge = node.mul(numbers, bin)?;
        let edge = rounded(node, edge, mode)?;
        let edge = node.add(edge, start)?;
        let limit = node.scalar_like(start, size as f64)?;
        let edge = node.binary(&core::MAX, edge, zero)?;
        let edge = node.binary(&core::MIN, edge, limit)?;
        let regions = node.dim(edge, 0)?;
        edges.push(node.reshape(edge, &[regions, Dim::Known(bins), Dim::Known(1)])?);
    }
    let rows = node.iota(Element::F32, &[Dim::Known(size)], 0)?;
    let (after, before) = (node.compare("ge", rows, edges[0])?, node.compare("lt", rows, edges[1])?);
    node.logical("and", after, before)
}

/// The largest element in each bin of regions `[r, 5]`: batch index, x1, y1, x2, y2 (Girshick 2015, section 2.1).
fn max_roi_pool(node: &mut NodeContext) -> Made {
    let (x, rois) = (node.value(0)?, node.value(1)?);
    let (shape, scale) = (sizes(node, x)?, node.float("spatial_scale", 1.0)?);
    let bins = node
        .ints_attribute("pooled_shape")?
        .ok_or_else(|| Fault::model("attribute 'pooled_shape' is missing"))?;
    if shape.len() != 4
        || node.rank(rois) != 2
        || node.dim(rois, 1)? != Dim::Known(5)
        || bins.len() != 2
        || bins.iter().any(|bins| !(1..1 << 16).contains(bins))
    {
        return Err(Fault::model("an input of rank 4, regions [r, 5] and two sizes are needed"));
    }
    let regions = node.dim(rois, 0)?;
    let column = |node: &mut NodeContext, at: i64| node.slice_axis(rois, 1, &Dim::Known(at), &Dim::Known(1));
    let batch = column(node, 0)?;
    let batch = node.reshape(batch, std::slice::from_ref(&regions))?;
    let batch = node.cast(batch, Element::I64)?;
    let mut y = node.gather(x, batch, 0)?;
    let lowest = node.scalar_like(x, f64::NEG_INFINITY)?;
    // Rows, then columns: [r, c, h, w] -> [r, c, bins, w] -> [r, c, bins, bins].
    for axis in 0..2 {
        let mut edges = Vec::new();
        for at in [2 - axis as i64, 4 - axis as i64] {
            let value = column(node, at)?;
            let value = node.cast(value, Element::F32)?;
            let value = node.scale(value, scale)?;
            edges.push(rounded_away(node, value)?);
        }
        let mask = region_mask(node, edges[0], edges[1], bins[axis], shape[2 + axis])?;
        let mut spread = node.shape(y).to_vec();
        spread.insert(2 + axis, Dim::Known(1));
        let mut wide = vec![Dim::Known(1); 5];
        (wide[0], wide[2 + axis], wide[3 + axis]) =
            (regions.clone(), Dim::Known(bins[axis]), Dim::Known(shape[2 + axis]));
        let (values, mask) = (node.reshape(y, &spread)?, node.reshape(mask, &wide)?);
        let inside = node.select(mask, values, lowest)?;
        y = node.reduce(&core::REDUCE_MAX, inside, &[3 + axis], false)?;
    }
    // A bin without elements is 0.
    let (zero, empty) = (node.scalar_like(y, 0.0)?, node.compare("eq", y, lowest)?);
    let y = node.select(empty, zero, y)?;
    node.one(y)
}
