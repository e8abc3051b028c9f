//! Tile sizes of a cluster, and where its sums and the rows of its epilogue lie.
//!
//! Sums lie in the accumulators, or in SRAM where larger tiles of them save more traffic than they cost; the epilogue works on whole tiles,
//! or on some rows at a time so that what is between its ops takes little SRAM. All are searched; the least cost wins. It must not emit.
//!
//! ```text
//! m=128 n=128 k=512 of 128 x 8192 x 2048, sums in sram, epilogue by 16 rows
//! ```

use super::cluster::{Cluster, Home};
use super::machine::macs_per_cycle;
use super::product::CODEBOOK_BYTES;
use super::tile_search::{Axis, Flow, Keeps, Limits, Operand, Plan, Problem, TooLarge, Work, best_of};
use crate::lowering::{LoweringContext, space};
use crate::view::View;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::op_def::OpDef;
use tilewright_runtime::kernels::matmul::DEPTH;

/// How a cluster runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// Tiles and loops.
    pub tile: Plan,
    /// The space of sums.
    pub sums: &'static str,
    /// Rows that the epilogue takes at a time; all of a tile when none is given.
    pub piece: Option<u64>,
}

/// Rows that an epilogue takes at a time when not all: few enough to be small, enough that commands are not all start-up.
const PIECE_ROWS: u64 = 16;
/// A weight's tile of this many bytes in a row moves in whole bursts.
const BURST_BITS: u64 = 512;

/// Ops that may write where one of their operands was.
const IN_PLACE: &[&OpDef] = &[&core::ADD, &core::SUB, &core::MUL];

/// One way to run a cluster, before its tiles are known.
#[derive(Clone, Copy)]
struct Form {
    row_tile: Option<u64>,
    whole_batch: bool,
    sums: &'static str,
    piece: Option<u64>,
}

impl Cluster {
    /// The best plan under `limits`; `row_tile` fixes the row tile. Axes are batch.., m, n, k (in units of the depth). A plan that costs as
    /// much as `known` or more is of no use.
    ///
    /// # Errors
    /// When the smallest tiles do not fit, or each plan is of no use.
    pub fn plan(
        &self,
        context: &LoweringContext,
        limits: Limits,
        row_tile: Option<u64>,
        known: Option<u64>,
    ) -> Result<Result<ClusterPlan, TooLarge>, String> {
        let mut forms = Vec::new();
        // Batches are taken one by one, or all at once when they are small.
        for whole_batch in [false, true] {
            let pieces =
                if self.has_pieces(context, row_tile)? { vec![None, Some(PIECE_ROWS)] } else { vec![None] };
            for piece in pieces.into_iter().filter(|_| !whole_batch || !self.batch.is_empty()) {
                for sums in [space::ACCUMULATOR, space::SRAM] {
                    forms.push(Form { row_tile, whole_batch, sums, piece });
                }
            }
        }
        let problems: Vec<Problem> =
            forms.iter().map(|form| self.problem(context, *form)).collect::<Result<_, _>>()?;
        let (index, mut tile) = match best_of(&problems, limits, known) {
            Ok(found) => found,
            Err(large) => return Ok(Err(large)),
        };
        let form = forms[index];
        for (axis, extent) in self.batch.iter().enumerate().filter(|_| form.whole_batch) {
            tile.tiles[axis] = context.maximum(extent)?.max(1) as u64;
        }
        Ok(Ok(ClusterPlan { tile, sums: form.sums, piece: form.piece }))
    }

    /// Whether the epilogue may go by pieces: without batches, and where there are more rows than in a piece.
    fn has_pieces(&self, context: &LoweringContext, row_tile: Option<u64>) -> Result<bool, String> {
        let rows = row_tile.unwrap_or(context.maximum(&self.m.rows)?.max(1) as u64);
        Ok(self.batch.is_empty() && rows > PIECE_ROWS)
    }

    /// Tiles of k are multiples of this many units. Where integers are summed in pieces that are scaled each, tiles have whole pieces, so
    /// that programs with other tiles round alike.
    fn k_granule(&self, unit: i64) -> u64 {
        let scales_pieces = |product: &super::product::Product| {
            let is_byte = |element: Element| element.is_integer() && element.bits() <= 8;
            product.scale.is_some() && is_byte(product.x.element)
        };
        // Parameters of blocks that lie side by side, several to a byte, are cut at whole bytes.
        let per_byte = |view: &View| match view.strides.first() {
            Some(1) => (8 / view.element.bits() as u64).max(1),
            _ => 1,
        };
        let parameters = self.products.iter().flat_map(|product| [&product.scale, &product.zero_point]);
        match unit {
            1 if self.products.iter().any(scales_pieces) => DEPTH as u64,
            1 => 16,
            _ => parameters.flatten().map(per_byte).max().unwrap_or(1),
        }
    }

    /// Whether a product's sum is its result as it is: it lies where the result does, if that is in SRAM.
    pub(super) fn is_plain(&self, product: usize) -> bool {
        let product = &self.products[product];
        product.bias.is_none() && product.activation.is_none()
    }

    /// The element type of a product's sum.
    pub(super) fn sum_element(&self, product: usize) -> Element {
        let product = &self.products[product];
        match product.x.element {
            _ if product.integer_zeros.is_some() => Element::I32,
            Element::F64 => Element::F64,
            _ => Element::F32,
        }
    }

    /// For each value, the one whose buffer it lies in: an op on f32 sums may write where they were when nothing reads them later.
    pub(super) fn shared_buffers(&self) -> Vec<usize> {
        let mut root: Vec<usize> = (0..self.values.len()).collect();
        let inner = |value: usize| match self.values[value] {
            Home::Inner(element) => Some(element),
            _ => None,
        };
        for (at, node) in self.epilogue.iter().enumerate() {
            let Some(element) = inner(node.result) else { continue };
            let dies = |value: usize| {
                let reads = |other: &usize| root[*other] == root[value];
                !self.epilogue[at + 1..].iter().any(|later| later.operands.iter().flatten().any(reads))
            };
            let takes = |value: &&usize| inner(**value) == Some(element) && dies(**value);
            if IN_PLACE.contains(&node.def)
                && let Some(value) = node.operands.iter().flatten().find(takes)
            {
                root[node.result] = root[*value];
            }
        }
        root
    }

    /// Most bits per element of the result that live at once between the epilogue's ops, without the sums.
    fn inner_bits(&self) -> u64 {
        let root = self.shared_buffers();
        let bits = |value: usize| match self.values[value] {
            Home::Inner(element) => element.bits() as u64,
            _ => 0,
        };
        let made = self.products.iter().enumerate().map(|(index, product)| {
            let is_sum = self.is_plain(index)
                && matches!(self.values[product.result], Home::Inner(element) if element == self.sum_element(index));
            (0, product.result, if is_sum { 0 } else { bits(product.result) })
        });
        let nodes = self.epilogue.iter().enumerate();
        let made = made.chain(nodes.map(|(at, node)| {
            (at + 1, node.result, if root[node.result] == node.result { bits(node.result) } else { 0 })
        }));
        let lives: Vec<(usize, usize, u64)> = made
            .map(|(from, value, bits)| {
                let reads = |operand: &usize| root[*operand] == value;
                let last = self.epilogue.iter().rposition(|node| node.operands.iter().flatten().any(reads));
                (from, last.map_or(from, |at| at + 1).max(from), bits)
            })
            .collect();
        let at = |moment: usize| {
            lives.iter().filter(|life| (life.0..=life.1).contains(&moment)).map(|life| life.2).sum::<u64>()
        };
        (0..=self.epilogue.len()).map(at).max().unwrap_or(0)
    }

    fn problem(&self, context: &LoweringContext, form: Form) -> Result<Problem, String> {
        let rank = self.batch.len();
        let (m, n, k) = (rank, rank + 1, rank + 2);
        let depth = self.depth();
        let maximum = |dim: &Dim| context.maximum(dim).map(|value| value.max(1) as u64);
        let mut axes = Vec::new();
        for dim in &self.batch {
            let extent = maximum(dim)?;
            axes.push(Axis::with_tile("batch", if form.whole_batch { 1 } else { extent }, 1));
        }
        let rows = form.row_tile.unwrap_or(maximum(&self.m.rows)?);
        // Pieces are cut from whole tiles: the length of a shorter one may be no number, and then no loop runs over it.
        let is_known = self.m.rows.known().is_some();
        let row_tile = form.row_tile.or(form.piece.filter(|_| !is_known).map(|_| rows));
        let is_even = form.piece.is_some();
        axes.push(Axis { tile: row_tile, is_even, ..Axis::new("m", rows, 1) });
        axes.push(Axis::new("n", maximum(&self.m.columns)?, 32));
        axes.push(Axis::new("k", maximum(&depth.extent)?, self.k_granule(depth.unit)));
        let batches: u64 =
            self.batch.iter().map(&maximum).try_fold(1u64, |product, dim| dim.map(|dim| product * dim))?;
        let batches = if form.whole_batch { batches } else { 1 };
        let fixed_k = if depth.is_cut { depth.unit as u64 } else { maximum(&self.k())? };
        let mut operands = Vec::new();
        let mut add = |flow: Flow, view: &View, follows: &[usize], fixed: u64| {
            let has_batch = view.rank() == rank + 2;
            let batch = (0..rank).filter(|axis| has_batch && view.strides[*axis] != 0);
            let follows: Vec<usize> = batch.chain(follows.iter().copied()).collect();
            let mut operand = Operand::new(flow, &follows, view.element.bits() as u64);
            operand.fixed = fixed * batches;
            // The neighbours in memory are those along a cut axis with stride 1; a whole block of k is whole bursts mostly.
            let is_short = depth.unit as u64 * operand.bits < BURST_BITS;
            operand.burst = match (has_batch, follows.last()) {
                (true, Some(last)) if view.strides[rank + 1] == 1 && *last == n => Some(n),
                (true, Some(last)) if view.strides[rank] == 1 && *last == k && is_short => Some(k),
                _ => None,
            };
            if follows.first() == Some(&m) && follows.last() == Some(&n) && flow != Flow::Accumulate {
                operand.piece = form.piece.map(|rows| (m, rows));
            }
            operands.push(operand);
        };
        let k_axis: &[usize] = if depth.is_cut { &[k] } else { &[] };
        for (index, product) in self.products.iter().enumerate() {
            // What several products read comes in once.
            if !self.x_is_resident && !self.products[..index].iter().any(|other| other.x == product.x) {
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
                add(Flow::Load, view, &[if product.block > 0 { k_axis } else { &[] }, &[n][..]].concat(), 1);
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
                Home::Inner(_) | Home::Resident(_) => {}
                Home::Output(view) => add(Flow::Store, view, &[m, n], 1),
            }
        }
        let inner = Operand::new(Flow::Hold, &[&(0..rank).collect::<Vec<_>>()[..], &[m, n]].concat(), 1);
        let in_sram = form.sums == space::SRAM;
        let piece = form.piece.map(|rows| (m, rows));
        operands.push(Operand { fixed: batches, bits: self.inner_bits(), piece, ..inner.clone() });
        for product in 0..self.products.len() {
            let flow = if in_sram { Flow::Hold } else { Flow::Accumulate };
            let bits = self.sum_element(product).bits() as u64;
            operands.push(Operand { flow, fixed: batches, bits, ..inner.clone() });
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
        // The left operand is the first of all.
        let keeps = self.keeps_x.map(|is_written| Keeps {
            is_written,
            operand: 0,
            axis: k,
            step_bytes: (rows * fixed_k * first.x.element.bits() as u64).div_ceil(8),
        });
        Ok(Problem { axes, operands, work, orders: vec![all, swapped], fixed_sram_bytes, keeps })
    }
}
