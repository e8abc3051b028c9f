//! Rounds one weight by the knowledge of its input, and tells what that loses.
//!
//! ```text
//! w, H, int4_g32   ->   storage, scales; SQNR of the weights; energy of the outputs' change over that of the outputs
//! ```

use super::scaling::{self, Divisors};
use super::{CANDIDATE_FORMATS, Candidate, Method, Request, Row};
use rayon::prelude::*;
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;
use tilewright_ir::quantizer::{
    Hessian, InverseFactor, Quantized, Sharing, Spec, Weights, gptq, quantize, restore,
};
use tilewright_ir::weight_format::{Granularity, WeightFormat};
use tilewright_passes::quantize_weights::roles::Weight;

/// The specification of a format for a weight.
pub fn spec(weight: &Weight, format: WeightFormat, method: &'static str) -> Spec {
    let WeightFormat { storage, scale, has_zero_point, granularity } = format;
    let sharing = match granularity {
        Granularity::Tensor => Sharing::Tensor,
        Granularity::Channel => Sharing::Channel(1 - weight.depth_axis),
        Granularity::Group(group) => Sharing::Blocks(weight.depth_axis, group as usize),
    };
    Spec { storage, scale, has_zero_point, sharing, method }
}

/// A weight that was rounded.
pub(super) struct Rounded {
    pub(super) row: Row,
    /// None when it stays float.
    pub(super) quantized: Option<Quantized>,
    /// What rounding its input loses by estimate, in the measure of [`Row::output_error`].
    pub(super) input_error: f64,
}

/// A weight as the quantiser takes it, and its shape.
pub(super) fn weights_of<'m>(module: &'m Module, weight: &Weight, shape: &'m [usize]) -> Weights<'m> {
    let elements = weight.elements(module);
    Weights { element: elements.ty().element, shape, bytes: elements.bytes() }
}

pub(super) fn shape_of(module: &Module, weight: &Weight) -> Vec<usize> {
    let shape = weight.elements(module).ty().known_shape().unwrap_or_default();
    shape.into_iter().map(|dim| dim.max(0) as usize).collect()
}

/// Quantises one weight and tells its loss. With divisors `hessian` is that of the divided input.
pub(super) fn round(
    request: &Request,
    at: usize,
    hessian: Option<&Hessian>,
    moments: Option<(&Hessian, &InverseFactor)>,
    divisors: Option<&Divisors>,
) -> Result<Rounded, String> {
    let (module, decision) = (request.module, &request.decisions[at]);
    let weight = &decision.weight;
    let shape = shape_of(module, weight);
    let weights = weights_of(module, weight, &shape);
    let row = decision.row(module);
    let mut row = Row {
        name: row.name,
        node: location_name(&row.location),
        role: row.role.name().into(),
        format: row.format,
        method: "none".into(),
        bits: row.to_bytes as f64 * 8.0 / weights.count().max(1) as f64,
        bytes: row.to_bytes,
        sqnr_db: None,
        output_error: 0.0,
        loss_share: 0.0,
    };
    let Some(format) = decision.format else { return Ok(Rounded { row, quantized: None, input_error: 0.0 }) };
    let scaled = divisors.map(|divisors| scaling::multiplied(weights, weight.depth_axis, &divisors.values));
    let weights = match &scaled {
        Some(values) => Weights { element: Element::F32, shape: &shape, bytes: values },
        None => weights,
    };
    let plain = spec(weight, format, if request.method == Method::Rtn { "max" } else { "squared_error" });
    let (quantized, method) = match (moments, hessian) {
        (Some((hessian, factor)), _) => {
            (gptq(weights, &plain, weight.depth_axis, hessian, factor), Method::Gptq)
        }
        (None, Some(hessian)) if request.method != Method::Rtn && plain.sharing != Sharing::Tensor => {
            (quantize(weights, &plain, Some(&hessian.diagonal())), Method::Weighted)
        }
        _ => (quantize(weights, &plain, None), Method::Rtn),
    };
    let quantized = quantized.map_err(|error| error.to_string())?;
    row.method = match divisors {
        Some(divisors) => format!("{} + {}", divisors.name, method.name()),
        None => method.name().into(),
    };
    let loss = loss(weights, weight.depth_axis, &quantized, &plain, hessian)?;
    (row.sqnr_db, row.output_error) = (loss.sqnr_db, loss.output_error);
    let input_error = match hessian.filter(|_| request.rounds_input(at)) {
        Some(hessian) => scaling::input_noise(request, hessian, weights) / loss.signal.max(f64::MIN_POSITIVE),
        None => 0.0,
    };
    Ok(Rounded { row, quantized: Some(quantized), input_error })
}

struct Loss {
    sqnr_db: Option<f64>,
    output_error: f64,
    /// The energy of the outputs.
    signal: f64,
}

/// What quantisation changes in the weights, and in the outputs when their input's moments are known.
fn loss(
    weights: Weights,
    axis: usize,
    quantized: &Quantized,
    spec: &Spec,
    hessian: Option<&Hessian>,
) -> Result<Loss, String> {
    let original = weights.values();
    let restored = restore(quantized, weights.shape, spec).map_err(|error| error.to_string())?;
    let (depth, channels) = (weights.shape[axis], weights.shape[1 - axis]);
    // Per output channel: squares of the weights and of their change, and both seen through the input.
    let sums: Vec<[f64; 4]> = (0..channels)
        .into_par_iter()
        .map(|channel| {
            let index =
                |place: usize| if axis == 0 { place * channels + channel } else { channel * depth + place };
            let own: Vec<f64> = (0..depth).map(|place| f64::from(original[index(place)])).collect();
            let change: Vec<f64> =
                own.iter().enumerate().map(|(place, own)| f64::from(restored[index(place)]) - own).collect();
            let square = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
            let seen =
                |values: &[f64]| hessian.map_or_else(|| square(values), |hessian| hessian.error(values));
            [square(&own), square(&change), seen(&own), seen(&change)]
        })
        .collect();
    let total = sums.iter().fold([0f64; 4], |all, one| std::array::from_fn(|at| all[at] + one[at]));
    let ratio = |noise: f64, signal: f64| if signal > 0.0 { noise / signal } else { 0.0 };
    let sqnr_db = (total[0] > 0.0 && total[1] > 0.0).then(|| 10.0 * (total[0] / total[1]).log10());
    Ok(Loss { sqnr_db, output_error: ratio(total[3], total[2]), signal: total[2] })
}

/// The loss of a weight in the formats that it may have.
pub(super) fn other_formats(request: &Request, at: usize, hessian: Option<&Hessian>) -> Vec<Candidate> {
    let Some(machine) = request.candidates else { return Vec::new() };
    let (module, weight) = (request.module, &request.decisions[at].weight);
    let (depth, channels) = weight.extents(module);
    let shape = shape_of(module, weight);
    let weights = weights_of(module, weight, &shape);
    let formats = CANDIDATE_FORMATS.iter().filter_map(|text| text.parse::<WeightFormat>().ok());
    let fits = |format: &WeightFormat| {
        format.check_depth(depth).is_ok() && machine.weight_veto(weight.compute(module), format).is_none()
    };
    let told = formats.filter(fits).filter_map(|format| {
        let spec = spec(weight, format, "squared_error");
        let importance = hessian.filter(|_| spec.sharing != Sharing::Tensor).map(Hessian::diagonal);
        let quantized = quantize(weights, &spec, importance.as_deref()).ok()?;
        let loss = loss(weights, weight.depth_axis, &quantized, &spec, hessian).ok()?;
        let bytes = format.bytes(depth, channels);
        Some(Candidate {
            name: weight.name.clone(),
            format: format.to_string(),
            bits: bytes as f64 * 8.0 / (depth * channels).max(1) as f64,
            bytes,
            sqnr_db: loss.sqnr_db,
            output_error: loss.output_error,
        })
    });
    told.collect()
}

fn location_name(location: &Location) -> String {
    tilewright_targets::emit::location_text(location)
}
