//! Quantisation of an imported model's weights: what the user asks for, and the passes that do it.
//!
//! Knows no terminal. The passes work on recipes: no weight is computed here.
//!
//! ```text
//! canonicalize,cse,dce   quantize-weights{preset=mixed}
//! ```

use crate::signature::Signature;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;
use tilewright_passes::PIPELINES;
use tilewright_passes::pass::{Pass, PassContext, Passes};
use tilewright_passes::pipeline::PassManager;
use tilewright_passes::quantize_weights::policy::Policy;
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
}

/// Quantises the weights of an imported module. Gives what became of each.
///
/// # Errors
/// Options that say nothing known, and all weights that do not take their format.
pub fn quantize(
    module: &mut Module,
    options: &QuantizeOptions,
    passes: &Passes,
    context: &mut PassContext,
) -> Result<Vec<WeightRow>, Diagnostics> {
    let policy = Policy::new(&options.preset, &options.overrides, options.allows_fallback)
        .map_err(|what| vec![Diagnostic::error(Location::Unknown, what)])?;
    // Roles are read from the canonical form: an exporter's identities and casts are gone.
    let (_, canonical) = PIPELINES[0];
    let manager = PassManager::parse(canonical, passes).map_err(|problem| vec![problem])?;
    manager.run(module, context, &mut []).map_err(|failure| failure.diagnostics)?;
    let budget = options.bytes_max.map(|bytes_max| Budget { bytes_max, ..Budget::default() });
    QuantizeWeights { policy, budget }.run(module, context)?;
    Ok(std::mem::take(&mut context.weights))
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
