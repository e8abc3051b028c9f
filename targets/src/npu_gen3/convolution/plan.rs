//! What the tiles of a convolution are searched over: its loops, what they load and store, what a tile costs.
//!
//! ```text
//! rows 24 of 48: batch 1, output channels 16 of 64, input channels all   =>   load x, w; accumulate; store y
//! ```

use super::super::machine::{limits, macs_per_cycle};
use super::super::nest::is_on_chip;
use super::super::tile_search::{
    Axis, Flow, Operand, Plan, Problem, Work, candidates, frontier, search, unbeaten,
};
use super::{BATCH, CHANNEL_GRANULE, Convolution, IN, Kind, OUT, Schedule};
use crate::lowering::LoweringContext;
use std::collections::BTreeSet;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

/// What of a convolution lies in SRAM already: it is used in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resident {
    /// Its input.
    pub x: bool,
    /// Weights and bias.
    pub weights: bool,
    /// Other values that it reads, and results, as the kernel's region names them.
    pub values: BTreeSet<ValueId>,
}

impl Resident {
    fn of(context: &LoweringContext, convolution: &Convolution) -> Resident {
        let Convolution { x, w, inputs, outputs, .. } = convolution;
        let is_here = |entry: &(&ValueId, &crate::view::View)| is_on_chip(context, entry.1);
        Resident {
            x: is_on_chip(context, x),
            weights: w.as_ref().is_some_and(|w| is_on_chip(context, w)),
            values: inputs.iter().chain(outputs).filter(is_here).map(|entry| *entry.0).collect(),
        }
    }
}

impl Convolution {
    /// The schedule of the fewest cycles, or why none fits.
    pub(super) fn schedule(&self, context: &LoweringContext) -> Result<Result<Schedule, String>, String> {
        let rows = context.maximum(&self.dims[2])?.max(1);
        let heights = match self.dims[2].known() {
            Some(_) => candidates(Axis::new("rows", rows as u64, 1)),
            None => vec![rows as u64],
        };
        let resident = Resident::of(context, self);
        let mut best: Result<Schedule, String> = Err(String::new());
        for height in heights {
            match (self.plan(context, height as i64, &resident)?, &best) {
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

    /// The plan of the fewest cycles for tiles of `height` rows, or why none fits.
    fn plan(
        &self,
        context: &LoweringContext,
        height: i64,
        resident: &Resident,
    ) -> Result<Result<Plan, String>, String> {
        let mut best: Result<Plan, String> = Err(String::new());
        for problem in self.problems(context, height, resident)? {
            match (search(&problem, limits(context)), &best) {
                (Ok(plan), Ok(least)) if plan.cycles >= least.cycles => {}
                (Ok(plan), _) => best = Ok(plan),
                (Err(error), Err(_)) => best = Err(error.to_string()),
                (Err(_), Ok(_)) => {}
            }
            // Whole vectors of channels where they fit, else any number of them.
            if best.is_ok() && !self.is_grouped() {
                break;
            }
        }
        Ok(best)
    }

    /// The plans for tiles of `height` rows that no other beats in both SRAM and cycles, least SRAM first; `resident` lies in SRAM.
    ///
    /// # Errors
    /// When a dimension has no known maximum.
    pub fn frontier(
        &self,
        context: &LoweringContext,
        height: i64,
        resident: &Resident,
    ) -> Result<Vec<Plan>, String> {
        let problems = self.problems(context, height, resident)?;
        let plans = problems.iter().flat_map(|problem| frontier(problem, limits(context))).collect();
        Ok(unbeaten(plans))
    }

    fn problems(
        &self,
        context: &LoweringContext,
        height: i64,
        resident: &Resident,
    ) -> Result<Vec<Problem>, String> {
        let problem = |tile, granule| self.problem(context, height, tile, granule, resident);
        if !self.is_grouped() {
            return [CHANNEL_GRANULE, 1].into_iter().map(|granule| problem(None, granule)).collect();
        }
        // Groups are taken in tiles that divide them, so that every command has the same number.
        let groups = self.channel_steps();
        let tiles = (1..=groups).filter(|tile| groups % tile == 0);
        tiles.map(|tile| problem(Some(tile as u64), CHANNEL_GRANULE)).collect()
    }

    /// Steps of the output channel axis: channels, or groups of them.
    pub(super) fn channel_steps(&self) -> i64 {
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
        resident: &Resident,
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
        let mut operands = Vec::new();
        if !resident.x {
            operands.push(if grouped {
                fixed(Flow::Load, &[BATCH, OUT], x, in_channels / steps * in_points)
            } else {
                fixed(Flow::Load, &[BATCH, IN], x, in_points)
            });
        }
        let mut macs_per_point = self.shape.window_size() as u64 * channels;
        if let Some(w) = &self.w {
            let window = product(&w.dims[2..])?;
            let per_group = channels * (in_channels / steps.min(in_channels));
            if !resident.weights {
                operands.push(if grouped {
                    fixed(Flow::Load, &[OUT], w.element, per_group * window)
                } else {
                    fixed(Flow::Load, &[OUT, IN], w.element, window)
                });
            }
            macs_per_point = if grouped { per_group * window } else { window };
        }
        if let Some(bias) = &self.bias {
            if !resident.weights {
                operands.push(fixed(Flow::Load, &[OUT], bias.element, channels));
            }
            if bias.element != self.sum_element() {
                operands.push(fixed(Flow::Hold, &[OUT], self.sum_element(), channels));
            }
        }
        for (_, view) in self.inputs.iter().filter(|input| !resident.values.contains(input.0)) {
            // What repeats is fetched once.
            let follows = |axis: usize| view.strides[axis] != 0;
            let axes: Vec<usize> = [BATCH, OUT].into_iter().filter(|axis| follows(*axis)).collect();
            let channels = if follows(1) { channels } else { 1 };
            let points = if (2..view.rank()).any(follows) { points } else { 1 };
            operands.push(fixed(Flow::Load, &axes, view.element, channels * points));
        }
        for op in &self.ops {
            let value = context.result(*op, 0);
            if self.rests_in_accumulators(context, value)? || resident.values.contains(&value) {
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
        Ok(Problem {
            axes,
            operands,
            work,
            orders: vec![vec![0, 1, 2], vec![1, 0, 2]],
            fixed_sram_bytes: 0,
            keeps: None,
        })
    }
}
