//! Convolutions of quantised activations and weights become convolutions of integers, and the quantisation of their results the step
//! behind them: what exporters write as floats between two pairs of `QuantizeLinear` and `DequantizeLinear`. Where the machine multiplies
//! the two element types; scales and zero points are constants, one for all activations, one per output channel of a weight. Maxima
//! and means over windows go with them: a maximum is taken of the integers, a mean is a convolution with ones.
//!
//! Sums are exact, and the scales of both sides and of the result meet in one number per channel: results differ from those of the
//! floats where these round a tie to the other side.
//!
//! ```text
//! %f = "core.convolution"(dequantize(%q, s, z), dequantize(%w, v), dequantize(%b, s * v))   %y = "core.quantize"(%f, t, u)
//!   =>   %i = "core.convolution_integer"(%q, %w, %b) {x_zero = z}   %y = "core.quantize"(%i, t / (s * v), u)
//! ```

use crate::machine::Machine;
use crate::pass::{Pass, PassContext, PassDef};
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::builder::Builder;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::edit;
use tilewright_ir::element::Element;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::op_def::normalize_axis;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "integer-convolutions",
    doc: "Makes convolutions of quantised activations and weights convolutions of integers, where the machine multiplies them.",
    options: &[],
    make: |_| Ok(Box::new(IntegerConvolutions)),
};

/// The pass.
pub struct IntegerConvolutions;

/// How far the scale of a bias may be from the product of the other two: they are rounded to f32 apart.
const SCALE_TOLERANCE: f64 = 1e-6;

impl Pass for IntegerConvolutions {
    fn run(&self, module: &mut Module, context: &mut PassContext) -> Result<(), Diagnostics> {
        for op in module.all_ops() {
            let done = match module.op(op).def {
                def if def == &core::POOL && is_maximum(module, op) => maximum(module, op),
                _ => match Sum::of(module, op, &context.machine) {
                    Some(sum) => sum.write(module, op),
                    None => Ok(()),
                },
            };
            done.map_err(|what| {
                let location = module.op(op).location.clone();
                vec![Diagnostic::error(location, format!("integer convolutions: {what}"))]
            })?;
        }
        edit::erase_dead(module, module.root());
        Ok(())
    }
}

/// A constant, seen through a change of shape.
fn constant(module: &Module, mut value: ValueId) -> Option<Tensor> {
    if let Some(reshape) = module.producer_of(value, &core::RESHAPE) {
        value = module.operand_at(reshape, 0)?;
    }
    let constant = module.producer_of(value, &core::CONSTANT)?;
    Tensor::from_elements(module.op(constant).attributes.get("value")?.as_elements()?).ok()
}

/// The number that a constant holds everywhere.
fn one_number(tensor: &Tensor) -> Option<f64> {
    let first = tensor.floats().first().copied()?;
    tensor.floats().iter().all(|number| *number == first).then_some(first)
}

/// A value that stands for `(stored - zero) * scale`.
struct Quantized {
    stored: ValueId,
    /// One number, or one per index of an axis.
    scales: Vec<f64>,
    zero: i64,
}

/// Scales (one, or one per index of `axis` where that is given) and zero point of a quantisation or dequantisation of `rank` dimensions.
fn parameters(module: &Module, op: OpId, rank: usize, axis: Option<usize>) -> Option<(Vec<f64>, i64)> {
    let int = |name: &str| module.op(op).attributes.get(name).and_then(Attribute::as_int);
    let scales = constant(module, module.operand_at(op, 1)?)?.floats();
    let zero = module.operand_at(op, 2).map(|zero| one_number(&constant(module, zero)?));
    let zero = match zero {
        None => 0.0,
        Some(zero) => zero?,
    };
    let is_along = || axis.is_some() && normalize_axis(int("axis").unwrap_or(1), rank) == axis;
    let fits = int("block").unwrap_or(0) == 0 && (scales.len() == 1 || is_along());
    let is_scale = |scale: &f64| scale.is_finite() && *scale > 0.0;
    (fits && scales.iter().all(is_scale)).then_some((scales, zero as i64))
}

impl Quantized {
    fn of(module: &Module, value: ValueId, axis: Option<usize>) -> Option<Quantized> {
        let op = module.producer_of(value, &core::DEQUANTIZE)?;
        let stored = module.operand_at(op, 0)?;
        let ty = module.tensor(stored)?;
        let (scales, zero) = parameters(module, op, ty.rank(), axis)?;
        ty.element.is_integer().then_some(Quantized { stored, scales, zero })
    }
}

/// Sums of products of integers that a convolution or a mean stands for.
struct Sum {
    x: Quantized,
    /// Stored weights and their zero point; ones when left out.
    weight: Option<(ValueId, i64)>,
    /// Attributes of the convolution.
    attributes: Attributes,
    /// i32, added to the sums.
    bias: Option<ValueId>,
    /// Added to the results.
    float_bias: Option<ValueId>,
    /// What a sum is multiplied by: one number, or one per channel.
    scales: Vec<f64>,
    /// Window of a mean.
    window: Vec<i64>,
}

impl Sum {
    fn of(module: &Module, op: OpId, machine: &Machine) -> Option<Sum> {
        let operation = module.op(op);
        let x = Quantized::of(module, *operation.operands.first()?, None)?;
        let ty = module.tensor(x.stored)?;
        // Results in another float type would be rounded to it first.
        let is_f32 = module.tensor(*operation.results.first()?)?.element == Element::F32;
        if !is_f32 || !(3..=5).contains(&ty.rank()) {
            return None;
        }
        let sum = if operation.def == &core::CONVOLUTION {
            Sum::of_convolution(module, op, x)?
        } else {
            Sum::of_mean(module, op, x)?
        };
        let weight = match sum.weight {
            Some((weight, _)) => module.tensor(weight)?.element,
            None => Element::I8,
        };
        let is_byte = |element: Element| matches!(element, Element::I8 | Element::U8);
        let multiplies =
            is_byte(ty.element) && is_byte(weight) && machine.product_veto(ty.element, weight).is_none();
        multiplies.then_some(sum)
    }

    fn of_convolution(module: &Module, op: OpId, x: Quantized) -> Option<Sum> {
        let w = Quantized::of(module, module.operand_at(op, 1)?, Some(0))?;
        let scales: Vec<f64> = w.scales.iter().map(|scale| scale * x.scales[0]).collect();
        let (mut bias, mut float_bias) = (None, module.operand_at(op, 2));
        if let Some(stored) = float_bias.and_then(|value| Quantized::of(module, value, Some(0))) {
            let count = stored.scales.len().max(scales.len());
            let at = |scales: &[f64], index: usize| scales[if scales.len() == 1 { 0 } else { index }];
            let is_close = |index| {
                let (found, expected) = (at(&stored.scales, index), at(&scales, index));
                (found - expected).abs() <= SCALE_TOLERANCE * expected
            };
            let is_i32 = module.tensor(stored.stored)?.element == Element::I32;
            if is_i32 && stored.zero == 0 && (0..count).all(is_close) {
                (bias, float_bias) = (Some(stored.stored), None);
            }
        }
        let attributes = module.op(op).attributes.clone();
        let weight = Some((w.stored, w.zero));
        Some(Sum { x, weight, attributes, bias, float_bias, scales, window: Vec::new() })
    }

    /// A mean over windows without padding, or over all spatial dimensions.
    fn of_mean(module: &Module, op: OpId, x: Quantized) -> Option<Sum> {
        let operation = module.op(op);
        let ty = module.tensor(x.stored)?;
        let channels = ty.shape[1].known()?;
        let ints = |name: &str| operation.attributes.get(name).and_then(Attribute::as_ints);
        let mut attributes = Attributes::from([("groups".into(), channels.into())]);
        let window = if operation.def == &core::POOL {
            let is_padded = |name: &str| ints(name).is_some_and(|pads| pads.iter().any(|pad| *pad != 0));
            if is_padded("pads_low") || is_padded("pads_high") {
                return None;
            }
            for name in ["strides", "dilations"] {
                attributes.extend(operation.attributes.get(name).map(|value| (name.into(), value.clone())));
            }
            ints("kernel")?.to_vec()
        } else if operation.def == &core::REDUCE_MEAN {
            let mut axes: Vec<usize> =
                ints("axes")?.iter().map(|axis| normalize_axis(*axis, ty.rank())).collect::<Option<_>>()?;
            axes.sort_unstable();
            let keeps = module.tensor(operation.results[0])?.rank() == ty.rank();
            // A mean of rows is a norm's, not a map's.
            if !keeps || ty.rank() < 4 || !axes.into_iter().eq(2..ty.rank()) {
                return None;
            }
            ty.shape[2..].iter().map(Dim::known).collect::<Option<_>>()?
        } else {
            return None;
        };
        let count = window.iter().product::<i64>();
        let scales = vec![x.scales[0] / count as f64];
        (count > 0).then_some(Sum {
            x,
            weight: None,
            attributes,
            bias: None,
            float_bias: None,
            scales,
            window,
        })
    }

    /// The sums in place of `op`: quantised at once where nothing but quantisations reads them.
    fn write(self, module: &mut Module, op: OpId) -> Result<(), String> {
        let old = module.result(op);
        let ty = module.tensor(old).ok_or("the result is no tensor")?.clone();
        let users: Vec<OpId> = module.value(old).users.to_vec();
        let quantized: Vec<(OpId, f64, i64)> = users
            .iter()
            .filter(|user| module.op(**user).def == &core::QUANTIZE && self.float_bias.is_none())
            .filter_map(|user| {
                let (scales, zero) = parameters(module, *user, ty.rank(), None)?;
                Some((*user, scales[0], zero))
            })
            .collect();
        let name = module.value(old).name.clone();
        let mut builder = Builder::before(module, op);
        let sum = self.sums(&mut builder, &ty)?;
        if quantized.len() < users.len() {
            let scale = per_channel(&mut builder, Element::F32, &self.scales);
            let real = builder.op(&core::DEQUANTIZE).operand(sum).operand(scale).maybe(None);
            let mut real = real.attribute("axis", 1i64).result(ty.clone()).value()?;
            if let Some(bias) = self.float_bias {
                let mut dims = vec![Dim::Known(1); ty.rank() - 1];
                dims[0] = ty.shape[1].clone();
                let bias = builder
                    .op(&core::RESHAPE)
                    .operand(bias)
                    .result(TensorType::new(ty.element, dims))
                    .value()?;
                real = builder.op(&core::ADD).operands(&[real, bias]).value()?;
            }
            module.value_mut(real).name = name;
            module.replace_all_uses(old, real);
        }
        for (user, scale, zero) in quantized {
            let result = module.result(user);
            let ty = module.tensor(result).ok_or("the result is no tensor")?.clone();
            let name = module.value(result).name.clone();
            let mut builder = Builder::before(module, user);
            let factors: Vec<f64> = self.scales.iter().map(|factor| scale / factor).collect();
            let factor = per_channel(&mut builder, Element::F32, &factors);
            let zeros = per_channel(&mut builder, ty.element, &vec![zero as f64; factors.len()]);
            let q = builder.op(&core::QUANTIZE).operands(&[sum, factor, zeros]).attribute("axis", 1i64);
            let q = q.result(ty).value()?;
            module.value_mut(q).name = name;
            edit::replace_op(module, user, &[q]);
        }
        if module.value(old).users.is_empty() {
            module.erase(op);
        }
        Ok(())
    }

    fn sums(&self, builder: &mut Builder, ty: &TensorType) -> Result<ValueId, String> {
        let (weight, w_zero) = match self.weight {
            Some(weight) => weight,
            None => {
                let channels = ty.shape[1].known().ok_or("the number of channels is not known")?;
                let dims: Vec<usize> =
                    [channels, 1].iter().chain(&self.window).map(|dim| (*dim).max(0) as usize).collect();
                (builder.constant(&Tensor::splat(Element::I8, &dims, 1.0)), 0)
            }
        };
        let sum = builder.op(&core::CONVOLUTION_INTEGER).operands(&[self.x.stored, weight]).maybe(self.bias);
        let sum = sum.attributes(self.attributes.clone());
        sum.attribute("x_zero", self.x.zero).attribute("w_zero", w_zero).value()
    }
}

/// A scalar, or a vector of one number per channel.
fn per_channel(builder: &mut Builder, element: Element, numbers: &[f64]) -> ValueId {
    let shape: &[usize] = if numbers.len() == 1 { &[] } else { &[numbers.len()] };
    builder.constant(&Tensor::from_floats(element, shape, numbers.to_vec()))
}

fn is_maximum(module: &Module, op: OpId) -> bool {
    module.op(op).attributes.get("function").and_then(Attribute::as_str) == Some("max")
}

/// The maximum of integers, then as real numbers: scales are positive.
fn maximum(module: &mut Module, op: OpId) -> Result<(), String> {
    let x = module.op(op).operands[0];
    let Some(quantized) = Quantized::of(module, x, None) else { return Ok(()) };
    let (Some(dequantize), Some(result)) = (module.producer(x), module.tensor(module.result(op)).cloned())
    else {
        return Ok(());
    };
    let parameters = module.op(dequantize).clone();
    let element = module.tensor(quantized.stored).ok_or("it is no tensor")?.element;
    let name = module.value(module.result(op)).name.clone();
    let attributes = module.op(op).attributes.clone();
    let mut builder = Builder::before(module, op);
    let pooled = builder.op(&core::POOL).operand(quantized.stored).attributes(attributes);
    let pooled = pooled.result(result.with_element(element)).value()?;
    let real = builder.op(&core::DEQUANTIZE).operand(pooled).operands(&parameters.operands[1..2]);
    let real = real.maybe(parameters.operands.get(2).copied());
    let real = real.attributes(parameters.attributes).result(result).value()?;
    module.value_mut(real).name = name;
    edit::replace_op(module, op, &[real]);
    Ok(())
}
