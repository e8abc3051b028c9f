//! Rotary embedding and attention on the host: one flash step over all keys, with query heads that share keys as a batch dimension.

use super::cache::Piece;
use super::{HOST, HostRow, one_to_one};
use crate::lowering::{CommandBuilder, LoweringContext};
use crate::view::View;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::{Atom, Dim, Function};
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;

pub(super) static ROWS: &[HostRow] =
    &[HostRow::new(&core::ROPE, rope), HostRow::new(&core::ATTENTION, attention)];

fn rope(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let interleaved = context.fields(op).flag("interleaved", false);
    let (destination, x) = one_to_one(context, op)?;
    let table = |view: View| {
        let mut dims = x.dims.clone();
        if let (Some(last), Some(own)) = (dims.last_mut(), view.dims.last()) {
            last.clone_from(own);
        }
        view.broadcast_to(&dims)
    };
    let (cos, sin) = (table(context.operand(op, 1)?), table(context.operand(op, 2)?));
    let command = context.command(&tile::ROPE, HOST).view(&destination).view(&x).view(&cos).view(&sin);
    command.attribute("interleaved", interleaved).emit()
}

fn attention(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (destination, q) = one_to_one(context, op)?;
    let (k, v) = (context.operand(op, 1)?, context.operand(op, 2)?);
    let fields = context.fields(op);
    let (heads, groups) = (known(&q.dims[1], "heads")?, known(&k.dims[1], "key heads")?);
    let shared = heads / groups.max(1);
    // [b, h, s, d] to [b, g, h / g, s, d]; keys repeat along the new axis.
    let by_group =
        |view: &View| view.split(1, shared).ok_or_else(|| format!("{heads} heads do not split by {groups}"));
    let (destination, q) = (by_group(&destination)?, by_group(&q)?);
    let repeat = Dim::Known(shared);
    let (k, v) = (k.with_repeated_axis(2, &repeat), v.with_repeated_axis(2, &repeat));
    let scores: Vec<Dim> = q.dims[..4].iter().cloned().chain([k.dims[3].clone()]).collect();
    let offset = &k.dims[3] - &q.dims[3];
    let (causal, window) = (fields.flag("causal", false), fields.int("window", -1));
    if window == 0 {
        return context.host_fill(&destination, 0.0);
    }
    let mask = context.optional(op, 3)?.map(|mask| grouped_mask(&mask, &scores, shared)).transpose()?;
    let mut running = Running::begin(context, op, &destination, shared)?;
    let mut command = running.step(context).view(&q).view(&k).view(&v).maybe(mask.as_ref());
    command = command.maybe(None).maybe(None).maybe(None).maybe(None);
    command = command.attribute("scale", fields.float("scale", 1.0)).attribute("group", 1i64);
    command = command.attribute("softcap", fields.float("softcap", 0.0));
    if causal || window > 0 {
        command = command.dim("causal_offset", &offset).attribute("window", window.max(0));
        command = command.attribute("ahead", !causal);
    }
    command.emit()?;
    running.finish(context, &destination)
}

/// Accumulator, maximum and sum of all queries.
struct Running {
    accumulator: View,
    maximum: View,
    sum: View,
}

impl Running {
    /// For a result [b, g, h / g, s, e]. The sinks are operand 4 of the op.
    fn begin(
        context: &mut LoweringContext,
        op: OpId,
        destination: &View,
        shared: i64,
    ) -> Result<Running, String> {
        let rows = &destination.dims[..4];
        let accumulator = context.host_buffer(Element::F32, &destination.dims)?;
        let (maximum, sum) =
            (context.host_buffer(Element::F32, rows)?, context.host_buffer(Element::F32, rows)?);
        context.host_fill(&accumulator, 0.0)?;
        match context.optional(op, 4)? {
            Some(sinks) => {
                let sinks = context.host_cast(&sinks, Element::F32)?;
                let sinks = sinks.split(0, shared).ok_or("sinks do not split by heads")?.with_axis(2);
                context.host_copy(&maximum, &sinks.broadcast_to(rows))?;
                context.host_fill(&sum, 1.0)?;
            }
            None => {
                context.host_fill(&maximum, f64::NEG_INFINITY)?;
                context.host_fill(&sum, 0.0)?;
            }
        }
        Ok(Running { accumulator, maximum, sum })
    }

    fn step<'c, 'a>(&mut self, context: &'c mut LoweringContext<'a>) -> CommandBuilder<'c, 'a> {
        let command = context.command(&tile::ATTENTION, HOST).view(&self.accumulator);
        command.view(&self.maximum).view(&self.sum)
    }

    fn finish(&self, context: &mut LoweringContext, destination: &View) -> Result<(), String> {
        let command = context.command(&tile::ATTENTION_FINISH, HOST).view(destination);
        command.view(&self.accumulator).view(&self.sum).emit()
    }
}

/// Attention over keys and values in pieces, each quantised in its own way: one step per piece.
pub(super) fn over_pieces(context: &mut LoweringContext, op: OpId, pieces: &[Piece]) -> Result<(), String> {
    let (destination, q) = one_to_one(context, op)?;
    let keys = context.operand(op, 1)?.dims;
    let fields = context.fields(op);
    let (heads, groups) = (known(&q.dims[1], "heads")?, known(&keys[1], "key heads")?);
    let shared = heads / groups.max(1);
    let by_group =
        |view: &View| view.split(1, shared).ok_or_else(|| format!("{heads} heads do not split by {groups}"));
    let shift = &keys[2] - &q.dims[2];
    let (destination, q) = (by_group(&destination)?, by_group(&q)?);
    let (causal, window) = (fields.flag("causal", false), fields.int("window", -1));
    if window == 0 {
        return Err("a window of no keys over a cache in another format".into());
    }
    let repeat = Dim::Known(shared);
    let mut running = Running::begin(context, op, &destination, shared)?;
    for piece in pieces {
        // [b, g, units, unit, x] to [b, g, h / g, tokens, x].
        let flat = |view: &View| merge_units(view, 2).map(|view| view.with_repeated_axis(2, &repeat));
        let mask = match &piece.mask {
            Some(mask) => Some(by_group(&merge_units(mask, 3)?)?),
            None => None,
        };
        let scale = |view: &Option<View>| view.as_ref().map(|view| view.with_repeated_axis(2, &repeat));
        let (v_scale, v_offset) =
            (piece.v_scale.as_ref().map(flat).transpose()?, piece.v_offset.as_ref().map(flat).transpose()?);
        let mut command = running.step(context).view(&q).view(&flat(&piece.k)?).view(&flat(&piece.v)?);
        command = command.maybe(mask.as_ref()).maybe(scale(&piece.k_scale).as_ref());
        command = command.maybe(scale(&piece.k_offset).as_ref()).maybe(v_scale.as_ref());
        command = command.maybe(v_offset.as_ref()).attribute("scale", fields.float("scale", 1.0));
        command = command.attribute("softcap", fields.float("softcap", 0.0)).attribute("group", 1i64);
        command = command.attribute("block", piece.block).attribute("part", piece.part);
        command = command.attribute("keep", piece.keep);
        if causal || window > 0 || piece.part != "all" {
            command =
                command.dim("causal_offset", &(&shift - &piece.start)).attribute("window", window.max(0));
        }
        command.attribute("ahead", !causal).emit()?;
    }
    running.finish(context, &destination)
}

/// Dimensions `axis` (units) and `axis + 1` (tokens of a unit) as one.
pub(crate) fn merge_units(view: &View, axis: usize) -> Result<View, String> {
    let unit = view.dims[axis + 1].known().ok_or("a unit has a known length")?;
    if view.strides[axis] != view.strides[axis + 1] * unit {
        return Err("units do not lie side by side".into());
    }
    let mut merged = view.without_axis(axis + 1);
    merged.dims[axis] = scaled(&view.dims[axis], unit);
    merged.strides[axis] = view.strides[axis + 1];
    Ok(merged)
}

/// `unit` times a length, where a length may be `min(number, rest)`.
fn scaled(length: &Dim, unit: i64) -> Dim {
    let factor = Dim::Known(unit);
    if let Some((product, 1)) = length.terms().into_iter().next()
        && let [Atom::Call(Function::Min, a, b)] = product.as_slice()
        && length.terms().len() == 1
    {
        return Dim::call(Function::Min, &(a * &factor), &(b * &factor));
    }
    length * &factor
}

fn known(dim: &Dim, what: &str) -> Result<i64, String> {
    dim.known().ok_or_else(|| format!("the number of {what} must be known, found '{dim}'"))
}

/// A mask that broadcasts to [b, h, s, t], under [b, g, h / g, s, t].
fn grouped_mask(mask: &View, scores: &[Dim], shared: i64) -> Result<View, String> {
    let mut mask = mask.clone();
    while mask.rank() < 4 {
        mask = mask.with_axis(0);
    }
    let mask = if mask.dims[1] == Dim::Known(1) {
        mask.with_axis(1)
    } else {
        mask.split(1, shared).ok_or("the mask's heads do not split by key heads")?
    };
    Ok(mask.broadcast_to(scores))
}
