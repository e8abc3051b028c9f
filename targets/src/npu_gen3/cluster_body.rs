//! What a cluster's nest computes: products into sums, then bias, activation and the epilogue on the tile, or on some of its rows at a time.
//!
//! By pieces, the epilogue is a small nest of its own, which brings its operands and takes its results out piece by piece. It must not
//! choose sizes.
//!
//! ```text
//! for n: for k: matmul(sum, x, w);  for rows of the tile: binary mul; convert; transfer y
//! ```

use super::cluster::{Cluster, scaled};
use super::nest::{Body, Nest, Step, Tiled, Tiles};
use super::tile_op;
use crate::lowering::{LoweringContext, engine, space};
use crate::view::View;
use std::collections::BTreeMap;
use tilewright_ir::dialects::tile;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;

/// Loads of a product, by index.
pub(super) struct Part {
    pub(super) x: usize,
    /// The first columns of x, where they lie apart.
    pub(super) kept: Option<usize>,
    pub(super) w: usize,
    pub(super) codebook: Option<usize>,
    pub(super) indices: Option<usize>,
    pub(super) scale: Option<usize>,
    pub(super) zero_point: Option<usize>,
    pub(super) x_zero: Option<usize>,
    pub(super) w_zero: Option<usize>,
    pub(super) bias: Option<usize>,
}

/// A value's tile.
pub(super) enum Tile {
    Load(usize),
    Scratch(Element),
    Result(usize),
    /// Comes and goes with the pieces of the epilogue.
    Piece(Tiled),
}

pub(super) struct ClusterBody<'c> {
    pub(super) cluster: &'c Cluster,
    pub(super) parts: Vec<Part>,
    pub(super) homes: Vec<Tile>,
    /// Whether k has several tiles.
    pub(super) is_looped: bool,
    /// Whether k is split in blocks.
    pub(super) is_cut: bool,
    /// The space of sums.
    pub(super) space: &'static str,
    /// Rows that the epilogue takes at a time.
    pub(super) piece: Option<i64>,
    /// In whose buffer each value lies.
    pub(super) roots: Vec<usize>,
    /// Where each product is summed.
    pub(super) sums: Vec<View>,
    /// The tile of each value that lies there beforehand.
    pub(super) values: Vec<Option<View>>,
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
        buffer(context, space, element, &dims, &capacity)
    }

    /// Whether a value is the sum of a product as it is.
    fn is_sum(&self, value: usize) -> Option<usize> {
        let is_it = |(index, product): (usize, &super::product::Product)| {
            product.result == value && self.cluster.is_plain(index)
        };
        self.cluster.products.iter().enumerate().position(is_it)
    }

    /// Where a product is summed: the accumulators or SRAM; where its result's tile is, when nothing is left to do with the sum.
    fn sum_of(&self, context: &mut LoweringContext, tiles: &Tiles, index: usize) -> Result<View, String> {
        let result = self.cluster.products[index].result;
        let element = self.cluster.sum_element(index);
        match &self.values[result] {
            Some(value) if self.cluster.is_plain(index) && !self.is_looped => Ok(value.clone()),
            _ => self.scratch(context, tiles, self.space, element),
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
        let wide = buffer(context, space::SRAM, element, &row.dims, &capacity)?;
        tile_op::convert(context, &wide, row)?;
        Ok(wide)
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

    /// Bias rows in the element type of their sums.
    fn biases(&self, context: &mut LoweringContext, tiles: &Tiles) -> Result<Vec<Option<View>>, String> {
        let mut biases = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            let element = self.cluster.sum_element(index);
            biases.push(match part.bias {
                Some(bias) => Some(self.wide(context, tiles, tiles.load(bias), element)?),
                None => None,
            });
        }
        Ok(biases)
    }

    /// Bias, activation and epilogue on rows: `known` are the tiles of loads and results, `dims` those of all others.
    fn finish_rows(
        &self,
        context: &mut LoweringContext,
        (dims, capacity): (&[Dim], &[i64]),
        sums: &[View],
        biases: &[Option<View>],
        known: &[Option<View>],
    ) -> Result<(), String> {
        let mut views: Vec<View> = Vec::new();
        for (value, view) in known.iter().enumerate() {
            views.push(match (view, &self.homes[value]) {
                (Some(view), _) => view.clone(),
                (None, _) if self.roots[value] < value => views[self.roots[value]].clone(),
                // The vector engine reads and writes a sum where it lies.
                (None, Tile::Scratch(element)) => match self.is_sum(value) {
                    Some(index) if sums[index].element == *element => sums[index].clone(),
                    _ => buffer(context, space::SRAM, *element, dims, capacity)?,
                },
                _ => return Err("a value of the cluster has no tile".into()),
            });
        }
        for (index, bias) in biases.iter().enumerate() {
            let product = &self.cluster.products[index];
            let (sum, result) = (&sums[index], &views[product.result]);
            // The last step writes the result; those before stay in the sum.
            let bias = bias.as_ref().map(|bias| bias.broadcast_to(&sum.dims));
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

    /// The epilogue by pieces.
    fn finish_pieces(
        &self,
        context: &mut LoweringContext,
        tiles: &Tiles,
        piece: i64,
        biases: &[Option<View>],
    ) -> Result<(), String> {
        let (m, n) = (&tiles.places[0], &tiles.places[1]);
        let rows = |view: View| Tiled::new(view, &[Some(0), None]);
        let mut loads: Vec<Tiled> = self.sums.iter().map(|sum| rows(sum.clone())).collect();
        let mut results = Vec::new();
        let (mut load_of, mut result_of) = (BTreeMap::new(), BTreeMap::new());
        for (value, home) in self.homes.iter().enumerate() {
            let Tile::Piece(tiled) = home else { continue };
            let tiled = rows(tiled.at(tiles.places));
            if self.cluster.is_written(value) {
                result_of.insert(value, results.len());
                results.push(tiled);
            } else {
                load_of.insert(value, loads.len());
                loads.push(tiled);
            }
        }
        let nest = Nest {
            extents: vec![m.length.clone()],
            tiles: vec![piece],
            order: vec![0],
            result_axes: vec![0],
            is_pipelined: true,
            cut: None,
            loads,
            results,
        };
        nest.run(
            context,
            &mut Step(|context: &mut LoweringContext, inner: &Tiles| {
                let place = &inner.places[0];
                let sums: Vec<View> = (0..self.sums.len()).map(|index| inner.load(index).clone()).collect();
                let known = self.homes.iter().enumerate().map(|(value, home)| {
                    match (home, load_of.get(&value), result_of.get(&value)) {
                        (_, Some(load), _) => Some(inner.load(*load).clone()),
                        (_, _, Some(result)) => Some(inner.result(*result).clone()),
                        // The same for all rows.
                        (Tile::Load(load), ..) => {
                            let view = tiles.load(*load);
                            Some(view.slice(0, &place.start, &place.length, 1))
                        }
                        _ => None,
                    }
                });
                let known: Vec<Option<View>> = known.collect();
                let dims = [place.length.clone(), n.length.clone()];
                self.finish_rows(context, (&dims, &[place.capacity, n.capacity]), &sums, biases, &known)
            }),
        )
    }
}

/// A buffer for tiles of at most `capacity`, seen at its present dimensions.
fn buffer(
    context: &mut LoweringContext,
    space: &str,
    element: Element,
    dims: &[Dim],
    capacity: &[i64],
) -> Result<View, String> {
    let whole: Vec<Dim> = capacity.iter().map(|length| Dim::Known(*length)).collect();
    let buffer = context.buffer_with_capacity(space, element, &whole, capacity)?;
    Ok(View { dims: dims.to_vec(), ..buffer })
}

impl Body for ClusterBody<'_> {
    fn begin(&mut self, context: &mut LoweringContext, tiles: &Tiles) -> Result<(), String> {
        self.values = self
            .homes
            .iter()
            .map(
                |home| if let Tile::Result(index) = home { Some(tiles.result(*index).clone()) } else { None },
            )
            .collect();
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
            let x = part.kept.and_then(|kept| tiles.find(kept)).unwrap_or_else(|| tiles.load(part.x));
            let x = self.under_batch(tiles, self.merged(x, rank + 1)?);
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
        let biases = self.biases(context, tiles)?;
        if let Some(piece) = self.piece {
            return self.finish_pieces(context, tiles, piece, &biases);
        }
        let known = self.homes.iter().zip(&self.values).map(|(home, value)| match home {
            Tile::Load(index) => Some(tiles.load(*index).clone()),
            _ => value.clone(),
        });
        let known: Vec<Option<View>> = known.collect();
        let (dims, capacity) = self.tile_dims(tiles);
        self.finish_rows(context, (&dims, &capacity), &self.sums, &biases, &known)
    }
}
