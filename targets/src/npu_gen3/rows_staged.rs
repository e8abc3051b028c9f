//! A rows kernel in stages: its prologue on some rows at a time, then cluster after cluster on what the prologue made.
//!
//! What products read lies in SRAM whole where it fits: it comes in once for all of them, and weights stream past it. Where not all rows
//! fit, either tiles of rows go through all stages, each with all weights, or what the prologue made goes through DRAM, but for as many
//! columns as SRAM has room for (`rows_parted.rs`). The least cost wins, searched over row tiles and over what is resident. It must
//! not know core kernels, only parsed ones.
//!
//! ```text
//! rms_norm, quantize: for 8 rows -> q [128, 2048] in SRAM;   for n, k: q * wq;   for n, k: q * wk;   for n, k: q * wv
//! ```

use super::cluster_plan::ClusterPlan;
use super::group::{Group, Node};
use super::machine::{limits, macs_per_cycle};
use super::nest::{Nest, Place, Step, Tiles};
use super::rows::{RowValue, Rows};
use super::rows_parted::{Parted, is_divisible};
use super::rows_schedule::{make_cluster, stand_in};
use super::tile_op;
use super::tile_search::{self, Axis, Limits, candidates};
use crate::lowering::{LoweringContext, engine, space};
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::dim::Dim;

/// The fraction of SRAM up to which a value is not worth a thought.
const SMALL_DIVISOR: u64 = 64;

/// A choice of row tile and residents, with the plans of its clusters.
pub(super) struct Staged<'r> {
    stages: Stages<'r>,
    row_tile: u64,
    resident: BTreeSet<usize>,
    /// A value of which some columns are resident, and how many.
    parted: Option<(usize, i64)>,
    plans: Vec<ClusterPlan>,
    cost: u64,
}

/// What is the same for all choices.
#[derive(Clone)]
struct Stages<'r> {
    rows: &'r Rows,
    count: u64,
    /// Values that clusters read again and again, the smallest first: results of the prologue, left sides of products.
    shared: Vec<usize>,
    /// How many of them take so little that they are always resident.
    small: usize,
    /// The one of which a part may be.
    divisible: Option<usize>,
}

impl<'r> Staged<'r> {
    /// The choice of least cost, or why none fits; none at all when a part needs rows whole in a way that stages alone cannot do.
    pub(super) fn best(
        context: &LoweringContext,
        rows: &'r Rows,
    ) -> Result<Option<Result<Staged<'r>, String>>, String> {
        let Some(stages) = Stages::new(context, rows)? else { return Ok(None) };
        let mut best: Option<Staged> = None;
        let mut reason = String::new();
        // Stages loop over the rows of a tile: its length must be a number, or all there are.
        let is_known = rows.count.0.known().is_some();
        let loops = |tile: &u64| is_known || *tile == stages.count;
        for row_tile in candidates(Axis::new("rows", stages.count, 1)).into_iter().filter(loops) {
            let known = best.as_ref().map(|best| best.cost);
            if known.is_some_and(|known| {
                stages.cost_at_least(context, row_tile).is_ok_and(|least| least >= known)
            }) {
                continue;
            }
            let all = stages.shared.len();
            let divisible = stages.divisible;
            // Some rows at a time pay off only if little of them goes through DRAM.
            let least = match divisible {
                None if row_tile == stages.count => stages.small,
                _ => all,
            };
            let whole = (least..=all).rev().map(|resident| (resident, None));
            for (resident, divisible) in whole.chain(divisible.map(|value| (all - 1, Some(value)))) {
                let resident = stages.shared[..resident].iter().copied().collect();
                let known = best.as_ref().map(|best| best.cost);
                match stages.choose(context, row_tile, resident, divisible, known)? {
                    Ok(staged) if best.as_ref().is_none_or(|best| staged.cost < best.cost) => {
                        best = Some(staged)
                    }
                    Ok(_) => {}
                    Err(what) => reason = what,
                }
            }
        }
        Ok(Some(best.ok_or(reason)))
    }
}

impl<'r> Stages<'r> {
    fn new(context: &LoweringContext, rows: &'r Rows) -> Result<Option<Stages<'r>>, String> {
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
            return Ok(None);
        }
        let made: BTreeSet<usize> = rows.prologue.iter().map(|node| node.result).collect();
        let clusters = rows.clusters.iter();
        let x: BTreeSet<usize> =
            clusters.clone().flat_map(|cluster| cluster.products.iter().map(|product| product.x)).collect();
        let nodes =
            clusters.flat_map(|cluster| cluster.nodes.iter().flat_map(|node| node.operands.iter().flatten()));
        let read = nodes.copied().filter(|value| made.contains(value)).chain(x);
        // What leaves the kernel is in memory anyway.
        let leaves =
            |value: &usize| rows.values[*value].input.is_none() && rows.values[*value].output.is_some();
        let shared: BTreeSet<usize> = read.filter(|value| !leaves(value)).collect();
        let mut sized = Vec::new();
        for value in shared {
            sized.push((bytes_of(context, &rows.values[value], 1)?, value));
        }
        sized.sort_unstable();
        let count = context.maximum(&rows.count.0)?.max(1) as u64;
        let small_bytes = limits(context).sram_bytes / SMALL_DIVISOR;
        let small = sized.iter().filter(|(bytes, _)| bytes * count <= small_bytes).count();
        let shared: Vec<usize> = sized.into_iter().map(|(_, value)| value).collect();
        let divisible = shared.get(small..).and_then(|large| large.last()).copied();
        let divisible = divisible.filter(|value| is_divisible(context, rows, *value));
        Ok(Some(Stages { rows, count, shared, small, divisible }))
    }

    /// No choice with this row tile costs less: all weights come in once per row tile, rows come in and go out once.
    fn cost_at_least(&self, context: &LoweringContext, row_tile: u64) -> Result<u64, String> {
        let (mut bytes, mut cycles) = (0u64, 0u64);
        for product in self.rows.clusters.iter().flat_map(|cluster| &cluster.products) {
            let maximum = |view: &View| {
                let dims = view.dims.iter().map(|dim| context.maximum(dim).map(|dim| dim.max(1) as u64));
                dims.product::<Result<u64, String>>()
            };
            let elements = maximum(&product.w)?;
            bytes += (elements * product.w.element.bits() as u64) / 8;
            let x = self.rows.values[product.x].element;
            cycles += elements * self.count / macs_per_cycle(context, x, product.w.element).max(1);
        }
        let transfer = bytes * self.count.div_ceil(row_tile) / limits(context).dram_bytes_per_cycle.max(1);
        Ok(transfer + transfer.max(cycles))
    }

    fn choose(
        &self,
        context: &LoweringContext,
        row_tile: u64,
        resident: BTreeSet<usize>,
        divisible: Option<usize>,
        known: Option<u64>,
    ) -> Result<Result<Staged<'r>, String>, String> {
        let trips = self.count.div_ceil(row_tile);
        // What a row tile may cost beside what is known of it; one that costs as much is not looked into further.
        let left_of = |cost: u64| known.map(|known| known.div_ceil(trips).saturating_sub(cost));
        let rows = self.rows;
        let limits = limits(context);
        let mut reserved_bytes = 0;
        let mut loaded_bytes = 0;
        for value in &resident {
            let value = &rows.values[*value];
            let bytes = bytes_of(context, value, row_tile)?;
            reserved_bytes += bytes;
            loaded_bytes += if value.input.is_some() { bytes } else { 0 };
        }
        let Some(left) = limits.sram_bytes.checked_sub(reserved_bytes) else {
            let available = limits.sram_bytes;
            return Ok(Err(format!(
                "a tile of {row_tile} rows needs {reserved_bytes} bytes of SRAM, {available} are available"
            )));
        };
        let transfer = loaded_bytes / limits.dram_bytes_per_cycle.max(1);
        let mut cost = tile_search::cost(transfer, loaded_bytes, limits);
        let count = if row_tile == self.count { rows.count.0.clone() } else { Dim::Known(row_tile as i64) };
        let Some(cluster) = rows.clusters.first() else { return Ok(Err("a kernel without products".into())) };
        let view = |value: usize| stand_in(cluster, &rows.values[value], &count);
        let cut = |view: &View| View { dims: vec![count.clone(), view.dims[1].clone()], ..view.clone() };
        let memory = self.memory(&resident, |value| Ok(view(value)))?;
        let in_memory = with_inputs(rows, &memory);
        let mut plans = Vec::new();
        let mut parted = None;
        for cluster in &rows.clusters {
            let on_chip = |value: usize| resident.contains(&value).then(|| view(value));
            let mut made = make_cluster(context, &in_memory, cluster, &count, &on_chip, &cut);
            let depth = made.depth();
            if let Some(value) = divisible.filter(|_| depth.is_cut) {
                made.keeps_x = Some(rows.values[value].input.is_none());
            }
            match made.plan(context, Limits { sram_bytes: left, ..limits }, None, left_of(cost))? {
                Ok(plan) => {
                    cost += plan.tile.cost;
                    let columns = plan.tile.kept as i64 * depth.unit;
                    parted = divisible.filter(|_| columns > 0).map(|value| (value, columns));
                    plans.push(plan);
                }
                Err(large) => return Ok(Err(large.to_string())),
            }
        }
        let mut counted_bytes = 0;
        if let Some(value) = divisible {
            let columns = parted.map_or(0, |(_, columns)| columns);
            let value = &rows.values[value];
            let kept_bytes = bytes_of(context, &columns_of(value, columns), row_tile)?;
            let rest_bytes = bytes_of(context, value, row_tile)? - kept_bytes;
            reserved_bytes += kept_bytes;
            match value.input {
                Some(_) => cost += tile_search::cost(0, kept_bytes, limits),
                // The search counts what is written.
                None => counted_bytes = rest_bytes,
            }
        }
        if !rows.prologue.is_empty() {
            let parted = parted.map(|(value, columns)| {
                let width = rows.values[value].width.known().unwrap_or(columns);
                let part =
                    |columns: i64| stand_in(cluster, &columns_of(&rows.values[value], columns), &count);
                Parted::new(value, columns, width, part(columns), part(width - columns))
            });
            let group = self.group(&count, &cut, parted.as_ref(), &|value| match resident.contains(&value) {
                true => Some((view(value), true)),
                false => memory.get(&value).map(|view| (view.clone(), false)),
            });
            match (Group { reserved_bytes, ..group }).planned(context) {
                Ok(plan) => {
                    let moved_bytes = plan.dram_bytes.saturating_sub(counted_bytes);
                    cost += tile_search::cost(plan.cycles, moved_bytes, limits);
                }
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let cost = cost.saturating_mul(trips);
        Ok(Ok(Staged { stages: self.clone(), row_tile, resident, parted, plans, cost }))
    }

    /// The prologue on `count` rows; `home` says where values lie that last, and whether that is in SRAM. One may be in two parts.
    fn group(
        &self,
        count: &Dim,
        cut: &dyn Fn(&View) -> View,
        parted: Option<&Parted>,
        home: &dyn Fn(usize) -> Option<(View, bool)>,
    ) -> Group {
        let rows = self.rows;
        let width = rows.prologue.iter().map(|node| &rows.values[node.result].width);
        let width = width.max_by_key(|width| **width != Dim::Known(1)).cloned().unwrap_or(Dim::Known(1));
        let mut group = Group { extents: vec![count.clone(), width], ..Group::default() };
        let mut members: BTreeMap<usize, usize> = BTreeMap::new();
        for node in &rows.prologue {
            let mut member = |group: &mut Group, value: usize| {
                *members.entry(value).or_insert_with(|| match (&rows.values[value].input, home(value)) {
                    (Some(input), _) => group.input(&cut(input)),
                    (None, Some((view, true))) => group.resident(&view),
                    (None, Some((view, false))) => group.output(&view),
                    (None, None) => {
                        let extends = vec![true, rows.values[value].width != Dim::Known(1)];
                        group.inner(rows.values[value].element, extends)
                    }
                })
            };
            let operands: Vec<Option<usize>> =
                node.operands.iter().map(|operand| operand.map(|value| member(&mut group, value))).collect();
            if let Some(parted) = parted.filter(|parted| parted.value == node.result) {
                for (part, view, is_resident) in parted.parts() {
                    let (operands, result) = (operands.clone(), group.part(&view, is_resident));
                    group.nodes.push(Node {
                        op: node.op,
                        operands,
                        result,
                        along: vec![1],
                        part: Some(part),
                    });
                }
                continue;
            }
            let result = member(&mut group, node.result);
            let along = if node.is_along_rows { vec![1] } else { vec![] };
            group.nodes.push(Node { op: node.op, operands, result, along, part: None });
        }
        group
    }

    /// Where prologue values lie in memory: those that leave the kernel, and those that clusters read and that are not resident.
    fn memory(
        &self,
        resident: &BTreeSet<usize>,
        mut place: impl FnMut(usize) -> Result<View, String>,
    ) -> Result<BTreeMap<usize, View>, String> {
        let mut memory = BTreeMap::new();
        for node in &self.rows.prologue {
            let value = node.result;
            match &self.rows.values[value].output {
                Some(output) => memory.insert(value, output.clone()),
                None if self.shared.contains(&value) && !resident.contains(&value) => {
                    memory.insert(value, place(value)?)
                }
                None => None,
            };
        }
        Ok(memory)
    }
}

/// The kernel with what lies in memory as inputs of its clusters.
fn with_inputs(rows: &Rows, memory: &BTreeMap<usize, View>) -> Rows {
    let mut rows = rows.clone();
    for (value, view) in memory {
        if rows.values[*value].input.is_none() {
            rows.values[*value].input = Some(view.clone());
        }
    }
    rows
}

/// A value with some columns of another.
fn columns_of(value: &RowValue, columns: i64) -> RowValue {
    RowValue { width: Dim::Known(columns), ..value.clone() }
}

/// SRAM of a value's rows, in whole units of 64 bytes.
fn bytes_of(context: &LoweringContext, value: &RowValue, rows: u64) -> Result<u64, String> {
    let width = context.maximum(&value.width)?.max(1) as u64;
    let is_shared = value.input.as_ref().is_some_and(|view| view.strides[0] == 0);
    let rows = if is_shared { 1 } else { rows };
    Ok((width * rows * value.element.bits() as u64).div_ceil(8).next_multiple_of(64))
}

impl Staged<'_> {
    pub(super) fn run(&self, context: &mut LoweringContext) -> Result<(), String> {
        let rows = self.stages.rows;
        let count = rows.count.0.clone();
        let memory = self.stages.memory(&self.resident, |index| {
            let value = &rows.values[index];
            let width = match self.parted {
                Some((parted, columns)) if parted == index => &value.width - &Dim::Known(columns),
                _ => value.width.clone(),
            };
            context.buffer(space::DRAM, value.element, &[count.clone(), width])
        })?;
        // A last tile that is shorter comes after the loop, where its length is a number.
        let (tile, tail) = (self.row_tile as i64, (self.stages.count % self.row_tile) as i64);
        let is_whole = self.row_tile == self.stages.count;
        let looped = if is_whole { count } else { Dim::Known(self.stages.count as i64 - tail) };
        let start = looped.clone();
        let nest = Nest {
            extents: vec![looped],
            tiles: vec![tile],
            order: vec![0],
            loads: Vec::new(),
            results: Vec::new(),
            result_axes: Vec::new(),
            is_pipelined: false,
            cut: None,
        };
        nest.run(
            context,
            &mut Step(|context: &mut LoweringContext, tiles: &Tiles| {
                self.row_tile(context, &tiles.places[0], &memory)
            }),
        )?;
        if tail == 0 {
            return Ok(());
        }
        self.row_tile(context, &Place { start, length: Dim::Known(tail), capacity: tail }, &memory)
    }

    fn row_tile(
        &self,
        context: &mut LoweringContext,
        place: &Place,
        memory: &BTreeMap<usize, View>,
    ) -> Result<(), String> {
        let rows = self.stages.rows;
        let cut = |view: &View| view.slice(0, &place.start, &place.length, 1);
        let mut on_chip: BTreeMap<usize, View> = BTreeMap::new();
        let mut waiting = Vec::new();
        for value in &self.resident {
            let row_value = &rows.values[*value];
            let input = row_value.input.as_ref().map(cut);
            let is_shared = input.as_ref().is_some_and(|view| view.strides[0] == 0);
            let capacity = [if is_shared { 1 } else { place.capacity }, context.maximum(&row_value.width)?];
            let whole = [Dim::Known(capacity[0]), row_value.width.clone()];
            let buffer = context.buffer_with_capacity(space::SRAM, row_value.element, &whole, &capacity)?;
            let mut view = View { dims: vec![place.length.clone(), row_value.width.clone()], ..buffer };
            if let Some(input) = input {
                let (mut once, mut inside) = (input, view.clone());
                if is_shared {
                    (once.dims[0], inside.dims[0], view.strides[0]) = (Dim::Known(1), Dim::Known(1), 0);
                }
                waiting.push(context.start_transfer(engine::DMA0, &inside, &once)?);
            }
            on_chip.insert(*value, view);
        }
        let mut reserved_bytes = self.resident.iter().try_fold(0, |sum, value| {
            bytes_of(context, &rows.values[*value], self.row_tile).map(|bytes| sum + bytes)
        })?;
        let mut parted = None;
        if let Some((index, columns)) = self.parted {
            let value = &rows.values[index];
            let width = value.width.known().ok_or("a part of no known number of columns")?;
            let part = columns_of(value, columns);
            reserved_bytes += bytes_of(context, &part, self.row_tile)?;
            let capacity = [place.capacity, columns];
            let whole = capacity.map(Dim::Known);
            let buffer = context.buffer_with_capacity(space::SRAM, value.element, &whole, &capacity)?;
            let kept = View { dims: vec![place.length.clone(), Dim::Known(columns)], ..buffer };
            let rest = value.input.as_ref().or(memory.get(&index)).ok_or("a part is nowhere")?;
            let both = Parted::new(index, columns, width, kept, cut(rest));
            if value.input.is_some() {
                let first = cut(rest).slice(1, &Dim::Known(0), &Dim::Known(columns), 1);
                let [(_, kept, _), _] = both.parts();
                waiting.push(context.start_transfer(engine::DMA0, &kept, &first)?);
            }
            parted = Some(both);
        }
        let parted = parted.as_ref();
        if !rows.prologue.is_empty() {
            let group = self.stages.group(&place.length, &cut, parted, &|value| match on_chip.get(&value) {
                Some(view) => Some((view.clone(), true)),
                None => memory.get(&value).map(|view| (cut(view), false)),
            });
            Group { reserved_bytes, ..group }.run(context)?;
        }
        waiting.into_iter().try_for_each(|token| context.wait(token))?;
        let in_memory = with_inputs(rows, memory);
        for (cluster, plan) in rows.clusters.iter().zip(&self.plans) {
            let resident = |value: usize| on_chip.get(&value).cloned();
            let mut made = make_cluster(context, &in_memory, cluster, &place.length, &resident, &cut);
            if let Some(parted) = parted {
                made.products.iter_mut().for_each(|product| product.x = parted.rest.clone());
                made.kept = Some(parted.kept.clone());
            }
            made.run_with(context, plan)?;
        }
        Ok(())
    }
}
