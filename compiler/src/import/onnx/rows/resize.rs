//! Resize and Upsample: one axis after the other, each a product with a matrix of interpolation weights, or a gather.
//!
//! ```text
//! Resize(x [1, 1, 2, 2], scales 2, linear)  ->  matmul(w [4, 2], x), then matmul(.., w^T)
//! ```

use super::super::context::NodeContext;
use super::super::emit::axis_of;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::tensor::Tensor;

type Made = Outcome<Vec<Operand>>;

const REFUSED: &str = "sizes that are symbols";

pub(super) static ROWS: &[Row] = &[
    since(10, "Resize", resize).refuses(REFUSED),
    Row { versions: 7..=9, ..since(7, "Upsample", upsample).refuses(REFUSED) },
];

/// The most elements of a matrix of weights.
const WEIGHTS_MAX: i64 = 1 << 24;

/// How positions of the result become positions of the input, and these a value.
#[derive(Clone, Debug)]
struct Rule {
    mode: String,
    coordinates: String,
    nearest: String,
    cubic: f64,
    excludes_outside: bool,
    antialias: bool,
    extrapolation: f64,
}

/// One axis: its lengths, the scale, and the region of interest from 0 to 1.
#[derive(Clone, Copy, Debug)]
struct Axis {
    from: i64,
    to: i64,
    scale: f64,
    region: (f64, f64),
}

fn unknown(name: &str, value: &str) -> Fault {
    Fault::model(format!("attribute '{name}' = '{value}' is not known"))
}

fn upsample(node: &mut NodeContext) -> Made {
    let scales: Vec<f64> = match node.floats_attribute("scales")? {
        Some(scales) => scales.iter().map(|scale| f64::from(*scale)).collect(),
        None => node.known_tensor(1)?.floats(),
    };
    let rule = old_rule(node)?;
    run(node, &rule, None, Some(scales), None)
}

/// The rule before opset 11.
fn old_rule(node: &NodeContext) -> Outcome<Rule> {
    Ok(Rule {
        mode: node.text("mode", "nearest")?,
        coordinates: "asymmetric".into(),
        nearest: "floor".into(),
        cubic: -0.75,
        excludes_outside: false,
        antialias: false,
        extrapolation: 0.0,
    })
}

fn resize(node: &mut NodeContext) -> Made {
    if node.version < 11 {
        let scales = node.known_tensor(1)?.floats();
        let rule = old_rule(node)?;
        return run(node, &rule, None, Some(scales), None);
    }
    let rule = Rule {
        mode: node.text("mode", "nearest")?,
        coordinates: node.text("coordinate_transformation_mode", "half_pixel")?,
        nearest: node.text("nearest_mode", "round_prefer_floor")?,
        cubic: node.float("cubic_coeff_a", -0.75)?,
        excludes_outside: node.flag("exclude_outside", false)?,
        antialias: node.flag("antialias", false)?,
        extrapolation: node.float("extrapolation_value", 0.0)?,
    };
    let mut list = |at: usize| -> Outcome<Option<Vec<f64>>> {
        match node.optional(at) {
            // Exporters write an empty tensor for what is left out.
            Some(operand) if operand.ty().element_count() != Dim::Known(0) => {
                Ok(Some(node.known_tensor(at)?.floats()))
            }
            _ => Ok(None),
        }
    };
    let (region, scales, sizes) = (list(1)?, list(2)?, list(3)?);
    run(node, &rule, region, scales, sizes)
}

fn run(
    node: &mut NodeContext,
    rule: &Rule,
    region: Option<Vec<f64>>,
    scales: Option<Vec<f64>>,
    sizes: Option<Vec<f64>>,
) -> Made {
    let x = node.value(0)?;
    let rank = node.rank(x);
    let axes: Vec<usize> = match node.ints_attribute("axes")? {
        Some(axes) => axes.iter().map(|axis| axis_of(*axis, rank)).collect::<Outcome<_>>()?,
        None => (0..rank).collect(),
    };
    let given = scales.as_ref().or(sizes.as_ref()).map_or(0, Vec::len);
    if given != axes.len() || region.as_ref().is_some_and(|region| region.len() != 2 * axes.len()) {
        return Err(Fault::model(format!("{given} scales or sizes for {} axes", axes.len())));
    }
    let plan = plan(node, x, &axes, rule, region, scales, sizes)?;
    let element = node.element(x);
    let computes = rule.mode != "nearest";
    let mut y = if computes && element != Element::F64 { node.cast(x, Element::F32)? } else { x };
    let mut outside: Option<ValueId> = None;
    for (axis, along) in axes.iter().zip(&plan) {
        let Some(along) = along else { continue };
        let places: Vec<f64> =
            (0..along.to).map(|at| position(at as f64, along, rule)).collect::<Outcome<_>>()?;
        y = if computes {
            weighted(node, y, *axis, along, &places, rule)?
        } else {
            picked(node, y, *axis, along, &places, rule)?
        };
        if rule.coordinates == "tf_crop_and_resize" {
            outside = Some(join_outside(node, outside, &places, along, *axis, rank)?);
        }
    }
    if let Some(outside) = outside {
        let value = node.scalar_like(y, rule.extrapolation)?;
        y = node.select(outside, value, y)?;
    }
    let y = node.cast(y, element)?;
    node.one(y)
}

/// Lengths and scales of each axis; `None` for one that stays as it is.
fn plan(
    node: &NodeContext,
    x: ValueId,
    axes: &[usize],
    rule: &Rule,
    region: Option<Vec<f64>>,
    scales: Option<Vec<f64>>,
    sizes: Option<Vec<f64>>,
) -> Outcome<Vec<Option<Axis>>> {
    let crops = rule.coordinates == "tf_crop_and_resize";
    if let Some(scales) = &scales
        && let Some(wrong) = scales.iter().find(|scale| !(**scale > 0.0 && scale.is_finite()))
    {
        return Err(Fault::model(format!("scale {wrong} must be more than 0")));
    }
    let length = |at: usize| -> Outcome<i64> {
        let dim = node.dim(x, axes[at])?;
        dim.known().filter(|dim| *dim < 1 << 31).ok_or_else(|| {
            Fault::unsupported(
                format!("a resized dimension must be known, found {dim}"),
                "bind it with --bind NAME=VALUE",
            )
        })
    };
    let policy = node.text("keep_aspect_ratio_policy", "stretch")?;
    let kept = match (&sizes, policy.as_str()) {
        (None, _) | (_, "stretch") => None,
        (Some(sizes), policy) => {
            let ratios = sizes.iter().enumerate().map(|(at, size)| Ok(size / length(at)? as f64));
            let ratios = ratios.collect::<Outcome<Vec<f64>>>()?;
            Some(match policy {
                "not_larger" => ratios.iter().copied().fold(f64::INFINITY, f64::min),
                "not_smaller" => ratios.iter().copied().fold(0.0, f64::max),
                other => return Err(unknown("keep_aspect_ratio_policy", other)),
            })
        }
    };
    let mut plan = Vec::new();
    for at in 0..axes.len() {
        let scale = scales.as_ref().map(|scales| scales[at]);
        if scale == Some(1.0) && !crops {
            plan.push(None);
            continue;
        }
        let from = length(at)?;
        let (to, scale) = match (scale, kept, &sizes) {
            (Some(scale), ..) => ((from as f64 * scale).floor() as i64, scale),
            (None, Some(kept), _) => ((kept * from as f64 + 0.5).floor() as i64, kept),
            (None, None, Some(sizes)) => (sizes[at] as i64, sizes[at] / from as f64),
            (None, None, None) => return Err(Fault::model("neither scales nor sizes are given")),
        };
        if !(0..1 << 31).contains(&to) || (from == 0 && to > 0) {
            return Err(Fault::model(format!("a dimension of {from} cannot be resized to {to}")));
        }
        let region = region.as_ref().map_or((0.0, 1.0), |region| (region[at], region[at + axes.len()]));
        plan.push((from != to || scale != 1.0 || crops).then_some(Axis { from, to, scale, region }));
    }
    Ok(plan)
}

/// The position in the input that position `at` of the result stands for.
fn position(at: f64, axis: &Axis, rule: &Rule) -> Outcome<f64> {
    let (from, length) = (axis.from as f64, axis.scale * axis.from as f64);
    Ok(match rule.coordinates.as_str() {
        "align_corners" if length == 1.0 => 0.0,
        "align_corners" => at * (from - 1.0) / (length - 1.0),
        "asymmetric" => at / axis.scale,
        "pytorch_half_pixel" if length == 1.0 => -0.5,
        "half_pixel" | "pytorch_half_pixel" => (at + 0.5) / axis.scale - 0.5,
        "half_pixel_symmetric" => {
            let offset = from / 2.0 * (1.0 - axis.to as f64 / length);
            offset + (at + 0.5) / axis.scale - 0.5
        }
        "tf_crop_and_resize" => {
            let (start, end) = axis.region;
            let inside =
                if length == 1.0 { (end - start) / 2.0 } else { at * (end - start) / (length - 1.0) };
            (start + inside) * (from - 1.0)
        }
        other => return Err(unknown("coordinate_transformation_mode", other)),
    })
}

/// The elements nearest to the places.
fn picked(
    node: &mut NodeContext,
    x: ValueId,
    axis: usize,
    along: &Axis,
    places: &[f64],
    rule: &Rule,
) -> Outcome<ValueId> {
    let round = |place: f64| -> Outcome<f64> {
        Ok(match rule.nearest.as_str() {
            "round_prefer_floor" => (place - 0.5).ceil(),
            "round_prefer_ceil" => (place + 0.5).floor(),
            "floor" => place.floor(),
            "ceil" => place.ceil(),
            other => return Err(unknown("nearest_mode", other)),
        })
    };
    let last = (along.from - 1).max(0) as f64;
    let indices: Vec<i64> =
        places.iter().map(|place| Ok(round(*place)?.clamp(0.0, last) as i64)).collect::<Outcome<_>>()?;
    let indices = node.ints(Element::I64, &[along.to], &indices)?;
    node.gather(x, indices, axis)
}

/// Weighted sums of the elements around the places.
fn weighted(
    node: &mut NodeContext,
    x: ValueId,
    axis: usize,
    along: &Axis,
    places: &[f64],
    rule: &Rule,
) -> Outcome<ValueId> {
    let (from, to) = (along.from as usize, along.to as usize);
    if along.from * along.to > WEIGHTS_MAX {
        return Err(Fault::unsupported(
            format!("resizing {from} to {to} takes too large a matrix"),
            "use nearest",
        ));
    }
    let mut matrix = vec![0.0; from * to];
    for (row, place) in places.iter().enumerate() {
        let mut taps = taps(*place, along.scale, rule)?;
        let inside = |at: i64| (0..along.from).contains(&at);
        if rule.excludes_outside {
            taps.retain(|tap| inside(tap.0));
            let sum: f64 = taps.iter().map(|tap| tap.1).sum();
            taps.iter_mut().for_each(|tap| tap.1 /= sum);
        }
        for (at, weight) in taps {
            // Beyond the edges the edge goes on.
            matrix[row * from + at.clamp(0, along.from - 1) as usize] += weight;
        }
    }
    let element = node.element(x);
    let matrix = node.tensor(&Tensor::from_floats(element, &[to, from], matrix))?;
    let rank = node.rank(x);
    if axis + 2 == rank {
        return node.matmul(matrix, x);
    }
    let mut order: Vec<usize> = (0..rank).filter(|other| *other != axis).collect();
    order.push(axis);
    let moved = node.transpose(x, &order)?;
    let columns = node.transpose_last(matrix)?;
    let y = node.matmul(moved, columns)?;
    let mut back: Vec<usize> = (0..rank - 1).collect();
    back.insert(axis, rank - 1);
    node.transpose(y, &back)
}

/// The elements around a place and their weights, which sum to 1.
fn taps(place: f64, scale: f64, rule: &Rule) -> Outcome<Vec<(i64, f64)>> {
    // On an element the place counts as the end of the interval before it.
    let base = place.ceil() - 1.0;
    let ratio = place - base;
    let reach = match rule.mode.as_str() {
        "linear" => 1.0,
        "cubic" => 2.0,
        other => return Err(unknown("mode", other)),
    };
    let a = rule.cubic;
    let kernel = |distance: f64| -> f64 {
        let x = distance.abs();
        match (reach == 1.0, x) {
            (true, x) => (1.0 - x).max(0.0),
            (false, x) if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            (false, x) if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            _ => 0.0,
        }
    };
    // Antialiasing widens the kernel where the result has fewer elements.
    let scale = if rule.antialias { scale.min(1.0) } else { 1.0 };
    let first = (-reach / scale).floor() as i64 + 1;
    let mut taps: Vec<(i64, f64)> =
        (first..2 - first).map(|at| (base as i64 + at, kernel((at as f64 - ratio) * scale))).collect();
    if rule.antialias {
        let sum: f64 = taps.iter().map(|tap| tap.1).sum();
        taps.iter_mut().for_each(|tap| tap.1 /= sum);
    }
    Ok(taps)
}

/// Marks results whose place is outside the input.
fn join_outside(
    node: &mut NodeContext,
    so_far: Option<ValueId>,
    places: &[f64],
    along: &Axis,
    axis: usize,
    rank: usize,
) -> Outcome<ValueId> {
    let last = (along.from - 1) as f64;
    let flags: Vec<i64> = places.iter().map(|place| i64::from(*place < 0.0 || *place > last)).collect();
    let mut shape = vec![1; rank];
    shape[axis] = along.to;
    let flags = node.ints(Element::Bool, &shape, &flags)?;
    match so_far {
        Some(so_far) => node.logical("or", so_far, flags),
        None => Ok(flags),
    }
}
