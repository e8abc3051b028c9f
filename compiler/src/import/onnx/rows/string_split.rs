//! StringSplit: which piece each code point belongs to, and its place there, by sums along the string; then one scatter.
//!
//! ```text
//! "a-bc-": starts of delimiters 0 1 0 0 1   pieces 0 . 1 1 .   pieces [["a", "bc", ""]], their number 3
//! ```

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since};
use super::selection::places;
use super::strings::{counted_before, length, scattered, zeros};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[since(20, "StringSplit", string_split)
    .with_strings()
    .refuses("delimiters that overlap themselves ('--', 'abab'), or of more than 64 characters")];

/// The longest delimiter.
const DELIMITER_MAX: usize = 64;

/// What separates pieces where no delimiter is given: Unicode's White_Space, and the separators that Python adds to it.
fn spaces() -> Vec<i64> {
    let is_space =
        |code: &u32| char::from_u32(*code).is_some_and(char::is_whitespace) || (0x1c..=0x1f).contains(code);
    (1..0x1_0000).filter(is_space).map(i64::from).collect()
}

/// The code points of strings `[n, length]` in pieces.
struct Pieces {
    /// Which are in a piece, the others separate them: i64 0 or 1.
    kept: ValueId,
    /// The piece that each belongs to: i64.
    piece: ValueId,
    /// Where pieces start, 0 or 1, but for the first one, which starts at 0 where `has_first`.
    starts: ValueId,
    has_first: bool,
    /// How far behind a start its piece begins.
    skip: i64,
}

fn whole(node: &mut NodeContext, flags: ValueId) -> Outcome<ValueId> {
    node.cast(flags, Element::I64)
}

/// Flags `[n, length]` moved by so many places to the right.
fn moved(node: &mut NodeContext, flags: ValueId, by: i64) -> Outcome<ValueId> {
    if by == 0 {
        return Ok(flags);
    }
    let [count, length] = [0, 1].map(|axis| node.ty(flags).shape[axis].clone());
    let before = zeros(node, node.element(flags), &[count, Dim::Known(by)])?;
    let all = node.concat(&[before, flags], 1)?;
    node.slice_axis(all, 1, &Dim::Known(0), &length)
}

fn sums(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    let before = counted_before(node, x)?;
    node.add(before, x)
}

/// Flags below a limit, where there is one: `flags` and `number < limit`.
fn limited(node: &mut NodeContext, flags: ValueId, number: ValueId, limit: Option<i64>) -> Outcome<ValueId> {
    let Some(limit) = limit else { return Ok(flags) };
    let limit = node.scalar_like(number, limit as f64)?;
    let is_within = node.compare("lt", number, limit)?;
    let is_within = whole(node, is_within)?;
    node.mul(flags, is_within)
}

/// Cut at every delimiter, at the first `most` of them.
fn by_delimiter(
    node: &mut NodeContext,
    codes: ValueId,
    delimiter: &[i64],
    most: Option<i64>,
) -> Outcome<Pieces> {
    let [count, length] = [0, 1].map(|axis| node.ty(codes).shape[axis].clone());
    let size = delimiter.len() as i64;
    let behind = zeros(node, Element::I32, &[count, Dim::Known(size)])?;
    let longer = node.concat(&[codes, behind], 1)?;
    let mut starts: Option<ValueId> = None;
    for (at, code) in delimiter.iter().enumerate() {
        let part = node.slice_axis(longer, 1, &Dim::Known(at as i64), &length)?;
        let code = node.scalar_like(part, *code as f64)?;
        let same = node.compare("eq", part, code)?;
        starts = Some(match starts {
            Some(starts) => node.logical("and", starts, same)?,
            None => same,
        });
    }
    let starts = starts.ok_or_else(|| Fault::model("the delimiter is empty"))?;
    let starts = whole(node, starts)?;
    let number = counted_before(node, starts)?;
    let starts = limited(node, starts, number, most)?;
    let mut within = starts;
    for by in 1..size {
        let next = moved(node, starts, by)?;
        within = node.add(within, next)?;
    }
    let zero = node.scalar_like(within, 0.0)?;
    let kept = node.compare("eq", within, zero)?;
    let (kept, piece) = (whole(node, kept)?, sums(node, starts)?);
    Ok(Pieces { kept, piece, starts, has_first: true, skip: size })
}

/// Cut at white space; what follows the first `most` cuts stays in one piece.
fn by_space(node: &mut NodeContext, codes: ValueId, most: Option<i64>) -> Outcome<Pieces> {
    let shape = [node.shape(codes).as_slice(), &[Dim::Known(1)]].concat();
    let column = node.reshape(codes, &shape)?;
    let spaces = spaces();
    let spaces = node.ints(Element::I32, &[spaces.len() as i64], &spaces)?;
    let same = node.compare("eq", column, spaces)?;
    let same = whole(node, same)?;
    let is_space = node.reduce(&core::REDUCE_MAX, same, &[2], false)?;
    let one = node.scalar_like(is_space, 1.0)?;
    let is_word = node.sub(one, is_space)?;
    let before = moved(node, is_word, 1)?;
    let continues = node.mul(is_word, before)?;
    // Zeros behind the end are no word.
    let zero = node.scalar_like(codes, 0.0)?;
    let is_there = node.compare("ne", codes, zero)?;
    let is_there = whole(node, is_there)?;
    let starts = node.sub(is_word, continues)?;
    let starts = node.mul(starts, is_there)?;
    let started = sums(node, starts)?;
    let piece = node.sub(started, one)?;
    let Some(most) = most else {
        return Ok(Pieces { kept: is_word, piece, starts, has_first: false, skip: 0 });
    };
    let limit = node.scalar_like(piece, most as f64)?;
    let is_rest = node.compare("ge", piece, limit)?;
    let is_rest = whole(node, is_rest)?;
    let kept = node.binary(&core::MAX, is_word, is_rest)?;
    let starts = limited(node, starts, piece, Some(most + 1))?;
    let piece = node.binary(&core::MIN, piece, limit)?;
    Ok(Pieces { kept, piece, starts, has_first: false, skip: 0 })
}

fn string_split(node: &mut NodeContext) -> Made {
    let x = node.strings(0)?;
    let delimiter: Vec<i64> =
        node.text("delimiter", "")?.chars().map(|one| i64::from(u32::from(one))).collect();
    let overlaps = (1..delimiter.len()).any(|by| delimiter.starts_with(&delimiter[by..]));
    if overlaps || delimiter.len() > DELIMITER_MAX {
        let what = format!(
            "attribute 'delimiter' = '{}' overlaps itself or is too long",
            node.text("delimiter", "")?
        );
        return Err(Fault::unsupported(what, "split at one character"));
    }
    let most = node.has("maxsplit").then(|| node.int("maxsplit", 0)).transpose()?.filter(|most| *most >= 0);
    let shape = node.shape(x).to_vec();
    let (length, dims) = (length(node, x), &shape[..shape.len() - 1]);
    let count = dims.iter().fold(Dim::Known(1), |product, dim| &product * dim);
    let codes = node.reshape(x, &[count.clone(), length.clone()])?;
    let pieces = match delimiter.as_slice() {
        [] => by_space(node, codes, most)?,
        delimiter => by_delimiter(node, codes, delimiter, most)?,
    };
    let numbers = node.reduce(&core::REDUCE_SUM, pieces.starts, &[1], false)?;
    let numbers = if pieces.has_first {
        let one = node.scalar_like(numbers, 1.0)?;
        node.add(numbers, one)?
    } else {
        numbers
    };
    let table = spread(node, codes, &pieces)?;
    let table = trimmed(node, table, numbers)?;
    let shown = [dims, &node.shape(table)[1..]].concat();
    let table = node.reshape(table, &shown)?;
    let numbers = node.reshape(numbers, dims)?;
    Ok(vec![Operand::strings(node.operand(table)), node.operand(numbers)])
}

/// The code points in their pieces: `[n, length + 1, length]`.
fn spread(node: &mut NodeContext, codes: ValueId, pieces: &Pieces) -> Outcome<ValueId> {
    let [count, length] = [0, 1].map(|axis| node.ty(codes).shape[axis].clone());
    let most = &length + &Dim::Known(1);
    let own = node.iota(Element::I64, &[count.clone(), length.clone()], 1)?;
    // Where each piece begins, by piece; a flag that is 0 adds 0 to a piece that is there.
    let skip = node.scalar_like(own, pieces.skip as f64)?;
    let begin = node.add(own, skip)?;
    let begin = node.mul(begin, pieces.starts)?;
    let zero = node.scalar_like(own, 0.0)?;
    let piece = node.binary(&core::MAX, pieces.piece, zero)?;
    let begins = scattered(node, &most, piece, begin)?;
    let begin =
        node.make(&core::GATHER_ELEMENTS, |op| op.operands(&[begins, piece]).attribute("axis", 1usize))?;
    let at = node.sub(own, begin)?;
    let width = node.size(&length)?;
    let line = node.mul(piece, width)?;
    let at = node.add(line, at)?;
    // What separates pieces adds 0 to the first place.
    let at = node.mul(at, pieces.kept)?;
    let kept = node.cast(pieces.kept, Element::I32)?;
    let codes = node.mul(codes, kept)?;
    let size = &most * &length;
    let table = scattered(node, &size, at, codes)?;
    node.reshape(table, &[count, most, length])
}

/// As many pieces as the string with most of them has; `numbers` `[n]` tells how many each has.
fn trimmed(node: &mut NodeContext, table: ValueId, numbers: ValueId) -> Outcome<ValueId> {
    let [count, most] = [0, 1].map(|axis| node.ty(table).shape[axis].clone());
    let own = node.iota(Element::I64, &[Dim::Known(1), most], 1)?;
    let column = node.reshape(numbers, &[count, Dim::Known(1)])?;
    let is_used = node.compare("lt", own, column)?;
    let is_used = whole(node, is_used)?;
    let users = node.reduce(&core::REDUCE_SUM, is_used, &[0], false)?;
    let flags = node.cast(users, Element::Bool)?;
    let found = places(node, flags)?;
    node.gather(table, found, 1)
}
