//! A loop nest over tiles: brings operand tiles into SRAM, calls a body, takes result tiles out.
//!
//! The innermost loop is double-buffered and unrolled by two: while tile `i` is computed, tile `i + 1` is on its way in and tile
//! `i - 1` on its way out. Loops that no result follows are reductions: the body begins before them and finishes after them. A
//! tile that a loop fetches past its end has no elements. It must not know what the body computes.
//!
//! ```text
//! transfer a0 <- x[0..]                                   {name = "load0.0"}
//! for i in 0..n step 2t:
//!   transfer a1 <- x[i + t..]; wait a0; body(a0); transfer a0 <- x[i + 2t..]; wait a1; body(a1)
//! ```

mod pipeline;

use self::pipeline::Stretch;
use crate::lowering::{LoweringContext, engine, space};
use crate::view::View;
use tilewright_ir::dim::{Dim, Function};
use tilewright_ir::module::ValueId;
use tilewright_ir::types::Type;

/// Where a nest stands along one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// First step.
    pub start: Dim,
    /// Number of steps; 0 past the end.
    pub length: Dim,
    /// Largest number of steps.
    pub capacity: i64,
}

/// A tensor that a nest reads or writes in tiles.
#[derive(Clone, Debug)]
pub struct Tiled {
    /// All of it. What lies in SRAM already is used in place.
    pub view: View,
    /// For each dimension the axis that it follows; none when a tile has it whole.
    pub axes: Vec<Option<usize>>,
}

impl Tiled {
    /// A tensor that follows these axes.
    pub fn new(view: View, axes: &[Option<usize>]) -> Tiled {
        assert_eq!(view.rank(), axes.len(), "one axis entry per dimension");
        Tiled { view, axes: axes.to_vec() }
    }

    /// A tensor whose dimension `i` follows axis `i`.
    pub fn in_order(view: View) -> Tiled {
        let axes: Vec<Option<usize>> = (0..view.rank()).map(Some).collect();
        Tiled { view, axes }
    }

    fn follows(&self, axis: usize) -> bool {
        let moves = |dim: usize| self.axes[dim] == Some(axis) && self.view.strides[dim] != 0;
        (0..self.axes.len()).any(moves)
    }

    /// The part at a place.
    pub(super) fn at(&self, places: &[Place]) -> View {
        let slice = |view: View, (dim, axis): (usize, &Option<usize>)| match axis {
            Some(axis) => view.slice(dim, &places[*axis].start, &places[*axis].length, 1),
            None => view,
        };
        self.axes.iter().enumerate().fold(self.view.clone(), slice)
    }
}

/// The tiles at one place of a nest.
pub struct Tiles<'t> {
    /// Where the nest stands, by axis. Axes of loops that are not open yet have their first place.
    pub places: &'t [Place],
    loads: &'t [Option<View>],
    results: &'t [View],
}

impl Tiles<'_> {
    /// The tile of a loaded tensor.
    pub fn load(&self, index: usize) -> &View {
        self.loads[index].as_ref().expect("a tile that an open loop fetches")
    }

    /// As [`Tiles::load`], for a tensor that may not be there.
    pub fn find(&self, index: usize) -> Option<&View> {
        self.loads.get(index)?.as_ref()
    }

    /// Where the tile of a result is to be written.
    pub fn result(&self, index: usize) -> &View {
        &self.results[index]
    }
}

/// What a nest computes.
pub trait Body {
    /// Before the reduction loops.
    fn begin(&mut self, _context: &mut LoweringContext, _tiles: &Tiles) -> Result<(), String> {
        Ok(())
    }
    /// In the innermost loop.
    fn step(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String>;
    /// After the reduction loops; result tiles are complete when it returns.
    fn finish(&mut self, _context: &mut LoweringContext, _tiles: &Tiles) -> Result<(), String> {
        Ok(())
    }
}

/// A body that has a step only.
pub struct Step<F>(pub F);

impl<F: FnMut(&mut LoweringContext, &Tiles) -> Result<(), String>> Body for Step<F> {
    fn step(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        (self.0)(context, tiles)
    }
}

/// A loop nest.
#[derive(Clone, Debug)]
pub struct Nest {
    /// Number of steps of each axis.
    pub extents: Vec<Dim>,
    /// Tile size of each axis.
    pub tiles: Vec<i64>,
    /// Axes, outermost first.
    pub order: Vec<usize>,
    /// Tensors that tiles are read from.
    pub loads: Vec<Tiled>,
    /// Tensors that tiles are written to. What lies in SRAM is written in place.
    pub results: Vec<Tiled>,
    /// Axes that results follow which the body takes out itself.
    pub result_axes: Vec<usize>,
    /// Whether the innermost loop is double-buffered and unrolled by two.
    pub is_pipelined: bool,
    /// Where a pipelined innermost loop is cut in two.
    pub cut: Option<Cut>,
}

/// An innermost loop in two stretches: some tensors are there for the steps of one of them only.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The first step of the second stretch, a multiple of the tile.
    pub at: i64,
    /// Loads of the first stretch only, and of the second only. The others are read in both.
    pub only: [Vec<usize>; 2],
}

/// So many tiles are written one after the other: no loop, and no tile fetched past the end.
const UNROLLED_TILES_MAX: i64 = 4;

/// Which part of a body.
enum Phase {
    Begin,
    Step,
    Finish,
}

/// A nest while it is written.
struct Writer<'n, 'b> {
    nest: &'n Nest,
    body: &'b mut dyn Body,
    /// Axes with more than one tile, outermost first.
    loops: Vec<usize>,
    /// Loops that are open when a load's tile is fetched.
    load_depths: Vec<usize>,
    /// Loops that are open when a result's tile is complete.
    result_depth: usize,
    /// Makes names of transfers unique.
    prefix: String,
    places: Vec<Place>,
    /// The stretch of the innermost axis that is written, while it is.
    stretch: Option<Stretch>,
    loads: Vec<Option<View>>,
    /// Result buffers, for even and odd tiles.
    results: [Vec<View>; 2],
}

impl Nest {
    /// True if an axis has, or may have, more than one tile.
    pub fn is_looped(&self, context: &LoweringContext, axis: usize) -> Result<bool, String> {
        Ok(context.maximum(&self.extents[axis])? > self.tiles[axis])
    }

    /// Writes the nest.
    ///
    /// # Errors
    /// When a dimension has no known maximum, or the body fails.
    pub fn run(&self, context: &mut LoweringContext, body: &mut dyn Body) -> Result<(), String> {
        let mut loops = Vec::new();
        for axis in &self.order {
            if self.is_looped(context, *axis)? {
                loops.push(*axis);
            }
        }
        let depth = |tensor: &Tiled| {
            loops.iter().rposition(|axis| tensor.follows(*axis)).map_or(0, |position| position + 1)
        };
        let own = self
            .result_axes
            .iter()
            .map(|axis| loops.iter().rposition(|looped| looped == axis).map_or(0, |position| position + 1));
        let mut places = Vec::new();
        for (extent, tile) in self.extents.iter().zip(&self.tiles) {
            let capacity = context.maximum(extent)?.min(*tile);
            let length = first_length(extent, *tile, context)?;
            places.push(Place { start: Dim::Known(0), length, capacity });
        }
        let mut writer = Writer {
            nest: self,
            body,
            load_depths: self.loads.iter().map(depth).collect(),
            result_depth: self.results.iter().map(depth).chain(own).max().unwrap_or(loops.len()),
            prefix: context.new_symbol("stream"),
            loads: vec![None; self.loads.len()],
            results: [Vec::new(), Vec::new()],
            places,
            stretch: None,
            loops,
        };
        writer.allocate_results(context)?;
        writer.level(context, 0)?;
        writer.wait_for_results(context)
    }
}

/// Steps of the first tile.
fn first_length(extent: &Dim, tile: i64, context: &LoweringContext) -> Result<Dim, String> {
    if context.maximum(extent)? <= tile {
        return Ok(extent.clone());
    }
    Ok(Dim::call(Function::Min, extent, &Dim::Known(tile)))
}

/// A loop over tiles, `group` of them per iteration. Where the extent is a number the variable counts tiles, so that addresses are
/// multiples of a tile by their form (packed elements begin at whole bytes).
fn tile_loop(
    context: &mut LoweringContext,
    extent: &Dim,
    tile: i64,
    group: i64,
    body: impl FnOnce(&mut LoweringContext, &Dim) -> Result<(), String>,
) -> Result<(), String> {
    match extent.known() {
        Some(extent) => {
            let trips = Dim::Known((extent + tile - 1) / tile);
            context.for_loop(&trips, group, |context, index| body(context, &(index * &Dim::Known(tile))))
        }
        None => context.for_loop(extent, group * tile, body),
    }
}

/// The space that a view lies in.
pub(super) fn space_of<'c>(context: &'c LoweringContext, view: &View) -> Option<&'c str> {
    match context.tile.ty(view.buffer) {
        Type::View(ty) => Some(ty.space.as_str()),
        _ => None,
    }
}

pub(super) fn is_on_chip(context: &LoweringContext, view: &View) -> bool {
    matches!(space_of(context, view), Some(space::SRAM | space::ACCUMULATOR))
}

/// An SRAM buffer for tiles of a tensor. Dimensions along which elements repeat have length 1 in it.
fn tile_buffer(context: &mut LoweringContext, tensor: &Tiled, places: &[Place]) -> Result<View, String> {
    let (mut dims, mut capacity) = (Vec::new(), Vec::new());
    for (dim, axis) in tensor.axes.iter().enumerate() {
        if tensor.view.strides[dim] == 0 {
            dims.push(Dim::Known(1));
            capacity.push(1);
        } else if let Some(axis) = axis {
            dims.push(Dim::Known(places[*axis].capacity));
            capacity.push(places[*axis].capacity);
        } else {
            dims.push(tensor.view.dims[dim].clone());
            capacity.push(context.maximum(&tensor.view.dims[dim])?);
        }
    }
    context.buffer_with_capacity(space::SRAM, tensor.view.element, &dims, &capacity)
}

/// The buffer cut to the dimensions of a part, and the part without its repetitions, so that the two can be copied; then
/// the buffer with the repetitions again.
fn fit(buffer: &View, part: &View) -> (View, View, View) {
    let (mut inside, mut once, mut whole) = (buffer.clone(), part.clone(), buffer.clone());
    for dim in 0..part.rank() {
        if part.strides[dim] == 0 {
            once.dims[dim] = Dim::Known(1);
            whole.strides[dim] = 0;
        } else {
            inside.dims[dim] = part.dims[dim].clone();
        }
        whole.dims[dim] = part.dims[dim].clone();
    }
    (inside, once, whole)
}

impl Writer<'_, '_> {
    fn allocate_results(&mut self, context: &mut LoweringContext) -> Result<(), String> {
        let pipelined = self.has_two_slots();
        for tensor in &self.nest.results {
            for slot in 0..if pipelined { 2 } else { 1 } {
                let buffer = if is_on_chip(context, &tensor.view) {
                    tensor.view.clone()
                } else {
                    tile_buffer(context, tensor, &self.places)?
                };
                self.results[slot].push(buffer);
            }
        }
        if !pipelined {
            self.results[1] = self.results[0].clone();
        }
        Ok(())
    }

    /// What happens when `depth` loops are open.
    fn level(&mut self, context: &mut LoweringContext, depth: usize) -> Result<(), String> {
        let innermost = depth == self.loops.len();
        // All on their way before the first is waited for.
        let mut waiting = Vec::new();
        for index in 0..self.loads.len() {
            if self.load_depths[index] == depth && !(innermost && self.is_pipelined()) {
                waiting.extend(self.load_now(context, index)?);
            }
        }
        waiting.into_iter().try_for_each(|token| context.wait(token))?;
        if innermost {
            return self.leaf(context, 0);
        }
        let begins = depth == self.result_depth;
        if begins {
            let results = self.result_tiles(context, 0);
            self.call(context, &results, Phase::Begin)?;
        }
        if depth + 1 == self.loops.len() && self.nest.is_pipelined {
            self.pipeline(context)?;
        } else {
            self.outer(context, depth)?;
        }
        if begins {
            self.complete(context, 0)?;
        }
        Ok(())
    }

    fn is_pipelined(&self) -> bool {
        self.nest.is_pipelined && !self.loops.is_empty()
    }

    /// Whether results leave once per innermost tile, from two buffers.
    fn has_two_slots(&self) -> bool {
        self.is_pipelined() && self.result_depth == self.loops.len()
    }

    fn call(&mut self, context: &mut LoweringContext, results: &[View], phase: Phase) -> Result<(), String> {
        // Repeated elements are fetched once for all tiles, but each tile has its own length.
        for (tensor, load) in self.nest.loads.iter().zip(&mut self.loads) {
            let Some(load) = load else { continue };
            for (dim, axis) in tensor.axes.iter().enumerate() {
                if let Some(axis) = axis.filter(|_| tensor.view.strides[dim] == 0) {
                    load.dims[dim] = self.places[axis].length.clone();
                }
            }
        }
        let tiles = Tiles { places: &self.places, loads: &self.loads, results };
        match phase {
            Phase::Begin => self.body.begin(context, &tiles),
            Phase::Step => self.body.step(context, &tiles),
            Phase::Finish => self.body.finish(context, &tiles),
        }
    }

    fn outer(&mut self, context: &mut LoweringContext, depth: usize) -> Result<(), String> {
        let axis = self.loops[depth];
        let (extent, tile) = (self.nest.extents[axis].clone(), self.nest.tiles[axis]);
        let saved = self.places[axis].clone();
        tile_loop(context, &extent, tile, 1, |context, start| {
            self.places[axis] = self.place(axis, start, 1);
            self.level(context, depth + 1)
        })?;
        self.places[axis] = saved;
        Ok(())
    }

    /// The place of a tile that begins at `start`. `group` is the number of tiles that an iteration has taken with this one, 0
    /// when the tile may lie past the end even where tiles divide the extent.
    fn place(&self, axis: usize, start: &Dim, group: i64) -> Place {
        let tile = self.nest.tiles[axis];
        let (first, extent) = match &self.stretch {
            Some(stretch) => (stretch.first, &stretch.end),
            None => (0, &self.nest.extents[axis]),
        };
        let divides =
            group > 0 && extent.known().is_some_and(|extent| (extent - first) % (tile * group) == 0);
        let length = if divides && start.known().is_none() {
            Dim::Known(tile)
        } else {
            let left = extent - start;
            match left.known() {
                Some(left) => Dim::Known(left.clamp(0, tile)),
                None => Dim::call(Function::Min, &left, &Dim::Known(tile)),
            }
        };
        Place { start: start.clone(), length, capacity: self.places[axis].capacity }
    }

    /// Starts to bring a tensor's tile in; gives what to wait for, if anything.
    fn load_now(&mut self, context: &mut LoweringContext, index: usize) -> Result<Option<ValueId>, String> {
        let tensor = &self.nest.loads[index];
        let part = tensor.at(&self.places);
        if is_on_chip(context, &part) {
            self.loads[index] = Some(part);
            return Ok(None);
        }
        let buffer = tile_buffer(context, tensor, &self.places)?;
        let (inside, once, whole) = fit(&buffer, &part);
        self.loads[index] = Some(whole);
        context.start_transfer(engine::DMA0, &inside, &once).map(Some)
    }

    fn result_name(&self, index: usize, slot: usize) -> String {
        format!("{}.result{index}.{slot}", self.prefix)
    }

    /// The result tiles of a slot, cut to the place.
    fn result_tiles(&self, context: &LoweringContext, slot: usize) -> Vec<View> {
        let cut = |(tensor, buffer): (&Tiled, &View)| {
            let part = tensor.at(&self.places);
            if is_on_chip(context, &part) { part } else { fit(buffer, &part).0 }
        };
        self.nest.results.iter().zip(&self.results[slot]).map(cut).collect()
    }

    fn leaf(&mut self, context: &mut LoweringContext, slot: usize) -> Result<(), String> {
        let whole = self.result_depth == self.loops.len();
        if whole {
            self.wait_for_slot(context, slot)?;
        }
        let results = self.result_tiles(context, slot);
        if whole {
            self.call(context, &results, Phase::Begin)?;
        }
        self.call(context, &results, Phase::Step)?;
        if whole {
            self.call(context, &results, Phase::Finish)?;
            self.store(context, slot, &results)?;
        }
        Ok(())
    }

    /// After a reduction: the result tile is finished and leaves.
    fn complete(&mut self, context: &mut LoweringContext, slot: usize) -> Result<(), String> {
        self.wait_for_slot(context, slot)?;
        let results = self.result_tiles(context, slot);
        self.call(context, &results, Phase::Finish)?;
        self.store(context, slot, &results)
    }

    /// Before a result buffer is written again, its last transfer must have finished.
    fn wait_for_slot(&self, context: &mut LoweringContext, slot: usize) -> Result<(), String> {
        if self.loops.is_empty() {
            return Ok(());
        }
        for (index, tensor) in self.nest.results.iter().enumerate() {
            if !is_on_chip(context, &tensor.view) {
                context.wait_named(&self.result_name(index, slot))?;
            }
        }
        Ok(())
    }

    fn store(&self, context: &mut LoweringContext, slot: usize, results: &[View]) -> Result<(), String> {
        for (index, tensor) in self.nest.results.iter().enumerate() {
            if !is_on_chip(context, &tensor.view) {
                let part = tensor.at(&self.places);
                context.start_named_transfer(
                    engine::DMA1,
                    &self.result_name(index, slot),
                    &part,
                    &results[index],
                )?;
            }
        }
        Ok(())
    }

    fn wait_for_results(&self, context: &mut LoweringContext) -> Result<(), String> {
        for slot in 0..if self.has_two_slots() { 2 } else { 1 } {
            for (index, tensor) in self.nest.results.iter().enumerate() {
                if !is_on_chip(context, &tensor.view) {
                    context.wait_named(&self.result_name(index, slot))?;
                }
            }
        }
        Ok(())
    }
}
