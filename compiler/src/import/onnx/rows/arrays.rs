//! Rearrangements and small algebra: CenterCropPad, Col2Im, Det, ReverseSequence, TfIdfVectorizer.

use super::super::context::NodeContext;
use super::super::emit::axis_of;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since};
use std::collections::BTreeSet;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::tensor::Tensor;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    since(18, "CenterCropPad", center_crop_pad),
    since(18, "Col2Im", col2im).refuses("sizes that are symbols"),
    since(11, "Det", determinant).refuses("matrices of more than 64 rows or of unknown size"),
    since(10, "ReverseSequence", reverse_sequence),
    since(9, "TfIdfVectorizer", tf_idf).with_strings(),
];

/// The largest matrix whose determinant is taken: elimination is one step per row.
const MATRIX_MAX: i64 = 64;

fn known(dim: &Dim) -> Outcome<i64> {
    dim.known().ok_or_else(|| {
        Fault::unsupported(
            format!("the dimension must be known, found {dim}"),
            "bind it with --bind NAME=VALUE",
        )
    })
}

fn center_crop_pad(node: &mut NodeContext) -> Made {
    let mut x = node.value(0)?;
    let rank = node.rank(x);
    let sizes = node.known_ints(1)?;
    let axes: Vec<usize> = match node.ints_attribute("axes")? {
        Some(axes) => axes.iter().map(|axis| axis_of(*axis, rank)).collect::<Outcome<_>>()?,
        None => (0..rank).collect(),
    };
    if sizes.len() != axes.len() || sizes.iter().any(|size| !(0..1 << 31).contains(size)) {
        return Err(Fault::model(format!("sizes {sizes:?} do not fit {} axes", axes.len())));
    }
    for (axis, size) in axes.into_iter().zip(sizes) {
        let surplus = known(&node.dim(x, axis)?)? - size;
        if surplus > 0 {
            x = node.slice_axis(x, axis, &Dim::Known(surplus / 2), &Dim::Known(size))?;
        } else if surplus < 0 {
            let (mut low, mut high) = (vec![Dim::Known(0); rank], vec![Dim::Known(0); rank]);
            low[axis] = Dim::Known(-surplus / 2);
            high[axis] = Dim::Known(-surplus - -surplus / 2);
            x = node.make(&core::PAD, |op| {
                op.operand(x)
                    .maybe(None)
                    .attribute("low", low)
                    .attribute("high", high)
                    .attribute("mode", "constant")
            })?;
        }
    }
    node.one(x)
}

/// Columns `[n, c * kernel, blocks]` added up where they came from: a transposed convolution whose weights put tap k at place k.
fn col2im(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let (image, kernel) = (node.known_ints(1)?, node.known_ints(2)?);
    let rank = image.len();
    let list = |name: &str, count: usize, default: i64| -> Outcome<Vec<i64>> {
        let list = node.ints_attribute(name)?.map_or(vec![default; count], <[i64]>::to_vec);
        if list.len() == count && list.iter().all(|value| (default..1 << 31).contains(value)) {
            Ok(list)
        } else {
            Err(Fault::model(format!("attribute '{name}' = {list:?} must hold {count} sizes")))
        }
    };
    let (strides, dilations, pads) =
        (list("strides", rank, 1)?, list("dilations", rank, 1)?, list("pads", 2 * rank, 0)?);
    let taps: i64 = kernel.iter().product();
    let shape = node.shape(x);
    let is_fit = rank > 0
        && kernel.len() == rank
        && kernel.iter().all(|size| (1..1 << 16).contains(size))
        && shape.len() == 3;
    let rows = if is_fit { known(&shape[1])? } else { 0 };
    if !is_fit || taps > 1 << 16 || rows % taps != 0 {
        return Err(Fault::model(format!("{} does not fit blocks of {kernel:?}", node.ty(x))));
    }
    let (mut blocks, mut surplus) = (Vec::new(), Vec::new());
    for axis in 0..rank {
        let span = image[axis] + pads[axis] + pads[rank + axis] - (dilations[axis] * (kernel[axis] - 1) + 1);
        if span < 0 {
            return Err(Fault::model(format!("blocks of {kernel:?} are larger than the image {image:?}")));
        }
        blocks.push(span / strides[axis] + 1);
        surplus.push(span % strides[axis]);
    }
    node.equate("the number of blocks differs", &shape[2], &Dim::Known(blocks.iter().product()))?;
    let mut apart = vec![shape[0].clone(), shape[1].clone()];
    apart.extend(blocks.iter().map(|blocks| Dim::Known(*blocks)));
    let x = node.reshape(x, &apart)?;
    let groups = rows / taps;
    let weights = (0..rows * taps).map(|at| f64::from(u8::from(at / taps % taps == at % taps))).collect();
    let weights_shape: Vec<usize> = [rows, 1].iter().chain(&kernel).map(|size| *size as usize).collect();
    let element = node.element(x);
    let weights = node.tensor(&Tensor::from_floats(element, &weights_shape, weights))?;
    let y = node.make(&core::CONV_TRANSPOSE, |op| {
        op.operands(&[x, weights])
            .maybe(None)
            .attribute("strides", strides)
            .attribute("pads_low", pads[..rank].to_vec())
            .attribute("pads_high", pads[rank..].to_vec())
            .attribute("dilations", dilations)
            .attribute("groups", groups)
            .attribute("output_pads", surplus)
    })?;
    node.one(y)
}

/// Elimination with the largest element of a column as pivot, one step per row.
fn determinant(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let shape = node.shape(x);
    let Some((front, [rows, columns])) = shape.split_last_chunk::<2>() else {
        return Err(Fault::model(format!("a matrix is needed, found {}", node.ty(x))));
    };
    node.equate("the matrix is not square", rows, columns)?;
    let size = known(rows)?;
    if size > MATRIX_MAX {
        return Err(Fault::unsupported(format!("a matrix of {size} rows is too large"), "use at most 64"));
    }
    let one = node.scalar_like(x, 1.0)?;
    let mut result = node.broadcast(one, front)?;
    let mut rest = x;
    for left in (1..=size).rev() {
        let column_shape = [front, &[Dim::Known(left), Dim::Known(1)]].concat();
        let last = front.len() + 1;
        let column = node.slice_axis(rest, last, &Dim::Known(0), &Dim::Known(1))?;
        let height = node.unary(&core::ABS, column)?;
        let pivot = node.make(&core::ARG_REDUCE, |op| {
            op.operand(height)
                .attribute("function", "max")
                .attribute("axis", last - 1)
                .attribute("keep_dims", true)
        })?;
        let numbers = node.iota(Element::I64, &column_shape, last - 1)?;
        let is_pivot = node.compare("eq", numbers, pivot)?;
        let zero = node.scalar_like(x, 0.0)?;
        let pivot_row = node.select(is_pivot, rest, zero)?;
        let pivot_row = node.reduce(&core::REDUCE_SUM, pivot_row, &[last - 1], true)?;
        let value = node.slice_axis(pivot_row, last, &Dim::Known(0), &Dim::Known(1))?;
        let first = node.ints(Element::I64, &[], &[0])?;
        let stays = node.compare("eq", pivot, first)?;
        let (plus, minus) = (node.scalar_like(x, 1.0)?, node.scalar_like(x, -1.0)?);
        let sign = node.select(stays, plus, minus)?;
        let factor = node.mul(value, sign)?;
        let factor = node.reshape(factor, front)?;
        result = node.mul(result, factor)?;
        if left == 1 {
            break;
        }
        // The first row takes the place of the pivot's, then goes.
        let first_row = node.slice_axis(rest, last - 1, &Dim::Known(0), &Dim::Known(1))?;
        let swapped = node.select(is_pivot, first_row, rest)?;
        let below = node.slice_axis(swapped, last - 1, &Dim::Known(1), &Dim::Known(left - 1))?;
        let heads = node.slice_axis(below, last, &Dim::Known(0), &Dim::Known(1))?;
        let is_zero = node.compare("eq", value, zero)?;
        let divisor = node.select(is_zero, plus, value)?;
        let factors = node.binary(&core::DIV, heads, divisor)?;
        let change = node.mul(factors, pivot_row)?;
        let below = node.sub(below, change)?;
        rest = node.slice_axis(below, last, &Dim::Known(1), &Dim::Known(left - 1))?;
    }
    node.one(result)
}

fn reverse_sequence(node: &mut NodeContext) -> Made {
    let (x, lengths) = (node.value(0)?, node.value(1)?);
    let rank = node.rank(x);
    let (time, batch) = (node.axis("time_axis", 0, rank)?, node.axis("batch_axis", 1, rank)?);
    let shape = node.shape(x);
    if time == batch || node.rank(lengths) != 1 {
        return Err(Fault::model("two axes and one length per batch are needed"));
    }
    node.equate("lengths and batches differ", &node.dim(lengths, 0)?, &shape[batch])?;
    let mut spread = vec![Dim::Known(1); rank];
    spread[batch] = shape[batch].clone();
    let lengths = node.reshape(lengths, &spread)?;
    let lengths = node.cast(lengths, Element::I64)?;
    let at = node.iota(Element::I64, &shape, time)?;
    let one = node.ints(Element::I64, &[], &[1])?;
    let last = node.sub(lengths, one)?;
    let mirrored = node.sub(last, at)?;
    let is_inside = node.compare("lt", at, lengths)?;
    let indices = node.select(is_inside, mirrored, at)?;
    let y = node.make(&core::GATHER_ELEMENTS, |op| op.operands(&[x, indices]).attribute("axis", time))?;
    node.one(y)
}

/// Counts of n-grams of integers, with gaps of up to `max_skip_count` between their words.
fn tf_idf(node: &mut NodeContext) -> Made {
    let texts = node.texts_attribute("pool_strings")?.filter(|_| !node.has("pool_int64s"));
    // Words that are strings are numbers before anything else: their places in the sorted pool.
    let (x, numbers) = match texts {
        Some(texts) => {
            let words: Vec<String> = texts.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
            let number = |text: &String| words.binary_search(text).map_or(-1, |at| at as i64);
            let numbers = texts.iter().map(number).collect();
            (super::look_up::numbered(node, words)?, Some(numbers))
        }
        None => (node.value(0)?, None),
    };
    let (shape, element) = (node.shape(x), node.element(x));
    if !(1..=2).contains(&shape.len()) || element.is_float() {
        return Err(Fault::model(format!(
            "words [c] or [n, c] as integers are needed, found {}",
            node.ty(x)
        )));
    }
    let ints = |name: &str| -> Outcome<Vec<i64>> {
        Ok(node
            .ints_attribute(name)?
            .ok_or_else(|| Fault::model(format!("attribute '{name}' is missing")))?
            .to_vec())
    };
    let (starts, columns) = (ints("ngram_counts")?, ints("ngram_indexes")?);
    let pool = numbers.map_or_else(|| ints("pool_int64s"), Ok)?;
    let (shortest, longest) = (node.required_int("min_gram_length")?, node.required_int("max_gram_length")?);
    let (skips, mode) = (node.required_int("max_skip_count")?, node.text("mode", "")?);
    let words = known(shape.last().unwrap_or(&Dim::Known(0)))?;
    // Words that are further apart than all of them are nowhere.
    let skips = skips.min(words);
    let batch = if shape.len() == 2 { shape[0].clone() } else { Dim::Known(1) };
    let x = node.reshape(x, &[batch.clone(), Dim::Known(words)])?;
    let zero = node.scalar(Element::F32, 0.0)?;
    let mut parts = Vec::new();
    for (at, start) in starts.iter().enumerate() {
        let length = at as i64 + 1;
        let end = starts.get(at + 1).copied().unwrap_or(pool.len() as i64);
        let grams = usize::try_from(*start)
            .ok()
            .zip(usize::try_from(end).ok())
            .and_then(|(start, end)| pool.get(start..end));
        let grams = grams.filter(|grams| grams.len() as i64 % length == 0);
        let grams = grams.ok_or_else(|| {
            Fault::model(format!("attribute 'ngram_counts' = {starts:?} does not fit the pool"))
        })?;
        let count = grams.len() as i64 / length;
        if count == 0 {
            continue;
        }
        let mut sum = node.broadcast(zero, &[batch.clone(), Dim::Known(count)])?;
        // Gaps make no difference to single words.
        for gap in
            (0..=if length == 1 { 0 } else { skips }).filter(|_| (shortest..=longest).contains(&length))
        {
            let places = words - (length - 1) * (gap + 1);
            if places > 0 {
                let found = matches(node, x, (&batch, places), grams, length, gap + 1)?;
                sum = node.add(sum, found)?;
            }
        }
        parts.push(sum);
    }
    let weights: Option<Vec<f64>> = node
        .floats_attribute("weights")?
        .map(|weights| weights.iter().map(|weight| f64::from(*weight)).collect());
    let counts = if parts.is_empty() {
        node.broadcast(zero, &[batch.clone(), Dim::Known(0)])?
    } else {
        node.concat(&parts, 1)?
    };
    let total = known(&node.dim(counts, 1)?)? as usize;
    let width = columns.iter().max().map_or(0, |last| last.saturating_add(1));
    if columns.len() != total
        || columns.iter().any(|column| !(0..1 << 24).contains(column))
        || weights.as_ref().is_some_and(|weights| weights.len() != total)
    {
        return Err(Fault::model(format!("{} indexes for {total} n-grams", columns.len())));
    }
    let value = match mode.as_str() {
        "TF" => counts,
        "IDF" | "TFIDF" => {
            let counts = if mode == "IDF" {
                let is_found = node.compare("gt", counts, zero)?;
                node.cast(is_found, Element::F32)?
            } else {
                counts
            };
            let weights = weights.unwrap_or_else(|| vec![1.0; total]);
            let weights = node.tensor(&Tensor::from_floats(Element::F32, &[total], weights))?;
            node.mul(counts, weights)?
        }
        other => return Err(Fault::model(format!("attribute 'mode' = '{other}' is not known"))),
    };
    // Columns that no n-gram has read a zero behind all.
    let mut from = vec![total as i64; width as usize];
    columns.iter().enumerate().for_each(|(at, column)| from[*column as usize] = at as i64);
    let behind = node.broadcast(zero, &[batch, Dim::Known(1)])?;
    let value = node.concat(&[value, behind], 1)?;
    let from = node.ints(Element::I64, &[width], &from)?;
    let y = node.gather(value, from, 1)?;
    let y = if shape.len() == 1 { node.reshape(y, &[Dim::Known(width)])? } else { y };
    node.one(y)
}

/// How often each n-gram occurs with its words `step` apart: `[batch, grams]`.
fn matches(
    node: &mut NodeContext,
    x: ValueId,
    (batch, places): (&Dim, i64),
    grams: &[i64],
    length: i64,
    step: i64,
) -> Outcome<ValueId> {
    let count = grams.len() as i64 / length;
    let mut all: Option<ValueId> = None;
    for word in 0..length {
        let part = node.slice_axis(x, 1, &Dim::Known(word * step), &Dim::Known(places))?;
        let part = node.reshape(part, &[batch.clone(), Dim::Known(places), Dim::Known(1)])?;
        let expected: Vec<i64> = (0..count).map(|gram| grams[(gram * length + word) as usize]).collect();
        let expected = node.ints(Element::I64, &[count], &expected)?;
        let part = node.cast(part, Element::I64)?;
        let same = node.compare("eq", part, expected)?;
        all = Some(match all {
            Some(all) => node.logical("and", all, same)?,
            None => same,
        });
    }
    let all = all.ok_or_else(|| Fault::model("n-grams without words"))?;
    let numbers = node.cast(all, Element::F32)?;
    node.reduce(&core::REDUCE_SUM, numbers, &[1], false)
}
