//! Calibration: what a model's activations are like on samples, and weights quantised with that knowledge.
//!
//! [`samples`] gives runs, [`statistics`] collects second moments from them in the reference evaluator, [`products`] says which weight meets
//! which input; here the weights of each input are scaled ([`scaling`]) and rounded ([`rounding`]) by the methods asked for, and their losses
//! told. [`plan_file`] keeps the result. Knows no terminal.
//!
//! ```text
//! text -> windows -> H = sum of x^T x per input -> divisors of x -> gptq(w, H) -> storage, scale, zero point; SQNR, output error
//! ```

pub mod plan_file;
pub mod products;
pub mod rounding;
pub mod samples;
pub mod scaling;
pub mod statistics;

use products::Products;
use rounding::{Rounded, round};
use scaling::{Divisors, Scaling};
use serde::Serialize;
use statistics::{Sample, collect};
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::module::Module;
use tilewright_ir::quantizer::{Hessian, InverseFactor, Quantized};
use tilewright_ir::weight_format::ActivationFormat;
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
    /// How its channels were scaled and how it was rounded.
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
    /// What its input channels were multiplied by before; empty for nothing.
    pub input_divisors: Vec<f32>,
    /// The largest magnitude of its input, when that is to be rounded by a fixed scale.
    pub input_largest: Option<f32>,
}

/// Formats whose loss a sensitivity report tells, where they fit.
pub const CANDIDATE_FORMATS: [&str; 7] =
    ["int8", "fp8_e4m3", "nf4_g64", "int4_g32", "int4_g64", "int4_g128", "mxfp4"];

/// How int8 activations are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ActivationScales {
    /// Each row by its largest magnitude, found when it runs.
    #[default]
    Rows,
    /// All rows by the largest magnitude of the calibration; what is larger saturates.
    Static,
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
    /// How channels are scaled before.
    pub scaling: Scaling,
    /// How products take activations.
    pub activations: ActivationFormat,
    /// How activations are scaled, where they are rounded.
    pub activation_scales: ActivationScales,
    /// What moments may take together, in bytes.
    pub moments_bytes_max: usize,
    /// Tell the loss of [`CANDIDATE_FORMATS`] too, where this machine takes them.
    pub candidates: Option<&'a Machine>,
}

impl Request<'_> {
    /// Whether a weight's products round their input.
    fn rounds_input(&self, at: usize) -> bool {
        let format = self.decisions[at].format;
        self.activations == ActivationFormat::Int8 && format.is_some_and(|format| format.storage.is_integer())
    }
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
        let (rounded, divisors) = round_input(request, indices, hessian)?;
        for (at, Rounded { row, quantized, .. }) in indices.iter().zip(rounded) {
            rows[*at] = Some(row);
            candidates[*at] = rounding::other_formats(request, *at, hessian);
            let Some(quantized) = quantized else { continue };
            let is_fixed = request.rounds_input(*at) && request.activation_scales == ActivationScales::Static;
            let largest = hessian.filter(|_| is_fixed).map(|hessian| {
                divisors.as_ref().map_or_else(
                    || scaling::largest(hessian.largest()),
                    |divisors| scaling::largest(hessian.divided(&divisors.values).largest()),
                )
            });
            let input_divisors =
                divisors.as_ref().map(|divisors| divisors.values.clone()).unwrap_or_default();
            keep(Prepared { decision: *at, quantized, input_divisors, input_largest: largest })?;
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

/// The weights of one input, rounded; with the input's channels divided where that loses less.
fn round_input(
    request: &Request,
    indices: &[usize],
    hessian: Option<&Hessian>,
) -> Result<(Vec<Rounded>, Option<Divisors>), Diagnostics> {
    let plain = round_all(request, indices, hessian, None)?;
    let Some(hessian) = hessian else { return Ok((plain, None)) };
    let Some(divisors) = scaling::choose(request, indices, hessian) else { return Ok((plain, None)) };
    let divided = hessian.divided(&divisors.values);
    let scaled = round_all(request, indices, Some(&divided), Some(&divisors))?;
    let loss = |all: &[Rounded]| all.iter().map(|one| one.row.output_error + one.input_error).sum::<f64>();
    Ok(if loss(&scaled) < loss(&plain) { (scaled, Some(divisors)) } else { (plain, None) })
}

/// The weights of one input, rounded by its moments.
fn round_all(
    request: &Request,
    indices: &[usize],
    hessian: Option<&Hessian>,
    divisors: Option<&Divisors>,
) -> Result<Vec<Rounded>, Diagnostics> {
    let Request { module, decisions, .. } = *request;
    let wants_factor =
        request.method == Method::Gptq && indices.iter().any(|at| decisions[*at].format.is_some());
    let factor = match hessian.filter(|_| wants_factor) {
        Some(hessian) => Some(
            InverseFactor::of(hessian)
                .map_err(|error| fault(module, &decisions[indices[0]].weight, &error.to_string()))?,
        ),
        None => None,
    };
    let one = |at: &usize| {
        let moments = hessian.zip(factor.as_ref());
        round(request, *at, hessian, moments, divisors)
            .map_err(|what| fault(module, &decisions[*at].weight, &what))
    };
    indices.iter().map(one).collect()
}

fn fault(module: &Module, weight: &Weight, what: &str) -> Diagnostics {
    let what = format!("weight '{}': {what}", weight.name);
    let help = format!("keep it as it is with --quantize-override '{}=float'", weight.name);
    vec![Diagnostic::error(weight.location(module), what).with_help(help)]
}
