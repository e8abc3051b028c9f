//! Convolution, transposed convolution and pooling, and what follows them elementwise: tiles of output channels and of output rows.
//!
//! Rows are the first spatial dimension. Their tiles are written out one after another, because padding differs at the borders;
//! each loads its input rows with their halo. Channels run in a loop nest, input channels as a reduction in the accumulators.
//! Small groups of channels are taken several at a time and never cut; large ones one after another, each as a convolution of its own.
//! It must not know other kernels.
//!
//! ```text
//! for each row tile: for o, c: transfer x[c, rows + halo], w[o, c]; convolution into acc; add bias; transfer y
//! ```

use super::kernel::Kernel;
use super::machine::{limits, macs_per_cycle, place_product};
use super::nest::{Body, Nest, Tiled, Tiles};
use super::spatial::{Kind, RowTile, Shape};
use super::tile_op;
use super::tile_search::{Axis, Flow, Operand, Plan, Problem, Work, candidates, search};
use crate::lowering::{Lowering, LoweringContext, PlaceContext, Subject, engine, space};
use crate::op_command::OpCommand;
use crate::view::View;
use std::collections::BTreeMap;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{OpId, ValueId};

/// Rows of this file.
pub static LOWERINGS: &[Lowering] = &[
    Lowering { subject: Subject::Kernel("convolution"), place: place_kernel, lower },
    Lowering { subject: Subject::Op(&core::CONVOLUTION), place, lower },
    Lowering { subject: Subject::Op(&core::CONVOLUTION_INTEGER), place, lower },
    Lowering { subject: Subject::Op(&core::CONV_TRANSPOSE), place, lower },
    Lowering { subject: Subject::Op(&core::POOL), place, lower },
];

fn place_kernel(context: &PlaceContext) -> Result<(), String> {
    let block = context.module.entry(context.op, 0);
    let kinds = [&core::CONVOLUTION, &core::CONVOLUTION_INTEGER, &core::CONV_TRANSPOSE, &core::POOL];
    let is_first = |op: &&OpId| kinds.contains(&context.module.op(**op).def);
    let ops = &context.module.block(block).ops;
    let first = ops.iter().find(is_first).ok_or("a kernel without its convolution")?;
    place(&PlaceContext { op: *first, ..*context })?;
    super::elementwise::place_all(context, ops.iter().filter(|op| *op != first))
}

fn place(context: &PlaceContext) -> Result<(), String> {
    let x = context.operand(0).ok_or("x is no tensor")?;
    match context.operand(1) {
        Some(w) if context.operation().def != &core::POOL => place_product(context, x.element, w.element)?,
        _ => super::elementwise::place(context)?,
    }
    if !(3..=5).contains(&x.rank()) {
        return Err(format!("windows of {} spatial dimensions", x.rank().saturating_sub(2)));
    }
    if x.shape[1].known().is_none() {
        return Err("the number of channels is not known".into());
    }
    Ok(())
}

/// Axes of the nest.
const BATCH: usize = 0;
const OUT: usize = 1;
const IN: usize = 2;
/// Channels that a tile is a multiple of, where that fits.
const CHANNEL_GRANULE: u64 = 16;

#[derive(Clone)]
struct Convolution<'k> {
    shape: Shape,
    x: View,
    w: Option<View>,
    bias: Option<View>,
    /// The convolution's own result.
    value: ValueId,
    /// Dimensions of the result.
    dims: Vec<Dim>,
    /// The kernel's ops, the convolution first.
    ops: &'k [OpId],
    /// Values of the kernel that lie in memory.
    inputs: BTreeMap<ValueId, View>,
    /// Values that leave the kernel.
    outputs: BTreeMap<ValueId, View>,
}

/// Tiles of output rows, and what a row tile is cut into.
struct Schedule {
    height: i64,
    plan: Plan,
    cycles: u64,
}

fn lower(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let kernel = Kernel::open(context, op)?;
    let first = *kernel.ops.first().ok_or("a kernel without ops")?;
    let x = context.operand(first, 0)?;
    let is_pool = context.op(first).def == &core::POOL;
    let w = if is_pool { None } else { Some(context.operand(first, 1)?) };
    let bias = if is_pool { None } else { context.optional(first, 2)? };
    let value = context.result(first, 0);
    let ty = context.ty(value)?;
    let (shape, x) = Shape::of(context, first, &x, w.as_ref())?;
    let mut inputs = BTreeMap::new();
    for op in &kernel.ops[1..] {
        let scales = [&core::QUANTIZE, &core::DEQUANTIZE].contains(&context.op(*op).def);
        for (slot, operand) in Kernel::operands(context, *op).into_iter().enumerate() {
            let Some(operand) = operand.filter(|operand| !kernel.makes(context, *operand)) else { continue };
            let mut view = context.view(operand)?;
            if scales && slot > 0 && view.rank() == 1 {
                // One per channel.
                view = (2..ty.rank()).fold(view, |view, _| view.with_axis(view.rank()));
            }
            inputs.insert(operand, view.broadcast_to(&ty.shape));
        }
    }
    let dims = ty.shape.to_vec();
    if dims.contains(&Dim::Known(0)) {
        return Ok(());
    }
    let (ops, outputs) = (kernel.ops.as_slice(), kernel.outputs.clone());
    Convolution { shape, x, w, bias, value, dims, ops, inputs, outputs }.run(context)
}

impl Convolution<'_> {
    /// Channels of one group count as one step of the channel axis when there are several groups.
    fn is_grouped(&self) -> bool {
        self.shape.groups > 1 || self.shape.kind == Kind::Pool
    }

    fn run(&self, context: &mut LoweringContext) -> Result<(), String> {
        let together = self.schedule(context)?;
        if self.shape.groups == 1 || self.shape.kind == Kind::Pool {
            return self.write(context, &together?);
        }
        let groups: Vec<Convolution> = (0..self.shape.groups).map(|group| self.group(group)).collect();
        let apart = groups[0].schedule(context)?;
        let cycles = apart.as_ref().map(|apart| apart.cycles.saturating_mul(groups.len() as u64));
        match (together, cycles) {
            (Ok(together), Ok(cycles)) if together.cycles <= cycles => self.write(context, &together),
            (Ok(together), Err(_)) => self.write(context, &together),
            _ => {
                let apart = apart?;
                groups.iter().try_for_each(|group| group.write(context, &apart))
            }
        }
    }

    /// What the matrix engine sums in.
    fn sum_element(&self) -> Element {
        if self.x.element.is_integer() { Element::I32 } else { Element::F32 }
    }

    /// Whether a value of the kernel stays where it is summed: the convolution's own, when it is read inside the kernel alone.
    fn rests_in_accumulators(&self, context: &LoweringContext, value: ValueId) -> Result<bool, String> {
        let is_inner = self.w.is_some() && value == self.value && !self.outputs.contains_key(&value);
        Ok(is_inner && context.ty(value)?.element == self.sum_element())
    }

    /// One group of channels as a convolution of its own.
    fn group(&self, index: i64) -> Convolution<'_> {
        let groups = self.shape.groups;
        let part = |view: &View, axis: usize| {
            let length = view.dims[axis].known().unwrap_or(1) / groups;
            view.slice(axis, &Dim::Known(index * length), &Dim::Known(length), 1)
        };
        let parts = |views: &BTreeMap<ValueId, View>| {
            views.iter().map(|(value, view)| (*value, part(view, 1))).collect::<BTreeMap<_, _>>()
        };
        let mut dims = self.dims.clone();
        dims[1] = Dim::Known(dims[1].known().unwrap_or(1) / groups);
        let mut shape = self.shape.clone();
        shape.groups = 1;
        Convolution {
            shape,
            x: part(&self.x, 1),
            w: self.w.as_ref().map(|w| part(w, 0)),
            bias: self.bias.as_ref().map(|bias| part(bias, 0)),
            dims,
            inputs: parts(&self.inputs),
            outputs: parts(&self.outputs),
            ..self.clone()
        }
    }

    /// The schedule of the fewest cycles, or why none fits.
    fn schedule(&self, context: &LoweringContext) -> Result<Result<Schedule, String>, String> {
        let rows = context.maximum(&self.dims[2])?.max(1);
        let heights = match self.dims[2].known() {
            Some(_) => candidates(Axis::new("rows", rows as u64, 1)),
            None => vec![rows as u64],
        };
        let mut best: Result<Schedule, String> = Err(String::new());
        for height in heights {
            match (self.plan(context, height as i64)?, &best) {
                (Ok(plan), earlier) => {
                    let cycles = plan.cycles.saturating_mul((rows as u64).div_ceil(height));
                    if earlier.as_ref().map_or(true, |best| cycles < best.cycles) {
                        best = Ok(Schedule { height: height as i64, plan, cycles });
                    }
                }
                (Err(what), Err(_)) => best = Err(what),
                (Err(_), Ok(_)) => {}
            }
        }
        Ok(best)
    }

    fn write(&self, context: &mut LoweringContext, schedule: &Schedule) -> Result<(), String> {
        let rows = context.maximum(&self.dims[2])?.max(1);
        let mut start = 0;
        while start < rows {
            let length = match self.dims[2].known() {
                Some(_) => Dim::Known(schedule.height.min(rows - start)),
                None => self.dims[2].clone(),
            };
            self.row_tile(context, &schedule.plan, start, &length)?;
            start += schedule.height;
        }
        Ok(())
    }

    fn plan(&self, context: &LoweringContext, height: i64) -> Result<Result<Plan, String>, String> {
        let mut best: Result<Plan, String> = Err(String::new());
        if !self.is_grouped() {
            // Whole vectors of channels where they fit, else any number of them.
            for granule in [CHANNEL_GRANULE, 1] {
                let problem = self.problem(context, height, None, granule)?;
                best = search(&problem, limits(context)).map_err(|error| error.to_string());
                if best.is_ok() {
                    break;
                }
            }
            return Ok(best);
        }
        // Groups are taken in tiles that divide them, so that every command has the same number.
        let groups = self.channel_steps();
        for tile in (1..=groups).filter(|tile| groups % tile == 0) {
            let problem = self.problem(context, height, Some(tile as u64), CHANNEL_GRANULE)?;
            match (search(&problem, limits(context)), &best) {
                (Ok(plan), Ok(least)) if plan.cycles >= least.cycles => {}
                (Ok(plan), _) => best = Ok(plan),
                (Err(error), Err(_)) => best = Err(error.to_string()),
                (Err(_), Ok(_)) => {}
            }
        }
        Ok(best)
    }

    /// Steps of the output channel axis: channels, or groups of them.
    fn channel_steps(&self) -> i64 {
        let channels = self.dims[1].known().unwrap_or(1);
        match self.shape.kind {
            Kind::Pool => channels,
            _ if self.is_grouped() => self.shape.groups,
            _ => channels,
        }
    }

    fn problem(
        &self,
        context: &LoweringContext,
        height: i64,
        tile: Option<u64>,
        granule: u64,
    ) -> Result<Problem, String> {
        let maximum = |dim: &Dim| context.maximum(dim).map(|value| value.max(1) as u64);
        let product =
            |dims: &[Dim]| dims.iter().map(maximum).try_fold(1u64, |all, dim| dim.map(|dim| all * dim));
        let steps = self.channel_steps() as u64;
        let channels = maximum(&self.dims[1])? / steps;
        let in_channels = maximum(&self.x.dims[1])?;
        let grouped = self.is_grouped();
        let reduce = if grouped { 1 } else { in_channels };
        let points = height as u64 * product(&self.dims[3..])?;
        let in_points = self.shape.rows_reached(height, maximum(&self.x.dims[2])? as i64) as u64
            * product(&self.x.dims[3..])?;
        let fixed = |flow: Flow, axes: &[usize], element: Element, fixed: u64| Operand {
            fixed,
            ..Operand::new(flow, axes, element.bits() as u64)
        };
        let x = self.x.element;
        let mut operands = vec![if grouped {
            fixed(Flow::Load, &[BATCH, OUT], x, in_channels / steps * in_points)
        } else {
            fixed(Flow::Load, &[BATCH, IN], x, in_points)
        }];
        let mut macs_per_point = self.shape.window_size() as u64 * channels;
        if let Some(w) = &self.w {
            let window = product(&w.dims[2..])?;
            let per_group = channels * (in_channels / steps.min(in_channels));
            operands.push(if grouped {
                fixed(Flow::Load, &[OUT], w.element, per_group * window)
            } else {
                fixed(Flow::Load, &[OUT, IN], w.element, window)
            });
            macs_per_point = if grouped { per_group * window } else { window };
        }
        if let Some(bias) = &self.bias {
            operands.push(fixed(Flow::Load, &[OUT], bias.element, channels));
            if bias.element != self.sum_element() {
                operands.push(fixed(Flow::Hold, &[OUT], self.sum_element(), channels));
            }
        }
        for view in self.inputs.values() {
            // What repeats is fetched once.
            let follows = |axis: usize| view.strides[axis] != 0;
            let axes: Vec<usize> = [BATCH, OUT].into_iter().filter(|axis| follows(*axis)).collect();
            let channels = if follows(1) { channels } else { 1 };
            let points = if (2..view.rank()).any(follows) { points } else { 1 };
            operands.push(fixed(Flow::Load, &axes, view.element, channels * points));
        }
        for op in self.ops {
            let value = context.result(*op, 0);
            if self.rests_in_accumulators(context, value)? {
                continue;
            }
            let flow = if self.outputs.contains_key(&value) { Flow::Store } else { Flow::Hold };
            operands.push(fixed(flow, &[BATCH, OUT], context.ty(value)?.element, channels * points));
        }
        if self.w.is_some() {
            operands.push(fixed(Flow::Accumulate, &[BATCH, OUT], self.sum_element(), channels * points));
        }
        let out = Axis { tile, ..Axis::new("output channel", steps, if grouped { 1 } else { granule }) };
        let axes = vec![
            Axis::with_tile("batch", maximum(&self.dims[0])?, 1),
            out,
            Axis::new("input channel", reduce, granule),
        ];
        let work = vec![
            Work {
                axes: vec![BATCH, OUT, IN],
                factor: macs_per_point * points,
                per_cycle: match &self.w {
                    Some(w) => macs_per_cycle(context, x, w.element),
                    None => context.machine.vector_lanes,
                },
            },
            Work {
                axes: vec![BATCH, OUT],
                factor: channels * points * self.ops.len() as u64,
                per_cycle: context.machine.vector_lanes,
            },
        ];
        Ok(Problem { axes, operands, work, orders: vec![vec![0, 1, 2], vec![1, 0, 2]], fixed_sram_bytes: 0 })
    }

    /// One tile of output rows.
    fn row_tile(
        &self,
        context: &mut LoweringContext,
        plan: &Plan,
        start: i64,
        length: &Dim,
    ) -> Result<(), String> {
        let rows = self.shape.row_tile(&self.x, start, length);
        let steps = self.channel_steps();
        let grouped = self.is_grouped();
        // [n, channel steps, channels per step, spatial..]
        let split = |view: &View| {
            let channels = view.dims[1].known().unwrap_or(1);
            view.split(1, channels / steps).ok_or_else(|| "channels do not split in groups".to_string())
        };
        let spatial: Vec<Option<usize>> = vec![None; self.dims.len() - 2];
        let out = |view: &View| -> Result<Tiled, String> {
            let part = view.slice(2, &Dim::Known(start), length, 1);
            Ok(Tiled::new(split(&part)?, &[&[Some(BATCH), Some(OUT), None], &spatial[..]].concat()))
        };
        let mut loads = vec![if grouped {
            Tiled::new(split(&rows.x)?, &[&[Some(BATCH), Some(OUT), None], &spatial[..]].concat())
        } else {
            Tiled::new(rows.x.clone(), &[&[Some(BATCH), Some(IN)], &spatial[..]].concat())
        }];
        let mut add = |tiled: Tiled| {
            loads.push(tiled);
            loads.len() - 1
        };
        let w = match &self.w {
            None => None,
            Some(w) if grouped => {
                let outer = w.dims[0].known().ok_or("the number of filters is not known")? / steps;
                let w = w.split(0, outer).ok_or("filters do not split in groups")?;
                Some(add(Tiled::new(w, &[&[Some(OUT), None, None], &spatial[..]].concat())))
            }
            Some(w) if self.shape.kind == Kind::Transposed => {
                Some(add(Tiled::new(w.clone(), &[&[Some(IN), Some(OUT)], &spatial[..]].concat())))
            }
            Some(w) => Some(add(Tiled::new(w.clone(), &[&[Some(OUT), Some(IN)], &spatial[..]].concat()))),
        };
        let bias = match &self.bias {
            None => None,
            Some(bias) => {
                let per_step = self.dims[1].known().unwrap_or(1) / steps;
                let bias = bias.split(0, per_step).ok_or("the bias does not split in groups")?;
                Some(add(Tiled::new(bias, &[Some(OUT), None])))
            }
        };
        let mut homes: BTreeMap<ValueId, Home> = BTreeMap::new();
        for (value, view) in &self.inputs {
            homes.insert(*value, Home::Load(add(out(view)?)));
        }
        let mut results = Vec::new();
        for op in self.ops {
            let value = context.result(*op, 0);
            let home = match self.outputs.get(&value) {
                Some(view) => {
                    results.push(out(view)?);
                    Home::Result(results.len() - 1)
                }
                None if self.rests_in_accumulators(context, value)? => Home::Sum,
                None => Home::Scratch(context.ty(value)?.element),
            };
            homes.insert(value, home);
        }
        let reduce = if grouped { Dim::Known(1) } else { self.x.dims[1].clone() };
        let nest = Nest {
            extents: vec![self.dims[0].clone(), Dim::Known(steps), reduce],
            tiles: plan.tiles.iter().map(|tile| *tile as i64).collect(),
            order: plan.order.clone(),
            loads,
            results,
            is_pipelined: true,
        };
        let is_looped = nest.is_looped(context, IN)?;
        let mut body = ConvolutionBody {
            convolution: self,
            rows,
            length: length.clone(),
            homes,
            w,
            bias,
            is_looped,
            sum: None,
            views: BTreeMap::new(),
        };
        nest.run(context, &mut body)
    }
}

/// A value's tile.
enum Home {
    Load(usize),
    /// In the accumulators, where it is summed.
    Sum,
    Scratch(Element),
    Result(usize),
}

struct ConvolutionBody<'c> {
    convolution: &'c Convolution<'c>,
    rows: RowTile,
    length: Dim,
    homes: BTreeMap<ValueId, Home>,
    w: Option<usize>,
    bias: Option<usize>,
    is_looped: bool,
    sum: Option<View>,
    /// Tiles of values, [n, channels, spatial..].
    views: BTreeMap<ValueId, View>,
}

/// [n, steps, per step, ..] as [n, channels, ..].
fn merged(view: &View, axis: usize) -> View {
    let per_step = view.dims[axis + 1].known().unwrap_or(1);
    let mut view = view.clone();
    view.dims[axis] = super::cluster::scaled(&view.dims[axis], per_step);
    if per_step > 1 {
        view.strides[axis] = view.strides[axis + 1];
    }
    view.without_axis(axis + 1)
}

impl ConvolutionBody<'_> {
    fn scratch(
        &self,
        context: &mut LoweringContext,
        tiles: &Tiles,
        space: &str,
        element: Element,
    ) -> Result<View, String> {
        let all = &self.convolution.dims;
        let per_step = all[1].known().unwrap_or(1) / self.convolution.channel_steps();
        let (n, o) = (&tiles.places[BATCH], &tiles.places[OUT]);
        let mut capacity = vec![n.capacity, o.capacity * per_step, context.maximum(&self.length)?];
        let mut dims =
            vec![n.length.clone(), super::cluster::scaled(&o.length, per_step), self.length.clone()];
        for dim in &all[3..] {
            capacity.push(context.maximum(dim)?);
            dims.push(dim.clone());
        }
        let whole: Vec<Dim> = capacity.iter().map(|length| Dim::Known(*length)).collect();
        let buffer = context.buffer_with_capacity(space, element, &whole, &capacity)?;
        Ok(View { dims, ..buffer })
    }
}

impl Body for ConvolutionBody<'_> {
    fn begin(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        self.views.clear();
        for (value, home) in &self.homes {
            let view = match home {
                Home::Load(_) => continue,
                Home::Sum => {
                    self.scratch(context, tiles, space::ACCUMULATOR, self.convolution.sum_element())?
                }
                Home::Result(index) => merged(tiles.result(*index), 1),
                Home::Scratch(element) => self.scratch(context, tiles, space::SRAM, *element)?,
            };
            self.views.insert(*value, view);
        }
        let result = self.views.get(&self.convolution.value).cloned().ok_or("the convolution has no tile")?;
        let is_direct = !self.is_looped && self.bias.is_none();
        let is_sum = matches!(self.homes.get(&self.convolution.value), Some(Home::Sum));
        let sum = if is_direct || is_sum {
            result
        } else {
            self.scratch(context, tiles, space::ACCUMULATOR, self.convolution.sum_element())?
        };
        if self.is_looped {
            context.command(&tile::FILL, engine::VECTOR).view(&sum).attribute("value", 0.0).emit()?;
        }
        self.sum = Some(sum);
        Ok(())
    }

    fn step(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        let shape = &self.convolution.shape;
        let sum = self.sum.as_ref().ok_or("a convolution steps before it begins")?;
        let grouped = self.convolution.is_grouped();
        let x = if grouped { merged(tiles.load(0), 1) } else { tiles.load(0).clone() };
        if let Kind::Pool = shape.kind {
            return shape.emit_pool(context, sum, &x, &self.rows);
        }
        let w = tiles.load(self.w.ok_or("a convolution without filters")?);
        let w = match (grouped, shape.kind) {
            // [groups, c / g, o / g, ..]: the first two are input channels.
            (true, _) => merged(w, 0),
            (false, _) => w.clone(),
        };
        let groups = if grouped { tiles.places[OUT].capacity } else { 1 };
        shape.emit_convolution(context, sum, &x, &w, &self.rows, groups, self.is_looped)
    }

    fn finish(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        for (value, home) in &self.homes {
            if let Home::Load(index) = home {
                self.views.insert(*value, merged(tiles.load(*index), 1));
            }
        }
        let sum = self.sum.take().ok_or("a convolution finishes before it begins")?;
        let result = self.views[&self.convolution.value].clone();
        match self.bias {
            Some(bias) => {
                let bias = merged(tiles.load(bias), 0);
                let bias = if bias.element == sum.element {
                    bias
                } else {
                    let capacity = [context.maximum(&bias.dims[0])?];
                    let whole = [Dim::Known(capacity[0])];
                    let buffer = context.buffer_with_capacity(space::SRAM, sum.element, &whole, &capacity)?;
                    let wide = View { dims: bias.dims.clone(), ..buffer };
                    tile_op::convert(context, &wide, &bias)?;
                    wide
                };
                let bias = (2..sum.rank()).fold(bias, |view, _| view.with_axis(view.rank()));
                let bias = bias.broadcast_to(&sum.dims);
                OpCommand::binary("add").emit(context, engine::VECTOR, &result, &[Some(sum), Some(bias)])?;
            }
            None if sum == result => {}
            None => tile_op::convert(context, &result, &sum)?,
        }
        for op in &self.convolution.ops[1..] {
            let operands = Kernel::operands(context, *op);
            let operands: Vec<Option<View>> = operands
                .iter()
                .map(|value| value.and_then(|value| self.views.get(&value).cloned()))
                .collect();
            tile_op::emit(context, *op, &self.views[&context.result(*op, 0)], &operands)?;
        }
        Ok(())
    }
}
