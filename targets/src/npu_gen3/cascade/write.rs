//! Writes a chosen plan: buffers for maps and windows, weights that stay, then stripe by stripe the row tiles of each kernel. The first
//! and last stripes meet padding; those between are one loop.
//!
//! ```text
//! convolution a[0..5] <- x; convolution y[0..4] <- a; for i: unary copy a[0..2] <- a[3..5]; convolution a[2..6] <- x[4 i + 4]; ..
//! ```

use super::choose::{Cascade, Choice};
use super::rows::{Move, Step, Stripe};
use super::{Chain, Link, Value};
use crate::lowering::{LoweringContext, engine, space};
use crate::npu_gen3::convolution::Convolution;
use crate::npu_gen3::spatial::RowsRead;
use crate::npu_gen3::tile_op;
use crate::view::View;
use std::collections::BTreeMap;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::ValueId;

/// Stripes that differ only in where whole values are read and written become a loop when there are at least so many.
const LOOP_STRIPES_MIN: usize = 3;

/// By how many rows a step moves on from stripe to stripe: in what its windows move over, and in its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Advance {
    x: i64,
    rows: i64,
}

/// Where values of the chain lie as a whole.
type Homes = BTreeMap<usize, View>;

/// Writes a chain; `homes` are the places of what leaves it.
///
/// # Errors
/// When a command does not take its views.
pub(super) fn write(
    context: &mut LoweringContext,
    chain: &Chain,
    choice: &Choice,
    mut homes: Homes,
) -> Result<(), String> {
    let outer = context.location.clone();
    for cascade in &choice.cascades {
        let written = Writer::begin(context, chain, choice, cascade, &mut homes)
            .and_then(|writer| writer.run(context, &homes));
        context.location = outer.clone();
        written?;
    }
    Ok(())
}

struct Writer<'p> {
    chain: &'p Chain,
    cascade: &'p Cascade,
    /// Buffers of some rows.
    windows: Homes,
    /// Kernels with their kept weights.
    kept: BTreeMap<usize, Convolution>,
}

/// A buffer of a value's dimensions, or of some of its rows.
fn buffer(
    context: &mut LoweringContext,
    space: &str,
    value: ValueId,
    rows: Option<i64>,
) -> Result<View, String> {
    let ty = context.ty(value)?;
    let mut dims = ty.shape.to_vec();
    if let Some(rows) = rows {
        dims[2] = Dim::Known(rows);
    }
    let buffer = context.buffer(space, ty.element, &dims)?;
    context.tile.value_mut(buffer.buffer).name = context.source.value(value).name.clone();
    Ok(buffer)
}

impl<'p> Writer<'p> {
    fn begin(
        context: &mut LoweringContext,
        chain: &'p Chain,
        choice: &Choice,
        cascade: &'p Cascade,
        homes: &mut Homes,
    ) -> Result<Writer<'p>, String> {
        let mut writer = Writer { chain, cascade, windows: Homes::new(), kept: BTreeMap::new() };
        for link in cascade.first..=cascade.last {
            context.location = context.op(chain.links[link].kernel).location.clone();
            for (_, value) in &chain.links[link].outputs {
                let id = chain.values[*value].id;
                if cascade.windows.contains(value) {
                    let rows = cascade.stripes.capacities[link - cascade.first];
                    writer.windows.insert(*value, buffer(context, space::SRAM, id, Some(rows))?);
                } else if !homes.contains_key(value) {
                    let space = if choice.whole.contains(value) { space::SRAM } else { space::DRAM };
                    homes.insert(*value, buffer(context, space, id, None)?);
                }
            }
        }
        let mut tokens = Vec::new();
        for link in &cascade.kept {
            context.location = context.op(chain.links[*link].kernel).location.clone();
            let convolution = keep(context, &chain.links[*link], &mut tokens)?;
            writer.kept.insert(*link, convolution);
        }
        tokens.into_iter().try_for_each(|token| context.wait(token))?;
        Ok(writer)
    }

    fn run(&self, context: &mut LoweringContext, homes: &Homes) -> Result<(), String> {
        let stripes = &self.cascade.stripes.stripes;
        let mut at = 0;
        while at < stripes.len() {
            let next = |at: usize| stripes.get(at + 1).and_then(|next| self.advance(&stripes[at], next));
            let advance = next(at).unwrap_or_default();
            let alike = (at..stripes.len()).take_while(|at| next(*at).as_ref() == Some(&advance)).count();
            if alike + 1 < LOOP_STRIPES_MIN {
                self.stripe(context, &stripes[at], homes, None)?;
                at += 1;
            } else {
                context.for_loop(&Dim::Known(alike as i64 + 1), 1, |context, index| {
                    self.stripe(context, &stripes[at], homes, Some((index, &advance)))
                })?;
                at += alike + 1;
            }
        }
        Ok(())
    }

    /// By how many rows each step of a stripe moves on to the next one, where that is the same but for it.
    fn advance(&self, from: &Stripe, to: &Stripe) -> Option<Vec<Advance>> {
        let first = self.cascade.first;
        if from.moves != to.moves || from.steps.len() != to.steps.len() {
            return None;
        }
        let base = |value: usize| {
            let maker = self.chain.values[value].maker.checked_sub(first)?;
            self.windows.contains_key(&value).then(|| to.bases[maker] - from.bases[maker])
        };
        let advance = |(a, b): (&Step, &Step)| {
            let kernel = &self.chain.links[first + a.link];
            let rows = kernel.convolution.x.dims[2].known()?;
            let [read, next] = [a, b].map(|step| kernel.convolution.shape.reads(step.start, step.rows, rows));
            let advance = Advance { x: next.first - read.first, rows: b.start - a.start };
            let is_alike =
                (a.link, a.rows) == (b.link, b.rows) && RowsRead { first: read.first, ..next } == read;
            // What lies in windows is found at the same places.
            let mut others = kernel.inputs.iter().chain(&kernel.outputs);
            let stays = kernel.x.and_then(base).is_none_or(|base| base == advance.x)
                && others.all(|other| base(other.1).is_none_or(|base| base == advance.rows));
            (is_alike && stays).then_some(advance)
        };
        from.steps.iter().zip(&to.steps).map(advance).collect()
    }

    /// One stripe; in a loop over stripes, views of whole values move on with its index.
    fn stripe(
        &self,
        context: &mut LoweringContext,
        stripe: &Stripe,
        homes: &Homes,
        repeated: Option<(&Dim, &[Advance])>,
    ) -> Result<(), String> {
        for moved in &stripe.moves {
            self.keep_rows(context, moved)?;
        }
        for (at, step) in stripe.steps.iter().enumerate() {
            let link = self.cascade.first + step.link;
            let kernel = &self.chain.links[link];
            context.location = context.op(kernel.kernel).location.clone();
            let moved = |view: &View, rows: fn(&Advance) -> i64| match repeated {
                Some((index, advance)) => {
                    view.slice(2, &(index * &Dim::Known(rows(&advance[at]))), &view.dims[2], 1)
                }
                None => view.clone(),
            };
            let view = |value: usize, rows: fn(&Advance) -> i64| {
                let view = self.view(value, stripe, homes)?;
                Ok::<_, String>(if self.windows.contains_key(&value) { view } else { moved(&view, rows) })
            };
            let mut convolution = self.kept.get(&link).unwrap_or(&kernel.convolution).clone();
            convolution.x = match kernel.x {
                Some(value) => view(value, |advance| advance.x)?,
                None => moved(&convolution.x, |advance| advance.x),
            };
            for input in convolution.inputs.values_mut().filter(|input| input.strides[2] != 0) {
                *input = moved(input, |advance| advance.rows);
            }
            for (inside, value) in &kernel.inputs {
                convolution.inputs.insert(*inside, view(*value, |advance| advance.rows)?);
            }
            for (inside, value) in &kernel.outputs {
                convolution.outputs.insert(*inside, view(*value, |advance| advance.rows)?);
            }
            let plan = &self.cascade.tiles[&(link, step.rows)];
            convolution.row_tile(context, plan, step.start, &Dim::Known(step.rows))?;
        }
        Ok(())
    }

    /// A value under all of its rows; of a window only those that are in its buffer may be touched.
    fn view(&self, value: usize, stripe: &Stripe, homes: &Homes) -> Result<View, String> {
        let Some(window) = self.windows.get(&value) else {
            return homes.get(&value).cloned().ok_or_else(|| "a value of a chain has no place".into());
        };
        let Value { maker, rows, .. } = &self.chain.values[value];
        let base = stripe.bases[maker - self.cascade.first];
        Ok(window.slice(2, &Dim::Known(-base), &Dim::Known(*rows), 1))
    }

    /// Moves rows to the start of their buffers, one by one where they would run into themselves.
    fn keep_rows(&self, context: &mut LoweringContext, moved: &Move) -> Result<(), String> {
        let link = &self.chain.links[self.cascade.first + moved.maker];
        context.location = context.op(link.kernel).location.clone();
        let at_once = if moved.from >= moved.rows { moved.rows } else { 1 };
        for buffer in link.outputs.iter().filter_map(|output| self.windows.get(&output.1)) {
            for row in (0..moved.rows).step_by(at_once as usize) {
                let part = |start: i64| buffer.slice(2, &Dim::Known(start), &Dim::Known(at_once), 1);
                tile_op::unary(context, "copy", &part(row), &part(moved.from + row))?;
            }
        }
        Ok(())
    }
}

/// A kernel with weights and parameters in SRAM; `tokens` are what to wait for.
fn keep(
    context: &mut LoweringContext,
    link: &Link,
    tokens: &mut Vec<ValueId>,
) -> Result<Convolution, String> {
    let mut convolution = link.convolution.clone();
    let parameters = convolution.inputs.iter_mut().filter(|input| link.parameters.contains(input.0));
    let views = convolution.w.iter_mut().chain(&mut convolution.bias).chain(parameters.map(|input| input.1));
    for view in views {
        let mut once = view.clone();
        for (dim, _) in once.dims.iter_mut().zip(&view.strides).filter(|dim| *dim.1 == 0) {
            *dim = Dim::Known(1);
        }
        let buffer = context.buffer(space::SRAM, once.element, &once.dims)?;
        tokens.push(context.start_transfer(engine::DMA0, &buffer, &once)?);
        let strides = view.strides.iter().zip(&buffer.strides);
        let strides = strides.map(|(outside, inside)| if *outside == 0 { 0 } else { *inside }).collect();
        *view = View { strides, dims: view.dims.clone(), ..buffer };
    }
    Ok(convolution)
}
