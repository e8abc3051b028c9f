//! Scaling before rounding: input channels of weights are multiplied by a vector, and their input is divided by it where it is made, so that
//! what matters more is rounded finer. One mechanism with two ways of choosing the vector:
//!
//! - AWQ (Lin et al. 2023, arXiv:2306.00978, section 3.2): `s = rms(x)^a`, here with the root mean square for the mean magnitude;
//! - SmoothQuant (Xiao et al. 2022, arXiv:2211.10438, equation 4): `s = max|x|^a / max|w|^(1 - a)`, for activations that are rounded too.
//!
//! The exponent is searched: that with the least squared error of the outputs, by the input's mean squares. Whether the best vector
//! is taken at all is decided by the whole error after rounding (`round_input`).
//!
//! ```text
//! y = x w   =>   y = (x / s) (s w),   s w rounded, 1 / s in the norm or the product before
//! ```

use super::rounding::{shape_of, spec, weights_of};
use super::{ActivationScales, Request};
use rayon::prelude::*;
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;
use tilewright_ir::quantizer::{Hessian, Weights, squared_error};
use tilewright_passes::fold_channel_factors::absorbs;

/// How the vector is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Scaling {
    /// SmoothQuant where activations are rounded, else AWQ; each where it loses less than nothing does.
    #[default]
    Auto,
    /// Channels stay as they are.
    None,
    /// By the size of activations (arXiv:2306.00978).
    Awq,
    /// By the sizes of activations and weights (arXiv:2211.10438).
    Smoothquant,
}

/// What an input is divided by.
#[derive(Clone, Debug, PartialEq)]
pub struct Divisors {
    /// How they were chosen, such as `awq 0.5`.
    pub name: String,
    /// One per channel, all positive.
    pub values: Vec<f32>,
}

/// Exponents that are tried.
const EXPONENTS: [f32; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Divisors are at most this, and at least its inverse: a channel that is hardly ever used says nothing.
const DIVISOR_MAX: f32 = 64.0;
/// Steps of int8 on either side of zero.
const STEPS: f64 = 127.0;
/// A row's largest magnitude as a part of that of all rows, for rows with scales of their own: an estimate that only ranks exponents.
const ROW_SHARE: f64 = 0.5;

/// The largest of some magnitudes.
pub fn largest(magnitudes: &[f32]) -> f32 {
    magnitudes.iter().copied().fold(0.0, f32::max)
}

/// A weight's numbers with each input channel multiplied, as f32.
pub fn multiplied(weights: Weights, axis: usize, factors: &[f32]) -> Vec<u8> {
    let columns = weights.shape[1];
    let place = |index: usize| if axis == 0 { index / columns } else { index % columns };
    let values = weights.values();
    values.iter().enumerate().flat_map(|(at, value)| (value * factors[place(at)]).to_le_bytes()).collect()
}

/// The energy that rounding the input to int8 adds to a product's outputs, all rows together, by the size of a step.
pub fn input_noise(request: &Request, hessian: &Hessian, weights: Weights) -> f64 {
    let part = if request.activation_scales == ActivationScales::Static { 1.0 } else { ROW_SHARE };
    let step = f64::from(largest(hessian.largest())) * part / STEPS;
    let energy: f64 = weights.values().iter().map(|value| f64::from(*value).powi(2)).sum();
    step * step / 12.0 * hessian.rows() as f64 * energy
}

/// The best divisors for the input of some weights; `None` when they could not disappear in what makes the input, or are not asked for.
pub(super) fn choose(request: &Request, indices: &[usize], hessian: &Hessian) -> Option<Divisors> {
    let is_rounded = indices.iter().all(|at| request.rounds_input(*at));
    let is_smooth = match request.scaling {
        Scaling::None => return None,
        Scaling::Awq => false,
        Scaling::Smoothquant => true,
        Scaling::Auto => is_rounded,
    };
    if !can_move(request, indices) {
        return None;
    }
    let activations: Vec<f32> = if is_smooth {
        hessian.largest().to_vec()
    } else {
        hessian.diagonal().iter().map(|square| square.sqrt()).collect()
    };
    let largest_weights =
        if is_smooth { largest_weights(request, indices, hessian.size()) } else { Vec::new() };
    let candidates = EXPONENTS.iter().map(|exponent| {
        let raw = activations.iter().enumerate().map(|(at, x)| {
            let weight = largest_weights.get(at).map_or(1.0, |weight| weight.powf(1.0 - exponent));
            x.powf(*exponent) / weight
        });
        let name = if is_smooth { "smoothquant" } else { "awq" };
        Divisors { name: format!("{name} {exponent}"), values: normalized(raw.collect()) }
    });
    let candidates: Vec<Divisors> = candidates.collect();
    let losses: Vec<f64> =
        candidates.par_iter().map(|divisors| estimate(request, indices, hessian, &divisors.values)).collect();
    let best = (0..losses.len())
        .filter(|at| losses[*at].is_finite())
        .min_by(|a, b| losses[*a].total_cmp(&losses[*b]))?;
    candidates.into_iter().nth(best)
}

/// Whether the input belongs to these weights alone and what makes it takes factors.
fn can_move(request: &Request, indices: &[usize]) -> bool {
    let module = request.module;
    let mut products: Vec<OpId> = Vec::new();
    for at in indices {
        let decision = &request.decisions[*at];
        let own = decision.weight.products(module);
        // A table whose rows are looked up too would be scaled there as well.
        if decision.format.is_none() || own.len() != decision.weight.uses.len() {
            return false;
        }
        products.extend(own);
    }
    let Some(first) = products.first() else { return false };
    let x = module.op(*first).operands[0];
    products.iter().all(|op| module.op(*op).operands[0] == x) && absorbs(module, x, &products)
}

/// The largest magnitude of each input channel over all weights.
fn largest_weights(request: &Request, indices: &[usize], size: usize) -> Vec<f32> {
    let mut found = vec![0f32; size];
    for at in indices {
        let weight = &request.decisions[*at].weight;
        let shape = shape_of(request.module, weight);
        let values = weights_of(request.module, weight, &shape).values();
        for (index, value) in values.iter().enumerate() {
            let place = if weight.depth_axis == 0 { index / shape[1] } else { index % shape[1] };
            found[place] = found[place].max(value.abs());
        }
    }
    found
}

/// Divisors about 1: their geometric mean is. Channels that never carry anything stay.
fn normalized(raw: Vec<f32>) -> Vec<f32> {
    let known = |value: &f32| value.is_finite() && *value > 0.0;
    let logarithms: Vec<f64> =
        raw.iter().filter(|value| known(value)).map(|value| f64::from(*value).ln()).collect();
    let mean = (logarithms.iter().sum::<f64>() / logarithms.len().max(1) as f64).exp() as f32;
    let one =
        |value: f32| if known(&value) { (value / mean).clamp(1.0 / DIVISOR_MAX, DIVISOR_MAX) } else { 1.0 };
    raw.into_iter().map(one).collect()
}

/// The relative squared error of the outputs of all weights, channels of the input taken apart.
fn estimate(request: &Request, indices: &[usize], hessian: &Hessian, divisors: &[f32]) -> f64 {
    let divided = hessian.divided(divisors);
    let importance = divided.diagonal();
    let one = |at: &usize| {
        let decision = &request.decisions[*at];
        let (weight, format) = (&decision.weight, decision.format?);
        let shape = shape_of(request.module, weight);
        let bytes = multiplied(weights_of(request.module, weight, &shape), weight.depth_axis, divisors);
        let weights = Weights { element: Element::F32, shape: &shape, bytes: &bytes };
        let spec = spec(weight, format, "squared_error");
        let (signal, noise) = squared_error(weights, &spec, Some(&importance)).ok()?;
        let rows = divided.rows().max(1) as f64;
        let input =
            if request.rounds_input(*at) { input_noise(request, &divided, weights) / rows } else { 0.0 };
        Some((noise + input) / signal.max(f64::MIN_POSITIVE))
    };
    indices.iter().map(|at| one(at).unwrap_or(f64::INFINITY)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_lie_about_one() {
        let found = normalized(vec![1.0, 4.0, 0.0, f32::NAN, 16.0]);
        assert_eq!(found, [0.25, 1.0, 1.0, 1.0, 4.0]);
        assert_eq!(normalized(vec![1e-12, 1e12]), [1.0 / DIVISOR_MAX, DIVISOR_MAX]);
    }

    #[test]
    fn channels_are_multiplied_along_the_sum() {
        let bytes: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let weights = Weights { element: Element::F32, shape: &[2, 2], bytes: &bytes };
        let floats = |bytes: Vec<u8>| {
            bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>()
        };
        assert_eq!(floats(multiplied(weights, 0, &[10.0, 100.0])), [10.0, 20.0, 300.0, 400.0]);
        assert_eq!(floats(multiplied(weights, 1, &[10.0, 100.0])), [10.0, 200.0, 30.0, 400.0]);
    }
}
