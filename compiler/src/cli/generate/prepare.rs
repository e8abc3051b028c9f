//! A model made ready to write: compiled if it must be, then mapped, with the files that belong to it.

use crate::chat::TokenizerConfig;
use crate::cli::CompileArguments;
use crate::cli::load::LoadArguments;
use crate::exit::Failure;
use crate::generation_config::{self, GenerationConfig};
use crate::loaded::Loaded;
use crate::model::Source;
use crate::plan::DEFAULT_CHUNK_LENGTHS;
use crate::session::Session;
use std::path::Path;
use std::time::Instant;
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
    pub(super) _folder: Option<tempfile::TempDir>,
}

/// Opens an artifact, or compiles a model. `chunk_length` is one that an ONNX model gets beside the usual ones, when the user names none.
pub(super) fn prepare(
    session: &Session,
    model: &Path,
    what: &CompileArguments,
    how: &LoadArguments,
    chunk_length: Option<usize>,
) -> Result<Ready, Failure> {
    let start = Instant::now();
    let (source, mut opening) = how.source(model)?;
    opening.threads = what.threads.unwrap_or(0);
    let (path, folder) = match source {
        Source::Artifact(path) => (path, None),
        source => {
            let mut options = what.options()?;
            if let (Some(length), true) = (chunk_length, options.plan.chunk_lengths.is_empty()) {
                options.plan.chunk_lengths = DEFAULT_CHUNK_LENGTHS.to_vec();
                options.plan.chunk_lengths.push(length);
            }
            let bar = crate::cli::compile::spinner(&format!("compiling for {}", what.target));
            let compilation = session.compile(&source, &options);
            bar.finish_and_clear();
            let compilation = compilation?;
            crate::render::print_all(&compilation.warnings, &[]);
            // The same way as for an artifact on disk: written once, then mapped.
            let folder = tempfile::tempdir().map_err(|error| {
                Failure::user(format!("cannot make a temporary folder: {error}"), "set TMPDIR")
            })?;
            let path = folder.path().join("model.npu");
            compilation.write(&path)?;
            // What was compiled just now needs no signature.
            opening.trusted.clear();
            (path, Some(folder))
        }
    };
    let compile_ms = start.elapsed().as_secs_f64() * 1e3;
    let loaded = Loaded::open_with(&path, &opening)?;
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
        compile_ms: if folder.is_some() { compile_ms } else { 0.0 },
        _folder: folder,
    })
}
