//! A model whose logits are measured: an artifact in the interpreter, or the imported model on the reference evaluator.
//!
//! Knows how a window of tokens becomes inputs; not what is done with the logits.

use super::taps::Tap;
use crate::driver::CompileOptions;
use crate::loaded::told;
use crate::model::Source;
use crate::plan::{PlanOptions, plan};
use crate::session::Session;
use crate::signature::Signature;
use std::path::Path;
use std::sync::Arc;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dim::Bindings;
use tilewright_ir::evaluate;
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;
use tilewright_ir::tensor::Tensor;
use tilewright_runtime::artifact::{Artifact, Verify};
use tilewright_runtime::generate::session::{ArtifactModel, TokenModel};
use tilewright_runtime::opening::{Opening, open_artifact};
use tilewright_runtime::session::{Options, Session as RuntimeSession};

/// A model to be measured.
pub struct Subject {
    /// How reports call it.
    pub name: String,
    /// The artifact's size in bytes; `None` on the reference evaluator.
    pub bytes: Option<u64>,
    taps: Vec<Tap>,
    kind: Kind,
}

enum Kind {
    Artifact {
        artifact: Arc<Artifact>,
        // The file that a compiled artifact is mapped from lives as long as the mapping.
        _folder: Option<tempfile::TempDir>,
    },
    Reference {
        module: Box<Module>,
        signature: Signature,
    },
}

fn problem(what: impl Into<String>) -> Diagnostics {
    vec![Diagnostic::error(Location::Unknown, what.into())]
}

impl Subject {
    /// Compiles a model for windows of `window` tokens. Where the options say no chunk lengths a window is one run, and where they
    /// say no context window it holds one.
    ///
    /// # Errors
    /// All problems of the compilation.
    pub fn compile(
        session: &Session,
        source: &Source,
        name: &str,
        options: &CompileOptions,
        window: usize,
    ) -> Result<Subject, Diagnostics> {
        let mut options = options.clone();
        if options.plan.chunk_lengths.is_empty() {
            options.plan.chunk_lengths = vec![window];
        }
        options.plan.context_window.get_or_insert(window);
        let compilation = session.compile(source, &options)?;
        let folder = tempfile::tempdir().map_err(|error| {
            vec![
                Diagnostic::error(Location::Unknown, format!("cannot make a temporary folder: {error}"))
                    .with_help("set TMPDIR"),
            ]
        })?;
        let path = folder.path().join("model.npu");
        compilation.write(&path).map_err(|problem| vec![problem])?;
        let mapped = Subject::map(&path, Verify::ExceptConstants, Some(folder))?;
        Ok(Subject { name: name.into(), taps: compilation.taps, ..mapped })
    }

    /// Maps an artifact that was compiled before; it is called by its path.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn open(path: &Path) -> Result<Subject, Diagnostics> {
        Subject::map(path, Verify::All, None)
    }

    fn map(path: &Path, verify: Verify, folder: Option<tempfile::TempDir>) -> Result<Subject, Diagnostics> {
        let opening = Opening { verify, ..Opening::default() };
        let artifact = open_artifact(path, &opening).map_err(|problem| vec![told(problem)])?;
        let weights = artifact.bound_weights().map_or(0, |weights| weights.file_bytes());
        let bytes = Some(artifact.file_bytes() + weights);
        let kind = Kind::Artifact { artifact: Arc::new(artifact), _folder: folder };
        Ok(Subject { name: path.display().to_string(), bytes, taps: Vec::new(), kind })
    }

    /// The imported model itself, on the reference evaluator: slow, and the oracle for everything else.
    ///
    /// # Errors
    /// All problems of the import.
    pub fn reference(
        session: &Session,
        source: &Source,
        options: &CompileOptions,
    ) -> Result<Subject, Diagnostics> {
        let imported = session.import_with(source, &options.import_options())?;
        let function = imported.module.functions().first().copied();
        let function = function.ok_or_else(|| problem("the model holds no graph"))?;
        let signature = Signature::of(&imported.module, function);
        let kind = Kind::Reference { module: Box::new(imported.module), signature };
        Ok(Subject { name: "reference".into(), bytes: None, taps: Vec::new(), kind })
    }

    /// The values from inside that it gives out, when it was compiled with `layer_outputs`.
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// The artifact; `None` on the reference evaluator.
    pub fn artifact(&self) -> Option<&Artifact> {
        match &self.kind {
            Kind::Artifact { artifact, .. } => Some(artifact),
            Kind::Reference { .. } => None,
        }
    }

    /// Something that runs it; a thread has its own.
    ///
    /// # Errors
    /// When a program is refused, or takes no tokens.
    pub fn runner(&self) -> Result<Runner<'_>, Diagnostics> {
        match &self.kind {
            Kind::Artifact { artifact, .. } => {
                let told = |what: String| problem(format!("'{}': {what}", self.name));
                let session = RuntimeSession::new(artifact.clone(), Options::default())
                    .map_err(|error| told(error.to_string()))?;
                let model = ArtifactModel::new(session).map_err(|error| told(error.to_string()))?;
                Ok(Runner::Artifact(Box::new(model)))
            }
            Kind::Reference { module, signature } => Ok(Runner::Reference { module, signature }),
        }
    }
}

/// Runs a subject.
pub enum Runner<'a> {
    /// In the interpreter.
    Artifact(Box<ArtifactModel>),
    /// On the evaluator.
    Reference {
        /// Core IR as imported.
        module: &'a Module,
        /// Its border.
        signature: &'a Signature,
    },
}

impl Runner<'_> {
    /// Logits for what follows each token of a window that begins with nothing before it: [tokens, vocabulary] row-major.
    ///
    /// # Errors
    /// When the model cannot run it; in words.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, String> {
        match self {
            Runner::Artifact(model) => {
                model.reset();
                let mut logits = Vec::new();
                let mut past = 0;
                while past < tokens.len() {
                    let waiting = tokens.len() - past;
                    let count = model.chunk(past, waiting).clamp(1, waiting);
                    let rows = model.forward_rows(past, &tokens[past..past + count]);
                    logits.extend(rows.map_err(|error| error.to_string())?);
                    past += count;
                }
                Ok(logits)
            }
            Runner::Reference { module, signature } => reference_logits(module, signature, tokens),
        }
    }
}

fn reference_logits(module: &Module, signature: &Signature, tokens: &[u32]) -> Result<Vec<f32>, String> {
    let (inputs, bindings) = reference_inputs(signature, tokens)?;
    let function = module.functions().first().copied();
    let name = function.and_then(|function| module.symbol_name(function)).unwrap_or("main");
    let outputs = evaluate::run_with(module, name, &inputs, &bindings).map_err(|error| error.to_string())?;
    let place = signature.outputs.iter().position(|port| &*port.name == "logits").unwrap_or(0);
    let logits = outputs.get(place).ok_or("the model has no output")?;
    Ok(logits.floats().into_iter().map(|logit| logit as f32).collect())
}

/// A language model's inputs in graph order for one sequence of tokens with nothing before it, and the values of its symbols.
///
/// # Errors
/// Names an input that is none of `input_ids`, `attention_mask`, `position_ids` and the states.
pub fn reference_inputs(signature: &Signature, tokens: &[u32]) -> Result<(Vec<Tensor>, Bindings), String> {
    let options = PlanOptions {
        chunk_lengths: vec![tokens.len()],
        context_window: Some(tokens.len()),
        ..PlanOptions::default()
    };
    let plans = plan(signature, &options)
        .map_err(|problems| problems.first().map(ToString::to_string).unwrap_or_default())?;
    let plan = plans.first().ok_or("the model has no program")?;
    let none: Bindings = plan.maxima.keys().map(|name| (name.clone(), 0)).collect();
    let mut bindings = none.clone();
    for (name, dim) in &plan.substitution {
        bindings.insert(name.clone(), dim.evaluate(&none).ok_or_else(|| format!("'{name}' is open"))?);
    }
    let mut inputs = Vec::new();
    for port in &signature.inputs {
        let shape: Option<Vec<i64>> = port.ty.shape.iter().map(|dim| dim.evaluate(&bindings)).collect();
        let shape = shape.ok_or_else(|| format!("input '{}': {} is open", port.name, port.ty))?;
        let count: i64 = shape.iter().product();
        let values: Vec<i64> = match &*port.name {
            "input_ids" => tokens.iter().map(|&token| i64::from(token)).collect(),
            "attention_mask" => vec![1; count as usize],
            "position_ids" => (0..count).collect(),
            _ if port.state.is_some() => vec![0; count as usize],
            name => return Err(format!("the model takes an input '{name}', which a text cannot fill")),
        };
        if values.len() as i64 != count {
            return Err(format!("input '{}' takes {count} values for {} tokens", port.name, tokens.len()));
        }
        inputs.push(if port.ty.element.is_float() {
            let floats = values.iter().map(|&value| value as f64).collect();
            let shape: Vec<usize> = shape.iter().map(|&extent| extent as usize).collect();
            Tensor::from_floats(port.ty.element, &shape, floats)
        } else {
            Tensor::from_ints(port.ty.element, &shape, values)
        });
    }
    Ok((inputs, bindings))
}
