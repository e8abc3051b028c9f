//! How a rows kernel runs: row tile by row tile with everything between its products in SRAM, or part by part through DRAM, whichever
//! takes fewer modelled cycles. Weights stream once when all rows fit one tile. It must not know core kernels, only parsed ones.
//!
//! ```text
//! fused:    for rows: load x; rms_norm; for n: gate, up, glu -> y        separate: rms_norm -> dram; for n, rows: gate, up, glu -> y
//! ```

use super::cluster::{Cluster, Dim2, Epilogue, Home};
use super::group::{Group, Node};
use super::machine::limits;
use super::nest::{Nest, Step, Tiled, Tiles};
use super::product::Product;
use super::rows::{RowCluster, RowNode, RowValue, Rows};
use super::tile_op;
use super::tile_search::{Axis, Limits, Plan, candidates};
use crate::lowering::{LoweringContext, space};
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::dim::Dim;

/// Writes a kernel of two-dimensional views.
///
/// # Errors
/// When no schedule fits SRAM, with the bytes needed and available.
pub fn schedule(context: &mut LoweringContext, rows: &Rows) -> Result<(), String> {
    let fused = best_fused(context, rows)?;
    let separate = Separate::new(context, rows);
    let separate_cycles = match &separate {
        Some(separate) => separate.cycles(context)?,
        None => Err("rows must be whole".into()),
    };
    match (fused, separate, separate_cycles) {
        (Ok(fused), Some(separate), Ok(cycles)) if cycles < fused.cycles => separate.run(context),
        (Ok(fused), ..) => fused.run(context),
        (Err(_), Some(separate), Ok(_)) => separate.run(context),
        (Err(reason), ..) => Err(reason),
    }
}

// ---- row tile by row tile ---------------------------------------------------------------------------------------------

struct Fused<'r> {
    rows: &'r Rows,
    row_tile: u64,
    plans: Vec<Plan>,
    cycles: u64,
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
            Ok(plan) if best.as_ref().is_none_or(|best| plan.cycles < best.cycles) => best = Some(plan),
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
    let mut cycles = loaded_bytes / limits.dram_bytes_per_cycle
        + vector_steps / context.machine.vector_lanes.max(1)
        + limits.transfer_cycles;
    for cluster in &rows.clusters {
        let resident = |value: usize| dummy(cluster, &rows.values[value], &rows.count.0);
        let cluster = make_cluster(rows, cluster, &rows.count.0, &resident, &|view| view.clone());
        match cluster.plan(context, left, Some(row_tile))? {
            Ok(plan) => {
                cycles += plan.cycles;
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
    let cycles = cycles.saturating_mul(count.div_ceil(row_tile));
    Ok(Ok(Fused { rows, row_tile, plans, cycles }))
}

/// Stands for a tile in SRAM while plans are compared: only its shape is asked for.
fn dummy(cluster: &RowCluster, value: &RowValue, count: &Dim) -> View {
    View {
        buffer: cluster.products[0].w.buffer,
        element: value.element,
        offset: Dim::Known(0),
        dims: vec![count.clone(), value.width.clone()],
        strides: vec![1, 1],
    }
}

/// The cluster on `count` rows: `resident` gives SRAM tiles, `cut` the part of a view in memory.
fn make_cluster(
    rows: &Rows,
    cluster: &RowCluster,
    count: &Dim,
    resident: &dyn Fn(usize) -> View,
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
            values.push(match (&row_value.input, &row_value.output) {
                _ if !cluster.is_column_wise || prologue.contains(&value) => {
                    Home::Resident(spread(resident(value)))
                }
                (Some(input), _) => Home::Input(spread(cut(input))),
                (None, Some(output)) => Home::Output(cut(output)),
                (None, None) => Home::Inner(row_value.element),
            });
            values.len() - 1
        })
    };
    let products = cluster.products.iter().map(|product| {
        let result = value(product.result);
        product.on(resident(product.x), result, |view| cut(view))
    });
    let products: Vec<Product> = products.collect();
    let nodes: &[RowNode] = if cluster.is_column_wise { &cluster.nodes } else { &[] };
    let epilogue = nodes.iter().map(|node| Epilogue {
        op: node.op,
        operands: node.operands.iter().map(|operand| operand.map(&mut value)).collect(),
        result: value(node.result),
    });
    let epilogue = epilogue.collect();
    let columns = columns.clone();
    let m = Dim2 { rows: count.clone(), columns };
    Cluster { batch: vec![], m, x_is_resident: true, products, values, epilogue }
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
            is_pipelined: false,
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
            let made =
                make_cluster(self.rows, cluster, &place.length, &|value| views[&value].clone(), &|view| {
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

// ---- part by part -----------------------------------------------------------------------------------------------------

struct Separate<'r> {
    rows: &'r Rows,
    /// Prologue results that clusters read.
    crossing: BTreeSet<usize>,
}

impl<'r> Separate<'r> {
    /// None when a part needs rows whole in a way that the parts alone cannot do.
    fn new(context: &LoweringContext, rows: &'r Rows) -> Option<Separate<'r>> {
        let widths: BTreeSet<&Dim> = rows
            .prologue
            .iter()
            .flat_map(|node| node.operands.iter().flatten().chain([&node.result]))
            .map(|value| &rows.values[*value].width)
            .filter(|width| **width != Dim::Known(1))
            .collect();
        let possible = widths.len() <= 1
            && rows.clusters.iter().all(|cluster| cluster.is_column_wise)
            && rows.prologue.iter().all(|node| tile_op::is_supported(context.op(node.op).def));
        if !possible {
            return None;
        }
        let made: BTreeSet<usize> = rows.prologue.iter().map(|node| node.result).collect();
        let read = rows.clusters.iter().flat_map(|cluster| {
            let operands = cluster.nodes.iter().flat_map(|node| node.operands.iter().flatten());
            cluster.products.iter().map(|product| &product.x).chain(operands)
        });
        let crossing = read.copied().filter(|value| made.contains(value)).collect();
        Some(Separate { rows, crossing })
    }

    /// The prologue as a group; `memory` says where values lie that go to or come from memory.
    fn group(&self, context: &LoweringContext, memory: &BTreeMap<usize, View>) -> Group {
        let rows = self.rows;
        let width = rows.prologue.iter().map(|node| &rows.values[node.result].width);
        let width = width.max_by_key(|width| **width != Dim::Known(1)).cloned().unwrap_or(Dim::Known(1));
        let mut group = Group { extents: vec![rows.count.0.clone(), width], ..Group::default() };
        let mut members: BTreeMap<usize, usize> = BTreeMap::new();
        for node in &rows.prologue {
            let mut member = |group: &mut Group, value: usize| {
                *members.entry(value).or_insert_with(|| {
                    match (&rows.values[value].input, memory.get(&value)) {
                        (Some(input), _) => group.input(input),
                        (None, Some(output)) => group.output(output),
                        (None, None) => {
                            let extends = vec![true, rows.values[value].width != Dim::Known(1)];
                            group.inner(rows.values[value].element, extends)
                        }
                    }
                })
            };
            let operands =
                node.operands.iter().map(|operand| operand.map(|value| member(&mut group, value))).collect();
            let result = member(&mut group, node.result);
            let is_row_wise = tile_op::ALONG_AXES.contains(&context.op(node.op).def);
            group.nodes.push(Node {
                op: node.op,
                operands,
                result,
                along: if is_row_wise { vec![1] } else { vec![] },
            });
        }
        group
    }

    /// Where prologue values lie in memory.
    fn memory(
        &self,
        mut place: impl FnMut(&RowValue) -> Result<View, String>,
    ) -> Result<BTreeMap<usize, View>, String> {
        let mut memory = BTreeMap::new();
        for node in &self.rows.prologue {
            let value = &self.rows.values[node.result];
            match &value.output {
                Some(output) => memory.insert(node.result, output.clone()),
                None if self.crossing.contains(&node.result) => memory.insert(node.result, place(value)?),
                None => None,
            };
        }
        Ok(memory)
    }

    fn clusters(&self, memory: &BTreeMap<usize, View>) -> Vec<Cluster> {
        let rows = self.rows;
        let mut rows = rows.clone();
        for (value, view) in memory {
            if rows.values[*value].input.is_none() {
                rows.values[*value].input = Some(view.clone());
            }
        }
        rows.prologue.clear();
        let made = rows.clusters.iter().map(|cluster| {
            let input = |value: usize| rows.values[value].input.clone();
            let view = |value: usize| input(value).expect("a value that clusters read is in memory");
            let mut made = make_cluster(&rows, cluster, &rows.count.0, &view, &|view| view.clone());
            made.x_is_resident = false;
            made
        });
        made.collect()
    }

    fn cycles(&self, context: &LoweringContext) -> Result<Result<u64, String>, String> {
        let Some(stand_in) =
            self.rows.values.iter().find_map(|value| value.input.clone().or(value.output.clone()))
        else {
            return Ok(Err("a kernel without memory".into()));
        };
        let count = self.rows.count.0.clone();
        let memory = self.memory(|value| {
            Ok(View {
                element: value.element,
                dims: vec![count.clone(), value.width.clone()],
                strides: vec![1, 1],
                ..stand_in.clone()
            })
        })?;
        let mut cycles = 0;
        if !self.rows.prologue.is_empty() {
            match self.group(context, &memory).cycles(context) {
                Ok(group) => cycles += group,
                Err(reason) => return Ok(Err(reason)),
            }
        }
        for cluster in self.clusters(&memory) {
            match cluster.plan(context, limits(context), None)? {
                Ok(plan) => cycles += plan.cycles,
                Err(large) => return Ok(Err(large.to_string())),
            }
        }
        Ok(Ok(cycles))
    }

    fn run(&self, context: &mut LoweringContext) -> Result<(), String> {
        let count = self.rows.count.0.clone();
        let memory = self.memory(|value| {
            context.buffer(space::DRAM, value.element, &[count.clone(), value.width.clone()])
        })?;
        if !self.rows.prologue.is_empty() {
            self.group(context, &memory).run(context)?;
        }
        for cluster in self.clusters(&memory) {
            cluster.run(context)?;
        }
        Ok(())
    }
}
