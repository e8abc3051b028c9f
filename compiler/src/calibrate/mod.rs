//! Calibration: what a model's activations are like on samples, and weights quantised with that knowledge.
//!
//! [`samples`] gives runs, [`statistics`] collects second moments from them in the reference evaluator, [`products`] says which weight meets
//! which input; here each weight is quantised by the method asked for and its loss is told. [`plan_file`] keeps the result. Knows no terminal.
//!
//! ```text
//! text -> windows -> H = sum of x^T x per input -> gptq(w, H) -> storage, scale, zero point; SQNR, output error
//! ```

pub mod plan_file;
pub mod products;
pub mod samples;
pub mod statistics;

use products::Products;
use rayon::prelude::*;
use serde::Serialize;
use statistics::{Sample, collect};
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;
use tilewright_ir::quantizer::{
    Hessian, InverseFactor, Quantized, Sharing, Spec, Weights, gptq, quantize, restore,
};
use tilewright_ir::weight_format::{Granularity, WeightFormat};
use tilewright_passes::machine::Machine;
use tilewright_passes::quantize_weights::decide::Decision;
use tilewright_passes::quantize_weights::roles::Weight;

/// How weights are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// Each to the nearest, scales by the largest magnitude.
    Rtn,
    /// Each to the nearest, scales by the least squared error, weighted by the mean square of each input channel.
    Weighted,
    /// GPTQ (arXiv:2210.17323): later weights of a channel make up for the error of earlier ones.
    #[default]
    Gptq,
}

impl Method {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Method::Rtn => "rtn",
            Method::Weighted => "weighted",
            Method::Gptq => "gptq",
        }
    }
}

/// What became of a weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name in the model.
    pub name: String,
    /// The nodes that use it.
    pub node: String,
    /// The part it plays.
    pub role: String,
    /// Its format; `float` when it stays.
    pub format: String,
    /// How it was rounded.
    pub method: String,
    /// Bits per weight, scales and zero points included.
    pub bits: f64,
    /// Bytes.
    pub bytes: usize,
    /// 10 log10 of the energy of the weights over that of their change; none when nothing changes.
    pub sqnr_db: Option<f64>,
    /// The energy of the outputs' change over that of the outputs, on the samples: `tr(dW H dW^T) / tr(W H W^T)`. Without an input the
    /// same of the weights alone.
    pub output_error: f64,
    /// Its part of the sum of all output errors.
    pub loss_share: f64,
}

/// The loss of a weight in a format that it does not have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The weight.
    pub name: String,
    /// The format.
    pub format: String,
    /// Bits per weight.
    pub bits: f64,
    /// Bytes.
    pub bytes: usize,
    /// As [`Row::sqnr_db`], rounded to the nearest with weighted scales.
    pub sqnr_db: Option<f64>,
    /// As [`Row::output_error`].
    pub output_error: f64,
}

/// A quantised weight.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its place among the decisions.
    pub decision: usize,
    /// Its parts.
    pub quantized: Quantized,
}

/// Formats whose loss a sensitivity report tells, where they fit.
pub const CANDIDATE_FORMATS: [&str; 7] =
    ["int8", "fp8_e4m3", "nf4_g64", "int4_g32", "int4_g64", "int4_g128", "mxfp4"];

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

/// What is asked of a calibration.
pub struct Request<'a> {
    /// The canonical module.
    pub module: &'a Module,
    /// Its weights with their formats.
    pub decisions: &'a [Decision],
    /// Runs.
    pub samples: &'a [Sample],
    /// How weights are rounded.
    pub method: Method,
    /// What moments may take together, in bytes.
    pub moments_bytes_max: usize,
    /// Tell the loss of [`CANDIDATE_FORMATS`] too, where this machine takes them.
    pub candidates: Option<&'a Machine>,
}

/// What a calibration gives.
#[derive(Default)]
pub struct Report {
    /// A row per weight, in the order of the decisions.
    pub rows: Vec<Row>,
    /// Losses in other formats.
    pub candidates: Vec<Candidate>,
}

/// Runs the samples, quantises every weight and hands it to `keep`, input by input. `progress` gets the share of the samples that ran.
///
/// # Errors
/// What the evaluator or a quantiser says, what `keep` says; the weight is named.
pub fn calibrate(
    request: &Request,
    progress: &(dyn Fn(f64) + Sync),
    mut keep: impl FnMut(Prepared) -> Result<(), Diagnostics>,
) -> Result<Report, Diagnostics> {
    let Request { module, decisions, .. } = *request;
    let products = Products::of(module, decisions.iter().enumerate().map(|(at, one)| (at, &one.weight)));
    let mut rows: Vec<Option<Row>> = vec![None; decisions.len()];
    let mut candidates: Vec<Vec<Candidate>> = vec![Vec::new(); decisions.len()];
    let mut finish = |indices: &[usize], hessian: Option<&Hessian>| -> Result<(), Diagnostics> {
        let wants_factor =
            request.method == Method::Gptq && indices.iter().any(|at| decisions[*at].format.is_some());
        let factor = match hessian.filter(|_| wants_factor) {
            Some(hessian) => Some(
                InverseFactor::of(hessian)
                    .map_err(|error| fault(module, &decisions[indices[0]].weight, &error.to_string()))?,
            ),
            None => None,
        };
        for at in indices {
            let moments = hessian.zip(factor.as_ref());
            let (row, quantized) = one(request, *at, hessian, moments)
                .map_err(|what| fault(module, &decisions[*at].weight, &what))?;
            rows[*at] = Some(row);
            candidates[*at] = other_formats(request, *at, hessian);
            if let Some(quantized) = quantized {
                keep(Prepared { decision: *at, quantized })?;
            }
        }
        Ok(())
    };
    collect(module, &products, request.samples, request.moments_bytes_max, progress, |input, hessian| {
        finish(&products.inputs[input].weights, Some(&hessian))
    })?;
    let seen: Vec<usize> = products.inputs.iter().flat_map(|input| input.weights.iter().copied()).collect();
    let rest: Vec<usize> = (0..decisions.len()).filter(|at| !seen.contains(at)).collect();
    if !rest.is_empty() {
        finish(&rest, None)?;
    }
    let mut rows: Vec<Row> = rows.into_iter().flatten().collect();
    let total: f64 = rows.iter().map(|row| row.output_error).sum();
    if total > 0.0 {
        rows.iter_mut().for_each(|row| row.loss_share = row.output_error / total);
    }
    Ok(Report { rows, candidates: candidates.into_iter().flatten().collect() })
}

fn fault(module: &Module, weight: &Weight, what: &str) -> Diagnostics {
    let what = format!("weight '{}': {what}", weight.name);
    let help = format!("keep it as it is with --quantize-override '{}=float'", weight.name);
    vec![Diagnostic::error(weight.location(module), what).with_help(help)]
}

/// A weight as the quantiser takes it, and its shape.
fn weights_of<'m>(module: &'m Module, weight: &Weight, shape: &'m [usize]) -> Weights<'m> {
    let elements = weight.elements(module);
    Weights { element: elements.ty().element, shape, bytes: elements.bytes() }
}

fn shape_of(module: &Module, weight: &Weight) -> Vec<usize> {
    let shape = weight.elements(module).ty().known_shape().unwrap_or_default();
    shape.into_iter().map(|dim| dim.max(0) as usize).collect()
}

/// Quantises one weight and tells its loss.
fn one(
    request: &Request,
    at: usize,
    hessian: Option<&Hessian>,
    moments: Option<(&Hessian, &InverseFactor)>,
) -> Result<(Row, Option<Quantized>), String> {
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
    let Some(format) = decision.format else { return Ok((row, None)) };
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
    row.method = method.name().into();
    let loss = loss(weights, weight.depth_axis, &quantized, &plain, hessian)?;
    (row.sqnr_db, row.output_error) = (loss.sqnr_db, loss.output_error);
    Ok((row, Some(quantized)))
}

struct Loss {
    sqnr_db: Option<f64>,
    output_error: f64,
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
    Ok(Loss { sqnr_db, output_error: ratio(total[3], total[2]) })
}

/// The loss of a weight in the formats that it may have.
fn other_formats(request: &Request, at: usize, hessian: Option<&Hessian>) -> Vec<Candidate> {
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
