//! Chains of convolution kernels that run through SRAM: feature maps stay on chip from kernel to kernel, and where they do not fit (or
//! little SRAM is wanted), several kernels run as one cascade, stripe of rows by stripe, with only the rows in use between them.
//!
//! [`choose`] finds cuts, stripes and tiles, [`rows`] says which rows are computed when, [`write`] writes the commands; a kernel's own
//! tiles are [`super::convolution`]'s. A chain that fits in no way is lowered kernel by kernel, through memory.
//!
//! ```text
//! kernel chain { a: 3x3; b: 3x3 }   =>   for stripes: a on rows 0..5 into sram; b on rows 0..4; keep rows 3..5 of a; a on 5..9; b on 4..8
//! ```

pub mod choose;
pub mod rows;
mod write;

use self::choose::Chooser;
use self::rows::{Read, Window};
use super::convolution::{self, Convolution, Resident};
use super::kernel::Kernel;
use crate::lowering::{Lowering, LoweringContext, PlaceContext, Subject};
use crate::view::{View, row_major};
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::dialects::core;
use tilewright_ir::module::{OpId, ValueId};

/// Rows of this file.
pub static LOWERINGS: &[Lowering] = &[Lowering { subject: Subject::Kernel("chain"), place, lower }];

/// A kernel of a chain.
pub struct Link {
    /// The kernel.
    kernel: OpId,
    /// It; values of the chain have a stand-in for a view.
    convolution: Convolution,
    /// The value of the chain that its windows move over.
    x: Option<usize>,
    /// Values of the chain that it reads otherwise, as its region names them.
    inputs: Vec<(ValueId, usize)>,
    /// Values per channel or for all, as its region names them.
    parameters: BTreeSet<ValueId>,
    /// Its results, as its region names them.
    outputs: Vec<(ValueId, usize)>,
    /// Rows of its results.
    rows: i64,
    /// SRAM of its weights and parameters, and how many there are.
    weight_bytes: u64,
    weight_count: u64,
}

/// A result of a kernel of a chain.
pub struct Value {
    id: ValueId,
    maker: usize,
    /// Bytes of one row of all channels.
    row_bytes: u64,
    rows: i64,
    /// Kernels of the chain that read it.
    readers: BTreeSet<usize>,
    /// Whether something outside the chain reads it.
    leaves: bool,
}

/// A chain.
#[derive(Default)]
pub struct Chain {
    links: Vec<Link>,
    values: Vec<Value>,
}

impl Value {
    fn bytes(&self) -> u64 {
        self.row_bytes.saturating_mul(self.rows as u64)
    }
}

fn place(context: &PlaceContext) -> Result<(), String> {
    let block = context.module.entry(context.op, 0);
    let kernels =
        context.module.block(block).ops.iter().filter(|op| context.module.op(**op).def == &core::KERNEL);
    kernels.into_iter().try_for_each(|op| convolution::place_kernel(&PlaceContext { op: *op, ..*context }))
}

fn lower(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let mut stand_ins = Vec::new();
    let chain = Chain::open(context, op, &mut stand_ins);
    // Should the kernels be lowered one by one after all, they find none of this.
    for value in stand_ins {
        context.reserved.remove(&value);
        context.views.remove(&value);
    }
    let chain = chain?;
    let choice = Chooser::new(context, &chain, context.is_cascading).choose()?;
    let block = context.source.entry(op, 0);
    let end = context.source.terminator(block).ok_or("a chain yields nothing")?;
    let mut homes = BTreeMap::new();
    for (value, result) in context.op(end).operands.iter().zip(&context.op(op).results) {
        let value =
            chain.values.iter().position(|known| known.id == *value).ok_or("a chain passes an operand on")?;
        match homes.get(&value).cloned() {
            None => {
                homes.insert(value, context.destination(*result)?);
            }
            Some(view) => context.define(*result, view)?,
        }
    }
    write::write(context, &chain, &choice, homes)
}

impl Chain {
    /// Opens the kernels of a chain. `stand_ins` are values that views were made up for.
    fn open(context: &mut LoweringContext, op: OpId, stand_ins: &mut Vec<ValueId>) -> Result<Chain, String> {
        let block = context.source.entry(op, 0);
        let mut somewhere = None;
        for (argument, operand) in context.source.block(block).arguments.iter().zip(&context.op(op).operands)
        {
            context.pass_argument(*argument, *operand)?;
            somewhere = somewhere.or(Some(context.view(*argument)?.buffer));
        }
        let somewhere = somewhere.ok_or("a chain without operands")?;
        let mut chain = Chain::default();
        let mut values: BTreeMap<ValueId, usize> = BTreeMap::new();
        let source = context.source;
        let ops = &source.block(block).ops;
        for kernel in ops.iter().filter(|op| source.op(**op).def == &core::KERNEL) {
            for result in &context.op(*kernel).results {
                let value = chain.value(context, *result)?;
                let ty = context.ty(*result)?;
                let shape = ty.known_shape().ok_or("a dimension is not known")?;
                let view = View {
                    buffer: somewhere,
                    element: ty.element,
                    offset: 0.into(),
                    dims: ty.shape.to_vec(),
                    strides: row_major(&shape),
                };
                values.insert(*result, value);
                stand_ins.push(*result);
                context.reserved.insert(*result, view);
            }
            let link = Link::open(context, *kernel, &values)?;
            let at = chain.links.len();
            let reads = link.x.iter().chain(link.inputs.iter().map(|input| &input.1));
            for value in reads {
                chain.values[*value].readers.insert(at);
            }
            chain.links.push(link);
        }
        let end = context.source.terminator(block).ok_or("a chain yields nothing")?;
        for value in &context.op(end).operands {
            let value = *values.get(value).ok_or("a chain passes an operand on")?;
            chain.values[value].leaves = true;
        }
        Ok(chain)
    }

    fn value(&mut self, context: &LoweringContext, id: ValueId) -> Result<usize, String> {
        let ty = context.ty(id)?;
        let shape = ty.known_shape().ok_or("a dimension is not known")?;
        let rows = *shape.get(2).ok_or("a result has no rows")?;
        let elements = shape.iter().product::<i64>() / rows.max(1);
        let bits = elements as u64 * ty.element.bits() as u64;
        if !bits.is_multiple_of(8) || shape.contains(&0) {
            return Err("rows of a result are no whole bytes".into());
        }
        let maker = self.links.len();
        self.values.push(Value {
            id,
            maker,
            row_bytes: bits / 8,
            rows,
            readers: BTreeSet::new(),
            leaves: false,
        });
        Ok(self.values.len() - 1)
    }

    /// Whether only some rows of a value have to be there at a time when these kernels run as one cascade.
    fn is_window(&self, value: usize, first: usize, last: usize) -> bool {
        let Value { maker, readers, leaves, .. } = &self.values[value];
        (first..last).contains(maker) && !leaves && readers.iter().all(|reader| *reader <= last)
    }

    /// Whether a value that is no window has to be there while these kernels run.
    fn is_alive(&self, value: usize, first: usize, last: usize) -> bool {
        let Value { maker, readers, .. } = &self.values[value];
        *maker <= last && (*maker >= first || readers.last().is_some_and(|reader| *reader >= first))
    }

    /// Kernels as their rows depend on each other.
    fn rows_of(&self, first: usize, last: usize) -> Vec<rows::Link<'_>> {
        let link = |at: usize| {
            let link = &self.links[at];
            let read = |value: usize, window| {
                let maker = self.values[value].maker;
                (maker >= first).then(|| Read { maker: maker - first, window })
            };
            let windows = link.x.and_then(|value| read(value, Window::Rows(&link.convolution.shape)));
            let others = link.inputs.iter().filter_map(|input| read(input.1, Window::Same));
            let is_window = |output: &(ValueId, usize)| self.is_window(output.1, first, last);
            rows::Link {
                rows: link.rows,
                reads: windows.into_iter().chain(others).collect(),
                is_whole: !link.outputs.iter().all(is_window),
            }
        };
        (first..=last).map(link).collect()
    }

    /// What of a kernel's operands and results lies in SRAM, when these values of the chain do.
    fn resident(&self, link: usize, keeps_weights: bool, is_here: impl Fn(usize) -> bool) -> Resident {
        let link = &self.links[link];
        let here = link.inputs.iter().chain(&link.outputs).filter(|pair| is_here(pair.1)).map(|pair| pair.0);
        let parameters = link.parameters.iter().filter(|_| keeps_weights).copied();
        Resident {
            x: link.x.is_some_and(&is_here),
            weights: keeps_weights,
            values: here.chain(parameters).collect(),
        }
    }
}

impl Link {
    fn open(
        context: &mut LoweringContext,
        kernel: OpId,
        values: &BTreeMap<ValueId, usize>,
    ) -> Result<Link, String> {
        let convolution = Convolution::open(context, kernel)?;
        if convolution.shape.cuts() {
            return Err("padding that cuts rows off".into());
        }
        let block = context.source.entry(kernel, 0);
        let operands = &context.op(kernel).operands;
        let arguments = &context.source.block(block).arguments;
        // Values of the chain by their names inside.
        let inside: BTreeMap<ValueId, usize> = arguments
            .iter()
            .zip(operands)
            .filter_map(|(argument, operand)| Some((*argument, *values.get(operand)?)))
            .collect();
        let first = Kernel::first(context, kernel).ok_or("a kernel without ops")?;
        let x = context.op(first).operands.first().and_then(|x| inside.get(x)).copied();
        let inputs: Vec<(ValueId, usize)> =
            convolution.inputs.keys().filter_map(|value| Some((*value, *inside.get(value)?))).collect();
        let is_parameter = |entry: &(&ValueId, &View)| {
            !inside.contains_key(entry.0) && entry.1.strides[2..].iter().all(|stride| *stride == 0)
        };
        let parameters: BTreeSet<ValueId> =
            convolution.inputs.iter().filter(is_parameter).map(|entry| *entry.0).collect();
        let end = context.source.terminator(block).ok_or("a kernel yields nothing")?;
        let mut outputs: Vec<(ValueId, usize)> = Vec::new();
        for (value, result) in context.op(end).operands.iter().zip(&context.op(kernel).results) {
            if outputs.iter().any(|known| known.0 == *value) || !convolution.outputs.contains_key(value) {
                return Err("a kernel yields a value twice, or an operand".into());
            }
            outputs.push((*value, values[result]));
        }
        let rows = convolution.dims[2].known().ok_or("a dimension is not known")?;
        let mut link = Link {
            kernel,
            convolution,
            x,
            inputs,
            parameters,
            outputs,
            rows,
            weight_bytes: 0,
            weight_count: 0,
        };
        let sizes: Option<Vec<u64>> =
            link.weights().map(|view| Some(stored_bytes(view)?.next_multiple_of(64))).collect();
        let sizes = sizes.ok_or("a weight's size is not known")?;
        (link.weight_bytes, link.weight_count) = (sizes.iter().sum(), sizes.len() as u64);
        Ok(link)
    }

    /// Weights and parameters.
    fn weights(&self) -> impl Iterator<Item = &View> {
        let Convolution { w, bias, inputs, .. } = &self.convolution;
        let parameters = self.parameters.iter().map(|value| &inputs[value]);
        w.iter().chain(bias).chain(parameters)
    }
}

/// Bytes of a view's elements, repeated ones once.
fn stored_bytes(view: &View) -> Option<u64> {
    let dims = view.dims.iter().zip(&view.strides).filter(|dim| *dim.1 != 0);
    let count = dims.map(|dim| dim.0.known()).try_fold(1i64, |product, dim| Some(product * dim?))?;
    Some((count as u64 * view.element.bits() as u64).div_ceil(8))
}
