//! One tile of output rows: a loop nest over channels, and what is computed on its tiles.
//!
//! ```text
//! for o, c: transfer x[c, rows + halo], w[o, c]; convolution into acc; add bias; quantize; transfer y
//! ```

use super::super::cluster::scaled;
use super::super::kernel::Kernel;
use super::super::nest::{Body, Nest, Tiled, Tiles};
use super::super::spatial::{Kind, RowTile};
use super::super::tile_op;
use super::super::tile_search::Plan;
use super::{BATCH, Convolution, IN, OUT};
use crate::lowering::{LoweringContext, engine, space};
use crate::op_command::OpCommand;
use crate::view::View;
use std::collections::BTreeMap;
use tilewright_ir::dialects::tile;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

impl Convolution {
    /// One tile of output rows.
    ///
    /// # Errors
    /// When views do not split in groups, or a command does not take them.
    pub fn row_tile(
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
        for op in &self.ops {
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
            result_axes: Vec::new(),
            is_pipelined: true,
            cut: None,
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
    convolution: &'c Convolution,
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
    view.dims[axis] = scaled(&view.dims[axis], per_step);
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
        let mut dims = vec![n.length.clone(), scaled(&o.length, per_step), self.length.clone()];
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
