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
                views!(destination; accumulator sum; ; w);
                attention::finish(&mut destination, &accumulator, &sum, w)
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
                views!(destination; condition a b; ; w);
                elementwise::select(&mut destination, &condition, &a, &b)
            }
            C::Convert { destination, x, saturate, rounding, .. } => {
                views!(destination; x; ; w);
                parallel::elementwise(&mut destination, [&x], &w.pool(), 4, |to, [x]| {
                    convert::convert(to, x, *saturate, *rounding)
                })
            }
            C::Quantize { destination, x, scale, zero_point, .. } => {
                views!(destination; x scale; zero_point; w);
                convert::quantize(&mut destination, &x, &scale, zero_point.as_ref())
            }
            C::Dequantize { destination, x, scale, zero_point, .. } => {
                views!(destination; x scale; zero_point; w);
                convert::dequantize(&mut destination, &x, &scale, zero_point.as_ref())
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
                views!(destination; x; ; w);
                normalize::softmax(&mut destination, &x, *log, w)
            }
            C::Normalize { kind, destination, x, gain, bias, epsilon, .. } => {
                views!(destination; x; gain bias; w);
                normalize::normalize(&mut destination, &x, gain.as_ref(), bias.as_ref(), *kind, *epsilon, w)
            }
            C::Rope { destination, x, cos, sin, interleaved, .. } => {
                views!(destination; x cos sin; ; w);
                normalize::rope(&mut destination, &x, &cos, &sin, *interleaved, w)
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
