//! From a computing command to its kernel: borrow the views by name, pass the constants on. One arm per command.

use super::Interpreter;
use crate::commands::Command;
use crate::kernels::{
    Fault, attention, convert, convolution, elementwise, index, matmul, normalize, parallel, reduce,
};

impl Interpreter<'_> {
    /// Executes a command that only reads and writes views.
    pub(super) fn compute(&mut self, command: &Command) -> Result<(), Fault> {
        use Command as C;
        /// Borrows a command's views by name: destinations; sources; optional sources.
        macro_rules! views {
            ($($write:ident)*; $($read:ident)*; $($optional:ident)*; $workspace:ident) => {
                #[allow(unused_mut, unused_variables, reason = "not every kernel needs every part")]
                let ([$(mut $write),*], [$($read),*], [$($optional),*], $workspace) =
                    self.views([$($write),*], [$($read),*], [$($optional),*])?;
            };
        }
        /// The same, then calls a kernel that works on rows of a destination, some on each thread; its arguments are references.
        macro_rules! rows {
            ($write:ident; $($read:ident)*; $($optional:ident)*; $cost:expr, $room:ident => $call:expr) => {{
                views!($write; $($read)*; $($optional)*; workspace);
                let sources = [$(Some(&$read),)* $($optional.as_ref()),*];
                parallel::rows(&mut $write, sources, workspace, $cost, |$write, sources, $room| {
                    let [$($read,)* $($optional),*] = sources;
                    $(let $read = $read.ok_or(Fault::Malformed("a source is missing"))?;)*
                    $call
                })
            }};
        }
        match command {
            C::Gather { destination, source, indices, axis, .. } => {
                views!(destination; source indices; ; w);
                index::gather(&mut destination, &source, &indices, usize::from(*axis))
            }
            C::GatherElements { destination, source, indices, axis, .. } => {
                views!(destination; source indices; ; w);
                index::gather_elements(&mut destination, &source, &indices, usize::from(*axis))
            }
            C::ScatterElements { destination, indices, updates, axis, reduction, .. } => {
                views!(destination; indices updates; ; w);
                index::scatter_elements(&mut destination, &indices, &updates, usize::from(*axis), *reduction)
            }
            C::GatherNd { destination, source, indices, batch_dims, .. } => {
                views!(destination; source indices; ; w);
                index::gather_nd(&mut destination, &source, &indices, usize::from(*batch_dims))
            }
            C::ScatterNd { destination, indices, updates, reduction, .. } => {
                views!(destination; indices updates; ; w);
                index::scatter_nd(&mut destination, &indices, &updates, *reduction)
            }
            C::Fill { destination, value, .. } => {
                views!(destination; ; ; w);
                index::fill(&mut destination, *value)
            }
            C::Iota { destination, axis, start, step, .. } => {
                let start = self.value(*start)?;
                views!(destination; ; ; w);
                index::iota(&mut destination, usize::from(*axis), start, *step)
            }
            C::Matmul {
                destination, a, b, scale, zero_point, codebook, indices, block, accumulate, ..
            } => {
                views!(destination; a b; scale zero_point codebook indices; w);
                let (scale, zero, block) = (scale.as_ref(), zero_point.as_ref(), *block as usize);
                let (codebook, indices) = (codebook.as_ref(), indices.as_ref());
                let b = matmul::Quantized { values: &b, scale, zero, block, codebook, indices };
                matmul::matmul(&mut destination, &a, b, *accumulate, w)
            }
            C::MatmulInteger { destination, a, b, a_zero, b_zero, accumulate, .. } => {
                views!(destination; a b; a_zero b_zero; w);
                matmul::matmul_integer(
                    &mut destination,
                    &a,
                    &b,
                    a_zero.as_ref(),
                    b_zero.as_ref(),
                    *accumulate,
                    w,
                )
            }
            &C::Convolution {
                ref destination,
                ref x,
                ref w,
                strides,
                dilations,
                pads_low,
                groups,
                x_zero,
                w_zero,
                accumulate,
                ..
            } => {
                views!(destination; x w; ; room);
                let geometry = convolution::Geometry { strides, dilations, pads_low };
                convolution::convolution(
                    &mut destination,
                    &convolution::Centered { values: &x, zero: x_zero },
                    &convolution::Centered { values: &w, zero: w_zero },
                    &geometry,
                    groups as usize,
                    accumulate,
                    room,
                )
            }
            &C::ConvTranspose {
                ref destination,
                ref x,
                ref w,
                strides,
                dilations,
                pads_low,
                groups,
                accumulate,
                ..
            } => {
                views!(destination; x w; ; room);
                let geometry = convolution::Geometry { strides, dilations, pads_low };
                convolution::conv_transpose(
                    &mut destination,
                    &x,
                    &w,
                    &geometry,
                    groups as usize,
                    accumulate,
                    room,
                )
            }
            &C::Pool {
                function,
                ref destination,
                ref x,
                kernel,
                strides,
                dilations,
                pads_low,
                pads_high,
                count_include_pad,
                ..
            } => {
                views!(destination; x; ; w);
                let geometry = convolution::Geometry { strides, dilations, pads_low };
                let pooling = convolution::Pooling { function, kernel, pads_high, count_include_pad };
                convolution::pool(&mut destination, &x, &geometry, &pooling)
            }
            C::Attention {
                accumulator,
                running_maximum,
                running_sum,
                q,
                k,
                v,
                mask,
                scale,
                softcap,
                causal_offset,
                window,
                group,
                k_scale,
                k_offset,
                v_scale,
                v_offset,
                block,
                part,
                keep,
                ahead,
                ..
            } => {
                let causal_offset = causal_offset.map(|id| self.value(id)).transpose()?;
                let step = attention::Step {
                    scale: *scale,
                    softcap: *softcap,
                    causal_offset,
                    window: *window,
                    group: *group,
                    block: *block,
                    part: *part,
                    keep: *keep,
                    ahead: *ahead,
                };
                views!(accumulator running_maximum running_sum; q k v; mask k_scale k_offset v_scale v_offset; room);
                let k_grouped = attention::Grouped { scale: k_scale.as_ref(), offset: k_offset.as_ref() };
                let v_grouped = attention::Grouped { scale: v_scale.as_ref(), offset: v_offset.as_ref() };
                let mask = mask.as_ref();
                let inputs = attention::Inputs { q: &q, k: &k, v: &v, mask, k_grouped, v_grouped };
                let (maximum, sum) = (&mut running_maximum, &mut running_sum);
                attention::attention(
                    attention::Running { accumulator: &mut accumulator, maximum, sum },
                    &inputs,
                    &step,
                    room,
                )
            }
            C::AttentionFinish { destination, accumulator, sum, .. } => {
                rows!(destination; accumulator sum; ; 4, room => {
                    attention::finish(destination, accumulator, sum, room)
                })
            }
            C::Unary { function, destination, x, alpha, beta, .. } => {
                views!(destination; x; ; w);
                parallel::elementwise(
                    &mut destination,
                    [&x],
                    &w.pool(),
                    elementwise::cost(*function),
                    |to, [x]| elementwise::unary(to, x, *function, *alpha, *beta),
                )
            }
            C::Binary { function, destination, a, b, .. } => {
                views!(destination; a b; ; w);
                parallel::elementwise(&mut destination, [&a, &b], &w.pool(), 4, |to, [a, b]| {
                    elementwise::binary(to, a, b, *function)
                })
            }
            C::Select { destination, condition, a, b, .. } => {
                rows!(destination; condition a b; ; 4, _room => elementwise::select(destination, condition, a, b))
            }
            C::Convert { destination, x, saturate, rounding, .. } => {
                views!(destination; x; ; w);
                parallel::elementwise(&mut destination, [&x], &w.pool(), 4, |to, [x]| {
                    convert::convert(to, x, *saturate, *rounding)
                })
            }
            C::Quantize { destination, x, scale, zero_point, .. } => {
                rows!(destination; x scale; zero_point; 8, _room => {
                    convert::quantize(destination, x, scale, zero_point)
                })
            }
            C::Dequantize { destination, x, scale, zero_point, .. } => {
                rows!(destination; x scale; zero_point; 8, _room => {
                    convert::dequantize(destination, x, scale, zero_point)
                })
            }
            C::QuantizeGroups { destination, scale, offset, x, .. } => {
                views!(destination scale offset; x; ; w);
                convert::quantize_groups(&mut destination, &mut scale, &mut offset, &x, w)
            }
            C::Reduce { function, destination, x, accumulate, .. } => {
                views!(destination; x; ; w);
                reduce::reduce(&mut destination, &x, *function, *accumulate)
            }
            C::Softmax { destination, x, log, .. } => {
                rows!(destination; x; ; 16, room => normalize::softmax(destination, x, *log, room))
            }
            C::Normalize { kind, destination, x, gain, bias, epsilon, .. } => {
                rows!(destination; x; gain bias; 8, room => {
                    normalize::normalize(destination, x, gain, bias, *kind, *epsilon, room)
                })
            }
            C::Rope { destination, x, cos, sin, interleaved, .. } => {
                rows!(destination; x cos sin; ; 8, room => {
                    normalize::rope(destination, x, cos, sin, *interleaved, room)
                })
            }
            C::Cumulative { function, destination, x, axis, exclusive, reverse, .. } => {
                views!(destination; x; ; w);
                reduce::cumulative(&mut destination, &x, *function, usize::from(*axis), *exclusive, *reverse)
            }
            C::ArgReduce { function, destination, x, axis, select_last, .. } => {
                views!(destination; x; ; w);
                reduce::arg_reduce(&mut destination, &x, *function, usize::from(*axis), *select_last)
            }
            C::TopK { values, indices, x, axis, largest, .. } => {
                views!(values indices; x; ; w);
                reduce::top_k(&mut values, &mut indices, &x, usize::from(*axis), *largest, w)
            }
            _ => Err(Fault::Malformed("a control command where a kernel was expected")),
        }
    }
}
