//! How a rows kernel runs: in stages ([`super::rows_staged`]) where columns may be cut, else row tile by row tile with everything of them in
//! SRAM. It must not know core kernels, only parsed ones.
//!
//! ```text
//! for rows: load x, y; for n: a = x * w; s = a + y; z = softmax(s)   (z needs all columns of s)
//! ```

use super::cluster::{Cluster, Dim2, Epilogue, Home};
use super::cluster_plan::ClusterPlan;
use super::machine::limits;
use super::nest::{Nest, Step, Tiled, Tiles};
use super::product::Product;
use super::rows::{RowCluster, RowNode, RowValue, Rows};
use super::rows_staged::Staged;
use super::tile_op;
use super::tile_search::{Axis, Limits, candidates, cost};
use crate::lowering::{LoweringContext, space};
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::dim::Dim;

/// Writes a kernel of two-dimensional views.
///
/// # Errors
/// When no schedule fits SRAM, with the bytes needed and available.
pub fn schedule(context: &mut LoweringContext, rows: &Rows) -> Result<(), String> {
    let staged = Staged::best(context, rows)?;
    if let Some(Ok(staged)) = staged {
        return staged.run(context);
    }
    match best_fused(context, rows)? {
        Ok(fused) => fused.run(context),
        Err(reason) => Err(reason),
    }
}

struct Fused<'r> {
    rows: &'r Rows,
    row_tile: u64,
    plans: Vec<ClusterPlan>,
    cost: u64,
}

/// Values that a row tile holds whole.
fn resident_values(rows: &Rows) -> BTreeSet<usize> {
    let mut values = BTreeSet::new();
    let mut add = |node: &RowNode| {
        values.extend(node.operands.iter().flatten().copied());
        values.insert(node.result);
    };
    rows.prologue.iter().for_each(&mut add);
    for cluster in rows.clusters.iter().filter(|cluster| !cluster.is_column_wise) {
        cluster.nodes.iter().for_each(&mut add);
    }
    for cluster in &rows.clusters {
        for product in &cluster.products {
            values.insert(product.x);
            if !cluster.is_column_wise {
                values.insert(product.result);
            }
        }
    }
    values
}

fn best_fused<'r>(context: &LoweringContext, rows: &'r Rows) -> Result<Result<Fused<'r>, String>, String> {
    let count = context.maximum(&rows.count.0)?.max(1) as u64;
    let mut best: Option<Fused> = None;
    let mut reason = String::new();
    for row_tile in candidates(Axis::new("rows", count, 1)) {
        match fused(context, rows, count, row_tile)? {
            Ok(plan) if best.as_ref().is_none_or(|best| plan.cost < best.cost) => best = Some(plan),
            Ok(_) => {}
            Err(what) => reason = what,
        }
    }
    Ok(best.ok_or(reason))
}

fn fused<'r>(
    context: &LoweringContext,
    rows: &'r Rows,
    count: u64,
    row_tile: u64,
) -> Result<Result<Fused<'r>, String>, String> {
    let limits = limits(context);
    let (mut held_bytes, mut loaded_bytes, mut vector_steps) = (0u64, 0u64, 0u64);
    for value in resident_values(rows) {
        let value = &rows.values[value];
        let is_shared = value.input.as_ref().is_some_and(|view| view.strides[0] == 0);
        let width = context.maximum(&value.width)?.max(1) as u64;
        let elements = width * if is_shared { 1 } else { row_tile };
        let bytes = (elements * value.element.bits() as u64).div_ceil(8).div_ceil(64) * 64;
        held_bytes += bytes;
        loaded_bytes += if value.input.is_some() && !is_shared { bytes } else { 0 };
        vector_steps += if value.input.is_none() { elements } else { 0 };
    }
    if held_bytes > limits.sram_bytes {
        let available = limits.sram_bytes;
        return Ok(Err(format!(
            "a tile of {row_tile} rows needs {held_bytes} bytes of SRAM, {available} are available"
        )));
    }
    let left = Limits { sram_bytes: limits.sram_bytes - held_bytes, ..limits };
    let mut plans = Vec::new();
    let cycles = vector_steps / context.machine.vector_lanes.max(1) + limits.transfer_cycles;
    let mut cost = cost(cycles + loaded_bytes / limits.dram_bytes_per_cycle.max(1), loaded_bytes, limits);
    for cluster in &rows.clusters {
        let resident = |value: usize| Some(stand_in(cluster, &rows.values[value], &rows.count.0));
        let cluster = make_cluster(context, rows, cluster, &rows.count.0, &resident, &|view| view.clone());
        match cluster.plan(context, left, Some(row_tile), None)? {
            Ok(plan) => {
                cost += plan.tile.cost;
                plans.push(plan);
            }
            Err(large) => {
                let needed = large.needed_bytes + held_bytes;
                let available = limits.sram_bytes;
                return Ok(Err(format!(
                    "the smallest tiles need {needed} bytes of SRAM, {available} are available"
                )));
            }
        }
    }
    let cost = cost.saturating_mul(count.div_ceil(row_tile));
    Ok(Ok(Fused { rows, row_tile, plans, cost }))
}

/// Stands for a value's rows while plans are compared: only their shape is asked for.
pub(super) fn stand_in(cluster: &RowCluster, value: &RowValue, count: &Dim) -> View {
    View {
        buffer: cluster.products[0].w.buffer,
        element: value.element,
        offset: Dim::Known(0),
        dims: vec![count.clone(), value.width.clone()],
        strides: vec![value.width.known().unwrap_or(1), 1],
    }
}

/// The cluster on `count` rows: `resident` gives what lies in SRAM, `cut` the part of a view in memory.
pub(super) fn make_cluster(
    context: &LoweringContext,
    rows: &Rows,
    cluster: &RowCluster,
    count: &Dim,
    resident: &dyn Fn(usize) -> Option<View>,
    cut: &dyn Fn(&View) -> View,
) -> Cluster {
    let mut index: BTreeMap<usize, usize> = BTreeMap::new();
    let mut values = Vec::new();
    let prologue: BTreeSet<usize> = rows.prologue.iter().map(|node| node.result).collect();
    let columns = rows.values[cluster.products[0].result].width.clone();
    let spread = |view: View| {
        if cluster.is_column_wise { view.broadcast_to(&[count.clone(), columns.clone()]) } else { view }
    };
    let mut value = |value: usize| {
        *index.entry(value).or_insert_with(|| {
            let row_value = &rows.values[value];
            let on_chip = (!cluster.is_column_wise || prologue.contains(&value)).then(|| resident(value));
            values.push(match (on_chip.flatten(), &row_value.input, &row_value.output) {
                (Some(view), ..) => Home::Resident(spread(view)),
                (_, Some(input), _) => Home::Input(spread(cut(input))),
                (_, None, Some(output)) => Home::Output(cut(output)),
                (_, None, None) => Home::Inner(row_value.element),
            });
            values.len() - 1
        })
    };
    let mut x_is_resident = true;
    let mut products: Vec<Product> = Vec::new();
    for product in &cluster.products {
        let result = value(product.result);
        let on_chip = resident(product.x);
        x_is_resident &= on_chip.is_some();
        let input = || rows.values[product.x].input.as_ref().map(cut);
        let x = on_chip.or_else(input).expect("what a product reads is in SRAM or in memory");
        products.push(product.on(x, result, |view| cut(view)));
    }
    let nodes: &[RowNode] = if cluster.is_column_wise { &cluster.nodes } else { &[] };
    let epilogue = nodes.iter().map(|node| Epilogue {
        op: node.op,
        def: context.op(node.op).def,
        operands: node.operands.iter().map(|operand| operand.map(&mut value)).collect(),
        result: value(node.result),
    });
    let epilogue = epilogue.collect();
    let m = Dim2 { rows: count.clone(), columns };
    Cluster { m, x_is_resident, products, values, epilogue, ..Cluster::default() }
}

impl Fused<'_> {
    fn run(&self, context: &mut LoweringContext) -> Result<(), String> {
        let rows = self.rows;
        let resident = resident_values(rows);
        let of = |wanted: &dyn Fn(&RowValue) -> Option<View>| -> BTreeMap<usize, View> {
            resident.iter().filter_map(|value| Some((*value, wanted(&rows.values[*value])?))).collect()
        };
        let inputs = of(&|value| value.input.clone());
        let outputs = of(&|value| if value.input.is_none() { value.output.clone() } else { None });
        let tiled = |views: &BTreeMap<usize, View>| {
            views.values().map(|view| Tiled::new(view.clone(), &[Some(0), None])).collect::<Vec<_>>()
        };
        let nest = Nest {
            extents: vec![rows.count.0.clone()],
            tiles: vec![self.row_tile as i64],
            order: vec![0],
            loads: tiled(&inputs),
            results: tiled(&outputs),
            result_axes: Vec::new(),
            is_pipelined: false,
            cut: None,
        };
        nest.run(
            context,
            &mut Step(|context: &mut LoweringContext, tiles: &Tiles| {
                let mut views: BTreeMap<usize, View> = BTreeMap::new();
                for value in &resident {
                    let view = match (position(&inputs, *value), position(&outputs, *value)) {
                        (Some(load), _) => tiles.load(load).clone(),
                        (_, Some(result)) => tiles.result(result).clone(),
                        _ => scratch(context, tiles, &rows.values[*value])?,
                    };
                    views.insert(*value, view);
                }
                self.row_tile(context, tiles, &views)
            }),
        )
    }

    fn row_tile(
        &self,
        context: &mut LoweringContext,
        tiles: &Tiles,
        views: &BTreeMap<usize, View>,
    ) -> Result<(), String> {
        let place = &tiles.places[0];
        emit_nodes(context, &self.rows.prologue, views)?;
        for (cluster, plan) in self.rows.clusters.iter().zip(&self.plans) {
            let resident = |value: usize| Some(views[&value].clone());
            let made = make_cluster(context, self.rows, cluster, &place.length, &resident, &|view| {
                view.slice(0, &place.start, &place.length, 1)
            });
            made.run_with(context, plan)?;
            if !cluster.is_column_wise {
                emit_nodes(context, &cluster.nodes, views)?;
            }
        }
        Ok(())
    }
}

fn position(views: &BTreeMap<usize, View>, value: usize) -> Option<usize> {
    views.keys().position(|key| *key == value)
}

fn scratch(context: &mut LoweringContext, tiles: &Tiles, value: &RowValue) -> Result<View, String> {
    let place = &tiles.places[0];
    let capacity = [place.capacity, context.maximum(&value.width)?];
    let dims = [Dim::Known(place.capacity), value.width.clone()];
    let mut view = context.buffer_with_capacity(space::SRAM, value.element, &dims, &capacity)?;
    view.dims[0] = place.length.clone();
    Ok(view)
}

fn emit_nodes(
    context: &mut LoweringContext,
    nodes: &[RowNode],
    views: &BTreeMap<usize, View>,
) -> Result<(), String> {
    for node in nodes {
        let operands: Vec<Option<View>> =
            node.operands.iter().map(|operand| operand.map(|value| views[&value].clone())).collect();
        tile_op::emit(context, node.op, &views[&node.result], &operands)?;
    }
    Ok(())
}
