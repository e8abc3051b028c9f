//! Convolution, transposed convolution and pooling over any number of spatial dimensions. Floats accumulate in f64.
//!
//! ```text
//! %y = "core.convolution"(%x, %w) <{operandSegmentSizes = array<i32: 1, 1, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>}>
//!   : (tensor<1x3x8x8xf32>, tensor<16x3x3x3xf32>) -> tensor<1x16x8x8xf32>
//! ```

use super::matmul::product;
use super::support::{differ, expect_element, expect_rank, expect_shape, floats, from_integers, one};
use crate::dim::{Dim, Function};
use crate::element::Element;
use crate::op_def::{
    AttributeDef, AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute,
    optional, optional_attribute, value,
};
use crate::tensor::{Tensor, coordinates, strides_of};
use crate::types::{TensorType, Type};

/// Convolution.
pub static CONVOLUTION: OpDef = OpDef {
    name: "core.convolution",
    doc: "result[b, o, p..] = bias[o] + sum over c, q.. of x[b, c, p * `strides` + q * `dilations` - `pads_low`] * w[o, c, q..], 0 outside x, \
          which is padded by `pads_low` and `pads_high`. x [n, c, spatial..], w [o, c / `groups`, kernel..], bias [o]; group i of the o \
          reads group i of the c. Left out: strides, dilations and groups 1, pads 0. ONNX Conv.",
    operands: &[
        value("x", TypeRule::FloatTensor),
        value("w", TypeRule::FloatTensor),
        optional("bias", TypeRule::FloatTensor),
    ],
    results: &[value("result", TypeRule::FloatTensor)],
    attributes: &[
        optional_attribute("strides", AttributeRule::Ints),
        optional_attribute("pads_low", AttributeRule::Ints),
        optional_attribute("pads_high", AttributeRule::Ints),
        optional_attribute("dilations", AttributeRule::Ints),
        optional_attribute("groups", AttributeRule::Int),
    ],
    axes: "n c s*, o i w*, o -> n o s*; reduce i w*; window s* w*; spread c of i",
    traits: Traits::PURE,
    infer: Infer::With(infer_convolution),
    evaluate: Evaluate::With(evaluate_convolution),
    ..OpDef::DEFAULT
};

/// Convolution of integers.
pub static CONVOLUTION_INTEGER: OpDef = OpDef {
    name: "core.convolution_integer",
    doc: "result[b, o, p..] = bias[o] + sum over c, q.. of (x[b, c, p * `strides` + q * `dilations` - `pads_low`] - `x_zero`) * (w[o, c, q..] - \
          `w_zero`) in i32, wrapping; outside x, which is padded by `pads_low` and `pads_high`, lies `x_zero`. x [n, c, spatial..] \
          and w [o, c / `groups`, kernel..] of at most 8 bits, bias [o] in i32. Left out: as in core.convolution, x_zero and w_zero 0. \
          ONNX ConvInteger.",
    operands: &[
        value("x", TypeRule::IntegerTensor),
        value("w", TypeRule::IntegerTensor),
        optional("bias", TypeRule::IntegerTensor),
    ],
    results: &[value("result", TypeRule::IntegerTensor)],
    attributes: &[
        optional_attribute("strides", AttributeRule::Ints),
        optional_attribute("pads_low", AttributeRule::Ints),
        optional_attribute("pads_high", AttributeRule::Ints),
        optional_attribute("dilations", AttributeRule::Ints),
        optional_attribute("groups", AttributeRule::Int),
        optional_attribute("x_zero", AttributeRule::Int),
        optional_attribute("w_zero", AttributeRule::Int),
    ],
    axes: CONVOLUTION.axes,
    traits: Traits::PURE,
    infer: Infer::With(infer_convolution_integer),
    evaluate: Evaluate::With(evaluate_convolution_integer),
    ..OpDef::DEFAULT
};

/// Transposed convolution.
pub static CONV_TRANSPOSE: OpDef = OpDef {
    name: "core.conv_transpose",
    doc: "The gradient of a convolution: every x[b, c, p..] adds x * w[c, o, q..] to result[b, o, p * `strides` + q * `dilations` - \
          `pads_low`], then bias[o]. x [n, c, spatial..], w [c, o / `groups`, kernel..]; result dim = (dim - 1) * stride + (kernel - 1) * \
          dilation + 1 + `output_pads` - pads_low - `pads_high`. Left out: strides, dilations and groups 1, pads 0. ONNX ConvTranspose.",
    operands: &[
        value("x", TypeRule::FloatTensor),
        value("w", TypeRule::FloatTensor),
        optional("bias", TypeRule::FloatTensor),
    ],
    results: &[value("result", TypeRule::FloatTensor)],
    attributes: &[
        optional_attribute("strides", AttributeRule::Ints),
        optional_attribute("pads_low", AttributeRule::Ints),
        optional_attribute("pads_high", AttributeRule::Ints),
        optional_attribute("dilations", AttributeRule::Ints),
        optional_attribute("groups", AttributeRule::Int),
        optional_attribute("output_pads", AttributeRule::Ints),
    ],
    axes: "n c s*, c i w*, o -> n o s*; reduce c w*; window s* w*; spread o of i",
    traits: Traits::PURE,
    infer: Infer::With(infer_conv_transpose),
    evaluate: Evaluate::With(evaluate_conv_transpose),
    ..OpDef::DEFAULT
};

const POOL_ATTRIBUTES: &[AttributeDef] = &[
    attribute("function", AttributeRule::OneOf(&["max", "average"])),
    attribute("kernel", AttributeRule::Ints),
    optional_attribute("strides", AttributeRule::Ints),
    optional_attribute("pads_low", AttributeRule::Ints),
    optional_attribute("pads_high", AttributeRule::Ints),
    optional_attribute("dilations", AttributeRule::Ints),
    optional_attribute("count_include_pad", AttributeRule::Bool),
];

/// Pooling.
pub static POOL: OpDef = OpDef {
    name: "core.pool",
    doc: "result[b, c, p..] = `function` (max, average) of x[b, c, p * `strides` + q * `dilations` - `pads_low`] over q.. in `kernel`; padding \
          by `pads_low` and `pads_high` takes no part, but counts as zeros for average when `count_include_pad`. x [n, c, spatial..]. Left \
          out: strides and dilations 1, pads 0, count_include_pad false. ONNX MaxPool, AveragePool.",
    operands: &[value("x", TypeRule::NumberTensor)],
    results: &[value("result", TypeRule::NumberTensor)],
    attributes: POOL_ATTRIBUTES,
    axes: "n c s* -> n c s*; window s*",
    traits: Traits::PURE,
    infer: Infer::With(infer_pool),
    evaluate: Evaluate::With(evaluate_pool),
    ..OpDef::DEFAULT
};

/// Spatial parameters with their defaults filled in, one entry per spatial dimension.
pub(super) struct Window {
    pub(super) strides: Vec<i64>,
    pub(super) pads_low: Vec<i64>,
    pub(super) pads_high: Vec<i64>,
    pub(super) dilations: Vec<i64>,
}

/// Reads and checks the spatial attributes of an op over `spatial` dimensions.
pub(super) fn window(signature: &Signature, spatial: usize) -> Result<Window, String> {
    let list = |name: &str, default: i64, least: i64| -> Result<Vec<i64>, String> {
        let given = signature.ints(name);
        if given.is_empty() {
            return Ok(vec![default; spatial]);
        }
        if given.len() != spatial || given.iter().any(|entry| *entry < least) {
            return Err(format!(
                "attribute '{name}' = {given:?} must hold {spatial} numbers of at least {least}"
            ));
        }
        Ok(given.to_vec())
    };
    Ok(Window {
        strides: list("strides", 1, 1)?,
        pads_low: list("pads_low", 0, i64::MIN)?,
        pads_high: list("pads_high", 0, i64::MIN)?,
        dilations: list("dilations", 1, 1)?,
    })
}

impl Window {
    /// Result dimension of a sliding window along spatial dimension `at`.
    fn slide(&self, at: usize, dim: &Dim, kernel: &Dim) -> Result<Dim, String> {
        let one = Dim::Known(1);
        let reach = &Dim::Known(self.dilations[at]) * &(kernel - &one);
        let padded = dim + &Dim::Known(self.pads_low[at].saturating_add(self.pads_high[at]));
        let span = &(&padded - &reach) - &one;
        if matches!(span, Dim::Known(value) if value < 0) {
            return Err(format!(
                "a window of {kernel} does not fit spatial dimension {at} of {padded} with padding"
            ));
        }
        Ok(&Dim::call(Function::FloorDiv, &span, &Dim::Known(self.strides[at])) + &one)
    }
}

/// Checks what both convolutions share; gives x, w and the number of groups. `input_axis` is w's dimension of input channels.
fn convolution_operands<'a>(
    signature: &Signature<'a>,
) -> Result<(&'a TensorType, &'a TensorType, i64), String> {
    let (x, w) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    if x.rank() < 3 {
        return Err(format!("operand 'x' must have rank 3 or more, found {} ({x})", x.rank()));
    }
    expect_rank("w", w, x.rank())?;
    let groups = signature.int("groups", 1);
    if groups < 1 {
        return Err(format!("attribute 'groups' must be at least 1, found {groups}"));
    }
    Ok((x, w, groups))
}

fn infer_convolution(signature: &Signature) -> Result<Vec<Type>, String> {
    let (x, w, shape) = convolution_shape(signature)?;
    expect_element("w", x.element, w)?;
    one(x.element, shape)
}

fn infer_convolution_integer(signature: &Signature) -> Result<Vec<Type>, String> {
    let (x, w, shape) = convolution_shape(signature)?;
    for (name, zero, of) in [("x", "x_zero", x), ("w", "w_zero", w)] {
        let range = of.element.integer_range().filter(|_| of.element.bits() <= 8);
        let (low, high) = range
            .ok_or_else(|| format!("operand '{name}' must hold integers of at most 8 bits, found {of}"))?;
        let value = signature.int(zero, 0);
        if !(low..=high).contains(&value) {
            return Err(format!("attribute '{zero}' = {value} is no {} ({low} to {high})", of.element));
        }
    }
    if let Some(bias) = signature.tensor(2) {
        expect_element("bias", Element::I32, bias)?;
    }
    one(Element::I32, shape)
}

/// x, w and the result's shape.
fn convolution_shape<'a>(
    signature: &Signature<'a>,
) -> Result<(&'a TensorType, &'a TensorType, Vec<Dim>), String> {
    let (x, w, groups) = convolution_operands(signature)?;
    let channels = &w.shape[1] * &Dim::Known(groups);
    if differ(&x.shape[1], &channels) {
        return Err(format!("channels differ: x has {} and w with its groups {channels}", x.shape[1]));
    }
    if matches!(w.shape[0], Dim::Known(outputs) if outputs % groups != 0) {
        return Err(format!("{} output channels are no multiple of {groups} groups", w.shape[0]));
    }
    if let Some(bias) = signature.tensor(2) {
        expect_shape("bias", &w.shape[..1], &bias.shape)?;
    }
    let window = window(signature, x.rank() - 2)?;
    let mut shape = vec![x.shape[0].clone(), w.shape[0].clone()];
    for at in 0..x.rank() - 2 {
        shape.push(window.slide(at, &x.shape[at + 2], &w.shape[at + 2])?);
    }
    Ok((x, w, shape))
}

fn infer_conv_transpose(signature: &Signature) -> Result<Vec<Type>, String> {
    let (x, w, groups) = convolution_operands(signature)?;
    expect_element("w", x.element, w)?;
    if differ(&x.shape[1], &w.shape[0]) {
        return Err(format!("channels differ: x has {} and w {}", x.shape[1], w.shape[0]));
    }
    let outputs = &w.shape[1] * &Dim::Known(groups);
    if let Some(bias) = signature.tensor(2) {
        expect_shape("bias", std::slice::from_ref(&outputs), &bias.shape)?;
    }
    let spatial = x.rank() - 2;
    let window = window(signature, spatial)?;
    let output_pads = signature.ints("output_pads");
    if !output_pads.is_empty() && output_pads.len() != spatial {
        return Err(format!("attribute 'output_pads' has {} entries, expected {spatial}", output_pads.len()));
    }
    let mut shape = vec![x.shape[0].clone(), outputs];
    for at in 0..spatial {
        let one = Dim::Known(1);
        let last = &(&x.shape[at + 2] - &one) * &Dim::Known(window.strides[at]);
        let reach = &(&w.shape[at + 2] - &one) * &Dim::Known(window.dilations[at]);
        let extra =
            output_pads.get(at).copied().unwrap_or(0) + 1 - window.pads_low[at] - window.pads_high[at];
        shape.push(&(&last + &reach) + &Dim::Known(extra));
    }
    one(x.element, shape)
}

fn infer_pool(signature: &Signature) -> Result<Vec<Type>, String> {
    let x = signature.require_tensor(0)?;
    if x.rank() < 3 {
        return Err(format!("operand 'x' must have rank 3 or more, found {} ({x})", x.rank()));
    }
    let (spatial, kernel) = (x.rank() - 2, signature.ints("kernel"));
    if kernel.len() != spatial || kernel.iter().any(|entry| *entry < 1) {
        return Err(format!("attribute 'kernel' = {kernel:?} must hold {spatial} numbers of at least 1"));
    }
    let window = window(signature, spatial)?;
    let mut shape = x.shape[..2].to_vec();
    for (at, width) in kernel.iter().enumerate() {
        shape.push(window.slide(at, &x.shape[at + 2], &Dim::Known(*width))?);
    }
    one(x.element, shape)
}

/// Pairs of (place in the wide side, place in the narrow side) for every kernel element: wide = narrow * stride + kernel *
/// dilation - pad. The wide side is a convolution's input and a transposed convolution's result.
fn taps(window: &Window, wide: &[usize], kernel: &[usize], narrow: &[usize]) -> Vec<Vec<(usize, usize)>> {
    let positions: usize = narrow.iter().product();
    let strides = strides_of(wide);
    let tap = |element: usize| {
        let offset = coordinates(element, kernel);
        let mut pairs = Vec::with_capacity(positions);
        for position in 0..positions {
            let at = coordinates(position, narrow);
            let place = (0..wide.len()).try_fold(0usize, |place, axis| {
                let coordinate = at[axis] as i64 * window.strides[axis]
                    + offset[axis] as i64 * window.dilations[axis]
                    - window.pads_low[axis];
                let inside = (0..wide[axis] as i64).contains(&coordinate);
                inside.then(|| place + coordinate as usize * strides[axis])
            });
            pairs.extend(place.map(|place| (place, position)));
        }
        pairs
    };
    (0..kernel.iter().product()).map(tap).collect()
}

fn add_bias(values: &mut [f64], bias: Option<&Tensor>, positions: usize) {
    if let Some(bias) = bias.map(floats) {
        for (channel, row) in values.chunks_exact_mut(positions.max(1)).enumerate() {
            row.iter_mut().for_each(|value| *value += bias[channel % bias.len()]);
        }
    }
}

fn evaluate_convolution(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let sums = convolution_sums(call, floats(call.operand(0)), floats(call.operand(1)))?;
    Ok(vec![Tensor::from_floats(call.operand(0).element, &call.result_shape(0)?, sums)])
}

/// Products of 8 bits: every sum of fewer than 2^37 of them is exact in f64.
fn evaluate_convolution_integer(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let centered = |slot: usize, zero: &str| {
        let zero = call.signature.int(zero, 0) as f64;
        floats(call.operand(slot)).into_iter().map(|value| value - zero).collect()
    };
    let sums = convolution_sums(call, centered(0, "x_zero"), centered(1, "w_zero"))?;
    let wrapped = sums.into_iter().map(|sum| i64::from(sum as i64 as i32)).collect();
    Ok(vec![from_integers(Element::I32, &call.result_shape(0)?, wrapped)])
}

/// Sums with bias of a convolution of these numbers, in the shapes of the call's operands.
fn convolution_sums(call: &Invocation, input: Vec<f64>, weight: Vec<f64>) -> Result<Vec<f64>, String> {
    let (x, w, shape) = (call.operand(0), call.operand(1), call.result_shape(0)?);
    let window = window(&call.signature, x.rank() - 2)?;
    let groups = call.signature.int("groups", 1).max(1) as usize;
    let (channels, outputs) = (x.shape[1] / groups, w.shape[0] / groups);
    if channels != w.shape[1] {
        return Err(format!("channels differ: x has {} in {groups} groups and w {}", x.shape[1], w.shape[1]));
    }
    let taps = taps(&window, &x.shape[2..], &w.shape[2..], &shape[2..]);
    let (area, positions) = (x.shape[2..].iter().product::<usize>(), shape[2..].iter().product::<usize>());
    let depth = channels * taps.len();
    let mut out = vec![0.0; shape.iter().product()];
    // Every group is a product of w [o, c * kernel] with the columns of x [c * kernel, positions].
    for (b, group) in (0..x.shape[0]).flat_map(|b| (0..groups).map(move |group| (b, group))) {
        let mut columns = vec![0.0; depth * positions];
        for (row, column) in columns.chunks_exact_mut(positions.max(1)).enumerate() {
            let start = (b * x.shape[1] + group * channels + row / taps.len()) * area;
            taps[row % taps.len()].iter().for_each(|(from, to)| column[*to] = input[start + from]);
        }
        let left = &weight[group * outputs * depth..(group + 1) * outputs * depth];
        let start = (b * shape[1] + group * outputs) * positions;
        let target = &mut out[start..start + outputs * positions];
        product(left, &columns, (outputs, depth, positions), target, |sum, a, b| sum + a * b);
    }
    add_bias(&mut out, call.get(2), positions);
    Ok(out)
}

fn evaluate_conv_transpose(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, w, shape) = (call.operand(0), call.operand(1), call.result_shape(0)?);
    let window = window(&call.signature, x.rank() - 2)?;
    let groups = call.signature.int("groups", 1).max(1) as usize;
    let (channels, outputs) = (x.shape[1] / groups, w.shape[1]);
    let taps = taps(&window, &shape[2..], &w.shape[2..], &x.shape[2..]);
    let (area, positions) = (x.shape[2..].iter().product::<usize>(), shape[2..].iter().product::<usize>());
    let (input, weight) = (floats(x), floats(w));
    let mut out = vec![0.0; shape.iter().product()];
    for (b, c) in (0..x.shape[0]).flat_map(|b| (0..x.shape[1]).map(move |c| (b, c))) {
        let from = &input[(b * x.shape[1] + c) * area..(b * x.shape[1] + c + 1) * area];
        for o in 0..outputs {
            let channel = b * shape[1] + c / channels * outputs + o;
            let to = &mut out[channel * positions..(channel + 1) * positions];
            for (element, pairs) in taps.iter().enumerate() {
                let factor = weight[(c * outputs + o) * taps.len() + element];
                pairs.iter().for_each(|(wide, narrow)| to[*wide] += factor * from[*narrow]);
            }
        }
    }
    add_bias(&mut out, call.get(2), positions);
    Ok(vec![Tensor::from_floats(x.element, &shape, out)])
}

fn evaluate_pool(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, shape) = (call.operand(0), call.result_shape(0)?);
    let window = window(&call.signature, x.rank() - 2)?;
    let kernel: Vec<usize> = call.signature.ints("kernel").iter().map(|entry| *entry as usize).collect();
    let taps = taps(&window, &x.shape[2..], &kernel, &shape[2..]);
    let (area, positions) = (x.shape[2..].iter().product::<usize>(), shape[2..].iter().product::<usize>());
    let largest = call.signature.str("function", "max") == "max";
    let mut counts = vec![0usize; positions];
    taps.iter().flatten().for_each(|(_, to)| counts[*to] += 1);
    if call.signature.bool("count_include_pad", false) {
        counts.fill(taps.len());
    }
    let input = floats(x);
    let mut out = vec![if largest { f64::NEG_INFINITY } else { 0.0 }; shape.iter().product()];
    for plane in 0..x.shape[0] * x.shape[1] {
        let to = &mut out[plane * positions..(plane + 1) * positions];
        for (from, at) in taps.iter().flatten() {
            let value = input[plane * area + from];
            match largest {
                true if to[*at] >= value || to[*at].is_nan() => {}
                true => to[*at] = value,
                false => to[*at] += value,
            }
        }
        if !largest {
            to.iter_mut().zip(&counts).for_each(|(value, count)| *value /= *count as f64);
        }
    }
    Ok(vec![Tensor::from_floats(x.element, &shape, out)])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, call, f32s, ramp};
    use super::*;

    #[test]
    fn convolution_slides_and_pads() {
        let (x, w) = (ramp(&[1, 1, 4]), f32s(&[1, 1, 2], &[1.0, 10.0]));
        assert_near(&call(&CONVOLUTION).on(&[&x, &w]), &[10.0, 21.0, 32.0]);
        let padded = call(&CONVOLUTION).with("pads_low", vec![1i64]).with("strides", vec![2i64]);
        assert_near(&padded.on(&[&x, &w]), &[0.0, 21.0]);
        let spread = call(&CONVOLUTION).with("dilations", vec![2i64]);
        assert_near(&spread.on(&[&x, &w, &f32s(&[1], &[100.0])]), &[120.0, 131.0]);
    }

    #[test]
    fn groups_read_their_own_channels() {
        let (x, w) = (ramp(&[1, 2, 2]), f32s(&[2, 1, 1], &[10.0, 100.0]));
        assert_near(&call(&CONVOLUTION).with("groups", 2i64).on(&[&x, &w]), &[0.0, 10.0, 200.0, 300.0]);
        let error = call(&CONVOLUTION).infer(&["f32: 1, 3, 8", "f32: 4, 2, 3"]).unwrap_err();
        assert_eq!(error, "channels differ: x has 3 and w with its groups 2");
    }

    #[test]
    fn integers_count_from_their_zero_points() {
        let x = Tensor::from_ints(Element::U8, &[1, 1, 3], vec![10, 12, 255]);
        let w = Tensor::from_ints(Element::I8, &[1, 1, 2], vec![-128, 5]);
        let bias = Tensor::from_ints(Element::I32, &[1], vec![1000]);
        let padded = call(&CONVOLUTION_INTEGER).with("pads_low", vec![1i64]);
        // Outside lies a 10: padding adds nothing.
        let found = padded.with("x_zero", 10i64).with("w_zero", 4i64).on(&[&x, &w, &bias]);
        assert_eq!((found.element, found.ints()), (Element::I32, vec![1000, 1002, 1000 - 2 * 132 + 245]));
        let error = call(&CONVOLUTION_INTEGER).with("x_zero", 300i64).infer(&["ui8: 1, 1, 3", "i8: 1, 1, 2"]);
        assert_eq!(error.unwrap_err(), "attribute 'x_zero' = 300 is no ui8 (0 to 255)");
    }

    #[test]
    fn two_dimensions_and_symbols() {
        let (x, w) = (ramp(&[1, 1, 3, 3]), f32s(&[1, 1, 2, 2], &[1.0, 1.0, 1.0, 1.0]));
        assert_near(&call(&CONVOLUTION).on(&[&x, &w]), &[8.0, 12.0, 20.0, 24.0]);
        let halved = call(&CONVOLUTION).with("strides", vec![2i64]).with("pads_low", vec![1i64]);
        let halved = halved.with("pads_high", vec![1i64]);
        let found = halved.infer(&["f32: n, 3, length", "f32: 8, 3, 3"]).unwrap();
        assert_eq!(found, "tensor<?x8x?xf32, [\"n\", \"floordiv(length - 1, 2) + 1\"]>");
        let error = call(&CONVOLUTION).infer(&["f32: 1, 1, 2", "f32: 1, 1, 3"]).unwrap_err();
        assert_eq!(error, "a window of 3 does not fit spatial dimension 0 of 2 with padding");
    }

    #[test]
    fn transposed_convolution_spreads() {
        let (x, w) = (f32s(&[1, 1, 2], &[1.0, 2.0]), f32s(&[1, 1, 3], &[1.0, 10.0, 100.0]));
        let spread = call(&CONV_TRANSPOSE).with("strides", vec![2i64]);
        assert_near(&spread.on(&[&x, &w]), &[1.0, 10.0, 102.0, 20.0, 200.0]);
        let cut = call(&CONV_TRANSPOSE).with("strides", vec![2i64]).with("pads_low", vec![1i64]);
        let cut = cut.with("output_pads", vec![1i64]);
        assert_near(&cut.on(&[&x, &w]), &[10.0, 102.0, 20.0, 200.0, 0.0]);
    }

    #[test]
    fn pools_ignore_padding_unless_asked() {
        let x = f32s(&[1, 1, 3], &[-3.0, -5.0, f64::NAN]);
        let pool = |function: &str, count: bool| {
            let call = call(&POOL).with("function", function).with("kernel", vec![2i64]);
            call.with("pads_low", vec![1i64]).with("count_include_pad", count)
        };
        assert_near(&pool("max", false).on(&[&x]), &[-3.0, -3.0, f64::NAN]);
        assert_near(&pool("average", false).on(&[&x]), &[-3.0, -4.0, f64::NAN]);
        assert_near(&pool("average", true).on(&[&x]), &[-1.5, -4.0, f64::NAN]);
    }
}
