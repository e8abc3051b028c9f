//! Flash attention: per batch and some key heads all query heads of a group together, keys and values streamed once per query tile.
//!
//! The running maximum, sum and weighted values of a query tile live in the accumulators or in SRAM while key tiles pass (Dao 2023,
//! arXiv:2307.08691). Keys and values may lie in state buffers with the context's capacity as strides; their number may be a register.
//!
//! ```text
//! for b, heads, queries: transfer q; rope; fill; for keys: transfer k, v, mask; attention; finish; transfer o
//! ```

use super::kernel::Kernel;
use super::machine::{limits, macs_per_cycle, place_product};
use super::nest::{Body, Nest, Place, Tiled, Tiles};
use super::tile_op;
use super::tile_search::{Axis, Flow, Limits, Operand, Plan, Problem, TooLarge, Work, best_of};
use crate::lowering::{Lowering, LoweringContext, PlaceContext, Subject, engine, space};
use crate::view::View;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;
use tilewright_ir::op_def::OpDef;
use tilewright_runtime::kernels::attention::KEYS;

/// Rows of this file.
pub static LOWERINGS: &[Lowering] = &[
    Lowering { subject: Subject::Kernel("attention"), place: place_kernel, lower: lower_kernel },
    Lowering { subject: Subject::Op(&core::ATTENTION), place, lower: lower_kernel },
];

fn place_kernel(context: &PlaceContext) -> Result<(), String> {
    let block = context.module.entry(context.op, 0);
    let ops = &context.module.block(block).ops;
    let find = |def: &OpDef| ops.iter().find(|op| context.module.op(**op).def == def);
    if let Some(rope) = find(&core::ROPE) {
        super::elementwise::place(&PlaceContext { op: *rope, ..*context })?;
    }
    let op = find(&core::ATTENTION);
    place(&PlaceContext { op: *op.ok_or("a kernel without its attention")?, ..*context })
}

pub(super) fn place(context: &PlaceContext) -> Result<(), String> {
    let (q, k) = (context.operand(0).ok_or("q is no tensor")?, context.operand(1).ok_or("k is no tensor")?);
    place_product(context, q.element, k.element)?;
    if q.shape[1].known().is_none() || k.shape[1].known().is_none() {
        return Err("the number of heads is not known".into());
    }
    let attributes = &context.operation().attributes;
    if attributes.get("window").and_then(Attribute::as_int) == Some(0) {
        return Err("a window of no keys".into());
    }
    Ok(())
}

fn lower_kernel(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let kernel = Kernel::open(context, op)?;
    let (inner, before) = kernel.ops.split_last().ok_or("a kernel without its attention")?;
    let result = kernel.outputs.get(&context.result(*inner, 0)).cloned();
    lower(
        context,
        *inner,
        before.first().copied(),
        &result.ok_or("the attention's result does not leave its kernel")?,
    )
}

/// Axes of the nest.
const BATCH: usize = 0;
const HEAD: usize = 1;
const QUERY: usize = 2;
const KEY: usize = 3;

/// Writes an attention, whose queries a `rope` rotates on their way.
fn lower(context: &mut LoweringContext, op: OpId, rope: Option<OpId>, result: &View) -> Result<(), String> {
    let q = context.operand(rope.unwrap_or(op), 0)?;
    let (k, v) = (context.operand(op, 1)?, context.operand(op, 2)?);
    let (mask, sinks) = (context.optional(op, 3)?, context.optional(op, 4)?);
    if result.dims.contains(&Dim::Known(0)) {
        return Ok(());
    }
    let heads = q.dims[1].known().ok_or("the number of heads is not known")?;
    let group = heads / k.dims[1].known().ok_or("the number of key heads is not known")?.max(1);
    // [b, h, ..] becomes [b, g, r, ..]: r query heads share a key head.
    let grouped = |view: &View| view.split(1, group).ok_or("query heads are no multiple of key heads");
    let full_mask: Vec<Dim> = [&q.dims[..3], &[k.dims[2].clone()]].concat();
    let mask = mask.map(|mask| grouped(&mask.broadcast_to(&full_mask))).transpose()?;
    let sinks = sinks.map(|sinks| sinks.split(0, group).ok_or("query heads are no multiple of key heads"));
    let query_axes = [Some(BATCH), Some(HEAD), None, Some(QUERY), None];
    let key_axes = [Some(BATCH), Some(HEAD), Some(KEY), None];
    let mut loads = vec![
        Tiled::new(grouped(&q)?, &query_axes),
        Tiled::new(k.clone(), &key_axes),
        Tiled::new(v.clone(), &key_axes),
    ];
    let mut add = |tiled: Tiled| {
        loads.push(tiled);
        loads.len() - 1
    };
    let mask =
        mask.map(|mask| add(Tiled::new(mask, &[Some(BATCH), Some(HEAD), None, Some(QUERY), Some(KEY)])));
    let sinks = sinks.transpose()?.map(|sinks| add(Tiled::new(sinks, &[Some(HEAD), None])));
    let mut rotation = None;
    if let Some(op) = rope {
        // An entry per query, or one for all, and as wide as each is.
        let mut table = |slot: usize| {
            let view = context.operand(op, slot)?;
            let width = view.dims.last().cloned().ok_or("a table of angles is a scalar")?;
            let view = grouped(&view.broadcast_to(&[&q.dims[..3], &[width]].concat()))?;
            Ok::<usize, String>(add(Tiled::new(view, &query_axes)))
        };
        rotation = Some(Rotation { op, cos: table(1)?, sin: table(2)?, rotated: None });
    }
    // Whole steps of the kernel, so that programs with other tiles round alike. Where not even one fits, parts of one do.
    let problem = problem(context, &q, &v, &loads, mask, rotation.as_ref(), group)?;
    let found = with_sums(&problem, limits(context)).or_else(|_| {
        let mut problem = problem.clone();
        problem.axes[KEY] = Axis::new("key", problem.axes[KEY].extent, 1);
        with_sums(&problem, limits(context))
    });
    let (sums, plan) = found.map_err(|error| error.to_string())?;
    let nest = Nest {
        extents: vec![q.dims[0].clone(), k.dims[1].clone(), q.dims[2].clone(), k.dims[2].clone()],
        tiles: plan.tiles.iter().map(|tile| *tile as i64).collect(),
        order: plan.order,
        loads,
        results: vec![Tiled::new(grouped(result)?, &query_axes)],
        result_axes: Vec::new(),
        is_pipelined: true,
        cut: None,
    };
    let attributes = &context.op(op).attributes;
    let float =
        |name: &str, default: f64| attributes.get(name).and_then(Attribute::as_float).unwrap_or(default);
    let is_causal = attributes.get("causal").and_then(Attribute::as_bool).unwrap_or(false);
    let window = attributes.get("window").and_then(Attribute::as_int).unwrap_or(-1).max(0);
    let mut body = Flash {
        scale: float("scale", 1.0),
        softcap: float("softcap", 0.0),
        // Query i is at position i + keys - queries.
        shift: (is_causal || window > 0).then(|| &k.dims[2] - &q.dims[2]),
        is_causal,
        window,
        group,
        mask,
        sinks,
        rotation,
        sums,
        value_width: v.dims[3].clone(),
        running: None,
    };
    nest.run(context, &mut body)
}

/// The best plan with what a query tile carries in the accumulators, or in SRAM, where more queries at once read keys and values less often.
pub(super) fn with_sums(problem: &Problem, limits: Limits) -> Result<(&'static str, Plan), TooLarge> {
    let mut in_sram = problem.clone();
    for operand in in_sram.operands.iter_mut().filter(|operand| operand.flow == Flow::Accumulate) {
        operand.flow = Flow::Hold;
    }
    let spaces = [space::ACCUMULATOR, space::SRAM];
    best_of(&[problem.clone(), in_sram], limits, None).map(|(form, plan)| (spaces[form], plan))
}

fn problem(
    context: &LoweringContext,
    q: &View,
    v: &View,
    loads: &[Tiled],
    mask: Option<usize>,
    rotation: Option<&Rotation>,
    group: i64,
) -> Result<Problem, String> {
    let maximum = |dim: &Dim| context.maximum(dim).map(|value| value.max(1) as u64);
    let (d, e) = (maximum(&q.dims[3])?, maximum(&v.dims[3])?);
    let rows = group as u64;
    let bits = q.element.bits() as u64;
    let fixed = |flow: Flow, axes: &[usize], bits: u64, fixed: u64| {
        let mut operand = Operand::new(flow, axes, bits);
        operand.fixed = fixed;
        operand
    };
    let mut operands = vec![
        fixed(Flow::Load, &[BATCH, HEAD, QUERY], bits, rows * d),
        fixed(Flow::Load, &[BATCH, HEAD, KEY], bits, d),
        fixed(Flow::Load, &[BATCH, HEAD, KEY], bits, e),
        fixed(Flow::Store, &[BATCH, HEAD, QUERY], bits, rows * e),
        fixed(Flow::Accumulate, &[HEAD, QUERY], 32, rows * e),
        fixed(Flow::Accumulate, &[HEAD, QUERY], 32, rows),
        fixed(Flow::Accumulate, &[HEAD, QUERY], 32, rows),
    ];
    if let Some(mask) = mask {
        let view = &loads[mask].view;
        let follows = [(0, BATCH), (1, HEAD), (3, QUERY), (4, KEY)];
        let axes: Vec<usize> =
            follows.iter().filter(|(dim, _)| view.strides[*dim] != 0).map(|(_, axis)| *axis).collect();
        let repeats = if view.strides[2] == 0 { 1 } else { rows };
        operands.push(fixed(Flow::Load, &axes, view.element.bits() as u64, repeats));
    }
    let all = vec![BATCH, HEAD, QUERY, KEY];
    let mut work = vec![
        Work {
            axes: all.clone(),
            factor: rows * (d + e),
            per_cycle: macs_per_cycle(context, q.element, q.element),
        },
        // Maximum, exponential, sum and scaling of each score.
        Work { axes: all.clone(), factor: 4 * rows, per_cycle: context.machine.vector_lanes },
    ];
    if let Some(rotation) = rotation {
        for table in [rotation.cos, rotation.sin] {
            let view = &loads[table].view;
            let follows = [(0, BATCH), (1, HEAD), (3, QUERY)];
            let axes: Vec<usize> =
                follows.iter().filter(|(dim, _)| view.strides[*dim] != 0).map(|(_, axis)| *axis).collect();
            let repeats = if view.strides[2] == 0 { 1 } else { rows };
            operands.push(fixed(
                Flow::Load,
                &axes,
                view.element.bits() as u64,
                repeats * maximum(&view.dims[4])?,
            ));
        }
        operands.push(fixed(Flow::Hold, &[HEAD, QUERY], bits, rows * d));
        let lanes = context.machine.vector_lanes;
        work.push(Work { axes: vec![BATCH, HEAD, QUERY], factor: 2 * rows * d, per_cycle: lanes });
    }
    let keys = maximum(&loads[1].view.dims[2])?;
    let axes = vec![
        Axis::with_tile("batch", maximum(&q.dims[0])?, 1),
        Axis::new("key head", maximum(&loads[1].view.dims[1])?, 1),
        Axis::new("query", maximum(&q.dims[2])?, 1),
        Axis::new("key", keys, KEYS as u64),
    ];
    Ok(Problem { axes, operands, work, orders: vec![all], fixed_sram_bytes: 0, keeps: None })
}

struct Flash {
    scale: f64,
    softcap: f64,
    /// Position of the first query, where positions count.
    shift: Option<Dim>,
    is_causal: bool,
    window: i64,
    group: i64,
    mask: Option<usize>,
    sinks: Option<usize>,
    rotation: Option<Rotation>,
    /// The space of what a query tile carries.
    sums: &'static str,
    value_width: Dim,
    running: Option<Running>,
}

/// How queries are rotated when they have come in.
struct Rotation {
    /// The `core.rope`.
    op: OpId,
    /// Loads of its tables.
    cos: usize,
    sin: usize,
    /// The query tile as it is multiplied.
    rotated: Option<View>,
}

impl Rotation {
    /// Rotates the query tile `[1, key heads, rows, queries, d]` into one beside it.
    fn turn(&mut self, context: &mut LoweringContext, tiles: &Tiles, group: i64) -> Result<(), String> {
        let q = tiles.load(0);
        let width = q.dims[4].known().ok_or("the width of queries is not known")?;
        let (heads, queries) = (tiles.places[HEAD].capacity, tiles.places[QUERY].capacity);
        let capacity = [1, heads, group, queries, width];
        let whole = capacity.map(Dim::Known);
        let buffer = context.buffer_with_capacity(space::SRAM, q.element, &whole, &capacity)?;
        let rotated = View { dims: q.dims.clone(), ..buffer };
        let within_batch = |view: &View| Some(view.without_axis(0));
        let operands = [q, tiles.load(self.cos), tiles.load(self.sin)].map(within_batch);
        tile_op::emit(context, self.op, &rotated.without_axis(0), &operands)?;
        self.rotated = Some(rotated);
        Ok(())
    }
}

/// What a query tile carries over key tiles: [key heads, rows, queries, e], [key heads, rows, queries] twice.
pub(super) struct Running {
    accumulator: View,
    maximum: View,
    sum: View,
}

impl Running {
    /// Nothing seen yet, for `group` query heads of each key head at a place; a sink (`[key heads, group]`) is a key of that score and no
    /// value.
    pub(super) fn begin(
        context: &mut LoweringContext,
        space: &str,
        [heads, queries]: [&Place; 2],
        group: i64,
        width: &Dim,
        sinks: Option<&View>,
    ) -> Result<Running, String> {
        let mut buffer = |dims: &[Dim], capacity: &[i64]| {
            let whole: Vec<Dim> = capacity.iter().map(|length| Dim::Known(*length)).collect();
            let view = context.buffer_with_capacity(space, Element::F32, &whole, capacity)?;
            Ok::<View, String>(View { dims: dims.to_vec(), ..view })
        };
        let e = width.known().ok_or("the width of values is not known")?;
        let dims = [heads.length.clone(), Dim::Known(group), queries.length.clone(), width.clone()];
        let capacity = [heads.capacity, group, queries.capacity, e];
        let accumulator = buffer(&dims, &capacity)?;
        let maximum = buffer(&dims[..3], &capacity[..3])?;
        let sum = buffer(&dims[..3], &capacity[..3])?;
        let fill = |context: &mut LoweringContext, view: &View, value: f64| {
            context.command(&tile::FILL, engine::VECTOR).view(view).attribute("value", value).emit()
        };
        fill(context, &accumulator, 0.0)?;
        match sinks {
            Some(sinks) => {
                let sinks = sinks.with_axis(2).broadcast_to(&maximum.dims);
                tile_op::convert(context, &maximum, &sinks)?;
                fill(context, &sum, 1.0)?;
            }
            None => {
                fill(context, &maximum, f64::NEG_INFINITY)?;
                fill(context, &sum, 0.0)?;
            }
        }
        Ok(Running { accumulator, maximum, sum })
    }

    /// Accumulator, maximum and sum as the command takes them: heads as a batch dimension, or, when there is one query only, as rows.
    pub(super) fn views(&self, has_one_query: bool) -> [View; 3] {
        [&self.accumulator, &self.maximum, &self.sum].map(|view| match has_one_query {
            true => view.without_axis(2),
            false => view.clone(),
        })
    }

    /// Writes the result tile `[1, key heads, rows, queries, e]`.
    pub(super) fn finish(&self, context: &mut LoweringContext, result: &View) -> Result<(), String> {
        context
            .command(&tile::ATTENTION_FINISH, engine::VECTOR)
            .view(&grouped_rows(result, false))
            .view(&self.accumulator)
            .view(&self.sum)
            .emit()
    }
}

/// [1, g, r, s, x] as the command takes it: heads as batch dimensions, or, when there is one query only, those of a group as rows.
pub(super) fn grouped_rows(view: &View, has_one_query: bool) -> View {
    let view = view.without_axis(0);
    if has_one_query { view.without_axis(2) } else { view }
}

/// Whether the queries at a place are one for sure.
pub(super) fn has_one_query(place: &Place) -> bool {
    place.length == Dim::Known(1)
}

impl Flash {
    /// Keys or values under the batch dimension of query heads.
    fn shared(&self, view: &View, has_one_query: bool) -> View {
        let view = view.without_axis(0);
        if has_one_query { view } else { view.with_repeated_axis(1, &Dim::Known(self.group)) }
    }
}

impl Body for Flash {
    fn begin(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        if let Some(rotation) = &mut self.rotation {
            rotation.turn(context, tiles, self.group)?;
        }
        let sinks = self.sinks.map(|sinks| tiles.load(sinks));
        let places = [&tiles.places[HEAD], &tiles.places[QUERY]];
        self.running =
            Some(Running::begin(context, self.sums, places, self.group, &self.value_width, sinks)?);
        Ok(())
    }

    fn step(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        let running = self.running.as_ref().ok_or("attention steps before it begins")?;
        let one = has_one_query(&tiles.places[QUERY]);
        let [accumulator, maximum, sum] = running.views(one);
        let rotated = self.rotation.as_ref().and_then(|rotation| rotation.rotated.as_ref());
        let q = grouped_rows(rotated.unwrap_or(tiles.load(0)), one);
        let (k, v) = (self.shared(tiles.load(1), one), self.shared(tiles.load(2), one));
        let mask = self.mask.map(|mask| grouped_rows(tiles.load(mask), one));
        let mut command = context
            .command(&tile::ATTENTION, engine::MATRIX)
            .view(&accumulator)
            .view(&maximum)
            .view(&sum)
            .view(&q)
            .view(&k)
            .view(&v)
            .maybe(mask.as_ref())
            .maybe(None)
            .maybe(None)
            .maybe(None)
            .maybe(None)
            .attribute("scale", self.scale)
            .attribute("softcap", self.softcap)
            .attribute("window", self.window)
            .attribute("group", if one { self.group } else { 1 });
        if let Some(shift) = &self.shift {
            let offset = &(&tiles.places[QUERY].start + shift) - &tiles.places[KEY].start;
            command = command.dim("causal_offset", &offset).attribute("ahead", !self.is_causal);
        }
        command.emit()
    }

    fn finish(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        let running = self.running.take().ok_or("attention finishes before it begins")?;
        running.finish(context, tiles.result(0))
    }
}
