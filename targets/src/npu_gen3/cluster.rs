//! A cluster: matrix products of one shape and the elementwise ops on their results, as one nest over rows, columns and k.
//!
//! Weights stream through two buffers; with k in several tiles the sums stay in the accumulators. The same nest serves one row
//! tile of a rows kernel (x lies in SRAM then), a whole `core.linear`, and batched `core.matmul` (leading batch axes). It must not
//! know kernels.
//!
//! ```text
//! gate = x * wg; up = x * wu; y = silu(gate) * up   =>   for n, k: 2 matmul into acc; unary silu; binary mul; transfer y
//! ```

use super::machine::{limits, macs_per_cycle};
use super::nest::{Body, Nest, Tiled, Tiles};
use super::product::{CODEBOOK_BYTES, Product};
use super::tile_op;
use super::tile_search::{Axis, Flow, Limits, Operand, Plan, Problem, TooLarge, Work, search};
use crate::lowering::{LoweringContext, engine, space};
use crate::view::View;
use tilewright_ir::dialects::tile;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;
use tilewright_runtime::kernels::matmul::DEPTH;

/// Where a value of a cluster lives.
#[derive(Clone, Debug)]
pub enum Home {
    /// In memory, broadcast to [batch.., m, n].
    Input(View),
    /// In SRAM only, a tile at a time.
    Inner(Element),
    /// Goes to memory, [batch.., m, n].
    Output(View),
    /// In SRAM as a whole, [m, n], read or written there.
    Resident(View),
}

/// An elementwise op on values of a cluster.
#[derive(Clone, Debug)]
pub struct Epilogue {
    /// The core op.
    pub op: OpId,
    /// Values by operand definition.
    pub operands: Vec<Option<usize>>,
    /// Its result.
    pub result: usize,
}

/// A cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Leading batch dimensions of every view.
    pub batch: Vec<Dim>,
    /// Rows.
    pub m: Dim2,
    /// Whether the left operands lie in SRAM already.
    pub x_is_resident: bool,
    /// Products, at least one, all of one n.
    pub products: Vec<Product>,
    /// Values.
    pub values: Vec<Home>,
    /// Ops on them, in order.
    pub epilogue: Vec<Epilogue>,
}

/// Rows and columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dim2 {
    /// Number of rows.
    pub rows: Dim,
    /// Number of columns.
    pub columns: Dim,
}

impl Default for Dim2 {
    fn default() -> Dim2 {
        Dim2 { rows: Dim::Known(1), columns: Dim::Known(1) }
    }
}

/// Rows of k are counted in blocks of the weight's scale, so that a tile of k has whole blocks.
struct Depth {
    /// Number of blocks.
    extent: Dim,
    /// Length of a block.
    unit: i64,
    /// Whether the axis may be cut: all products have the same k and block.
    is_cut: bool,
}

impl Cluster {
    fn k(&self) -> Dim {
        self.products[0].x.dims[self.batch.len() + 1].clone()
    }

    fn depth(&self) -> Depth {
        let (k, unit) = (self.k(), self.products[0].unit());
        let Some(unit) = unit else { return Depth { extent: Dim::Known(1), unit: 1, is_cut: false } };
        let rank = self.batch.len();
        let alike = |product: &Product| product.x.dims[rank + 1] == k && product.unit() == Some(unit);
        let cuts = |product: &Product| {
            let split = |view: &View, axis: usize, unit: i64| unit == 1 || view.split(axis, unit).is_some();
            split(&product.x, rank + 1, unit) && split(&product.w, rank, product.stored(unit))
        };
        let is_cut = self.products.iter().all(|product| alike(product) && cuts(product));
        let extent = if is_cut { k.divide_exactly(&Dim::Known(unit)) } else { None };
        match extent {
            Some(extent) => Depth { extent, unit, is_cut },
            None => Depth { extent: Dim::Known(1), unit: 1, is_cut: false },
        }
    }

    /// Tiles of k are multiples of this many units. Where integers are summed in pieces that are scaled each, tiles have whole pieces, so
    /// that programs with other tiles round alike.
    fn k_granule(&self, unit: i64) -> u64 {
        let scales_pieces = |product: &Product| {
            let is_byte = |element: Element| element.is_integer() && element.bits() <= 8;
            product.scale.is_some() && is_byte(product.x.element)
        };
        match unit {
            1 if self.products.iter().any(scales_pieces) => DEPTH as u64,
            1 => 16,
            _ => 1,
        }
    }

    /// The best plan under `limits`; `row_tile` fixes the row tile. Axes are batch.., m, n, k (in units of the depth).
    ///
    /// # Errors
    /// When the smallest tiles do not fit.
    pub fn plan(
        &self,
        context: &LoweringContext,
        limits: Limits,
        row_tile: Option<u64>,
    ) -> Result<Result<Plan, TooLarge>, String> {
        let mut best: Option<Plan> = None;
        let mut error = None;
        // Batches are taken one by one, or all at once when they are small.
        for whole_batch in [false, true] {
            if whole_batch && self.batch.is_empty() {
                continue;
            }
            let problem = self.problem(context, row_tile, whole_batch)?;
            match search(&problem, limits) {
                Ok(mut plan) if best.as_ref().is_none_or(|best| plan.cycles < best.cycles) => {
                    for (axis, extent) in self.batch.iter().enumerate().filter(|_| whole_batch) {
                        plan.tiles[axis] = context.maximum(extent)?.max(1) as u64;
                    }
                    best = Some(plan);
                }
                Ok(_) => {}
                Err(large) => error = error.or(Some(large)),
            }
        }
        Ok(best.ok_or_else(|| error.expect("a plan or a reason")))
    }

    fn problem(
        &self,
        context: &LoweringContext,
        row_tile: Option<u64>,
        whole_batch: bool,
    ) -> Result<Problem, String> {
        let rank = self.batch.len();
        let (m, n, k) = (rank, rank + 1, rank + 2);
        let depth = self.depth();
        let maximum = |dim: &Dim| context.maximum(dim).map(|value| value.max(1) as u64);
        let mut axes = Vec::new();
        for dim in &self.batch {
            let extent = maximum(dim)?;
            axes.push(Axis::with_tile("batch", if whole_batch { 1 } else { extent }, 1));
        }
        let rows = row_tile.unwrap_or(maximum(&self.m.rows)?);
        axes.push(Axis { tile: row_tile, ..Axis::new("m", rows, 1) });
        axes.push(Axis::new("n", maximum(&self.m.columns)?, 32));
        axes.push(Axis::new("k", maximum(&depth.extent)?, self.k_granule(depth.unit)));
        let batches: u64 =
            self.batch.iter().map(&maximum).try_fold(1u64, |product, dim| dim.map(|dim| product * dim))?;
        let batches = if whole_batch { batches } else { 1 };
        let fixed_k = if depth.is_cut { depth.unit as u64 } else { maximum(&self.k())? };
        let mut operands = Vec::new();
        let mut add = |flow: Flow, view: &View, follows: &[usize], fixed: u64| {
            let has_batch = view.rank() == rank + 2;
            let batch = (0..rank).filter(|axis| has_batch && view.strides[*axis] != 0);
            let follows: Vec<usize> = batch.chain(follows.iter().copied()).collect();
            let mut operand = Operand::new(flow, &follows, view.element.bits() as u64);
            operand.fixed = fixed * batches;
            // The neighbours in memory are those along a cut axis with stride 1.
            operand.burst = match (has_batch, follows.last()) {
                (true, Some(last)) if view.strides[rank + 1] == 1 && *last == n => Some(n),
                (true, Some(last)) if view.strides[rank] == 1 && *last == k => Some(k),
                _ => None,
            };
            operands.push(operand);
        };
        let k_axis: &[usize] = if depth.is_cut { &[k] } else { &[] };
        for product in &self.products {
            if !self.x_is_resident {
                add(Flow::Load, &product.x, &[&[m], k_axis].concat(), fixed_k);
            }
            // Stored as it is multiplied, or transposed: the axis of neighbours goes last.
            let is_transposed = product.w.strides[rank] == 1 && product.w.strides[rank + 1] != 1;
            let follows = if is_transposed { [&[n][..], k_axis].concat() } else { [k_axis, &[n]].concat() };
            let stored = product.stored(fixed_k as i64) as u64;
            add(Flow::Load, &product.w, &follows, stored);
            if let Some(indices) = &product.indices {
                add(Flow::Load, indices, &follows, stored);
            }
            for view in [&product.scale, &product.zero_point].into_iter().flatten() {
                add(Flow::Load, view, &[&[n][..], if product.block > 0 { k_axis } else { &[] }].concat(), 1);
            }
            if let Some(bias) = &product.bias {
                let bias = bias.broadcast_to(&self.result_dims());
                add(Flow::Load, &bias, &[n], 1);
                add(Flow::Hold, &View { element: Element::F32, ..bias }, &[n], 1);
            }
        }
        for value in &self.values {
            match value {
                Home::Input(view) => {
                    let follows: Vec<usize> =
                        [m, n].into_iter().filter(|axis| view.strides[*axis] != 0).collect();
                    add(Flow::Load, view, &follows, 1);
                }
                Home::Inner(element) => {
                    let mut view = self.products[0].x.clone();
                    view.element = *element;
                    add(Flow::Hold, &view, &[m, n], 1);
                }
                Home::Resident(_) => {}
                Home::Output(view) => add(Flow::Store, view, &[m, n], 1),
            }
        }
        for product in &self.products {
            let mut view = product.x.clone();
            view.element = Element::F32;
            add(Flow::Accumulate, &view, &[m, n], 1);
        }
        let all: Vec<usize> = (0..rank + 3).collect();
        let first = &self.products[0];
        let multiplied =
            self.products.iter().map(|product| product.stored(fixed_k as i64) as u64).sum::<u64>();
        let work = vec![
            Work {
                axes: all.clone(),
                factor: batches * multiplied,
                per_cycle: macs_per_cycle(context, first.x.element, first.w.element),
            },
            Work {
                axes: (0..rank + 2).collect(),
                factor: batches * (self.products.len() + self.epilogue.len()) as u64,
                per_cycle: context.machine.vector_lanes,
            },
        ];
        let mut swapped = all.clone();
        swapped.swap(m, n);
        let codebooks = self.products.iter().filter(|product| product.codebook.is_some()).count() as u64;
        let fixed_sram_bytes = codebooks * CODEBOOK_BYTES;
        Ok(Problem { axes, operands, work, orders: vec![all, swapped], fixed_sram_bytes })
    }

    fn is_written(&self, value: usize) -> bool {
        self.products.iter().any(|product| product.result == value)
            || self.epilogue.iter().any(|node| node.result == value)
    }

    fn result_dims(&self) -> Vec<Dim> {
        self.batch.iter().chain([&self.m.rows, &self.m.columns]).cloned().collect()
    }

    /// Writes the cluster with its own plan.
    ///
    /// # Errors
    /// When the smallest tiles do not fit SRAM, with the bytes needed and available.
    pub fn run(&self, context: &mut LoweringContext) -> Result<(), String> {
        let plan = self.plan(context, limits(context), None)?.map_err(|error| error.to_string())?;
        self.run_with(context, &plan)
    }

    /// Writes the cluster.
    ///
    /// # Errors
    /// When a dimension has no known maximum.
    pub fn run_with(&self, context: &mut LoweringContext, plan: &Plan) -> Result<(), String> {
        if self.result_dims().contains(&Dim::Known(0)) {
            return Ok(());
        }
        let rank = self.batch.len();
        let depth = self.depth();
        let batch: Vec<Option<usize>> = (0..rank).map(Some).collect();
        let (m, n, k) = (Some(rank), Some(rank + 1), Some(rank + 2));
        let follow = |axes: &[Option<usize>]| [&batch[..], axes].concat();
        let mut loads = Vec::new();
        let mut load = |tiled: Tiled| {
            loads.push(tiled);
            loads.len() - 1
        };
        let mut parts = Vec::new();
        for product in &self.products {
            let x = if depth.is_cut {
                let x = product.x.split(rank + 1, depth.unit).ok_or("k does not split in blocks")?;
                Tiled::new(x, &follow(&[m, k, None]))
            } else {
                Tiled::new(product.x.clone(), &follow(&[m, None]))
            };
            let stored = |view: &View| -> Result<Tiled, String> {
                if !depth.is_cut {
                    return Ok(Tiled::new(view.clone(), &follow(&[None, n])));
                }
                let split =
                    view.split(rank, product.stored(depth.unit)).ok_or("k does not split in blocks")?;
                Ok(Tiled::new(split, &follow(&[k, None, n])))
            };
            let w = stored(&product.w)?;
            let indices = product.indices.as_ref().map(stored).transpose()?.map(&mut load);
            let codebook = product.codebook.as_ref().map(|view| load(Tiled::new(view.clone(), &[None])));
            let blocks = if product.block > 0 && depth.is_cut { k } else { None };
            let mut parameter = |view: &Option<View>| {
                let lead: Vec<Option<usize>> = vec![None; view.as_ref().map_or(0, |view| view.rank() - 2)];
                view.as_ref().map(|view| load(Tiled::new(view.clone(), &[&lead[..], &[blocks, n]].concat())))
            };
            let (scale, zero_point) = (parameter(&product.scale), parameter(&product.zero_point));
            let zeros = product.integer_zeros.clone().unwrap_or_default();
            let [x_zero, w_zero] = zeros;
            let x_zero = x_zero.map(|view| load(Tiled::new(view, &follow(&[m, None]))));
            let w_zero = w_zero.map(|view| load(Tiled::new(view, &follow(&[None, n]))));
            let bias = product.bias.as_ref().map(|view| load(Tiled::new(view.clone(), &[n])));
            let (x, w) = (load(x), load(w));
            parts.push(Part { x, w, codebook, indices, scale, zero_point, x_zero, w_zero, bias });
        }
        let mut results = Vec::new();
        let mut homes = Vec::new();
        for value in &self.values {
            homes.push(match value {
                // What lies in SRAM is cut in place, never copied: as a result if a product writes it, else as a load.
                Home::Resident(view) if self.is_written(homes.len()) => {
                    results.push(Tiled::new(view.clone(), &follow(&[m, n])));
                    Tile::Result(results.len() - 1)
                }
                Home::Input(view) | Home::Resident(view) => {
                    Tile::Load(load(Tiled::new(view.clone(), &follow(&[m, n]))))
                }
                Home::Inner(element) => Tile::Scratch(*element),
                Home::Output(view) => {
                    results.push(Tiled::new(view.clone(), &follow(&[m, n])));
                    Tile::Result(results.len() - 1)
                }
            });
        }
        let mut extents = self.batch.clone();
        extents.extend([self.m.rows.clone(), self.m.columns.clone(), depth.extent.clone()]);
        let tiles: Vec<i64> = plan.tiles.iter().map(|tile| *tile as i64).collect();
        let nest = Nest { extents, tiles, order: plan.order.clone(), loads, results, is_pipelined: true };
        let is_looped = nest.is_looped(context, rank + 2)?;
        let mut body = ClusterBody {
            cluster: self,
            parts,
            homes,
            is_looped,
            is_cut: depth.is_cut,
            sums: vec![],
            values: vec![],
        };
        nest.run(context, &mut body)
    }
}

/// Loads of a product, by index.
struct Part {
    x: usize,
    w: usize,
    codebook: Option<usize>,
    indices: Option<usize>,
    scale: Option<usize>,
    zero_point: Option<usize>,
    x_zero: Option<usize>,
    w_zero: Option<usize>,
    bias: Option<usize>,
}

/// A value's tile.
enum Tile {
    Load(usize),
    Scratch(Element),
    Result(usize),
}

struct ClusterBody<'c> {
    cluster: &'c Cluster,
    parts: Vec<Part>,
    homes: Vec<Tile>,
    /// Whether k has several tiles.
    is_looped: bool,
    /// Whether k is split in blocks.
    is_cut: bool,
    /// Where each product is summed.
    sums: Vec<View>,
    /// The tile of each value that is not loaded.
    values: Vec<Option<View>>,
}

impl ClusterBody<'_> {
    /// [batch.., m, n] at a place.
    fn tile_dims(&self, tiles: &Tiles) -> (Vec<Dim>, Vec<i64>) {
        let places = &tiles.places[..self.cluster.batch.len() + 2];
        (
            places.iter().map(|place| place.length.clone()).collect(),
            places.iter().map(|place| place.capacity).collect(),
        )
    }

    fn scratch(
        &self,
        context: &mut LoweringContext,
        tiles: &Tiles,
        space: &str,
        element: Element,
    ) -> Result<View, String> {
        let (dims, capacity) = self.tile_dims(tiles);
        let whole: Vec<Dim> = capacity.iter().map(|length| Dim::Known(*length)).collect();
        let buffer = context.buffer_with_capacity(space, element, &whole, &capacity)?;
        Ok(View { dims, ..buffer })
    }

    /// Where a product is summed: the accumulators, or, when nothing is left to do with the sum, its result's tile.
    fn sum_of(&self, context: &mut LoweringContext, tiles: &Tiles, index: usize) -> Result<View, String> {
        let product = &self.cluster.products[index];
        let plain = product.bias.is_none() && product.activation.is_none();
        match &self.values[product.result] {
            Some(value) if plain && !self.is_looped => Ok(value.clone()),
            _ => {
                let element = match product.x.element {
                    _ if product.integer_zeros.is_some() => Element::I32,
                    Element::F64 => Element::F64,
                    _ => Element::F32,
                };
                self.scratch(context, tiles, space::ACCUMULATOR, element)
            }
        }
    }

    /// One row of columns in another element type.
    fn wide(
        &self,
        context: &mut LoweringContext,
        tiles: &Tiles,
        row: &View,
        element: Element,
    ) -> Result<View, String> {
        if row.element == element {
            return Ok(row.clone());
        }
        let capacity = [tiles.places[self.cluster.batch.len() + 1].capacity];
        let whole = [Dim::Known(capacity[0])];
        let buffer = context.buffer_with_capacity(space::SRAM, element, &whole, &capacity)?;
        let buffer = View { dims: row.dims.clone(), ..buffer };
        tile_op::convert(context, &buffer, row)?;
        Ok(buffer)
    }

    /// An operand with the batch extents of the tile, also where it is broadcast along them: the last tile of a pair may be empty.
    fn under_batch(&self, tiles: &Tiles, view: View) -> View {
        let rank = self.cluster.batch.len();
        if view.rank() != rank + 2 {
            return view;
        }
        let batch = tiles.places[..rank].iter().map(|place| place.length.clone());
        let dims: Vec<Dim> = batch.chain(view.dims[rank..].iter().cloned()).collect();
        view.broadcast_to(&dims)
    }

    /// A tile of k with its blocks merged again.
    fn merged(&self, view: &View, axis: usize) -> Result<View, String> {
        if !self.is_cut {
            return Ok(view.clone());
        }
        let unit = view.dims[axis + 1].known().ok_or("a block has a number of rows")?;
        let mut view = view.clone();
        view.dims[axis] = scaled(&view.dims[axis], unit);
        // One element per block needs the blocks' own distance; longer blocks lie one after another.
        if unit > 1 {
            view.strides[axis] = view.strides[axis + 1];
        }
        Ok(view.without_axis(axis + 1))
    }
}

/// `dim * factor` in a form that an extent may have: a factor goes into a minimum.
pub fn scaled(dim: &Dim, factor: i64) -> Dim {
    use tilewright_ir::dim::{Atom, Function};
    let terms = dim.terms();
    if let [(product, 1)] = terms.iter().map(|(product, factor)| (product, *factor)).collect::<Vec<_>>()[..]
        && let [Atom::Call(Function::Min, a, b)] = product.as_slice()
    {
        let factor = Dim::Known(factor);
        return Dim::call(Function::Min, &(a * &factor), &(b * &factor));
    }
    dim * &Dim::Known(factor)
}

impl Body for ClusterBody<'_> {
    fn begin(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        self.values.clear();
        for home in &self.homes {
            let value = match home {
                Tile::Load(_) => None,
                Tile::Result(index) => Some(tiles.result(*index).clone()),
                Tile::Scratch(element) => Some(self.scratch(context, tiles, space::SRAM, *element)?),
            };
            self.values.push(value);
        }
        self.sums = (0..self.parts.len())
            .map(|index| self.sum_of(context, tiles, index))
            .collect::<Result<_, _>>()?;
        if self.is_looped {
            for sum in &self.sums {
                context.command(&tile::FILL, engine::VECTOR).view(sum).attribute("value", 0.0).emit()?;
            }
        }
        Ok(())
    }

    fn step(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        let rank = self.cluster.batch.len();
        for (index, part) in self.parts.iter().enumerate() {
            let product = &self.cluster.products[index];
            let x = self.under_batch(tiles, self.merged(tiles.load(part.x), rank + 1)?);
            let w = self.under_batch(tiles, self.merged(tiles.load(part.w), rank)?);
            let def = if product.integer_zeros.is_some() { &tile::MATMUL_INTEGER } else { &tile::MATMUL };
            let command = context.command(def, engine::MATRIX).view(&self.sums[index]);
            let load = |index: Option<usize>| index.map(|index| tiles.load(index).clone());
            let command = if product.integer_zeros.is_some() {
                let x_zero = load(part.x_zero).map(|view| view.broadcast_to(&x.dims));
                let w_zero = load(part.w_zero).map(|view| view.broadcast_to(&w.dims));
                command.view(&x).view(&w).maybe(x_zero.as_ref()).maybe(w_zero.as_ref())
            } else {
                let (scale, zero_point) = (load(part.scale), load(part.zero_point));
                let indices = part.indices.map(|index| self.merged(tiles.load(index), rank)).transpose()?;
                let indices = indices.map(|view| self.under_batch(tiles, view));
                let command = command.view(&x).view(&w).maybe(scale.as_ref()).maybe(zero_point.as_ref());
                let command = command.maybe(load(part.codebook).as_ref()).maybe(indices.as_ref());
                command.attribute("block", product.block)
            };
            command.attribute("accumulate", self.is_looped).emit()?;
        }
        Ok(())
    }

    fn finish(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        let mut views = Vec::new();
        for (home, value) in self.homes.iter().zip(&self.values) {
            views.push(match (home, value) {
                (Tile::Load(index), _) => tiles.load(*index).clone(),
                (_, Some(view)) => view.clone(),
                _ => return Err("a value of the cluster has no tile".into()),
            });
        }
        for (index, part) in self.parts.iter().enumerate() {
            let product = &self.cluster.products[index];
            let (sum, result) = (&self.sums[index], &views[product.result]);
            // The last step writes the result; those before stay in the accumulators, in f32.
            let bias = match part.bias {
                Some(bias) => {
                    Some(self.wide(context, tiles, tiles.load(bias), sum.element)?.broadcast_to(&sum.dims))
                }
                None => None,
            };
            match (bias, &product.activation) {
                (Some(bias), None) => tile_op::binary(context, "add", result, sum, &bias)?,
                (Some(bias), Some(function)) => {
                    tile_op::binary(context, "add", sum, sum, &bias)?;
                    tile_op::unary(context, function, result, sum)?;
                }
                (None, Some(function)) => tile_op::unary(context, function, result, sum)?,
                (None, None) if sum == result => {}
                (None, None) => tile_op::convert(context, result, sum)?,
            }
        }
        for node in &self.cluster.epilogue {
            let operands: Vec<Option<View>> =
                node.operands.iter().map(|operand| operand.map(|index| views[index].clone())).collect();
            tile_op::emit(context, node.op, &views[node.result], &operands)?;
        }
        Ok(())
    }
}
