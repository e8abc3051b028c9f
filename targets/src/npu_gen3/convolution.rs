//! Convolution, transposed convolution and pooling, and what follows them elementwise: tiles of output channels and of output rows.
//!
//! Rows are the first spatial dimension. Their tiles are written out one after another, because padding differs at the borders;
//! each loads its input rows with their halo. Channels run in a loop nest, input channels as a reduction in the accumulators.
//! Small groups of channels are taken several at a time and never cut; large ones one after another, each as a convolution of its own.
//! It must not know other kernels; [`super::cascade`] runs several of these through SRAM.
//!
//! ```text
//! for each row tile: for o, c: transfer x[c, rows + halo], w[o, c]; convolution into acc; add bias; transfer y
//! ```

mod body;
mod plan;

pub use self::plan::Resident;
use super::kernel::Kernel;
use super::machine::place_product;
use super::spatial::{Kind, Shape};
use super::tile_search::Plan;
use crate::lowering::{Lowering, LoweringContext, PlaceContext, Subject};
use crate::view::View;
use std::collections::BTreeMap;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{OpId, ValueId};

/// Rows of this file.
pub static LOWERINGS: &[Lowering] = &[
    Lowering { subject: Subject::Kernel("convolution"), place: place_kernel, lower },
    Lowering { subject: Subject::Op(&core::CONVOLUTION), place, lower },
    Lowering { subject: Subject::Op(&core::CONVOLUTION_INTEGER), place, lower },
    Lowering { subject: Subject::Op(&core::CONV_TRANSPOSE), place, lower },
    Lowering { subject: Subject::Op(&core::POOL), place, lower },
];

/// Whether the machine takes a convolution kernel.
///
/// # Errors
/// The reason why not.
pub(super) fn place_kernel(context: &PlaceContext) -> Result<(), String> {
    let block = context.module.entry(context.op, 0);
    let kinds = [&core::CONVOLUTION, &core::CONVOLUTION_INTEGER, &core::CONV_TRANSPOSE, &core::POOL];
    let is_first = |op: &&OpId| kinds.contains(&context.module.op(**op).def);
    let ops = &context.module.block(block).ops;
    let first = ops.iter().find(is_first).ok_or("a kernel without its convolution")?;
    place(&PlaceContext { op: *first, ..*context })?;
    super::elementwise::place_all(context, ops.iter().filter(|op| *op != first))
}

fn place(context: &PlaceContext) -> Result<(), String> {
    let x = context.operand(0).ok_or("x is no tensor")?;
    match context.operand(1) {
        Some(w) if context.operation().def != &core::POOL => place_product(context, x.element, w.element)?,
        _ => super::elementwise::place(context)?,
    }
    if !(3..=5).contains(&x.rank()) {
        return Err(format!("windows of {} spatial dimensions", x.rank().saturating_sub(2)));
    }
    if x.shape[1].known().is_none() {
        return Err("the number of channels is not known".into());
    }
    Ok(())
}

/// Axes of the nest.
const BATCH: usize = 0;
const OUT: usize = 1;
const IN: usize = 2;
/// Channels that a tile is a multiple of, where that fits.
const CHANNEL_GRANULE: u64 = 16;

/// A convolution (or pooling) kernel and where its values lie.
#[derive(Clone)]
pub struct Convolution {
    /// Its windows.
    pub shape: Shape,
    /// `[n, c, spatial..]`.
    pub x: View,
    /// `[o, c / groups, kernel..]`; none when it pools.
    pub w: Option<View>,
    /// `[o]`.
    pub bias: Option<View>,
    /// The convolution's own result.
    value: ValueId,
    /// Dimensions of the result.
    pub dims: Vec<Dim>,
    /// The kernel's ops, the convolution first.
    ops: Vec<OpId>,
    /// Values from outside that the other ops read, with the result's dimensions.
    pub inputs: BTreeMap<ValueId, View>,
    /// Values that leave the kernel.
    pub outputs: BTreeMap<ValueId, View>,
}

/// Tiles of output rows, and what a row tile is cut into.
struct Schedule {
    height: i64,
    plan: Plan,
    cycles: u64,
}

fn lower(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let convolution = Convolution::open(context, op)?;
    if convolution.dims.contains(&Dim::Known(0)) { Ok(()) } else { convolution.run(context) }
}

impl Convolution {
    /// Opens a kernel, or an op as a kernel of its own.
    ///
    /// # Errors
    /// When an operand was not lowered, or the window's size is not known.
    pub fn open(context: &mut LoweringContext, op: OpId) -> Result<Convolution, String> {
        let kernel = Kernel::open(context, op)?;
        let first = *kernel.ops.first().ok_or("a kernel without ops")?;
        let x = context.operand(first, 0)?;
        let is_pool = context.op(first).def == &core::POOL;
        let w = if is_pool { None } else { Some(context.operand(first, 1)?) };
        let bias = if is_pool { None } else { context.optional(first, 2)? };
        let value = context.result(first, 0);
        let ty = context.ty(value)?;
        let (shape, x) = Shape::of(context, first, &x, w.as_ref())?;
        let mut inputs = BTreeMap::new();
        for op in &kernel.ops[1..] {
            let scales = [&core::QUANTIZE, &core::DEQUANTIZE].contains(&context.op(*op).def);
            for (slot, operand) in Kernel::operands(context, *op).into_iter().enumerate() {
                let Some(operand) = operand.filter(|operand| !kernel.makes(context, *operand)) else {
                    continue;
                };
                let mut view = context.view(operand)?;
                if scales && slot > 0 && view.rank() == 1 {
                    // One per channel.
                    view = (2..ty.rank()).fold(view, |view, _| view.with_axis(view.rank()));
                }
                inputs.insert(operand, view.broadcast_to(&ty.shape));
            }
        }
        let dims = ty.shape.to_vec();
        let (ops, outputs) = (kernel.ops, kernel.outputs);
        Ok(Convolution { shape, x, w, bias, value, dims, ops, inputs, outputs })
    }

    /// Channels of one group count as one step of the channel axis when there are several groups.
    fn is_grouped(&self) -> bool {
        self.shape.groups > 1 || self.shape.kind == Kind::Pool
    }

    fn run(&self, context: &mut LoweringContext) -> Result<(), String> {
        let together = self.schedule(context)?;
        if self.shape.groups == 1 || self.shape.kind == Kind::Pool {
            return self.write(context, &together?);
        }
        let groups: Vec<Convolution> = (0..self.shape.groups).map(|group| self.group(group)).collect();
        let apart = groups[0].schedule(context)?;
        let cycles = apart.as_ref().map(|apart| apart.cycles.saturating_mul(groups.len() as u64));
        match (together, cycles) {
            (Ok(together), Ok(cycles)) if together.cycles <= cycles => self.write(context, &together),
            (Ok(together), Err(_)) => self.write(context, &together),
            _ => {
                let apart = apart?;
                groups.iter().try_for_each(|group| group.write(context, &apart))
            }
        }
    }

    /// What the matrix engine sums in.
    fn sum_element(&self) -> Element {
        if self.x.element.is_integer() { Element::I32 } else { Element::F32 }
    }

    /// Whether a value of the kernel stays where it is summed: the convolution's own, when it is read inside the kernel alone.
    fn rests_in_accumulators(&self, context: &LoweringContext, value: ValueId) -> Result<bool, String> {
        let is_inner = self.w.is_some() && value == self.value && !self.outputs.contains_key(&value);
        Ok(is_inner && context.ty(value)?.element == self.sum_element())
    }

    /// One group of channels as a convolution of its own.
    fn group(&self, index: i64) -> Convolution {
        let groups = self.shape.groups;
        let part = |view: &View, axis: usize| {
            let length = view.dims[axis].known().unwrap_or(1) / groups;
            view.slice(axis, &Dim::Known(index * length), &Dim::Known(length), 1)
        };
        let parts = |views: &BTreeMap<ValueId, View>| {
            views.iter().map(|(value, view)| (*value, part(view, 1))).collect::<BTreeMap<_, _>>()
        };
        let mut dims = self.dims.clone();
        dims[1] = Dim::Known(dims[1].known().unwrap_or(1) / groups);
        let mut shape = self.shape.clone();
        shape.groups = 1;
        Convolution {
            shape,
            x: part(&self.x, 1),
            w: self.w.as_ref().map(|w| part(w, 0)),
            bias: self.bias.as_ref().map(|bias| part(bias, 0)),
            dims,
            inputs: parts(&self.inputs),
            outputs: parts(&self.outputs),
            ..self.clone()
        }
    }

    fn write(&self, context: &mut LoweringContext, schedule: &Schedule) -> Result<(), String> {
        let rows = context.maximum(&self.dims[2])?.max(1);
        let mut start = 0;
        while start < rows {
            let length = match self.dims[2].known() {
                Some(_) => Dim::Known(schedule.height.min(rows - start)),
                None => self.dims[2].clone(),
            };
            self.row_tile(context, &schedule.plan, start, &length)?;
            start += schedule.height;
        }
        Ok(())
    }
}
