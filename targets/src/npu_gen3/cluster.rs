//! A cluster: matrix products of one shape and the elementwise ops on their results, as one nest over rows, columns and k.
//!
//! Weights stream through two buffers; with k in several tiles the sums stay in the accumulators. The same nest serves one row
//! tile of a rows kernel (x lies in SRAM then), a whole `core.linear`, and batched `core.matmul` (leading batch axes). It must not
//! know kernels.
//!
//! ```text
//! gate = x * wg; up = x * wu; y = silu(gate) * up   =>   for n, k: 2 matmul into acc; unary silu; binary mul; transfer y
//! ```

use super::cluster_body::{ClusterBody, Part, Tile};
use super::cluster_plan::ClusterPlan;
use super::machine::limits;
use super::nest::{Cut, Nest, Tiled};
use super::product::Product;
use crate::lowering::LoweringContext;
use crate::view::View;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;
use tilewright_ir::op_def::OpDef;

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
    /// What it is.
    pub def: &'static OpDef,
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
    /// Given when the first columns of the left operand, which is one for all products, may stay in SRAM: whether the others are written
    /// to memory beforehand.
    pub keeps_x: Option<bool>,
    /// Where they lie, if any do; the left operands of the products have the others. Both are views of all columns, of which a part is there.
    pub kept: Option<View>,
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
pub(super) struct Depth {
    /// Number of blocks.
    pub(super) extent: Dim,
    /// Length of a block.
    pub(super) unit: i64,
    /// Whether the axis may be cut: all products have the same k and block.
    pub(super) is_cut: bool,
}

impl Cluster {
    pub(super) fn k(&self) -> Dim {
        self.products[0].x.dims[self.batch.len() + 1].clone()
    }

    pub(super) fn depth(&self) -> Depth {
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

    pub(super) fn is_written(&self, value: usize) -> bool {
        self.products.iter().any(|product| product.result == value)
            || self.epilogue.iter().any(|node| node.result == value)
    }

    pub(super) fn result_dims(&self) -> Vec<Dim> {
        self.batch.iter().chain([&self.m.rows, &self.m.columns]).cloned().collect()
    }

    /// Writes the cluster with its own plan.
    ///
    /// # Errors
    /// When the smallest tiles do not fit SRAM, with the bytes needed and available.
    pub fn run(&self, context: &mut LoweringContext) -> Result<(), String> {
        let plan = self.plan(context, limits(context), None, None)?.map_err(|error| error.to_string())?;
        self.run_with(context, &plan)
    }

    /// Writes the cluster.
    ///
    /// # Errors
    /// When a dimension has no known maximum.
    pub fn run_with(&self, context: &mut LoweringContext, plan: &ClusterPlan) -> Result<(), String> {
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
        let mut parts: Vec<Part> = Vec::new();
        for (index, product) in self.products.iter().enumerate() {
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
            // What several products read comes in once.
            let earlier = self.products[..index].iter().position(|other| other.x == product.x);
            let kept = match (earlier, &self.kept) {
                (Some(earlier), _) => parts[earlier].kept,
                (None, Some(kept)) => {
                    let kept = kept.split(rank + 1, depth.unit).ok_or("k does not split in blocks")?;
                    Some(load(Tiled::new(kept, &follow(&[m, k, None]))))
                }
                (None, None) => None,
            };
            let x = earlier.map_or_else(|| load(x), |earlier| parts[earlier].x);
            let w = load(w);
            parts.push(Part { x, kept, w, codebook, indices, scale, zero_point, x_zero, w_zero, bias });
        }
        let mut results = Vec::new();
        let mut homes = Vec::new();
        let piece = plan.piece.map(|rows| rows as i64);
        for value in &self.values {
            homes.push(match value {
                // What has rows of its own comes and goes with the pieces.
                Home::Input(view) | Home::Resident(view) | Home::Output(view)
                    if piece.is_some() && view.strides[0] != 0 =>
                {
                    Tile::Piece(Tiled::new(view.clone(), &[m, n]))
                }
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
        let tiles: Vec<i64> = plan.tile.tiles.iter().map(|tile| *tile as i64).collect();
        let result_axes = if piece.is_some() { vec![0, 1] } else { Vec::new() };
        let order = plan.tile.order.clone();
        let cut =
            parts[0].kept.map(|kept| Cut { at: plan.tile.kept as i64, only: [vec![kept], vec![parts[0].x]] });
        let nest = Nest { extents, tiles, order, loads, results, result_axes, is_pipelined: true, cut };
        let is_looped = nest.is_looped(context, rank + 2)?;
        let mut body = ClusterBody {
            cluster: self,
            parts,
            homes,
            is_looped,
            is_cut: depth.is_cut,
            space: plan.sums,
            piece,
            roots: self.shared_buffers(),
            sums: vec![],
            values: vec![],
        };
        nest.run(context, &mut body)
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
