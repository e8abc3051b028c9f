//! Quantised key/value caches: what every engine shares of them (which blocks are settled, where they lie in the ring, which parts of
//! the keys an attention reads), and the host's lowerings.
//!
//! A state in blocks is updated in place: the new tokens go to the ring, then each block that gets settled is quantised from the ring
//! to its final place. It must not know SRAM.
//!
//! ```text
//! core.append_blocks => transfer ring <- new (two parts where it wraps); quantize_groups body, scale, offset <- ring (per block)
//! core.cached_attention => attention over the settled blocks, attention over each recent block
//! ```

use super::{HOST, HostRow};
use crate::derive::Deriver;
use crate::lowering::LoweringContext;
use crate::view::View;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::{Dim, Function};
use tilewright_ir::module::OpId;

pub(super) static ROWS: &[HostRow] = &[
    HostRow::new(&core::QUANTIZE_GROUPS, quantize_groups),
    HostRow::new(&core::APPEND_BLOCKS, |context, op| append_blocks(context, op, Deriver::Host, &mut Settle)),
    HostRow::new(&core::CACHED_ATTENTION, cached_attention),
];

fn quantize_groups(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let x = context.operand(op, 0)?;
    let [q, scale, offset] = [0, 1, 2].map(|index| context.destination(context.result(op, index)));
    let command = context.command(&tile::QUANTIZE_GROUPS, HOST).view(&q?).view(&scale?).view(&offset?);
    command.view(&x).emit()
}

/// Blocks of tokens behind a ring.
struct Blocks {
    block: i64,
    keep: i64,
    /// Blocks in the ring.
    slots: i64,
}

impl Blocks {
    fn of(context: &LoweringContext, op: OpId, ring: &View) -> Result<Blocks, String> {
        let fields = context.fields(op);
        let (block, keep) = (fields.int("block", 0), fields.int("keep", 0));
        let rows = ring.dims[2].known().ok_or("the ring's length is not known")?;
        Ok(Blocks { block, keep, slots: rows / block.max(1) })
    }

    /// Blocks that are settled once there are so many tokens.
    fn settled(&self, tokens: &Dim) -> Dim {
        let old = Dim::call(Function::Max, &(tokens - &Dim::Known(self.keep)), &Dim::Known(0));
        Dim::call(Function::FloorDiv, &old, &Dim::Known(self.block))
    }

    /// The block of the ring that holds a block.
    fn slot(&self, context: &mut LoweringContext, index: &Dim, by: Deriver) -> Result<Dim, String> {
        context.derived(&Dim::call(Function::Mod, index, &Dim::Known(self.slots)), by)
    }
}

/// Where a block is quantised from and to: x [b, g, block, d], q alike, scale and offset [b, g, 1, d].
pub(crate) struct BlockViews {
    /// In the ring.
    pub(crate) x: View,
    /// In the body.
    pub(crate) q: View,
    /// Its row.
    pub(crate) scale: View,
    /// Its row.
    pub(crate) offset: View,
}

/// Quantises one block, channel by channel.
pub(crate) trait QuantizeBlock {
    /// Writes the commands. The views hold no element when the block is not settled in this run.
    fn quantize(&mut self, context: &mut LoweringContext, views: &BlockViews) -> Result<(), String>;
}

struct Settle;

impl QuantizeBlock for Settle {
    fn quantize(&mut self, context: &mut LoweringContext, views: &BlockViews) -> Result<(), String> {
        quantize_channels(context, HOST, views)
    }
}

/// The command that quantises a block whose views the engine reaches: tokens are its last dimension.
pub(crate) fn quantize_channels(
    context: &mut LoweringContext,
    engine: &'static str,
    views: &BlockViews,
) -> Result<(), String> {
    let by_channel = |view: &View| view.permute(&[0, 1, 3, 2]);
    let command = context.command(&tile::QUANTIZE_GROUPS, engine).view(&by_channel(&views.q));
    let command = command.view(&by_channel(&views.scale)).view(&by_channel(&views.offset));
    command.view(&by_channel(&views.x)).emit()
}

/// Lowers `core.append_blocks`; numbers are derived and blocks quantised as the caller says.
pub(crate) fn append_blocks(
    context: &mut LoweringContext,
    op: OpId,
    by: Deriver,
    quantizer: &mut dyn QuantizeBlock,
) -> Result<(), String> {
    let new = context.operand(op, 0)?;
    let mut places = Vec::new();
    for index in 0..4 {
        let (old, place) = (context.operand(op, index + 1)?, context.destination(context.result(op, index))?);
        keep_old(context, &place, &old)?;
        places.push(place);
    }
    let [body, scale, offset, ring] = &places[..] else { return Err("four results".into()) };
    let blocks = Blocks::of(context, op, ring)?;
    let count = new.dims[2].known().ok_or("the number of new tokens is not known")?;
    let past = &body.dims[2] - &Dim::Known(count);
    write_ring(context, ring, &new, &past, count, by)?;
    let before = context.derived(&blocks.settled(&past), by)?;
    let after = context.derived(&blocks.settled(&body.dims[2]), by)?;
    let batch = body.dims[0].known().ok_or("the batch is not known")?;
    for settling in 0..(count + blocks.block - 1) / blocks.block {
        let index = &before + &Dim::Known(settling);
        let left = &(&after - &index) * &Dim::Known(batch);
        if left.known().is_some_and(|left| left <= 0) {
            break;
        }
        // No batch at all where the block is not settled yet.
        let alive = Dim::call(Function::Min, &left, &Dim::Known(batch));
        let slot = blocks.slot(context, &index, by)?;
        let part = |view: &View, start: &Dim, rows: i64| {
            let view = view.slice(0, &Dim::Known(0), &alive, 1);
            view.slice(2, &(start * &Dim::Known(rows)), &Dim::Known(rows), 1)
        };
        let views = BlockViews {
            x: part(ring, &slot, blocks.block),
            q: part(body, &index, blocks.block),
            scale: part(scale, &index, 1),
            offset: part(offset, &index, 1),
        };
        quantizer.quantize(context, &views)?;
    }
    Ok(())
}

/// Where a result does not lie where its operand does, the old rows are copied and the rest is zero.
fn keep_old(context: &mut LoweringContext, place: &View, old: &View) -> Result<(), String> {
    if place.buffer == old.buffer {
        return Ok(());
    }
    if place.dims != old.dims {
        context.host_fill(place, 0.0)?;
    }
    let rows = place.slice(2, &Dim::Known(0), &old.dims[2], 1);
    context.host_copy(&rows, old)
}

/// Token i goes to row i mod r: in two parts where the ring wraps.
fn write_ring(
    context: &mut LoweringContext,
    ring: &View,
    new: &View,
    past: &Dim,
    count: i64,
    by: Deriver,
) -> Result<(), String> {
    let zero = Dim::Known(0);
    let at = context.derived(&Dim::call(Function::Mod, past, &ring.dims[2]), by)?;
    let room = &ring.dims[2] - &at;
    let first = Dim::call(Function::Min, &room, &Dim::Known(count));
    context.host_copy(&ring.slice(2, &at, &first, 1), &new.slice(2, &zero, &first, 1))?;
    let rest = &Dim::Known(count) - &room;
    if count > 1 && rest.known().is_none_or(|rest| rest > 0) {
        let rest = Dim::call(Function::Min, &rest, &Dim::Known(count));
        context.host_copy(&ring.slice(2, &zero, &rest, 1), &new.slice(2, &room, &rest, 1))?;
    }
    Ok(())
}

/// Some of an attention's keys: tokens in units (blocks, or single tokens), one row of `k_scale` each.
pub(crate) struct Piece {
    /// `[b, g, units, unit, d]`
    pub(crate) k: View,
    /// `[b, g, units, groups]`
    pub(crate) k_scale: Option<View>,
    /// As `k_scale`.
    pub(crate) k_offset: Option<View>,
    /// `[b, g, units, unit, e]`
    pub(crate) v: View,
    /// `[b, g, units, unit, groups]`
    pub(crate) v_scale: Option<View>,
    /// As `v_scale`.
    pub(crate) v_offset: Option<View>,
    /// `[b, h, s, units, unit]`
    pub(crate) mask: Option<View>,
    /// Position of the first key.
    pub(crate) start: Dim,
    /// Tokens per unit.
    pub(crate) unit: i64,
    /// Tokens of a block, as the command takes it.
    pub(crate) block: i64,
    /// Which of them a query sees by their age.
    pub(crate) part: &'static str,
    /// Tokens that follow a settled block.
    pub(crate) keep: i64,
}

/// The operands of a cached attention in the pieces that it is computed in.
pub(crate) fn pieces(context: &mut LoweringContext, op: OpId, by: Deriver) -> Result<Vec<Piece>, String> {
    let (q, k, v) = (context.operand(op, 0)?, context.operand(op, 1)?, context.operand(op, 2)?);
    let scores: Vec<Dim> = [&q.dims[..3], &[k.dims[2].clone()]].concat();
    let mask = context.optional(op, 3)?.map(|mask| mask.broadcast_to(&scores));
    let (k_scale, k_offset) = (context.optional(op, 5)?, context.optional(op, 6)?);
    let (v_scale, v_offset) = (context.optional(op, 8)?, context.optional(op, 9)?);
    let all = &k.dims[2];
    // `count` units of `unit` tokens from token `start` on.
    let cut = |view: &View, axis: usize, start: &Dim, count: &Dim, unit: i64| {
        let mut view = view.slice(axis, start, count, unit);
        view.dims.insert(axis + 1, Dim::Known(unit));
        view.strides.insert(axis + 1, view.strides[axis] / unit);
        view
    };
    let piece = |k: View, start: &Dim, count: &Dim, unit: i64| Piece {
        k,
        k_scale: None,
        k_offset: None,
        v: cut(&v, 2, start, count, unit),
        v_scale: v_scale.as_ref().map(|view| cut(view, 2, start, count, unit)),
        v_offset: v_offset.as_ref().map(|view| cut(view, 2, start, count, unit)),
        mask: mask.as_ref().map(|mask| cut(mask, 3, start, count, unit)),
        start: start.clone(),
        unit,
        block: 1,
        part: "all",
        keep: 0,
    };
    let zero = Dim::Known(0);
    let Some(ring) = context.optional(op, 7)? else {
        let whole = piece(cut(&k, 2, &zero, all, 1), &zero, all, 1);
        return Ok(vec![Piece { k_scale, k_offset, ..whole }]);
    };
    let blocks = Blocks::of(context, op, &ring)?;
    let (block, keep) = (blocks.block, blocks.keep);
    let count = q.dims[2].known().ok_or("the number of queries is not known")?;
    let past = all - &Dim::Known(count);
    let settled = context.derived(&blocks.settled(all), by)?;
    let rows = |view: Option<View>| view.map(|view| view.slice(2, &zero, &settled, 1));
    let old = piece(cut(&k, 2, &zero, &settled, block), &zero, &settled, block);
    let mut pieces =
        vec![Piece { k_scale: rows(k_scale), k_offset: rows(k_offset), block, part: "settled", keep, ..old }];
    let first = context.derived(&blocks.settled(&(&past + &Dim::Known(1))), by)?;
    // From the first block that the first query sees unsettled to the last key.
    for recent in 0..(count + keep + 2 * block - 3) / block {
        let index = &first + &Dim::Known(recent);
        let start = &index * &Dim::Known(block);
        let left = all - &start;
        if left.known().is_some_and(|left| left <= 0) {
            break;
        }
        let length = Dim::call(Function::Min, &left, &Dim::Known(block));
        let slot = blocks.slot(context, &index, by)?;
        let k = cut(&ring, 2, &(&slot * &Dim::Known(block)), &length, 1);
        pieces.push(Piece { block, part: "recent", keep, ..piece(k, &start, &length, 1) });
    }
    Ok(pieces)
}

fn cached_attention(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let pieces = pieces(context, op, Deriver::Host)?;
    super::attention::over_pieces(context, op, &pieces)
}
