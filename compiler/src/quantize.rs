//! Quantisation of an imported model's weights: what the user asks for, and the passes that do it.
//!
//! Knows no terminal. Without a calibration the passes work on recipes, and no weight is computed here; with one, weights come quantised
//! from a mapped plan.
//!
//! ```text
//! canonicalize,cse,dce   quantize-weights{preset=mixed}
//! ```

use crate::calibrate::plan_file::{Plan, Writer};
use crate::calibrate::scaling::Scaling;
use crate::calibrate::statistics::{MOMENTS_BYTES_MAX, Sample};
use crate::calibrate::{ActivationScales, Method, Prepared, Report, Request, calibrate, samples};
use crate::driver::CompileOptions;
use crate::model::Source;
use crate::session::Session;
use crate::signature::Signature;
use crate::tokens::TokenCodec;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;
use tilewright_ir::weight_format::ActivationFormat;
use tilewright_passes::PIPELINES;
use tilewright_passes::pass::{Pass, PassContext, Passes};
use tilewright_passes::pipeline::PassManager;
use tilewright_passes::quantize_weights::apply::check_planned;
use tilewright_passes::quantize_weights::budget::Losses;
use tilewright_passes::quantize_weights::decide::Decision;
use tilewright_passes::quantize_weights::policy::Policy;
use tilewright_passes::quantize_weights::prune::PrunePolicy;
use tilewright_passes::quantize_weights::{Budget, QuantizeWeights, WeightRow};

/// What becomes of float weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuantizeOptions {
    /// A preset of weight formats.
    pub preset: String,
    /// `PATTERN=FORMAT` for some weights, the last one that fits counts.
    pub overrides: Vec<String>,
    /// Take the nearest format where one does not fit, instead of an error.
    pub allows_fallback: bool,
    /// Choose formats so that all constants take at most this many bytes.
    pub bytes_max: Option<usize>,
    /// Quantise with knowledge of the activations.
    pub calibration: Option<Calibration>,
    /// Take formats and weights from a plan, instead of all the above.
    pub plan: Option<PathBuf>,
    /// How weights are thinned before: 2:4 or magnitude:F; empty for not at all. Not with a calibration or a plan.
    pub prune: String,
    /// `PATTERN=HOW` for some weights, the last one that fits counts.
    pub prune_overrides: Vec<String>,
}

/// Tokens that a calibration runs when nothing else is said: beyond it the weights of small models hardly change.
pub const CALIBRATION_TOKENS: usize = 8192;

/// A calibration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// A text for a language model.
    pub text: Option<PathBuf>,
    /// Recorded inputs.
    pub samples: Vec<PathBuf>,
    /// Tokens per window of the text.
    pub window: usize,
    /// Tokens of the text at most.
    pub tokens: usize,
    /// How weights are rounded.
    pub method: Method,
    /// How channels are scaled before.
    pub scaling: Scaling,
    /// How int8 activations are scaled.
    pub activation_scales: ActivationScales,
    /// Tell the loss in other formats too.
    pub sensitivity: bool,
}

/// What a calibration found.
pub struct Calibrated {
    /// The canonical module, its weights as they were.
    pub module: Module,
    /// The format of every weight.
    pub decisions: Vec<Decision>,
    /// How products take activations.
    pub activations: ActivationFormat,
    /// What each weight lost.
    pub report: Report,
}

fn policy(options: &QuantizeOptions) -> Result<Policy, Diagnostics> {
    let fault = |what| vec![Diagnostic::error(Location::Unknown, what)];
    let mut policy =
        Policy::new(&options.preset, &options.overrides, options.allows_fallback).map_err(fault)?;
    policy.prune = PrunePolicy::new(&options.prune, &options.prune_overrides).map_err(fault)?;
    Ok(policy)
}

/// A plan holds what becomes of every weight: there is nothing left to prune.
fn check_unpruned(options: &QuantizeOptions) -> Result<(), Diagnostics> {
    if options.prune.is_empty() && options.prune_overrides.is_empty() {
        return Ok(());
    }
    let what = "a plan decides all and holds dense weights: pruning does not go with a calibration or a plan";
    Err(vec![
        Diagnostic::error(Location::Unknown, what).with_help("prune without them, or leave the pruning out"),
    ])
}

/// Roles are read from the canonical form: an exporter's identities and casts are gone.
fn canonicalize(module: &mut Module, passes: &Passes, context: &mut PassContext) -> Result<(), Diagnostics> {
    let (_, canonical) = PIPELINES[0];
    let manager = PassManager::parse(canonical, passes).map_err(|problem| vec![problem])?;
    manager.run(module, context, &mut []).map_err(|failure| failure.diagnostics)
}

/// Quantises the weights of an imported module. Gives what became of each.
///
/// # Errors
/// Options that say nothing known, all weights that do not take their format, a plan of another model, samples that do not run.
pub fn quantize(
    module: &mut Module,
    options: &QuantizeOptions,
    source: &Source,
    passes: &Passes,
    context: &mut PassContext,
) -> Result<Vec<WeightRow>, Diagnostics> {
    canonicalize(module, passes, context)?;
    let one = |problem: Diagnostic| vec![problem];
    let pass = if let Some(path) = &options.plan {
        check_unpruned(options)?;
        with_plan(module, &Plan::open(path).map_err(one)?)?
    } else if let Some(calibration) = &options.calibration {
        // The quantised weights stay mapped; the files' names are gone when this returns.
        let folder = tempfile::tempdir().map_err(|error| {
            one(Diagnostic::error(Location::Unknown, format!("cannot make a temporary folder: {error}"))
                .with_help("set TMPDIR to a folder with room for the quantised weights"))
        })?;
        let path = folder.path().join("plan.json");
        let mut writer = Writer::create(&path).map_err(one)?;
        let found =
            calibrate_module(module.clone(), options, calibration, source, context, &|_| {}, |weight| {
                writer.add(&weight).map_err(|problem| vec![problem])
            })?;
        writer
            .finish(&found.module, &found.decisions, &found.report.rows, found.activations)
            .map_err(|problem| vec![problem])?;
        with_plan(module, &Plan::open(&path).map_err(|problem| vec![problem])?)?
    } else {
        let policy = policy(options)?;
        let activations = policy.preset.activations;
        let budget = options.bytes_max.map(|bytes_max| Budget { bytes_max, ..Budget::default() });
        QuantizeWeights { policy, budget, stored: BTreeMap::new(), activations }
    };
    pass.run(module, context)?;
    Ok(std::mem::take(&mut context.weights))
}

fn with_plan(module: &Module, plan: &Plan) -> Result<QuantizeWeights, Diagnostics> {
    let stored = plan.stored(module)?;
    let options =
        QuantizeOptions { preset: "mixed".into(), overrides: plan.overrides(), ..QuantizeOptions::default() };
    Ok(QuantizeWeights { policy: policy(&options)?, budget: None, stored, activations: plan.activations() })
}

/// Calibrates a model without compiling it. Each quantised weight goes to `keep`; `progress` gets the share of the runs that are done.
///
/// # Errors
/// As [`quantize`], and all problems of the import.
pub fn prepare(
    session: &Session,
    source: &Source,
    options: &CompileOptions,
    progress: &(dyn Fn(f64) + Sync),
    keep: impl FnMut(Prepared) -> Result<(), Diagnostics>,
) -> Result<(Calibrated, Diagnostics), Diagnostics> {
    let nothing = || vec![Diagnostic::error(Location::Unknown, "there is nothing to calibrate with")];
    let quantize = options.quantize.as_ref().ok_or_else(nothing)?;
    let calibration = quantize.calibration.as_ref().ok_or_else(nothing)?;
    let target = session.target(&options.target).map_err(|problem| vec![problem])?;
    let mut imported = session.import(source, &options.bindings, options.activations)?;
    let mut context = session.pass_context(&options.rule_files).map_err(|problem| vec![problem])?;
    context.machine = target.machine();
    canonicalize(&mut imported.module, &session.passes, &mut context)?;
    let found =
        calibrate_module(imported.module, quantize, calibration, source, &mut context, progress, keep)?;
    imported.diagnostics.append(&mut context.diagnostics);
    Ok((found, imported.diagnostics))
}

fn calibrate_module(
    module: Module,
    options: &QuantizeOptions,
    calibration: &Calibration,
    source: &Source,
    context: &mut PassContext,
    progress: &(dyn Fn(f64) + Sync),
    keep: impl FnMut(Prepared) -> Result<(), Diagnostics>,
) -> Result<Calibrated, Diagnostics> {
    check_unpruned(options)?;
    let samples = samples(&module, calibration, source)?;
    let policy = policy(options)?;
    let activations = policy.preset.activations;
    let mut pass = QuantizeWeights { policy, budget: None, stored: BTreeMap::new(), activations };
    let mut decisions = pass.decisions(&module, context)?;
    let refused = decisions.iter().filter_map(|one| Some((one, check_planned(one).err()?)));
    let refused: Diagnostics = refused
        .map(|(one, what)| {
            let what = format!("weight '{}': {what}", one.weight.name);
            Diagnostic::error(one.weight.location(&module), what)
                .with_help("choose another format, or compile without a calibration")
        })
        .collect();
    if !refused.is_empty() {
        return Err(refused);
    }
    let machine = context.machine.clone();
    let request = |decisions: &[Decision], method, scaling, candidates, keep: &mut Keep| {
        let request = Request {
            module: &module,
            decisions,
            samples: &samples,
            method,
            scaling,
            activations,
            activation_scales: calibration.activation_scales,
            moments_bytes_max: MOMENTS_BYTES_MAX,
            candidates,
        };
        calibrate(&request, progress, keep)
    };
    if let Some(bytes_max) = options.bytes_max {
        // What each weight loses in each format decides who gets which; then they are rounded.
        let first = request(&decisions, Method::Rtn, Scaling::None, Some(&machine), &mut |_| Ok(()))?;
        let mut losses = Losses::default();
        for one in &first.candidates {
            if let Ok(format) = one.format.parse() {
                losses.insert(&one.name, format, one.output_error);
            }
        }
        pass.budget = Some(Budget { bytes_max, losses });
        decisions = pass.decisions(&module, context)?;
    }
    let mut keep = keep;
    let candidates = calibration.sensitivity.then_some(&machine);
    let report = request(&decisions, calibration.method, calibration.scaling, candidates, &mut keep)?;
    Ok(Calibrated { module, decisions, activations, report })
}

type Keep<'a> = dyn FnMut(Prepared) -> Result<(), Diagnostics> + 'a;

/// The runs that a calibration asks for.
fn samples(module: &Module, calibration: &Calibration, source: &Source) -> Result<Vec<Sample>, Diagnostics> {
    let function = module.functions().first().copied();
    let function =
        function.ok_or_else(|| vec![Diagnostic::error(Location::Unknown, "the model holds no graph")])?;
    let signature = Signature::of(module, function);
    let Some(path) = &calibration.text else {
        return samples::from_files(&signature, &calibration.samples);
    };
    let one = |problem: Diagnostic| vec![problem];
    let companions = source.companions().map_err(one)?;
    let (_, tokenizer) = companions.iter().find(|(name, _)| *name == "tokenizer.json").ok_or_else(|| {
        one(Diagnostic::error(Location::Unknown, "there is no tokenizer.json beside the model")
            .with_help("a text needs one; or give recorded inputs with --samples"))
    })?;
    if let Some(problem) = check_vocabulary(&signature, &companions) {
        return Err(vec![problem]);
    }
    let codec = TokenCodec::from_bytes(tokenizer).map_err(one)?;
    let text = crate::output::read_text(path).map_err(one)?;
    samples::from_text(&signature, &codec, &text, calibration.window, Some(calibration.tokens))
}

/// A tokenizer that gives tokens which the model does not have: its largest id against the last dimension of the output `logits`.
pub fn check_vocabulary(signature: &Signature, companions: &[(&'static str, Vec<u8>)]) -> Option<Diagnostic> {
    let (_, tokenizer) = companions.iter().find(|(name, _)| *name == "tokenizer.json")?;
    let logits = signature.outputs.iter().find(|port| &*port.name == "logits")?;
    let rows = logits.ty.shape.last()?.known()?;
    let json: serde_json::Value = match serde_json::from_slice(tokenizer) {
        Ok(json) => json,
        Err(error) => {
            return Some(
                Diagnostic::error(Location::Unknown, format!("cannot read tokenizer.json: {error}"))
                    .with_help("take the tokenizer.json that came with the model, or move it away to compile without"),
            );
        }
    };
    let (token, id) = largest_token(&json)?;
    (id >= rows).then(|| {
        let what = format!(
            "tokenizer.json does not belong to this model: its token '{token}' has id {id}, the output 'logits' ({}) has {rows}",
            logits.ty
        );
        Diagnostic::error(Location::Unknown, what)
            .with_help("take the tokenizer.json that came with the model, or move it away to compile without")
    })
}

/// The token of the largest id: of the vocabulary (a map, or a list in order) or an added one.
fn largest_token(json: &serde_json::Value) -> Option<(String, i64)> {
    let vocabulary = &json["model"]["vocab"];
    let of_map = vocabulary.as_object().into_iter().flatten();
    let of_map = of_map.filter_map(|(token, id)| Some((token.clone(), id.as_i64()?)));
    let of_list = vocabulary.as_array().into_iter().flatten().enumerate();
    let of_list = of_list.filter_map(|(id, pair)| Some((pair[0].as_str()?.to_string(), id as i64)));
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let added = added.filter_map(|one| Some((one["content"].as_str()?.to_string(), one["id"].as_i64()?)));
    of_map.chain(of_list).chain(added).max_by_key(|pair| pair.1)
}
