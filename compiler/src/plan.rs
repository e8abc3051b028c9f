//! Which programs an artifact gets, and what each one's symbols stand for.
//!
//! A language model (an input `input_ids` and states) gets one program per chunk length: the chunk is bound, the past stays a
//! register whose maximum is the context window. Any other model gets one program in which every symbol is bound, but for the batch when a
//! largest one is given: then a run takes any up to it.
//!
//! ```text
//! input_ids: [batch, seq], attention_mask: [batch, total], past_key_values.0.key: [batch, 2, past, 16]
//! chunk 32: batch = 1, seq = 32, total = past + 32, past in 0 ..= context_window - 32
//! ```

use crate::signature::Signature;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dim::Dim;
use tilewright_ir::location::Location;
use tilewright_ir::symbols::{self, Substitution};

/// Chunk lengths when the user says none: one token at a time, and prompts in pieces of 32.
pub const DEFAULT_CHUNK_LENGTHS: &[usize] = &[1, 32];
/// Context window when neither the user nor the model's configuration says one.
pub const DEFAULT_CONTEXT_WINDOW: usize = 2048;
/// Largest context window.
pub const CONTEXT_WINDOW_MAX: usize = 1 << 20;

/// One program to be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramPlan {
    /// Its name in the artifact.
    pub name: String,
    /// Tokens per run; 0 when it is not about tokens.
    pub chunk_length: usize,
    /// What symbols stand for.
    pub substitution: Substitution,
    /// Largest value of each symbol that stays.
    pub maxima: BTreeMap<Arc<str>, i64>,
}

impl ProgramPlan {
    /// Tokens that the program's state holds at most; `None` where no state grows.
    pub fn context_window(&self) -> Option<i64> {
        let longest = self.maxima.values().max().filter(|_| self.chunk_length > 0);
        longest.map(|maximum| maximum + self.chunk_length as i64)
    }
}

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Chunk lengths; empty for the default.
    pub chunk_lengths: Vec<usize>,
    /// Context window.
    pub context_window: Option<usize>,
    /// Samples that one run takes at most; where it is none, a batch must be bound.
    pub batch_size: Option<usize>,
}

/// Decides the programs of a model from the types of its inputs and outputs.
///
/// # Errors
/// Symbols that nothing binds, all of them; chunk lengths that do not fit the context window.
pub fn plan(signature: &Signature, options: &PlanOptions) -> Result<Vec<ProgramPlan>, Diagnostics> {
    match language_model(signature) {
        Some(model) => plan_chunks(signature, &model, options),
        None => plan_single(signature, options.batch_size),
    }
}

/// The symbols that make a language model.
struct LanguageModel {
    batch: Option<Arc<str>>,
    sequence: Arc<str>,
    past: Option<Arc<str>>,
}

fn language_model(signature: &Signature) -> Option<LanguageModel> {
    let tokens =
        signature.inputs.iter().find(|input| ["input_ids", "inputs_embeds"].contains(&&*input.name))?;
    let sequence = tokens.ty.shape.get(1)?.as_symbol()?.clone();
    let batch = tokens.ty.shape[0].as_symbol().cloned();
    signature.states().next()?;
    let mut past = None;
    for state in signature.states() {
        for dim in &state.ty.shape {
            let symbol = dim.as_symbol().filter(|name| **name != sequence && Some(*name) != batch.as_ref());
            past = past.or(symbol.cloned());
        }
    }
    Some(LanguageModel { batch, sequence, past })
}

fn plan_chunks(
    signature: &Signature,
    model: &LanguageModel,
    options: &PlanOptions,
) -> Result<Vec<ProgramPlan>, Diagnostics> {
    let window = options.context_window.unwrap_or(DEFAULT_CONTEXT_WINDOW);
    let mut chunks: BTreeSet<usize> = options.chunk_lengths.iter().copied().collect();
    if chunks.is_empty() {
        chunks = DEFAULT_CHUNK_LENGTHS.iter().copied().filter(|length| *length <= window).collect();
    }
    let mut problems = Diagnostics::new();
    let mut fault = |what: String, help: &str| {
        problems.push(Diagnostic::error(Location::Unknown, what).with_help(help));
    };
    if window == 0 || window > CONTEXT_WINDOW_MAX {
        fault(
            format!("context window is {window}, expected 1 to {CONTEXT_WINDOW_MAX}"),
            "use --context-window",
        );
    }
    for length in &chunks {
        if *length == 0 || *length > window {
            fault(
                format!("chunk length {length} does not fit the context window of {window} tokens"),
                "use --chunk-lengths with lengths from 1 up to --context-window",
            );
        }
    }
    if let (Some(batch @ 2..), Some(_)) = (options.batch_size, &model.batch) {
        fault(
            format!("a batch of {batch}: the programs of a language model take one sequence"),
            "a batch size of 1; several sequences are several sessions on one artifact",
        );
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let plans = chunks.into_iter().map(|chunk| chunk_plan(signature, model, chunk, window)).collect();
    Ok(plans)
}

fn chunk_plan(signature: &Signature, model: &LanguageModel, chunk: usize, window: usize) -> ProgramPlan {
    let mut substitution = Substitution::from([(model.sequence.clone(), Dim::Known(chunk as i64))]);
    if let Some(batch) = &model.batch {
        substitution.insert(batch.clone(), Dim::Known(1));
    }
    let past = model.past.as_ref().map_or(Dim::Known(0), |name| Dim::symbol(name));
    let total = &past + &Dim::Known(chunk as i64);
    // Whatever symbol is left is another name of the total length (the mask's) or of a batch.
    let mut left = BTreeSet::new();
    for input in &signature.inputs {
        for (axis, dim) in input.ty.shape.iter().enumerate() {
            let mut symbols = BTreeSet::new();
            dim.collect_symbols(&mut symbols);
            left.extend(symbols.into_iter().map(|name| (name, axis)));
        }
    }
    for (name, axis) in left {
        if Some(&name) != model.past.as_ref() {
            let stands_for = if axis == 0 { Dim::Known(1) } else { total.clone() };
            substitution.entry(name).or_insert(stands_for);
        }
    }
    let maxima = model.past.iter().map(|name| (name.clone(), (window - chunk) as i64)).collect();
    ProgramPlan { name: format!("chunk_{chunk}"), chunk_length: chunk, substitution, maxima }
}

/// The symbol with which all inputs that are not fixed in it begin: the batch.
fn batch_symbol(signature: &Signature) -> Option<Arc<str>> {
    let mut leading = signature.inputs.iter().filter_map(|input| input.ty.shape.first()?.as_symbol());
    let first = leading.next()?;
    leading.all(|other| other == first).then(|| first.clone())
}

fn plan_single(signature: &Signature, batch_size: Option<usize>) -> Result<Vec<ProgramPlan>, Diagnostics> {
    let mut open = BTreeSet::new();
    for input in &signature.inputs {
        symbols::collect_type(&input.ty.clone().into(), &mut open);
    }
    let mut maxima = BTreeMap::new();
    match (batch_symbol(signature), batch_size) {
        (Some(symbol), Some(size)) => {
            open.remove(&symbol);
            maxima.insert(symbol, size as i64);
        }
        (None, Some(size @ 2..)) => {
            let what = format!("a batch of {size}: no dimension is the batch of all inputs");
            let help = "export the model with a symbolic first dimension, or use a batch size of 1";
            return Err(vec![Diagnostic::error(Location::Unknown, what).with_help(help)]);
        }
        _ => {}
    }
    if open.is_empty() {
        let (name, substitution) = ("main".to_string(), Substitution::new());
        return Ok(vec![ProgramPlan { name, chunk_length: 0, substitution, maxima }]);
    }
    let example: Vec<String> = open.iter().map(|name| format!("{name}=1")).collect();
    let problems = open.iter().map(|name| {
        let inputs: Vec<String> = signature
            .inputs
            .iter()
            .filter(|input| {
                let mut symbols = BTreeSet::new();
                symbols::collect_type(&input.ty.clone().into(), &mut symbols);
                symbols.contains(name)
            })
            .map(|input| format!("'{}': {}", input.name, input.type_text()))
            .collect();
        Diagnostic::error(
            Location::Unknown,
            format!("dimension '{name}' of input {} is open", inputs.join(", ")),
        )
        .with_help(format!("an NPU runs static shapes: give --bind {}", example.join(",")))
    });
    Err(problems.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Port;
    use tilewright_ir::element::Element;
    use tilewright_ir::types::TensorType;

    fn port(name: &str, dims: &[&str], state: Option<&str>) -> Port {
        let shape = dims.iter().map(|dim| dim.parse().unwrap());
        let ty = TensorType::new(Element::F32, shape);
        Port { name: name.into(), ty, state: state.map(Into::into), is_strings: false }
    }

    fn model() -> Signature {
        Signature {
            inputs: vec![
                port("input_ids", &["batch", "seq"], None),
                port("attention_mask", &["batch", "total"], None),
                port("past_key_values.0.key", &["batch", "2", "past", "16"], Some("present.0.key")),
            ],
            outputs: vec![port(
                "present.0.key",
                &["batch", "2", "past + seq", "16"],
                Some("past_key_values.0.key"),
            )],
        }
    }

    #[test]
    fn a_language_model_gets_a_program_per_chunk() {
        let options =
            PlanOptions { chunk_lengths: vec![8, 1], context_window: Some(64), ..PlanOptions::default() };
        let plans = plan(&model(), &options).unwrap();
        assert_eq!(plans.iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>(), ["chunk_1", "chunk_8"]);
        assert_eq!(plans[1].substitution["total"].to_string(), "past + 8");
        assert_eq!(plans[1].maxima["past"], 56);
        let wrong = PlanOptions { chunk_lengths: vec![128], ..options };
        assert!(plan(&model(), &wrong).unwrap_err()[0].what.contains("128"));
    }

    #[test]
    fn a_batch_has_a_largest_size() {
        let of = |batch_size| PlanOptions { batch_size, ..PlanOptions::default() };
        let signature =
            |dims: &[&str]| Signature { inputs: vec![port("x", dims, None)], outputs: Vec::new() };
        let plans = plan(&signature(&["n", "3"]), &of(Some(4))).unwrap();
        assert_eq!(plans[0].maxima["n"], 4);
        assert_eq!(plans[0].context_window(), None);
        assert!(plan(&signature(&["n", "3"]), &of(None)).is_err());
        assert!(plan(&signature(&["n", "m"]), &of(Some(4))).unwrap_err()[0].what.contains("'m'"));
        assert!(plan(&signature(&["1", "3"]), &of(Some(1))).is_ok());
        assert!(plan(&signature(&["1", "3"]), &of(Some(2))).unwrap_err()[0].what.contains("a batch of 2"));
        assert!(plan(&model(), &of(Some(2))).unwrap_err()[0].what.contains("one sequence"));
    }

    #[test]
    fn open_symbols_are_all_named() {
        let signature = Signature { inputs: vec![port("x", &["a", "b", "3"], None)], outputs: Vec::new() };
        let problems = plan(&signature, &PlanOptions::default()).unwrap_err();
        assert_eq!(problems.len(), 2);
        assert!(problems[0].help.contains("--bind a=1,b=1"), "{}", problems[0]);
    }
}
