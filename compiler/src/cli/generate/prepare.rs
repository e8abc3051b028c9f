//! A model made ready to write: compiled if it must be, then mapped, with the files that belong to it.

use crate::chat::TokenizerConfig;
use crate::cli::CompileArguments;
use crate::cli::load::{LoadArguments, Mapped};
use crate::exit::Failure;
use crate::generation_config::{self, GenerationConfig};
use crate::loaded::Loaded;
use crate::plan::DEFAULT_CHUNK_LENGTHS;
use crate::session::Session;
use std::path::Path;
use tilewright_ir::diagnostic::Diagnostics;

/// A model ready to write, and what belongs to it.
pub(super) struct Ready {
    pub(super) loaded: Loaded,
    pub(super) tokenizer: Option<Vec<u8>>,
    pub(super) tokenizer_config: TokenizerConfig,
    pub(super) chat_template: Option<Vec<u8>>,
    pub(super) config: GenerationConfig,
    /// What the model asks for and does not get.
    pub(super) config_warnings: Diagnostics,
    /// 0 for an artifact.
    pub(super) compile_ms: f64,
    pub(super) target: String,
    /// The file that the artifact is mapped from lives as long as the mapping.
    pub(super) _mapped: Mapped,
}

/// Opens an artifact, or compiles a model. `chunk_length` is one that an ONNX model gets beside the usual ones, when the user names none.
pub(super) fn prepare(
    session: &Session,
    model: &Path,
    what: &CompileArguments,
    how: &LoadArguments,
    chunk_length: Option<usize>,
) -> Result<Ready, Failure> {
    let mapped = how.artifact(session, model, what, |options| {
        if let (Some(length), true) = (chunk_length, options.plan.chunk_lengths.is_empty()) {
            options.plan.chunk_lengths = DEFAULT_CHUNK_LENGTHS.to_vec();
            options.plan.chunk_lengths.push(length);
        }
    })?;
    let loaded = Loaded::open_with(&mapped.path, &mapped.opening)?;
    let artifact = loaded.artifact.clone();
    let blob = |name: &str| artifact.as_ref().and_then(|artifact| artifact.blob(name)).map(<[u8]>::to_vec);
    let tokenizer_config = blob("tokenizer_config.json").map(|bytes| TokenizerConfig::from_bytes(&bytes));
    Ok(Ready {
        tokenizer: blob("tokenizer.json"),
        tokenizer_config: tokenizer_config.transpose()?.unwrap_or_default(),
        chat_template: blob("chat_template.jinja"),
        config: GenerationConfig::from_files(blob)?,
        config_warnings: blob(generation_config::STRONGEST)
            .map(|bytes| generation_config::not_understood(&bytes))
            .unwrap_or_default(),
        target: artifact.as_ref().map_or(String::new(), |artifact| artifact.target.clone()),
        loaded,
        compile_ms: mapped.compile_s.unwrap_or(0.0) * 1e3,
        _mapped: mapped,
    })
}
