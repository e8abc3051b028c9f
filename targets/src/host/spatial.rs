//! Convolutions and pooling on the host, over one to three spatial dimensions.

use super::{HOST, HostRow, one_to_one};
use crate::lowering::{CommandBuilder, LoweringContext};
use crate::view::View;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::module::OpId;

pub(super) static ROWS: &[HostRow] = &[
    HostRow::new(&core::CONVOLUTION, convolution),
    HostRow::new(&core::CONVOLUTION_INTEGER, convolution),
    HostRow::new(&core::CONV_TRANSPOSE, convolution),
    HostRow::new(&core::POOL, pool),
];

/// Negative padding cuts x; the padding that is left.
pub(crate) fn cut(x: &View, low: &mut [i64], high: &mut [i64]) -> View {
    let mut x = x.clone();
    for (at, (low, high)) in low.iter_mut().zip(high).enumerate() {
        let (from, until) = ((-*low).max(0), (-*high).max(0));
        if from > 0 || until > 0 {
            let length = &x.dims[at + 2] - &Dim::Known(from + until);
            x = x.slice(at + 2, &Dim::Known(from), &length, 1);
        }
        (*low, *high) = ((*low).max(0), (*high).max(0));
    }
    x
}

fn convolution(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let is_transposed = context.op(op).def == &core::CONV_TRANSPOSE;
    let (destination, x) = one_to_one(context, op)?;
    let (w, bias) = (context.operand(op, 1)?, context.optional(op, 2)?);
    let spatial = spatial_rank(&x)?;
    let fields = context.fields(op);
    let mut low = fields.ints_or("pads_low", 0, spatial);
    let mut high = fields.ints_or("pads_high", 0, spatial);
    let x = if is_transposed { x } else { cut(&x, &mut low, &mut high) };
    if let Some(bias) = &bias {
        let bias = (0..spatial).fold(bias.clone(), |view, _| view.with_axis(view.rank()));
        context.host_copy(&destination, &bias.broadcast_to(&destination.dims))?;
    }
    let def = if is_transposed { &tile::CONV_TRANSPOSE } else { &tile::CONVOLUTION };
    let command = context
        .command(def, HOST)
        .view(&destination)
        .view(&x)
        .view(&w)
        .attribute("strides", fields.ints_or("strides", 1, spatial))
        .attribute("dilations", fields.ints_or("dilations", 1, spatial))
        .attribute("pads_low", low)
        .attribute("groups", fields.int("groups", 1))
        .attribute("accumulate", bias.is_some());
    zero_points(command, ["x_zero", "w_zero"].map(|name| fields.int(name, 0))).emit()
}

/// The zero points of x and w of a convolution of integers, where they are not 0.
pub(crate) fn zero_points<'c, 'a>(
    command: CommandBuilder<'c, 'a>,
    zeros: [i64; 2],
) -> CommandBuilder<'c, 'a> {
    ["x_zero", "w_zero"].into_iter().zip(zeros).fold(command, |command, (name, zero)| match zero {
        0 => command,
        zero => command.attribute(name, zero),
    })
}

fn pool(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (destination, x) = one_to_one(context, op)?;
    let spatial = spatial_rank(&x)?;
    let fields = context.fields(op);
    let mut low = fields.ints_or("pads_low", 0, spatial);
    let mut high = fields.ints_or("pads_high", 0, spatial);
    let x = cut(&x, &mut low, &mut high);
    context
        .command(&tile::POOL, HOST)
        .view(&destination)
        .view(&x)
        .attribute("function", fields.text("function", "max"))
        .attribute("kernel", fields.ints_or("kernel", 1, spatial))
        .attribute("strides", fields.ints_or("strides", 1, spatial))
        .attribute("dilations", fields.ints_or("dilations", 1, spatial))
        .attribute("pads_low", low)
        .attribute("pads_high", high)
        .attribute("count_include_pad", fields.flag("count_include_pad", false))
        .emit()
}

fn spatial_rank(x: &View) -> Result<usize, String> {
    match x.rank().saturating_sub(2) {
        spatial @ 1..=3 => Ok(spatial),
        spatial => Err(format!("{spatial} spatial dimensions; the commands take 1 to 3")),
    }
}
