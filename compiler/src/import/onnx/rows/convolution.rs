//! Convolutions and pooling.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, standard};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::ValueId;
use tilewright_ir::op_def::OpDef;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    standard("AveragePool", |node| pool(node, "average")).refuses("ceil_mode and auto_pad over a symbol"),
    standard("Conv", conv).refuses("kernels of unknown size; auto_pad over a symbol"),
    standard("ConvTranspose", conv_transpose).refuses("kernels of unknown size; output_shape over a symbol"),
    standard("GlobalAveragePool", |node| global_pool(node, &core::REDUCE_MEAN)),
    standard("GlobalMaxPool", |node| global_pool(node, &core::REDUCE_MAX)),
    standard("MaxPool", |node| pool(node, "max"))
        .refuses("ceil_mode and auto_pad over a symbol; indices of more than 4,194,304 window positions"),
];

/// Where a window goes, per spatial axis.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Steps between windows.
    pub(super) strides: Vec<i64>,
    /// Steps inside a window.
    pub(super) dilations: Vec<i64>,
    /// Padding before.
    pub(super) low: Vec<i64>,
    /// Padding after.
    pub(super) high: Vec<i64>,
}

/// Reads strides, dilations and padding for a kernel; `auto_pad` needs known dimensions.
pub(super) fn window(node: &NodeContext, spatial: &[Dim], kernel: &[i64]) -> Outcome<Window> {
    let rank = spatial.len();
    let list = |name: &str, count: usize, default: i64| -> Outcome<Vec<i64>> {
        let list = node.ints_attribute(name)?.map_or(vec![default; count], <[i64]>::to_vec);
        if list.len() != count || list.iter().any(|value| !(0..1 << 31).contains(value)) {
            return Err(Fault::model(format!("attribute '{name}' = {list:?} must hold {count} sizes")));
        }
        Ok(list)
    };
    if kernel.len() != rank || kernel.iter().any(|value| !(1..1 << 31).contains(value)) {
        return Err(Fault::model(format!("kernel {kernel:?} does not fit {rank} spatial dimensions")));
    }
    let (strides, dilations) = (list("strides", rank, 1)?, list("dilations", rank, 1)?);
    let pads = list("pads", 2 * rank, 0)?;
    let mut window = Window { strides, dilations, low: pads[..rank].to_vec(), high: pads[rank..].to_vec() };
    if window.strides.contains(&0) || window.dilations.contains(&0) {
        return Err(Fault::model("strides and dilations must be at least 1"));
    }
    let auto = node.text("auto_pad", "NOTSET")?;
    match auto.as_str() {
        "NOTSET" => {}
        "VALID" => (window.low, window.high) = (vec![0; rank], vec![0; rank]),
        "SAME_UPPER" | "SAME_LOWER" => {
            for axis in 0..rank {
                let total =
                    same_padding(&spatial[axis], kernel[axis], window.strides[axis], window.dilations[axis])?;
                let (less, more) = (total / 2, total - total / 2);
                let (low, high) = if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
                (window.low[axis], window.high[axis]) = (low, high);
            }
        }
        other => return Err(Fault::model(format!("attribute 'auto_pad' = '{other}' is not known"))),
    }
    Ok(window)
}

/// A known dimension of a size that arithmetic on windows cannot overflow with.
fn small(dim: &Dim) -> Option<i64> {
    dim.known().filter(|dim| (0..1 << 40).contains(dim))
}

/// Padding that makes the output ceil(dim / stride) long.
fn same_padding(dim: &Dim, kernel: i64, stride: i64, dilation: i64) -> Outcome<i64> {
    let extent = (kernel - 1) * dilation + 1;
    if stride == 1 {
        return Ok(extent - 1);
    }
    let dim = small(dim).ok_or_else(|| {
        Fault::unsupported(
            format!("'auto_pad' needs a known dimension, found {dim}"),
            "bind it with --bind NAME=VALUE",
        )
    })?;
    Ok((((dim + stride - 1) / stride - 1) * stride + extent - dim).max(0))
}

/// Kernel sizes of a weight `[o, i, kernel..]`.
pub(super) fn kernel_of(node: &NodeContext, weight: ValueId) -> Outcome<Vec<i64>> {
    let shape = node.shape(weight);
    let sizes: Option<Vec<i64>> = shape.iter().skip(2).map(Dim::known).collect();
    sizes.ok_or_else(|| {
        Fault::unsupported(
            format!("the kernel must be known, found {}", node.ty(weight)),
            "bind its dimensions",
        )
    })
}

fn spatial_of(node: &NodeContext, x: ValueId) -> Outcome<Vec<Dim>> {
    let shape = node.shape(x);
    if shape.len() < 3 {
        return Err(Fault::model(format!("input 0 must have rank 3 or more, found {}", node.ty(x))));
    }
    Ok(shape[2..].to_vec())
}

/// A convolution with a window.
pub(super) fn convolve(
    node: &mut NodeContext,
    x: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
    window: &Window,
    groups: i64,
) -> Outcome<ValueId> {
    if groups < 1 {
        return Err(Fault::model(format!("attribute 'group' = {groups} must be at least 1")));
    }
    if node.rank(weight) != node.rank(x) {
        return Err(Fault::model(format!("weight {} does not fit input {}", node.ty(weight), node.ty(x))));
    }
    let channels = &node.dim(weight, 1)? * &Dim::Known(groups);
    node.equate("channels of input and weight differ", &node.dim(x, 1)?, &channels)?;
    let window = window.clone();
    node.make(&core::CONVOLUTION, |op| {
        op.operands(&[x, weight])
            .maybe(bias)
            .attribute("strides", window.strides)
            .attribute("pads_low", window.low)
            .attribute("pads_high", window.high)
            .attribute("dilations", window.dilations)
            .attribute("groups", groups)
    })
}

fn conv(node: &mut NodeContext) -> Made {
    let (x, weight, bias) = (node.value(0)?, node.value(1)?, node.optional_value(2)?);
    let kernel = kernel_of(node, weight)?;
    let window = window(node, &spatial_of(node, x)?, &kernel)?;
    let groups = node.int("group", 1)?;
    let y = convolve(node, x, weight, bias, &window, groups)?;
    node.one(y)
}

fn conv_transpose(node: &mut NodeContext) -> Made {
    let (x, weight, bias) = (node.value(0)?, node.value(1)?, node.optional_value(2)?);
    let (kernel, spatial) = (kernel_of(node, weight)?, spatial_of(node, x)?);
    let rank = spatial.len();
    let mut window = window(node, &spatial, &kernel)?;
    let mut output = node.ints_attribute("output_padding")?.map_or(vec![0; rank], <[i64]>::to_vec);
    if output.len() != rank || output.iter().any(|pad| !(0..1 << 31).contains(pad)) {
        return Err(Fault::model(format!("attribute 'output_padding' = {output:?} must hold {rank} sizes")));
    }
    pads_of_output(node, &mut window, &spatial, &kernel, &mut output)?;
    let groups = node.int("group", 1)?;
    node.equate("channels of input and weight differ", &node.dim(x, 1)?, &node.dim(weight, 0)?)?;
    let y = node.make(&core::CONV_TRANSPOSE, |op| {
        op.operands(&[x, weight])
            .maybe(bias)
            .attribute("strides", window.strides)
            .attribute("pads_low", window.low)
            .attribute("pads_high", window.high)
            .attribute("dilations", window.dilations)
            .attribute("groups", groups)
            .attribute("output_pads", output)
    })?;
    node.one(y)
}

/// Padding of a transposed convolution whose output's size is asked for.
fn pads_of_output(
    node: &NodeContext,
    window: &mut Window,
    spatial: &[Dim],
    kernel: &[i64],
    output: &mut [i64],
) -> Outcome<()> {
    let auto = node.text("auto_pad", "NOTSET")?;
    let asked = node.ints_attribute("output_shape")?;
    if asked.is_none() && !auto.starts_with("SAME") {
        return Ok(());
    }
    for axis in 0..spatial.len() {
        let dim = small(&spatial[axis]).ok_or_else(|| {
            Fault::unsupported(
                format!("the output's size needs a known dimension, found {}", spatial[axis]),
                "bind it",
            )
        })?;
        let stride = window.strides[axis];
        let size = match asked {
            // Some exporters give batch and channels as well.
            Some(asked) => asked.iter().rev().nth(spatial.len() - 1 - axis).copied().unwrap_or(0),
            None => dim * stride,
        };
        let extent = (kernel[axis] - 1) * window.dilations[axis] + 1;
        let full = stride.checked_mul(dim - 1).and_then(|span| span.checked_add(output[axis] + extent));
        let surplus = full.map_or(0, |full| full.saturating_sub(size));
        // An output larger than the input reaches is filled up at its end.
        output[axis] = output[axis].saturating_sub(surplus.min(0));
        let total = surplus.max(0);
        let (less, more) = (total / 2, total - total / 2);
        let (low, high) = if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
        (window.low[axis], window.high[axis]) = (low, high);
    }
    Ok(())
}

fn pool(node: &mut NodeContext, function: &'static str) -> Made {
    let x = node.value(0)?;
    if node.wants(1) {
        let pooling = pooling_of(node, x)?;
        return super::pooling::max_pool_with_indices(node, pooling.x, pooling.kernel, &pooling.window);
    }
    let y = pooled(node, x, function)?;
    node.one(y)
}

/// A pooling by a node's attributes, `ceil_mode` made padding.
struct Pooling<'i> {
    x: ValueId,
    kernel: &'i [i64],
    window: Window,
    counts_padding: bool,
}

fn pooling_of<'i>(node: &mut NodeContext<'i, '_>, x: ValueId) -> Outcome<Pooling<'i>> {
    let mut x = x;
    let spatial = spatial_of(node, x)?;
    let kernel = node
        .ints_attribute("kernel_shape")?
        .ok_or_else(|| Fault::model("attribute 'kernel_shape' is missing"))?;
    let mut window = window(node, &spatial, kernel)?;
    let mut counts_padding = node.flag("count_include_pad", false)?;
    if node.flag("ceil_mode", false)? {
        let extra: Vec<i64> = (0..spatial.len())
            .map(|axis| ceil_padding(&spatial[axis], kernel[axis], &window, axis))
            .collect::<Outcome<_>>()?;
        if counts_padding && extra.iter().any(|extra| *extra > 0) {
            // The model's own padding counts as zeros, what ceil_mode adds does not: make the former part of the data.
            x = padded(node, x, &window)?;
            counts_padding = false;
            (window.low, window.high) = (vec![0; spatial.len()], vec![0; spatial.len()]);
        }
        window.high.iter_mut().zip(extra).for_each(|(high, extra)| *high += extra);
    }
    Ok(Pooling { x, kernel, window, counts_padding })
}

/// A value pooled by the node's attributes.
pub(super) fn pooled(node: &mut NodeContext, x: ValueId, function: &'static str) -> Outcome<ValueId> {
    let Pooling { x, kernel, window, counts_padding } = pooling_of(node, x)?;
    node.make(&core::POOL, |op| {
        op.operand(x)
            .attribute("function", function)
            .attribute("kernel", kernel)
            .attribute("strides", window.strides)
            .attribute("pads_low", window.low)
            .attribute("pads_high", window.high)
            .attribute("dilations", window.dilations)
            .attribute("count_include_pad", counts_padding)
    })
}

/// Zeros around the spatial axes.
fn padded(node: &mut NodeContext, x: ValueId, window: &Window) -> Outcome<ValueId> {
    if window.low.iter().chain(&window.high).all(|pad| *pad == 0) {
        return Ok(x);
    }
    let around =
        |pads: &[i64]| -> Vec<Dim> { [0, 0].iter().chain(pads).map(|pad| Dim::Known(*pad)).collect() };
    let (low, high) = (around(&window.low), around(&window.high));
    node.make(&core::PAD, |op| {
        op.operand(x).maybe(None).attribute("low", low).attribute("high", high).attribute("mode", "constant")
    })
}

/// Padding that `ceil_mode` adds, so that a last partial window counts; it must begin inside the input or its low padding.
pub(super) fn ceil_padding(dim: &Dim, kernel: i64, window: &Window, axis: usize) -> Outcome<i64> {
    let dim = small(dim).ok_or_else(|| {
        Fault::unsupported(
            format!("'ceil_mode' needs a known dimension, found {dim}"),
            "bind it with --bind NAME=VALUE",
        )
    })?;
    let (stride, low, high) = (window.strides[axis], window.low[axis], window.high[axis]);
    let extent = (kernel - 1) * window.dilations[axis] + 1;
    let span = (dim + low + high - extent).max(0);
    let mut count = (span + stride - 1) / stride + 1;
    if (count - 1) * stride >= dim + low {
        count -= 1;
    }
    Ok(((count - 1) * stride + extent - (dim + low + high)).max(0))
}

fn global_pool(node: &mut NodeContext, def: &'static OpDef) -> Made {
    let x = node.value(0)?;
    let axes: Vec<usize> = (2..node.rank(x)).collect();
    if axes.is_empty() {
        return node.one(x);
    }
    let y = node.reduce(def, x, &axes, true)?;
    node.one(y)
}
