//! Float weights of products and of row look-ups become quantised ones: a recipe over the mapped weight, carried out when the artifact
//! is written. Weights that are quantised already are not touched.
//!
//! ```text
//! %y = "core.matmul"(%x, %w)
//!   =>   %q, %s = "core.quantize_weight"(%w) {..}   %d = "core.dequantize"(%q, %s)   %y = "core.matmul"(%x, %d)
//! %y = "core.gather"(%w, %i)
//!   =>   %a = "core.gather"(%q, %i)   %b = "core.gather"(%s, %i)   %y = "core.dequantize"(%a, %b)
//! ```

pub mod apply;
pub mod budget;
pub mod decide;
pub mod incoming;
pub mod policy;
pub mod prune;
pub mod roles;

use crate::fold_channel_factors::{FoldChannelFactors, multiply_inputs};
use crate::pass::{OptionDef, Options, Pass, PassContext, PassDef};
use crate::quantize_activations::QuantizeActivations;
use apply::{Making, Stored};
use budget::Losses;
use decide::{Decision, decide, within_budget};
use policy::Policy;
use prune::PrunePolicy;
use std::collections::BTreeMap;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_ir::module::{Module, OpId};
use tilewright_ir::weight_format::{ActivationFormat, Role};

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "quantize-weights",
    doc: "Quantises the float weights of products and embeddings. Expects core IR as imported and canonicalised.",
    options: &[
        OptionDef { name: "preset", default: "mixed", doc: "a preset of weight formats" },
        OptionDef {
            name: "overrides",
            default: "",
            doc: "PATTERN=FORMAT;.. for some weights: globs or role:NAME",
        },
        OptionDef {
            name: "allow-fallback",
            default: "false",
            doc: "take the nearest format where one does not fit",
        },
        OptionDef { name: "prune", default: "none", doc: "2:4, or magnitude:F" },
        OptionDef { name: "prune-overrides", default: "", doc: "PATTERN=HOW;.. for some weights" },
    ],
    make: |options| {
        let budget = match options.values.get("bytes-max") {
            Some(_) => Some(Budget { bytes_max: options.get("bytes-max", 0)?, losses: Losses::default() }),
            None => None,
        };
        let policy = policy_of(options)?;
        let activations = policy.preset.activations;
        Ok(Box::new(QuantizeWeights { policy, budget, stored: BTreeMap::new(), activations }))
    },
};

/// What became of a weight, for the placement table.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightRow {
    /// Its name in the model.
    pub name: String,
    /// The nodes that use it.
    pub location: Location,
    /// The part it plays.
    pub role: Role,
    /// Its format; `float` when it stays as it is.
    pub format: String,
    /// Who chose it, and why it is another one than wished.
    pub reason: String,
    /// The format that the machine vetoed, and why; for the op that uses it.
    pub veto: Option<String>,
    /// Bytes in the model.
    pub from_bytes: usize,
    /// Bytes in the artifact.
    pub to_bytes: usize,
}

fn policy_of(options: &Options) -> Result<Policy, String> {
    let preset = options.values.get("preset").map_or("mixed", String::as_str);
    let overrides = options.values.get("overrides").map_or("", String::as_str);
    let overrides: Vec<String> =
        overrides.split(';').filter(|one| !one.is_empty()).map(ToString::to_string).collect();
    let mut policy = Policy::new(preset, &overrides, options.get("allow-fallback", false)?)?;
    let words = options.values.get("prune-overrides").map_or("", String::as_str);
    let words: Vec<String> =
        words.split(';').filter(|one| !one.is_empty()).map(ToString::to_string).collect();
    policy.prune = PrunePolicy::new(options.values.get("prune").map_or("", String::as_str), &words)?;
    Ok(policy)
}

/// A size that all constants together must not pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budget {
    /// Bytes of all constants of the model.
    pub bytes_max: usize,
    /// Measured losses; what is not among them is estimated by the share of a weight's energy that rounding changes.
    pub losses: Losses,
}

/// The pass with its policy.
pub struct QuantizeWeights {
    /// Who gets which format.
    pub policy: Policy,
    /// With a budget the preset's formats give way to those with the least loss in it; the user's exceptions stay.
    pub budget: Option<Budget>,
    /// Weights that were quantised beforehand, by name; the others become recipes.
    pub stored: BTreeMap<String, Stored>,
    /// How products take activations.
    pub activations: ActivationFormat,
}

impl QuantizeWeights {
    /// The format of every weight; nothing is changed.
    ///
    /// # Errors
    /// All weights that do not take their format; a budget that is too small.
    pub fn decisions(
        &self,
        module: &Module,
        context: &mut PassContext,
    ) -> Result<Vec<Decision>, Diagnostics> {
        let (mut problems, mut all) = (Diagnostics::new(), Vec::new());
        for function in module.functions() {
            let weights = roles::weights(module, function);
            for one in self.policy.unused(&weights, module) {
                context.warn(
                    Location::Unknown,
                    format!("'{one}' fits no weight"),
                    format!("names of weights are such as {}", examples(&weights)),
                );
            }
            let mut decisions = decide(module, weights, &self.policy, context, &mut problems);
            if let Some(budget) = self.budget.as_ref().filter(|_| problems.is_empty()) {
                let method = self.policy.preset.method;
                if let Err(problem) = within_budget(module, &mut decisions, budget, method, context) {
                    problems.push(problem);
                }
            }
            all.append(&mut decisions);
        }
        if problems.is_empty() { Ok(all) } else { Err(problems) }
    }
}

impl Pass for QuantizeWeights {
    fn run(&self, module: &mut Module, context: &mut PassContext) -> Result<(), Diagnostics> {
        let mut activations = QuantizeActivations::default();
        let mut divided = Vec::new();
        for decision in self.decisions(module, context)? {
            context.weights.push(decision.row(module));
            let stored = self.stored.get(&decision.weight.name);
            let making = stored.map_or(Making::Recipe(self.policy.preset.method), Making::Stored);
            apply::apply(module, &decision, making).map_err(|problem| vec![problem])?;
            let Some(stored) = stored else { continue };
            let products = decision.weight.products(module);
            if let Some(largest) = stored.input_largest {
                activations.largest.extend(products.iter().map(|op| (*op, largest)));
            }
            if !stored.input_divisors.is_empty() {
                divided.push((products, &stored.input_divisors));
            }
        }
        divide_inputs(module, &divided)?;
        if !divided.is_empty() {
            FoldChannelFactors.run(module, context)?;
        }
        if self.activations == ActivationFormat::Int8 {
            activations.run(module, context)?;
        }
        Ok(())
    }
}

/// Divides the inputs of products by what their weights were multiplied by.
fn divide_inputs(module: &mut Module, divided: &[(Vec<OpId>, &Vec<f32>)]) -> Result<(), Diagnostics> {
    let mut known = BTreeMap::new();
    for (products, divisors) in divided {
        let factors: Vec<f32> = divisors.iter().map(|divisor| 1.0 / divisor).collect();
        multiply_inputs(module, products, &factors, &mut known).map_err(|what| {
            let location = products.first().map_or(Location::Unknown, |op| module.op(*op).location.clone());
            vec![Diagnostic::error(location, format!("divisors of channels: {what}"))]
        })?;
    }
    Ok(())
}

fn examples(weights: &[roles::Weight]) -> String {
    let names: Vec<String> = weights.iter().take(3).map(|weight| format!("'{}'", weight.name)).collect();
    if names.is_empty() { "none here".into() } else { names.join(", ") }
}
