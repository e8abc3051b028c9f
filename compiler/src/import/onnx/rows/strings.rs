//! Operators on strings. A string is a row of code points filled up with zeros (`crate::strings`), so that all of them are gathers,
//! comparisons and sums of integers: nothing below the importer knows of text.
//!
//! ```text
//! StringNormalizer(["Be", "or"], stopwords = ["or"])  ->  rows that equal no stop word, in another case
//! ```

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::letter_case::{CASED, COUNTED, Case, CaseTable, PAGE, SIGMA, case_table};
use super::super::operand::Operand;
use super::super::table::{Build, Row, since};
use super::selection::places;
use crate::strings;
use tilewright_ir::attribute::Attributes;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    since(20, "StringConcat", string_concat).with_strings(),
    since(10, "StringNormalizer", string_normalizer)
        .with_strings()
        .refuses("locales tr, az and lt, whose case differs"),
];

/// Languages in which letters have another case than elsewhere.
const OTHER_CASE: &[&str] = &["tr", "az", "lt"];

/// A finished value as the node's only output, of strings.
pub(super) fn one(node: &NodeContext, codes: ValueId) -> Made {
    Ok(vec![Operand::strings(node.operand(codes))])
}

/// Strings known now, as code points `[count, length]`.
pub(super) fn constant(node: &mut NodeContext, texts: &[String]) -> Outcome<ValueId> {
    let codes = strings::encode(&[texts.len()], texts)?;
    node.tensor(&codes)
}

/// Zeros of a shape.
pub(super) fn zeros(node: &mut NodeContext, element: Element, shape: &[Dim]) -> Outcome<ValueId> {
    let zero = node.ints(element, &[], &[0])?;
    node.broadcast(zero, shape)
}

/// Code points with room for so many more along the last axis.
fn with_room(node: &mut NodeContext, codes: ValueId, more: &Dim) -> Outcome<ValueId> {
    if *more == Dim::Known(0) {
        return Ok(codes);
    }
    let (mut shape, element) = (node.shape(codes).to_vec(), node.element(codes));
    let last = shape.len() - 1;
    shape[last] = more.clone();
    let room = zeros(node, element, &shape)?;
    node.concat(&[codes, room], last)
}

pub(super) fn length(node: &NodeContext, codes: ValueId) -> Dim {
    node.ty(codes).shape.last().cloned().unwrap_or(Dim::Known(0))
}

/// Two values with room for equally many code points: those of the longer where both lengths are known, else of both.
pub(super) fn aligned(node: &mut NodeContext, a: ValueId, b: ValueId) -> Outcome<[ValueId; 2]> {
    let (left, right) = (length(node, a), length(node, b));
    if left == right {
        return Ok([a, b]);
    }
    let (more_left, more_right) = match (left.known(), right.known()) {
        (Some(left), Some(right)) => (Dim::Known((right - left).max(0)), Dim::Known((left - right).max(0))),
        _ => (right, left),
    };
    Ok([with_room(node, a, &more_left)?, with_room(node, b, &more_right)?])
}

/// Strings `[n, length]` below each other.
fn below(node: &mut NodeContext, parts: &[ValueId]) -> Outcome<ValueId> {
    let mut lengths: Vec<Dim> = parts.iter().map(|part| length(node, *part)).collect();
    lengths.sort();
    lengths.dedup();
    let known: Option<Vec<i64>> = lengths.iter().map(Dim::known).collect();
    let longest = match known {
        Some(known) => Dim::Known(known.into_iter().max().unwrap_or(0)),
        None => lengths.iter().fold(Dim::Known(0), |sum, length| &sum + length),
    };
    let mut all = Vec::new();
    for part in parts {
        let more = &longest - &length(node, *part);
        all.push(with_room(node, *part, &more)?);
    }
    node.concat(&all, 0)
}

/// An operator that only moves elements, on the places of its strings among all of them: what it gives are places of strings
/// where `gives_strings`, and else its own.
pub(crate) fn by_places(node: &mut NodeContext, build: Build, gives_strings: bool) -> Made {
    let (mut all, mut start) = (Vec::new(), Dim::Known(0));
    for at in 0..node.inputs.len() {
        let codes = node.inputs[at].as_ref().and_then(Operand::as_strings).cloned();
        let Some(codes) = codes else { continue };
        let codes = node.data(&codes)?;
        let shape = node.shape(codes);
        let Some((length, dims)) = shape.split_last() else { continue };
        let count = dims.iter().fold(Dim::Known(1), |product, dim| &product * dim);
        let own = node.iota(Element::I64, std::slice::from_ref(&count), 0)?;
        let first = node.size(&start)?;
        let places = node.add(own, first)?;
        let places = node.reshape(places, dims)?;
        node.inputs[at] = Some(node.operand(places));
        all.push(node.reshape(codes, &[count.clone(), length.clone()])?);
        start = &start + &count;
    }
    let made = build(node)?;
    if !gives_strings {
        return Ok(made);
    }
    let all = below(node, &all)?;
    let strings = |places: Operand| {
        let places = node.data(&places)?;
        let codes = node.gather(all, places, 0)?;
        Ok(Operand::strings(node.operand(codes)))
    };
    made.into_iter().map(strings).collect()
}

/// Whether strings `[.., length]` and `[.., length]`, which broadcast but for the lengths, are equal.
pub(super) fn equal(node: &mut NodeContext, a: ValueId, b: ValueId) -> Outcome<ValueId> {
    let [a, b] = aligned(node, a, b)?;
    let same = node.compare("eq", a, b)?;
    let same = node.cast(same, Element::I64)?;
    let last = node.rank(same) - 1;
    let all = node.reduce(&core::REDUCE_MIN, same, &[last], false)?;
    node.cast(all, Element::Bool)
}

/// Which of some texts each of the strings `[.., length]` equals: `[.., texts]`.
pub(super) fn equal_to_each(node: &mut NodeContext, codes: ValueId, texts: &[String]) -> Outcome<ValueId> {
    let mut shape = node.shape(codes).to_vec();
    shape.insert(shape.len() - 1, Dim::Known(1));
    let codes = node.reshape(codes, &shape)?;
    let texts = constant(node, texts)?;
    equal(node, codes, texts)
}

/// What the tables say of each code point, column by column.
struct LookUp<'t> {
    table: &'t CaseTable,
    entry: ValueId,
}

impl<'t> LookUp<'t> {
    fn new(node: &mut NodeContext, codes: ValueId, table: &'t CaseTable) -> Outcome<LookUp<'t>> {
        let size = node.scalar_like(codes, f64::from(PAGE))?;
        let page = node.binary(&core::DIV, codes, size)?;
        let last = node.scalar_like(codes, (table.pages.len() - 1) as f64)?;
        let page = node.binary(&core::MIN, page, last)?;
        let at = node.binary_with(
            &core::REMAINDER,
            codes,
            size,
            Attributes::from([("mode".into(), "floor".into())]),
        )?;
        let page = gathered(node, Element::U8, &table.pages, page)?;
        let start = node.mul(page, size)?;
        let place = node.add(start, at)?;
        let entry = gathered(node, Element::U8, &table.entries, place)?;
        Ok(LookUp { table, entry })
    }

    fn column(&self, node: &mut NodeContext, column: usize) -> Outcome<ValueId> {
        gathered(node, Element::I32, &self.table.columns[column], self.entry)
    }
}

/// Elements of a stored vector, as i32.
fn gathered(node: &mut NodeContext, stored: Element, values: &[i64], at: ValueId) -> Outcome<ValueId> {
    let values = node.ints(stored, &[values.len() as i64], values)?;
    let found = node.gather(values, at, 0)?;
    node.cast(found, Element::I32)
}

/// Strings `[n, length]` in another case: `[n, m * length]`, m as many code points as one may become.
fn in_case(node: &mut NodeContext, codes: ValueId, case: Case) -> Outcome<ValueId> {
    let table = case_table(case);
    let found = LookUp::new(node, codes, table)?;
    let distance = found.column(node, 0)?;
    let mut first = node.add(codes, distance)?;
    if case == Case::Lower {
        first = with_final_sigma(node, codes, first, &found)?;
    }
    let [count, length] = [0, 1].map(|axis| node.ty(codes).shape[axis].clone());
    let mut parts = Vec::new();
    for column in 0..table.width {
        let part = if column == 0 { first } else { found.column(node, column)? };
        parts.push(node.reshape(part, &[count.clone(), length.clone(), Dim::Known(1)])?);
    }
    let spread = node.concat(&parts, 2)?;
    let spread = node.reshape(spread, &[count, &length * &Dim::Known(table.width as i64)])?;
    moved_together(node, spread)
}

/// Exclusive sums along the last of two axes.
pub(super) fn counted_before(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    node.make(&core::CUMULATIVE, |op| {
        op.operand(x).attribute("function", "sum").attribute("axis", 1usize).attribute("exclusive", true)
    })
}

/// Adds updates `[n, m]` at places along the last axis of zeros `[n, length]`.
pub(super) fn scattered(
    node: &mut NodeContext,
    length: &Dim,
    at: ValueId,
    updates: ValueId,
) -> Outcome<ValueId> {
    let count = node.dim(updates, 0)?;
    let empty = zeros(node, node.element(updates), &[count, length.clone()])?;
    node.make(&core::SCATTER_ELEMENTS, |op| {
        op.operands(&[empty, at, updates]).attribute("axis", 1usize).attribute("reduction", "add")
    })
}

/// Code points `[n, length]` with zeros between them moved to the end.
fn moved_together(node: &mut NodeContext, codes: ValueId) -> Outcome<ValueId> {
    let zero = node.scalar_like(codes, 0.0)?;
    let is_there = node.compare("ne", codes, zero)?;
    let is_there = node.cast(is_there, Element::I32)?;
    // A zero adds nothing wherever it lands, and lands within: its place is at most its own.
    let at = counted_before(node, is_there)?;
    let length = length(node, codes);
    scattered(node, &length, at, codes)
}

/// Lower case with `ς` for a capital sigma at the end of a word: behind a letter and before none, signs within words passed over.
fn with_final_sigma(
    node: &mut NodeContext,
    codes: ValueId,
    lower: ValueId,
    found: &LookUp,
) -> Outcome<ValueId> {
    let (cased, counted) = (found.column(node, CASED)?, found.column(node, COUNTED)?);
    // Marks of all that counts, side by side, with nothing before the first and behind the last.
    let order = counted_before(node, counted)?;
    let shift = |node: &mut NodeContext, by: f64| {
        let by = node.scalar_like(order, by)?;
        node.add(order, by)
    };
    let (own, next) = (shift(node, 1.0)?, shift(node, 2.0)?);
    let length = &length(node, codes) + &Dim::Known(2);
    let marks = scattered(node, &length, own, cased)?;
    let mark = |node: &mut NodeContext, at: ValueId| {
        node.make(&core::GATHER_ELEMENTS, |op| op.operands(&[marks, at]).attribute("axis", 1usize))
    };
    let (before, behind) = (mark(node, order)?, mark(node, next)?);
    let is_end = node.compare("gt", before, behind)?;
    let [sigma, last] = SIGMA.map(|one| f64::from(u32::from(one)));
    let (sigma, last) = (node.scalar_like(codes, sigma)?, node.scalar_like(codes, last)?);
    let is_sigma = node.compare("eq", codes, sigma)?;
    let ends = node.logical("and", is_sigma, is_end)?;
    node.select(ends, last, lower)
}

/// Rows of `codes` `[n, length]` that are kept; one empty string when none is.
fn kept(node: &mut NodeContext, codes: ValueId, is_stop: ValueId) -> Outcome<ValueId> {
    let keep = node.unary(&core::NOT, is_stop)?;
    let number = node.cast(keep, Element::I64)?;
    let number = node.reduce(&core::REDUCE_SUM, number, &[0], true)?;
    let zero = node.scalar_like(number, 0.0)?;
    let is_none = node.compare("eq", number, zero)?;
    let flags = node.concat(&[keep, is_none], 0)?;
    let length = length(node, codes);
    let empty = zeros(node, Element::I32, &[Dim::Known(1), length])?;
    let rows = node.concat(&[codes, empty], 0)?;
    let found = places(node, flags)?;
    node.gather(rows, found, 0)
}

/// Strings joined end to end: what follows moves up to the end of what is before it.
fn string_concat(node: &mut NodeContext) -> Made {
    let (a, b) = (node.strings(0)?, node.strings(1)?);
    let own = |node: &NodeContext, codes: ValueId| node.shape(codes)[..node.rank(codes) - 1].to_vec();
    let dims = node.broadcast_shape(&own(node, a), &own(node, b))?.to_vec();
    let count = dims.iter().fold(Dim::Known(1), |product, dim| &product * dim);
    let mut parts = Vec::new();
    for codes in [a, b] {
        let length = length(node, codes);
        let full = node.broadcast(codes, &[dims.as_slice(), std::slice::from_ref(&length)].concat())?;
        parts.push(node.reshape(full, &[count.clone(), length])?);
    }
    let both = node.concat(&parts, 1)?;
    let both = moved_together(node, both)?;
    let length = length(node, both);
    let y = node.reshape(both, &[dims.as_slice(), &[length]].concat())?;
    one(node, y)
}

/// The case of an attribute, where it asks for one.
fn case_of(node: &NodeContext) -> Outcome<Option<Case>> {
    match node.text("case_change_action", "NONE")?.as_str() {
        "NONE" | "" => Ok(None),
        "LOWER" => Ok(Some(Case::Lower)),
        "UPPER" => Ok(Some(Case::Upper)),
        other => Err(Fault::model(format!("attribute 'case_change_action' = '{other}' is not known"))),
    }
}

fn check_locale(node: &NodeContext) -> Outcome<()> {
    let locale = node.text("locale", "")?;
    let language = locale.split(['_', '-', '.']).next().unwrap_or_default().to_lowercase();
    if OTHER_CASE.contains(&language.as_str()) {
        let what =
            format!("attribute 'locale' = '{locale}': letters of this language have a case of their own");
        return Err(Fault::unsupported(what, "leave the locale out for Unicode's default case"));
    }
    Ok(())
}

fn string_normalizer(node: &mut NodeContext) -> Made {
    let x = node.strings(0)?;
    check_locale(node)?;
    let shape = node.shape(x).to_vec();
    let (count, length) = match shape.as_slice() {
        [count, length] => (count.clone(), length.clone()),
        [first, count, length] => {
            node.equate("a matrix of strings must have one row", first, &Dim::Known(1))?;
            (count.clone(), length.clone())
        }
        _ => return Err(Fault::model(format!("strings of rank {}, rank 1 or 2 is needed", shape.len() - 1))),
    };
    let case = case_of(node)?;
    let words = node.texts_attribute("stopwords")?.unwrap_or_default();
    let x = node.reshape(x, &[count, length])?;
    let changed = case.map(|case| in_case(node, x, case)).transpose()?;
    let mut y = changed.unwrap_or(x);
    if !words.is_empty() {
        let is_stop = if node.flag("is_case_sensitive", false)? {
            equal_to_each(node, x, &words)?
        } else {
            // In the case that is asked for, else in lower case, as ONNX Runtime does.
            let case = case.unwrap_or(Case::Lower);
            let folded = changed.map_or_else(|| in_case(node, x, case), Ok)?;
            let folded_word = |word: &String| match case {
                Case::Lower => word.to_lowercase(),
                Case::Upper => word.to_uppercase(),
            };
            let words: Vec<String> = words.iter().map(folded_word).collect();
            equal_to_each(node, folded, &words)?
        };
        let is_stop = node.cast(is_stop, Element::I64)?;
        let is_stop = node.reduce(&core::REDUCE_MAX, is_stop, &[1], false)?;
        let is_stop = node.cast(is_stop, Element::Bool)?;
        y = kept(node, y, is_stop)?;
    }
    let mut dims = node.shape(y).to_vec();
    if shape.len() == 3 {
        dims.insert(0, Dim::Known(1));
    }
    let y = node.reshape(y, &dims)?;
    one(node, y)
}
