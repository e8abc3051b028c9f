//! The format of each weight: what the policy wishes, what the weight and the machine take. All faults are found here, by one parallel
//! look at the mapped weights, before anything is changed.
//!
//! ```text
//! wish int4_g32   ->   the machine multiplies f32 by i4, 32 divides 192, all weights finite, scales fit f16   ->   int4_g32
//! ```

use super::budget::Choice;
use super::policy::Policy;
use super::prune::{self, Pruning};
use super::roles::Weight;
use super::{Budget, WeightRow};
use crate::pass::PassContext;
use rayon::prelude::*;
use tilewright_ir::compressor;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::element::Element;
use tilewright_ir::module::Module;
use tilewright_ir::number;
use tilewright_ir::quantizer::{self, Sharing, Spec, Survey, Weights};
use tilewright_ir::weight_format::{FLOAT, Granularity, WeightFormat};

/// What becomes of a weight.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The weight.
    pub weight: Weight,
    /// Its format; none when it stays as it is.
    pub format: Option<WeightFormat>,
    /// How it is thinned before; none when it is not.
    pub pruning: Option<Pruning>,
    /// Who chose it, and why it is another one than wished.
    pub reason: String,
    /// The format that the machine vetoed, and why.
    pub veto: Option<String>,
}

impl Decision {
    /// The row of the placement table.
    pub fn row(&self, module: &Module) -> WeightRow {
        let elements = self.weight.elements(module);
        let (depth, channels) = self.weight.extents(module);
        let from_bytes = elements.bytes().len();
        WeightRow {
            name: self.weight.name.clone(),
            location: self.weight.location(module),
            role: self.weight.role,
            format: self.words(),
            reason: self.reason.clone(),
            veto: self.veto.clone(),
            from_bytes,
            to_bytes: stored_bytes(self.format, self.pruning, from_bytes, [depth, channels]),
        }
    }

    /// Format and thinning.
    fn words(&self) -> String {
        let format = self.format.map_or(FLOAT.into(), |format| format.to_string());
        self.pruning.map_or(format.clone(), |pruning| format!("{format} {pruning}"))
    }
}

/// Bytes of a weight of [depth, channels] that takes `from_bytes` as it is.
fn stored_bytes(
    format: Option<WeightFormat>,
    pruning: Option<Pruning>,
    from_bytes: usize,
    [depth, channels]: [usize; 2],
) -> usize {
    if pruning != Some(Pruning::Sparse24) {
        return format.map_or(from_bytes, |format| format.bytes(depth, channels));
    }
    // Half the weights, all the scales, and two bits for the place of each.
    let dense = format.map_or(from_bytes, |format| format.storage.bytes_of(depth * channels));
    let rest = format.map_or(0, |format| format.bytes(depth, channels) - dense);
    dense / 2 + rest + Element::U2.bytes_of(depth / 2 * channels)
}

/// The formats tried in turn where one does not fit and the user allowed another.
const FALLBACKS: [&str; 4] = ["int4_g32", "int4_g16", "int8", "fp8_e4m3"];

/// Decides for every weight. Faults go into `problems`, vetoes of the machine are warnings.
pub fn decide(
    module: &Module,
    weights: Vec<Weight>,
    policy: &Policy,
    context: &mut PassContext,
    problems: &mut Diagnostics,
) -> Vec<Decision> {
    let mut decisions: Vec<Decision> = Vec::new();
    for weight in weights {
        let (wish, reason) = policy.wish(&weight, module);
        let pruning = policy.prune.wish(&weight, module);
        let mut decision = Decision { weight, format: wish, pruning, reason, veto: None };
        if wish.is_some() {
            fit(module, &mut decision, policy, context, problems);
        }
        if let Some(pruning) = decision.pruning
            && let Err(what) = prune::check(module, &decision.weight, pruning, decision.format)
        {
            problems.push(refusal(module, &decision.weight, pruning, &what));
        }
        decisions.push(decision);
    }
    let surveys: Vec<Option<Survey>> = decisions
        .par_iter()
        .map(|decision| {
            let is_read = decision.format.is_some() || decision.pruning.is_some();
            is_read.then(|| survey(module, &decision.weight))
        })
        .collect();
    for (decision, survey) in decisions.iter().zip(surveys) {
        if let Some(survey) = survey {
            problems.extend(fault(module, decision, &survey));
        }
    }
    decisions
}

fn refusal(module: &Module, weight: &Weight, pruning: Pruning, what: &str) -> Diagnostic {
    let ty = weight.elements(module).ty();
    let role = weight.role.name();
    let what = format!("weight '{}' ({ty}, role {role}) cannot be pruned {pruning}: {what}", weight.name);
    Diagnostic::error(weight.location(module), what)
        .with_help(format!("leave it out with --prune-override '{}=none'", weight.name))
}

/// Looks at all numbers of a weight.
fn survey(module: &Module, weight: &Weight) -> Survey {
    let elements = weight.elements(module);
    let shape: Vec<usize> =
        elements.ty().known_shape().into_iter().flatten().map(|dim| dim.max(0) as usize).collect();
    Weights { element: elements.ty().element, shape: &shape, bytes: elements.bytes() }.survey()
}

/// Replaces a wish that the machine vetoes, or whose group does not divide.
fn fit(
    module: &Module,
    decision: &mut Decision,
    policy: &Policy,
    context: &mut PassContext,
    problems: &mut Diagnostics,
) {
    let Some(wish) = decision.format else { return };
    let weight = &decision.weight;
    let (depth, _) = weight.extents(module);
    let compute = weight.compute(module);
    let location = weight.location(module);
    let veto = |format: &WeightFormat| context.machine.weight_veto(compute, format);
    let fitting = || {
        let known = FALLBACKS.iter().filter_map(|text| text.parse::<WeightFormat>().ok());
        known
            .filter(|format| format.storage.bits() >= wish.storage.bits())
            .find(|format| veto(format).is_none() && format.check_depth(depth).is_ok())
    };
    if let Some(why) = veto(&wish) {
        // The machine's limits are no fault of the user: the next format, and a word about it.
        let next = fitting();
        let name = next.map_or("float".into(), |format| format.to_string());
        decision.format = next;
        decision.reason = format!("{} vetoes {wish}: {why}", context.machine.name);
        decision.veto = Some(format!("weight '{}' is {name}, not {wish}: {why}", weight.name));
        let what = format!("weight '{}' gets {name} instead of {wish}: {why}", weight.name);
        context.warn(location, what, "choose another format with --quantize-override to say so yourself");
        return;
    }
    let Err(what) = wish.check_depth(depth) else { return };
    if policy.allows_fallback {
        decision.format = fitting();
        decision.reason = format!("{wish}: {what}");
        return;
    }
    let what = format!(
        "weight '{}' ({}, role {}) cannot become {wish}: {what}",
        weight.name,
        weight.elements(module).ty(),
        weight.role.name()
    );
    let help = format!(
        "give it one of these with --quantize-override '{}=FORMAT', or pass --quantize-allow-fallback",
        weight.name
    );
    problems.push(Diagnostic::error(location, what).with_help(help));
}

/// What is wrong with the numbers of a weight for its format.
fn fault(module: &Module, decision: &Decision, survey: &Survey) -> Option<Diagnostic> {
    let weight = &decision.weight;
    let name = format!("weight '{}' ({})", weight.name, weight.elements(module).ty());
    let location = weight.location(module);
    if let Some((index, value)) = survey.first {
        let what = format!(
            "{name}: expected finite numbers for {}, found {} that are not, the first {value} at index {index}",
            decision.words(),
            survey.not_finite
        );
        return Some(Diagnostic::error(location, what).with_help(format!(
            "repair the model, or keep this weight as it is with --quantize-override '{}=float'",
            weight.name
        )));
    }
    let format = decision.format?;
    let largest = match format.storage.integer_range() {
        // Levels are weights.
        _ if format.is_palette() => 1.0,
        Some((_, high)) => high as f32 / if format.has_zero_point { 2.0 } else { 1.0 },
        None => number::largest(format.storage).unwrap_or(1.0) as f32,
    };
    let scale = survey.largest / largest;
    if format.scale == Element::F16 && scale > half_max() {
        let group = match format.granularity {
            Granularity::Group(_) => "groups",
            _ => "channels",
        };
        let what = format!(
            "{name}: its largest weight {:e} needs a scale of {scale:e} for {format}, the scales of {group} hold at most {:e} (f16)",
            survey.largest,
            half_max()
        );
        return Some(Diagnostic::error(location, what).with_help(format!(
            "give it scales of 32 bits with --quantize-override '{}={format}_f32', or keep it with '{}=float'",
            weight.name, weight.name
        )));
    }
    None
}

/// The formats that a budget may choose from, beside float and what the preset says.
const BUDGET_FORMATS: [&str; 6] = ["int8", "fp8_e4m3", "nf4_g64", "int4_g32", "int4_g64", "int4_g128"];

/// Chooses formats for a budget. The user's exceptions stay as they are.
///
/// # Errors
/// When the smallest formats are too large.
pub fn within_budget(
    module: &Module,
    decisions: &mut [Decision],
    budget: &Budget,
    method: &'static str,
    context: &PassContext,
) -> Result<(), Diagnostic> {
    let all: usize = module
        .all_ops()
        .into_iter()
        .filter_map(|op| module.op(op).attributes.get("value")?.as_elements())
        .map(|elements| elements.bytes().len())
        .sum();
    let theirs: usize = decisions.iter().map(|decision| decision.weight.elements(module).bytes().len()).sum();
    let fixed = all - theirs;
    let choices: Vec<Vec<Choice>> =
        decisions.par_iter().map(|decision| choices(module, decision, budget, method, context)).collect();
    let bytes_max = budget.bytes_max.saturating_sub(fixed);
    let picks = super::budget::solve(&choices, bytes_max).map_err(|smallest| {
        let what = format!(
            "a budget of {} bytes is too small: the smallest formats take {} and what is not quantised {fixed}",
            budget.bytes_max, smallest
        );
        Diagnostic::error(tilewright_ir::location::Location::Unknown, what).with_help(format!(
            "allow at least {} MB with --max-weights-mb, or lift an exception that keeps a weight large",
            (smallest + fixed).div_ceil(1_000_000)
        ))
    })?;
    for ((decision, choices), pick) in decisions.iter_mut().zip(&choices).zip(picks) {
        if !decision.reason.starts_with("override") {
            decision.format = choices[pick].format;
            decision.reason = format!("budget, estimated loss {:.3e}", choices[pick].loss);
        }
    }
    Ok(())
}

/// The ways to store a weight that the machine and its numbers allow.
fn choices(
    module: &Module,
    decision: &Decision,
    budget: &Budget,
    method: &'static str,
    context: &PassContext,
) -> Vec<Choice> {
    let weight = &decision.weight;
    let (depth, channels) = weight.extents(module);
    let from_bytes = weight.elements(module).bytes().len();
    let bytes = |format| stored_bytes(format, decision.pruning, from_bytes, [depth, channels]);
    let float = Choice { format: None, bytes: bytes(None), loss: 0.0 };
    let of = |format: WeightFormat| {
        let loss = budget.losses.find(&weight.name, format).or_else(|| {
            let (signal, noise) = squared_error(module, weight, format, method)?;
            Some(if signal > 0.0 { noise / signal } else { 0.0 })
        })?;
        Some(Choice { format: Some(format), bytes: bytes(Some(format)), loss })
    };
    if decision.reason.starts_with("override") {
        return vec![decision.format.and_then(of).unwrap_or(float)];
    }
    let compute = weight.compute(module);
    let named = BUDGET_FORMATS.iter().filter_map(|text| text.parse().ok());
    let mut formats: Vec<WeightFormat> = decision.format.into_iter().chain(named).collect();
    formats.dedup();
    let fits = |format: &WeightFormat| {
        context.machine.weight_veto(compute, format).is_none() && format.check_depth(depth).is_ok()
    };
    formats.into_iter().filter(fits).filter_map(of).chain([float]).collect()
}

/// Squares of a weight's numbers and of what a format changes in them; `None` when it cannot hold them.
pub fn squared_error(
    module: &Module,
    weight: &Weight,
    format: WeightFormat,
    method: &'static str,
) -> Option<(f64, f64)> {
    let elements = weight.elements(module);
    let shape: Vec<usize> = elements.ty().known_shape()?.into_iter().map(|dim| dim.max(0) as usize).collect();
    let sharing = match format.granularity {
        Granularity::Tensor => Sharing::Tensor,
        Granularity::Channel => Sharing::Channel(1 - weight.depth_axis),
        Granularity::Group(group) => Sharing::Blocks(weight.depth_axis, group as usize),
    };
    let weights = Weights { element: elements.ty().element, shape: &shape, bytes: elements.bytes() };
    let WeightFormat { storage, scale, has_zero_point, .. } = format;
    if format.is_palette() {
        return compressor::palette_squared_error(weights, scale).ok();
    }
    let spec = Spec { storage, scale, has_zero_point, sharing, method };
    quantizer::squared_error(weights, &spec, None).ok()
}

/// The largest finite f16.
fn half_max() -> f32 {
    65504.0
}
