//! Operators whose results are as long as the data says: NonZero, Compress, Unique, NonMaxSuppression.
//!
//! All of them find places with `core.nonzero`, whose length is a symbol that the run binds; the rest is gathers and comparisons.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since};
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::types::TensorType;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    since(9, "Compress", compress).moving_strings(),
    since(9, "NonZero", nonzero).refuses("scalars"),
    since(10, "NonMaxSuppression", non_max_suppression).refuses("more than 4,096 boxes"),
    since(11, "Unique", unique).refuses("more than 4,096 rows of several elements"),
];

/// The most elements or boxes of which all pairs are compared.
const PAIRS_OF_MAX: i64 = 4096;

/// The places of true elements of a vector: `[count]`.
pub(super) fn places(node: &mut NodeContext, flags: ValueId) -> Outcome<ValueId> {
    let output = node.node.output.first().map_or("found", String::as_str);
    let count = node.symbols.open(&format!("{output}_count"));
    let ty = TensorType::new(Element::I64, [count]);
    node.make(&core::NONZERO, |op| op.operand(flags).result(ty))
}

fn flattened(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    let count = node.ty(x).element_count();
    node.reshape(x, &[count])
}

fn remainder(node: &mut NodeContext, a: ValueId, b: ValueId) -> Outcome<ValueId> {
    let mode = Attributes::from([("mode".into(), Attribute::str("floor"))]);
    node.binary_with(&core::REMAINDER, a, b, mode)
}

/// The coordinates of flat places: one `[count]` per dimension.
fn coordinates(node: &mut NodeContext, mut places: ValueId, shape: &[Dim]) -> Outcome<Vec<ValueId>> {
    let mut all = Vec::new();
    for dim in shape.iter().rev() {
        let size = node.size(dim)?;
        all.push(remainder(node, places, size)?);
        places = node.binary(&core::DIV, places, size)?;
    }
    all.reverse();
    Ok(all)
}

/// Vectors `[count]` as `[n, count]`, or `[count, n]`.
fn stacked(node: &mut NodeContext, vectors: &[ValueId], as_columns: bool) -> Outcome<ValueId> {
    let mut parts = Vec::new();
    for vector in vectors {
        let count = node.dim(*vector, 0)?;
        let shape = if as_columns { [count, Dim::Known(1)] } else { [Dim::Known(1), count] };
        parts.push(node.reshape(*vector, &shape)?);
    }
    node.concat(&parts, usize::from(as_columns))
}

fn nonzero(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let shape = node.shape(x);
    if shape.is_empty() {
        return Err(Fault::unsupported("a scalar has no coordinates", "give a tensor of rank 1 or more"));
    }
    let flat = flattened(node, x)?;
    let flags = node.cast(flat, Element::Bool)?;
    let found = places(node, flags)?;
    let rows = coordinates(node, found, &shape)?;
    let y = stacked(node, &rows, false)?;
    node.one(y)
}

fn compress(node: &mut NodeContext) -> Made {
    let (mut x, condition) = (node.value(0)?, node.value(1)?);
    let axis = if node.has("axis") {
        node.axis("axis", 0, node.rank(x))?
    } else {
        x = flattened(node, x)?;
        0
    };
    let found = places(node, condition)?;
    let y = node.gather(x, found, axis)?;
    node.one(y)
}

/// Whether elements are NaN, where their type has it.
fn nans(node: &mut NodeContext, x: ValueId) -> Outcome<Option<ValueId>> {
    node.element(x).is_float().then(|| node.unary(&core::IS_NAN, x)).transpose()
}

/// Whether both of two elements are NaN, and whether the right one alone is.
fn both_nan(node: &mut NodeContext, left: ValueId, right: ValueId) -> Outcome<Option<[ValueId; 2]>> {
    let (Some(left), Some(right)) = (nans(node, left)?, nans(node, right)?) else { return Ok(None) };
    let other = node.unary(&core::NOT, left)?;
    Ok(Some([node.logical("and", left, right)?, node.logical("and", other, right)?]))
}

/// Pairs of rows `[n, m]` compared: whether row i equals row j, and whether it comes before it, both `[n, n]` of i64 0 or 1. NaN is
/// the largest, and equal to itself where `nan_is_one`; rows that are neither equal nor in order keep theirs. As numpy.unique, which
/// has one NaN of a flat array and all rows with NaN.
fn compared(node: &mut NodeContext, rows: ValueId, nan_is_one: bool) -> Outcome<(ValueId, ValueId)> {
    let shape = node.shape(rows);
    let (n, m, one) = (shape[0].clone(), shape[1].clone(), Dim::Known(1));
    let left = node.reshape(rows, &[n.clone(), one.clone(), m.clone()])?;
    let right = node.reshape(rows, &[one, n, m])?;
    let (mut tied, mut less) = (node.compare("eq", left, right)?, node.compare("lt", left, right)?);
    let strict = tied;
    let nan = both_nan(node, left, right)?;
    if let Some([both, right_alone]) = nan {
        tied = node.logical("or", tied, both)?;
        less = node.logical("or", less, right_alone)?;
    }
    let whole = |node: &mut NodeContext, flags: ValueId| node.cast(flags, Element::I64);
    let (same, less) = (whole(node, tied)?, whole(node, less)?);
    let equal = node.reduce(&core::REDUCE_MIN, same, &[2], false)?;
    // The first column that differs decides.
    let before = node.make(&core::CUMULATIVE, |op| {
        op.operand(same)
            .attribute("function", "prod")
            .attribute("axis", 2usize)
            .attribute("exclusive", true)
            .attribute("reverse", false)
    })?;
    let decides = node.mul(before, less)?;
    let less = node.reduce(&core::REDUCE_MAX, decides, &[2], false)?;
    if nan.is_none() || nan_is_one {
        return Ok((equal, less));
    }
    let own = node.shape(equal).to_vec();
    let (row, column) = (node.iota(Element::I64, &own, 0)?, node.iota(Element::I64, &own, 1)?);
    let (earlier, itself) = (node.compare("lt", row, column)?, node.compare("eq", row, column)?);
    let (earlier, itself) = (whole(node, earlier)?, whole(node, itself)?);
    let strict = whole(node, strict)?;
    let strict = node.reduce(&core::REDUCE_MIN, strict, &[2], false)?;
    let only_tied = node.sub(equal, strict)?;
    let first = node.mul(only_tied, earlier)?;
    Ok((node.binary(&core::MAX, strict, itself)?, node.binary(&core::MAX, less, first)?))
}

fn running_sum(node: &mut NodeContext, x: ValueId, exclusive: bool) -> Outcome<ValueId> {
    node.make(&core::CUMULATIVE, |op| {
        op.operand(x)
            .attribute("function", "sum")
            .attribute("axis", 0usize)
            .attribute("exclusive", exclusive)
            .attribute("reverse", false)
    })
}

/// A vector with updates put, or added, at indices.
fn scattered(
    node: &mut NodeContext,
    x: ValueId,
    indices: ValueId,
    updates: ValueId,
    reduction: &'static str,
) -> Outcome<ValueId> {
    node.make(&core::SCATTER_ELEMENTS, |op| {
        op.operands(&[x, indices, updates]).attribute("axis", 0usize).attribute("reduction", reduction)
    })
}

/// For each of the rows `[n, m]` the first that is equal, and how many different ones come before it in order: `[n]` each.
fn by_pairs(node: &mut NodeContext, rows: ValueId, nan_is_one: bool) -> Outcome<(ValueId, ValueId)> {
    let count = node.dim(rows, 0)?;
    let (equal, less) = compared(node, rows, nan_is_one)?;
    let first = node.make(&core::ARG_REDUCE, |op| {
        op.operand(equal).attribute("function", "max").attribute("axis", 1usize).attribute("keep_dims", false)
    })?;
    let own = node.iota(Element::I64, std::slice::from_ref(&count), 0)?;
    let is_first = node.compare("eq", first, own)?;
    let counted = node.cast(is_first, Element::I64)?;
    let column = node.reshape(counted, &[count, Dim::Known(1)])?;
    let marked = node.mul(less, column)?;
    Ok((first, node.reduce(&core::REDUCE_SUM, marked, &[0], false)?))
}

/// As [`by_pairs`] for rows of one element, at least one: equal ones are neighbours in order, the first one first.
fn by_sorting(node: &mut NodeContext, rows: ValueId, nan_is_one: bool) -> Outcome<(ValueId, ValueId)> {
    let flat = flattened(node, rows)?;
    let count = node.dim(flat, 0)?;
    let op = node.op(&core::TOP_K, |op| {
        op.operand(flat)
            .attribute("k", Attribute::dim(&count))
            .attribute("axis", 0usize)
            .attribute("largest", false)
    })?;
    let [ordered, order] = [0, 1].map(|at| node.module.op(op).results[at]);
    let one = Dim::Known(1);
    let least = node.slice_axis(ordered, 0, &Dim::Known(0), &one)?;
    let others = node.slice_axis(ordered, 0, &Dim::Known(0), &(&count - &one))?;
    let left = node.concat(&[least, others], 0)?;
    let mut differs = node.compare("ne", ordered, left)?;
    if let (true, Some([both, _])) = (nan_is_one, both_nan(node, ordered, left)?) {
        let other = node.unary(&core::NOT, both)?;
        differs = node.logical("and", differs, other)?;
    }
    // The first of each group: those that differ from their left one, and the least, which has none.
    let zero = node.ints(Element::I64, &[], &[0])?;
    let own = node.iota(Element::I64, std::slice::from_ref(&count), 0)?;
    let has_left = node.compare("gt", own, zero)?;
    let differs = node.logical("and", differs, has_left)?;
    let is_least = node.unary(&core::NOT, has_left)?;
    let begins = node.logical("or", differs, is_least)?;
    let differs = node.cast(differs, Element::I64)?;
    let group = running_sum(node, differs, false)?;
    let starts = places(node, begins)?;
    let starts = node.gather(order, starts, 0)?;
    let first = node.gather(starts, group, 0)?;
    let empty = node.broadcast(zero, &[count])?;
    Ok((scattered(node, empty, order, first, "none")?, scattered(node, empty, order, group, "none")?))
}

fn unique(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let from = node.shape(x);
    let axis = if node.has("axis") { Some(node.axis("axis", 0, from.len())?) } else { None };
    let mut order: Vec<usize> = (0..from.len()).collect();
    let front = match axis {
        Some(axis) => {
            order.remove(axis);
            order.insert(0, axis);
            node.transpose(x, &order)?
        }
        None => flattened(node, x)?,
    };
    let items = node.shape(front);
    let width = items[1..].iter().fold(Dim::Known(1), |product, dim| &product * dim);
    let rows = node.reshape(front, &[items[0].clone(), width.clone()])?;
    let fits = |most: i64| items[0].known().is_some_and(|count| (0..=most).contains(&count));
    let (first, rank) = if fits(PAIRS_OF_MAX) {
        by_pairs(node, rows, axis.is_none())?
    } else if width == Dim::Known(1) && fits(i64::MAX) {
        by_sorting(node, rows, axis.is_none())?
    } else {
        let what = format!("at most {PAIRS_OF_MAX} rows can be compared, found {}", items[0]);
        return Err(Fault::unsupported(what, "bind the dimensions"));
    };
    let own = node.iota(Element::I64, &items[..1], 0)?;
    let is_first = node.compare("eq", first, own)?;
    // The place of a row's value in the result.
    let before = if node.flag("sorted", true)? {
        rank
    } else {
        let counted = node.cast(is_first, Element::I64)?;
        let sums = running_sum(node, counted, true)?;
        node.gather(sums, first, 0)?
    };
    let found = places(node, is_first)?;
    let count = node.shape(found);
    let at = node.gather(before, found, 0)?;
    let zero = node.ints(Element::I64, &[], &[0])?;
    let empty = node.broadcast(zero, &count)?;
    let indices = scattered(node, empty, at, found, "none")?;
    let y = node.gather(front, indices, 0)?;
    let y = match axis {
        Some(axis) => {
            let mut back: Vec<usize> = (1..from.len()).collect();
            back.insert(axis, 0);
            node.transpose(y, &back)?
        }
        None => y,
    };
    let one = node.ints(Element::I64, &[], &[1])?;
    let ones = node.broadcast(one, &items[..1])?;
    let counts = scattered(node, empty, before, ones, "add")?;
    node.many(&[y, indices, before, counts])
}

/// The overlap of all pairs of boxes `[b, n, 4]`, intersection over union: `[b, n, n]`.
fn overlaps(node: &mut NodeContext, boxes: ValueId) -> Outcome<ValueId> {
    let boxes = node.cast(boxes, Element::F32)?;
    let shape = node.shape(boxes);
    let (batch, count, one) = (shape[0].clone(), shape[1].clone(), Dim::Known(1));
    let centered = node.flag("center_point_box", false)?;
    let part = |node: &mut NodeContext, at: i64| node.slice_axis(boxes, 2, &Dim::Known(at), &Dim::Known(1));
    let (mut area, mut both) = (None, None);
    for axis in 0..2 {
        let (a, b) = (part(node, axis)?, part(node, axis + 2)?);
        let (low, high) = if centered {
            let half = node.scale(b, 0.5)?;
            (node.sub(a, half)?, node.add(a, half)?)
        } else {
            (node.binary(&core::MIN, a, b)?, node.binary(&core::MAX, a, b)?)
        };
        let across = [batch.clone(), one.clone(), count.clone()];
        let (low_across, high_across) = (node.reshape(low, &across)?, node.reshape(high, &across)?);
        let start = node.binary(&core::MAX, low, low_across)?;
        let end = node.binary(&core::MIN, high, high_across)?;
        let length = node.sub(end, start)?;
        let length = node.unary(&core::RELU, length)?;
        let own = node.sub(high, low)?;
        area = Some(match area {
            Some(area) => node.mul(area, own)?,
            None => own,
        });
        both = Some(match both {
            Some(both) => node.mul(both, length)?,
            None => length,
        });
    }
    let (Some(area), Some(both)) = (area, both) else { return Err(Fault::model("boxes have two axes")) };
    let across = node.reshape(area, &[batch, one, count])?;
    let sum = node.add(area, across)?;
    let union = node.sub(sum, both)?;
    // No union is no overlap.
    let zero = node.scalar_like(union, 0.0)?;
    let is_real = node.compare("gt", union, zero)?;
    let ratio = node.binary(&core::DIV, both, union)?;
    node.select(is_real, ratio, zero)
}

/// A scalar input of one element, or a default.
fn threshold(node: &mut NodeContext, at: usize, element: Element, default: f64) -> Outcome<ValueId> {
    match node.optional_value(at)? {
        Some(value) => {
            let value = node.reshape(value, &[])?;
            node.cast(value, element)
        }
        None => node.scalar(element, default),
    }
}

/// Boxes by falling score, each kept unless one that was kept before overlaps it too much.
fn non_max_suppression(node: &mut NodeContext) -> Made {
    let (boxes, scores) = (node.value(0)?, node.value(1)?);
    let shape = node.shape(scores);
    if shape.len() != 3 || node.rank(boxes) != 3 || node.dim(boxes, 2)? != Dim::Known(4) {
        return Err(Fault::model(format!(
            "boxes [b, n, 4] and scores [b, c, n] are needed, found {} and {}",
            node.ty(boxes),
            node.ty(scores)
        )));
    }
    node.equate("boxes and scores differ in number", &node.dim(boxes, 1)?, &shape[2])?;
    node.equate("batches of boxes and scores differ", &node.dim(boxes, 0)?, &shape[0])?;
    if !shape[2].known().is_some_and(|count| (0..=PAIRS_OF_MAX).contains(&count)) {
        let what = format!("at most {PAIRS_OF_MAX} boxes can be compared, found {}", shape[2]);
        return Err(Fault::unsupported(what, "bind the dimensions"));
    }
    let most = threshold(node, 2, Element::I64, 0.0)?;
    let limit = threshold(node, 3, Element::F32, 0.0)?;
    let sorted = node.op(&core::TOP_K, |op| {
        op.operand(scores)
            .attribute("k", Attribute::dim(&shape[2]))
            .attribute("axis", 2usize)
            .attribute("largest", true)
    })?;
    let [ranked, order] = [0, 1].map(|at| node.module.op(sorted).results[at]);
    // Overlaps with both axes in the order of the scores of each class.
    let ratios = overlaps(node, boxes)?;
    let (b, c, n, one) = (shape[0].clone(), shape[1].clone(), shape[2].clone(), Dim::Known(1));
    let full = [b.clone(), c.clone(), n.clone(), n.clone()];
    let ratios = node.reshape(ratios, &[b.clone(), one.clone(), n.clone(), n.clone()])?;
    let mut ratios = node.broadcast(ratios, &full)?;
    for axis in [2usize, 3] {
        let mut spread = [b.clone(), c.clone(), one.clone(), one.clone()];
        spread[axis] = n.clone();
        let index = node.reshape(order, &spread)?;
        let index = node.broadcast(index, &full)?;
        ratios =
            node.make(&core::GATHER_ELEMENTS, |op| op.operands(&[ratios, index]).attribute("axis", axis))?;
    }
    let overlaps = node.compare("gt", ratios, limit)?;
    let is_valid = if node.optional(4).is_some() {
        let lowest = threshold(node, 4, Element::F32, 0.0)?;
        let ranked = node.cast(ranked, Element::F32)?;
        node.compare("gt", ranked, lowest)?
    } else {
        let always = node.ints(Element::Bool, &[], &[1])?;
        node.broadcast(always, &shape)?
    };
    let kept = suppressed(node, overlaps, is_valid, &n)?;
    let numbers = node.cast(kept, Element::I64)?;
    let so_far = node.make(&core::CUMULATIVE, |op| {
        op.operand(numbers)
            .attribute("function", "sum")
            .attribute("axis", 2usize)
            .attribute("exclusive", false)
            .attribute("reverse", false)
    })?;
    let within = node.compare("le", so_far, most)?;
    let kept = node.logical("and", kept, within)?;
    let flags = flattened(node, kept)?;
    let found = places(node, flags)?;
    let mut columns = coordinates(node, found, &shape)?;
    let order = flattened(node, order)?;
    columns[2] = node.gather(order, found, 0)?;
    let y = stacked(node, &columns, true)?;
    node.one(y)
}

/// Walks candidates in order: `overlaps` `[b, c, n, n]`, `is_valid` `[b, c, n]`; gives which are kept, `[b, c, n]`.
fn suppressed(node: &mut NodeContext, overlaps: ValueId, is_valid: ValueId, count: &Dim) -> Outcome<ValueId> {
    let shape = node.shape(is_valid);
    let none = node.ints(Element::Bool, &[], &[0])?;
    let none = node.broadcast(none, &shape)?;
    let square = [count.clone(), count.clone()];
    let (rows, columns) = (node.iota(Element::I64, &square, 0)?, node.iota(Element::I64, &square, 1)?);
    let own = node.compare("eq", rows, columns)?;
    let attributes = Attributes::from([
        ("carried_count".into(), 1usize.into()),
        ("axes".into(), vec![3i64, 2, 0].into()),
        ("reverse".into(), vec![0i64; 3].into()),
    ]);
    let op = node.begin_region_op(&core::SCAN, &[none, overlaps, is_valid, own], attributes, 1);
    let flags = |dims: &[Dim]| TensorType::new(Element::Bool, dims.iter().cloned());
    let arguments = [flags(&shape), flags(&shape), flags(&shape[..2]), flags(std::slice::from_ref(count))];
    let [kept, overlap, valid, own] = node.open_region(op, 0, &arguments)[..] else {
        return Err(Fault::model("a scan of three values"));
    };
    let hits = node.logical("and", kept, overlap)?;
    let hits = node.cast(hits, Element::I64)?;
    let hits = node.reduce(&core::REDUCE_MAX, hits, &[2], false)?;
    let is_free = node.cast(hits, Element::Bool)?;
    let is_free = node.unary(&core::NOT, is_free)?;
    let keep = node.logical("and", valid, is_free)?;
    let keep = node.reshape(keep, &[shape[0].clone(), shape[1].clone(), Dim::Known(1)])?;
    let here = node.logical("and", keep, own)?;
    let next = node.logical("or", kept, here)?;
    node.close_region(&[next])?;
    let results = node.end_region_op(op, &[flags(&shape)]);
    Ok(results[0])
}
