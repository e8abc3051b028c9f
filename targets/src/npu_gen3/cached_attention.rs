//! Attention over a quantised cache: keys and values stay quantised until the matrix engine takes them from SRAM.
//!
//! Per batch, some key heads and query tile the pieces of the keys are passed one after the other: settled blocks (or all tokens, where each has
//! a scale of its own) in double-buffered tiles, then the recent blocks of the ring, whose transfers are all started beforehand. New
//! tokens go to the ring by DMA, and a block that gets settled is quantised by the vector engine.
//!
//! ```text
//! for b, g, queries: fill; transfer ring blocks; for units: transfer k, scales, v; attention settled; attention recent ..; finish
//! ```

use super::attention::{Running, grouped_rows, has_one_query, place as place_attention, with_sums};
use super::machine::{limits, macs_per_cycle};
use super::nest::{Body, Nest, Step, Tiled, Tiles};
use super::tile_search::{Axis, Flow, Operand, Plan, Problem, Work};
use crate::derive::Deriver;
use crate::host::{BlockViews, Piece, QuantizeBlock, append_blocks, merge_units, pieces, quantize_channels};
use crate::lowering::{Lowering, LoweringContext, PlaceContext, Subject, engine, space};
use crate::view::View;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{OpId, ValueId};
use tilewright_runtime::kernels::attention::KEYS;

/// Rows of this file.
pub static LOWERINGS: &[Lowering] = &[
    Lowering { subject: Subject::Op(&core::QUANTIZE_GROUPS), place: place_packed, lower: lower_groups },
    Lowering { subject: Subject::Op(&core::APPEND_BLOCKS), place: place_packed, lower: lower_append },
    Lowering { subject: Subject::Op(&core::CACHED_ATTENTION), place, lower: lower_attention },
];

/// Rows of packed elements must be whole bytes, or no engine finds where one begins.
fn place_packed(context: &PlaceContext) -> Result<(), String> {
    let x = context.operand(0).ok_or("x is no tensor")?;
    if x.element == Element::F64 {
        return Err("the vector engine quantises no f64".into());
    }
    match x.shape.last().and_then(Dim::known) {
        Some(width) if width % 2 == 0 => Ok(()),
        Some(width) => Err(format!("{width} elements of 4 bits are not whole bytes")),
        None => Err("the width is not known".into()),
    }
}

fn place(context: &PlaceContext) -> Result<(), String> {
    place_attention(context)?;
    place_packed(context)?;
    match context.operand(2).and_then(|v| v.shape.last()?.known()) {
        Some(width) if width % 2 == 0 => Ok(()),
        _ => Err("the width of values is not a known even number".into()),
    }
}

// ---- quantising ---------------------------------------------------------------------------------------------------------

fn lower_groups(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let x = context.operand(op, 0)?;
    let results = [0, 1, 2].map(|index| context.destination(context.result(op, index)));
    let rank = x.rank();
    let follows: Vec<Option<usize>> = (0..rank).map(|axis| (axis + 1 < rank).then_some(axis)).collect();
    let results: Vec<Tiled> = results
        .into_iter()
        .map(|view| view.map(|view| Tiled::new(view, &follows)))
        .collect::<Result<_, _>>()?;
    let width = x.dims.last().and_then(Dim::known).ok_or("the width is not known")?;
    // A row in, its codes, scales and offsets out, all double-buffered.
    let row_bytes = 4 * width * x.element.bits() as i64 / 8 + 1;
    let mut rows = (limits(context).sram_bytes as i64 / row_bytes).max(1);
    let mut tiles = vec![1; rank - 1];
    for (axis, dim) in x.dims[..rank - 1].iter().enumerate().rev() {
        let extent = context.maximum(dim)?.max(1);
        tiles[axis] = extent.min(rows);
        rows /= extent;
        if rows == 0 {
            break;
        }
    }
    let nest = Nest {
        extents: x.dims[..rank - 1].to_vec(),
        tiles,
        order: (0..rank - 1).collect(),
        loads: vec![Tiled::new(x, &follows)],
        results,
        result_axes: Vec::new(),
        is_pipelined: true,
        cut: None,
    };
    nest.run(
        context,
        &mut Step(|context: &mut LoweringContext, tiles: &Tiles| {
            let command = context.command(&tile::QUANTIZE_GROUPS, engine::VECTOR).view(tiles.result(0));
            command.view(tiles.result(1)).view(tiles.result(2)).view(tiles.load(0)).emit()
        }),
    )
}

fn lower_append(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    append_blocks(context, op, Deriver::Vector, &mut OnChip)
}

/// Brings a block into SRAM, quantises it there and takes it out: all heads at once where they fit, else one by one.
struct OnChip;

impl QuantizeBlock for OnChip {
    fn quantize(&mut self, context: &mut LoweringContext, views: &BlockViews) -> Result<(), String> {
        let elements = context.maximum(&views.x.element_count())?;
        // Its f16 and its codes; scales are small.
        let fits = elements * 4 <= limits(context).sram_bytes as i64;
        if fits || views.x.dims[1] == Dim::Known(1) {
            return quantize_block(context, views);
        }
        context.for_loop(&views.x.dims[1], 1, |context, head| {
            let one = |view: &View| view.slice(1, head, &Dim::Known(1), 1);
            let (x, q) = (one(&views.x), one(&views.q));
            quantize_block(
                context,
                &BlockViews { x, q, scale: one(&views.scale), offset: one(&views.offset) },
            )
        })
    }
}

fn quantize_block(context: &mut LoweringContext, views: &BlockViews) -> Result<(), String> {
    let mut buffer = |view: &View| context.buffer(space::SRAM, view.element, &view.dims);
    let on_chip = BlockViews {
        x: buffer(&views.x)?,
        q: buffer(&views.q)?,
        scale: buffer(&views.scale)?,
        offset: buffer(&views.offset)?,
    };
    context.transfer(engine::DMA0, &on_chip.x, &views.x)?;
    quantize_channels(context, engine::VECTOR, &on_chip)?;
    let pairs = [(&views.q, &on_chip.q), (&views.scale, &on_chip.scale), (&views.offset, &on_chip.offset)];
    let mut tokens = Vec::new();
    for (to, from) in pairs {
        tokens.push(context.start_transfer(engine::DMA1, to, from)?);
    }
    tokens.into_iter().try_for_each(|token| context.wait(token))
}

// ---- attention ----------------------------------------------------------------------------------------------------------

/// Axes of the outer nest, and the units of a piece inside.
const BATCH: usize = 0;
const HEAD: usize = 1;
const QUERY: usize = 2;
const UNIT: usize = 3;

fn lower_attention(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let q = context.operand(op, 0)?;
    let keys = context.operand(op, 1)?.dims;
    let sinks = context.optional(op, 4)?;
    let result = context.destination(context.result(op, 0))?;
    let pieces = pieces(context, op, Deriver::Vector)?;
    let heads = q.dims[1].known().ok_or("the number of heads is not known")?;
    let group = heads / keys[1].known().ok_or("the number of key heads is not known")?.max(1);
    let grouped = |view: &View| view.split(1, group).ok_or("query heads are no multiple of key heads");
    let shift = &keys[2] - &q.dims[2];
    let (sums, plan) = plan(context, &q, &pieces, group)?;
    let query_axes = [Some(BATCH), Some(HEAD), None, Some(QUERY), None];
    let mut loads = vec![Tiled::new(grouped(&q)?, &query_axes)];
    if let Some(sinks) = sinks {
        let sinks = sinks.split(0, group).ok_or("query heads are no multiple of key heads")?;
        loads.push(Tiled::new(sinks, &[Some(HEAD), None]));
    }
    let nest = Nest {
        extents: vec![q.dims[0].clone(), keys[1].clone(), q.dims[2].clone()],
        tiles: plan.tiles[..UNIT].iter().map(|tile| *tile as i64).collect(),
        order: vec![BATCH, HEAD, QUERY],
        results: vec![Tiled::new(grouped(&result)?, &query_axes)],
        result_axes: Vec::new(),
        is_pipelined: false,
        cut: None,
        loads,
    };
    let fields = context.fields(op);
    let mut body = Pieces {
        pieces: &pieces,
        sums,
        unit_tile: plan.tiles[UNIT] as i64,
        group,
        scale: fields.float("scale", 1.0),
        softcap: fields.float("softcap", 0.0),
        shift,
        is_causal: fields.flag("causal", false),
        window: fields.int("window", -1).max(0),
        running: None,
    };
    nest.run(context, &mut body)
}

/// Tile sizes for the first piece, which has most keys; the ring's blocks lie beside it.
fn plan(
    context: &LoweringContext,
    q: &View,
    pieces: &[Piece],
    group: i64,
) -> Result<(&'static str, Plan), String> {
    let maximum = |dim: &Dim| context.maximum(dim).map(|value| value.max(1) as u64);
    let first = pieces.first().ok_or("an attention without keys")?;
    let rows = group as u64;
    let (d, e, unit) = (maximum(&q.dims[3])?, maximum(&first.v.dims[4])?, first.unit as u64);
    let all = vec![BATCH, HEAD, QUERY, UNIT];
    let fixed = |flow: Flow, axes: &[usize], bits: usize, fixed: u64| Operand {
        fixed,
        ..Operand::new(flow, axes, bits as u64)
    };
    let bits = q.element.bits();
    let mut operands = vec![
        fixed(Flow::Load, &[BATCH, HEAD, QUERY], bits, rows * d),
        fixed(Flow::Store, &[BATCH, HEAD, QUERY], bits, rows * e),
        fixed(Flow::Accumulate, &[HEAD, QUERY], 32, rows * e),
        fixed(Flow::Accumulate, &[HEAD, QUERY], 32, rows),
        fixed(Flow::Accumulate, &[HEAD, QUERY], 32, rows),
    ];
    for view in tiled_views(first).into_iter().flatten() {
        let element = view.element.bits();
        let of_unit = view.dims[3..].iter().map(&maximum).product::<Result<u64, String>>()?;
        operands.push(fixed(Flow::Load, &[BATCH, HEAD, UNIT], element, of_unit));
    }
    if let Some(mask) = &first.mask {
        let (axes, repeats) = mask_axes(mask, rows);
        operands.push(fixed(Flow::Load, &[&axes[..], &[UNIT]].concat(), mask.element.bits(), repeats * unit));
    }
    // The recent ones wait in SRAM all at once.
    for piece in &pieces[1..] {
        for view in tiled_views(piece).into_iter().flatten() {
            let elements = view.dims[2..].iter().map(&maximum).product::<Result<u64, String>>()?;
            operands.push(fixed(Flow::Hold, &[HEAD], view.element.bits(), elements));
        }
        if let Some(mask) = &piece.mask {
            let (axes, repeats) = mask_axes(mask, rows);
            operands.push(fixed(Flow::Hold, &axes, mask.element.bits(), repeats * piece.block as u64));
        }
    }
    let work = vec![
        Work {
            axes: all.clone(),
            factor: rows * unit * (d + e),
            per_cycle: macs_per_cycle(context, q.element, first.k.element),
        },
        // Maximum, exponential, sum and scaling of each score.
        Work { axes: all.clone(), factor: 4 * rows * unit, per_cycle: context.machine.vector_lanes },
    ];
    let axes = vec![
        Axis::with_tile("batch", maximum(&q.dims[0])?, 1),
        Axis::new("key head", maximum(&first.k.dims[1])?, 1),
        Axis::new("query", maximum(&q.dims[2])?, 1),
        // Whole steps of the kernel: programs with other tiles round alike.
        Axis::new("key", maximum(&first.k.dims[2])?, (KEYS as u64 / unit).max(1)),
    ];
    let problem = Problem { axes, operands, work, orders: vec![all], fixed_sram_bytes: 0, keeps: None };
    with_sums(&problem, limits(context)).map_err(|error| error.to_string())
}

/// Which axes a mask `[b, h, s, ..]` follows, and for how many query heads of a key head it has rows.
fn mask_axes(mask: &View, rows: u64) -> (Vec<usize>, u64) {
    let axes = [(1, HEAD), (2, QUERY)].into_iter().filter(|(dim, _)| mask.strides[*dim] != 0);
    (axes.map(|(_, axis)| axis).collect(), if mask.strides[1] == 0 { 1 } else { rows })
}

/// A piece's tensors but the mask, in the command's order: k, v, then scales and offsets. Dimension 2 is the units.
fn tiled_views(piece: &Piece) -> [Option<&View>; 6] {
    [
        Some(&piece.k),
        Some(&piece.v),
        piece.k_scale.as_ref(),
        piece.k_offset.as_ref(),
        piece.v_scale.as_ref(),
        piece.v_offset.as_ref(),
    ]
}

struct Pieces<'p> {
    pieces: &'p [Piece],
    /// The space of what a query tile carries.
    sums: &'static str,
    unit_tile: i64,
    group: i64,
    scale: f64,
    softcap: f64,
    /// Position of the first query.
    shift: Dim,
    is_causal: bool,
    window: i64,
    running: Option<Running>,
}

/// The SRAM tiles of some units of a piece: as [`tiled_views`], and the mask.
struct Tile {
    views: [Option<View>; 6],
    mask: Option<View>,
    /// Position of the first key.
    start: Dim,
}

/// A recent block on its way: what to wait for, and where it will be.
type Waiting<'p> = (Vec<ValueId>, &'p Piece, Tile);

impl Pieces<'_> {
    /// The part of a piece that one batch, some key heads and a query tile read: `[heads, units, ..]`; the mask `[heads, r, s, units, unit]`.
    fn part(&self, piece: &Piece, tiles: &Tiles) -> Result<(Vec<Option<View>>, Option<View>), String> {
        let (batch, head, query) = (&tiles.places[BATCH], &tiles.places[HEAD], &tiles.places[QUERY]);
        let some = |view: &View| view.at(0, &batch.start).slice(0, &head.start, &head.length, 1);
        let views = tiled_views(piece).map(|view| view.map(some));
        let mask = match &piece.mask {
            Some(mask) => {
                let grouped = mask.split(1, self.group).ok_or("query heads are no multiple of key heads")?;
                Some(some(&grouped).slice(2, &query.start, &query.length, 1))
            }
            None => None,
        };
        Ok((views.to_vec(), mask))
    }

    /// The attention command over keys that lie in SRAM.
    fn attend(
        &self,
        context: &mut LoweringContext,
        tiles: &Tiles,
        piece: &Piece,
        tile: &Tile,
    ) -> Result<(), String> {
        let running = self.running.as_ref().ok_or("attention steps before it begins")?;
        let one = has_one_query(&tiles.places[QUERY]);
        let [accumulator, maximum, sum] = running.views(one);
        let q = grouped_rows(tiles.load(0), one);
        let shared = |view: &View| match one {
            true => view.clone(),
            false => view.with_repeated_axis(1, &Dim::Known(self.group)),
        };
        let mut views = Vec::new();
        for (index, view) in tile.views.iter().enumerate() {
            // k_scale and k_offset have a row per unit; all others a unit of tokens.
            let has_tokens = !matches!(index, 2 | 3);
            views.push(match view {
                Some(view) if has_tokens => Some(shared(&merge_units(view, 1)?)),
                Some(view) => Some(shared(view)),
                None => None,
            });
        }
        let mask = match &tile.mask {
            Some(mask) => {
                let mask = merge_units(mask, 3)?;
                Some(if one { mask.without_axis(2) } else { mask })
            }
            None => None,
        };
        let [k, v, scales @ ..] = &views[..] else { return Err("keys and values".into()) };
        let mut command = context.command(&tile::ATTENTION, engine::MATRIX).view(&accumulator);
        command = command.view(&maximum).view(&sum).view(&q).maybe(k.as_ref()).maybe(v.as_ref());
        command = command.maybe(mask.as_ref());
        for scale in scales {
            command = command.maybe(scale.as_ref());
        }
        command = command.attribute("scale", self.scale).attribute("softcap", self.softcap);
        command = command.attribute("window", self.window).attribute("block", piece.block);
        command = command.attribute("group", if one { self.group } else { 1 });
        command = command.attribute("part", piece.part).attribute("keep", piece.keep);
        if self.is_causal || self.window > 0 || piece.part != "all" {
            let offset = &(&tiles.places[QUERY].start + &self.shift) - &tile.start;
            command = command.dim("causal_offset", &offset);
        }
        command.attribute("ahead", !self.is_causal).emit()
    }

    /// All units of a piece in double-buffered tiles.
    fn stream(&self, context: &mut LoweringContext, tiles: &Tiles, piece: &Piece) -> Result<(), String> {
        let (views, mask) = self.part(piece, tiles)?;
        let units = piece.k.dims[2].clone();
        let follows = |view: &View, at: usize| {
            let axes: Vec<Option<usize>> = (0..view.rank()).map(|axis| (axis == at).then_some(0)).collect();
            Tiled::new(view.clone(), &axes)
        };
        let mut loads: Vec<Tiled> = views.iter().flatten().map(|view| follows(view, 1)).collect();
        loads.extend(mask.iter().map(|mask| follows(mask, 3)));
        let nest = Nest {
            extents: vec![units],
            tiles: vec![self.unit_tile],
            order: vec![0],
            loads,
            results: Vec::new(),
            result_axes: Vec::new(),
            is_pipelined: true,
            cut: None,
        };
        nest.run(
            context,
            &mut Step(|context: &mut LoweringContext, inner: &Tiles| {
                let mut next = 0;
                let mut load = |present: bool| {
                    present.then(|| {
                        next += 1;
                        inner.load(next - 1).clone()
                    })
                };
                let loaded: Vec<Option<View>> = views.iter().map(|view| load(view.is_some())).collect();
                let start = &piece.start + &(&inner.places[0].start * &Dim::Known(piece.unit));
                let mask = load(mask.is_some());
                let loaded: [Option<View>; 6] = loaded.try_into().map_err(|_| "six views")?;
                self.attend(context, tiles, piece, &Tile { views: loaded, mask, start })
            }),
        )
    }

    /// Starts all transfers of the recent blocks.
    fn start_recent<'p>(
        &self,
        context: &mut LoweringContext,
        tiles: &Tiles,
        pieces: &'p [Piece],
    ) -> Result<Vec<Waiting<'p>>, String> {
        let mut waiting = Vec::new();
        for piece in pieces {
            let (views, mask) = self.part(piece, tiles)?;
            let mut tokens = Vec::new();
            let mut bring = |context: &mut LoweringContext, view: &View| {
                // Rows that repeat are brought once.
                let mut once = view.clone();
                for axis in 0..view.rank() {
                    if view.strides[axis] == 0 {
                        once.dims[axis] = Dim::Known(1);
                    }
                }
                let buffer = context.buffer(space::SRAM, view.element, &once.dims)?;
                tokens.push(context.start_transfer(engine::DMA0, &buffer, &once)?);
                Ok::<View, String>(View {
                    dims: view.dims.clone(),
                    strides: std::iter::zip(&view.strides, &buffer.strides)
                        .map(|(from, to)| if *from == 0 { 0 } else { *to })
                        .collect(),
                    ..buffer
                })
            };
            let mut loaded: [Option<View>; 6] = Default::default();
            for (to, view) in loaded.iter_mut().zip(&views) {
                *to = view.as_ref().map(|view| bring(context, view)).transpose()?;
            }
            let mask = mask.as_ref().map(|mask| bring(context, mask)).transpose()?;
            waiting.push((tokens, piece, Tile { views: loaded, mask, start: piece.start.clone() }));
        }
        Ok(waiting)
    }

    /// A step for each of the recent blocks.
    fn recent(
        &self,
        context: &mut LoweringContext,
        tiles: &Tiles,
        waiting: Vec<Waiting>,
    ) -> Result<(), String> {
        for (tokens, piece, tile) in waiting {
            tokens.into_iter().try_for_each(|token| context.wait(token))?;
            self.attend(context, tiles, piece, &tile)?;
        }
        Ok(())
    }
}

impl Body for Pieces<'_> {
    fn begin(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        let first = self.pieces.first().ok_or("an attention without keys")?;
        let sinks = tiles.find(1).cloned();
        let width = &first.v.dims[4];
        let places = [&tiles.places[HEAD], &tiles.places[QUERY]];
        self.running = Some(Running::begin(context, self.sums, places, self.group, width, sinks.as_ref())?);
        Ok(())
    }

    fn step(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        let (first, rest) = self.pieces.split_first().ok_or("an attention without keys")?;
        // The recent blocks come in while the settled ones are worked on.
        let waiting = self.start_recent(context, tiles, rest)?;
        self.stream(context, tiles, first)?;
        self.recent(context, tiles, waiting)
    }

    fn finish(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        let running = self.running.take().ok_or("attention finishes before it begins")?;
        running.finish(context, tiles.result(0))
    }
}
