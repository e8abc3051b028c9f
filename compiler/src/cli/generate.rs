//! `tilewright generate`: a language model writes text, streamed as it comes.

use super::CompileArguments;
use super::load::LoadArguments;
use crate::exit::Failure;
use crate::loaded::Loaded;
use crate::model::Source;
use crate::session::Session;
use crate::story::{CacheFiles, Ending, Story};
use crate::tokens::{GenerationConfig, TokenCodec};
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;
use tilewright_runtime::generate::sample::Sampling;
use tilewright_runtime::generate::session::Settings;

/// Tokens when neither the user nor the model's configuration says how many.
const NEW_TOKENS_DEFAULT: usize = 128;

/// Arguments.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  tilewright generate tests/models/story-3m --prompt 'Once upon a time'\n  \
    tilewright generate story.npu --prompt 'The king' --temperature 0.8 --top-p 0.95 --seed 7\n  \
    tilewright generate model.onnx --input-ids 1,2,3 --max-new-tokens 16\n  \
    echo 'Once upon a time' | tilewright generate story.npu --prompt -\n  \
    tilewright generate story.npu --prompt 'A long text' --save-cache text.state\n  \
    tilewright generate story.npu --prompt 'A long text, continued' --load-cache text.state\n\n\
    With a tokenizer.json (beside the model, or inside the artifact) text goes in and comes out; with --input-ids, ids do."
)]
pub(crate) struct Arguments {
    /// An .onnx file, a folder with one, or an .npu artifact
    #[arg(value_name = "MODEL|OUT.npu")]
    model: PathBuf,
    /// The text to continue; '-' is standard input
    #[arg(long, value_name = "TEXT", conflicts_with = "input_ids")]
    prompt: Option<String>,
    /// The token ids to continue; ids come out
    #[arg(long, value_name = "ID,...", value_delimiter = ',')]
    input_ids: Vec<u32>,
    /// Most tokens to write
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// 0 takes the most likely token; 1 draws from the model's distribution
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Draw from the N most likely tokens only; 0 is all
    #[arg(long, default_value_t = 0, value_name = "N")]
    top_k: usize,
    /// Draw from the most likely tokens that together reach this probability
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Seed of the draw
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// End before this text; may be given again
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Token ids that end the text, in place of the model's own
    #[arg(long, value_name = "ID,...", value_delimiter = ',')]
    eos: Vec<u32>,
    /// Begin with the state in this file, as far as its tokens are the prompt's (see --save-cache)
    #[arg(long, value_name = "FILE")]
    load_cache: Option<PathBuf>,
    /// Leave the state at the end of the text in this file, for --load-cache with the same artifact
    #[arg(long, value_name = "FILE")]
    save_cache: Option<PathBuf>,
    /// Do not print the closing line of statistics
    #[arg(long)]
    no_stats: bool,
    #[command(flatten)]
    how: LoadArguments,
    #[command(flatten)]
    what: CompileArguments,
}

/// A model ready to write, and what belongs to it.
struct Writer {
    loaded: Loaded,
    tokenizer: Option<Vec<u8>>,
    config: GenerationConfig,
    compile_ms: f64,
    target: String,
    // The file that the artifact is mapped from lives as long as the mapping.
    _artifact: Option<tempfile::TempDir>,
}

fn prepare(session: &Session, arguments: &Arguments) -> Result<Writer, Failure> {
    let start = Instant::now();
    let (path, folder) = match Source::open(&arguments.model)? {
        Source::Artifact(path) => (path, None),
        source => {
            let bar = super::compile::spinner(&format!("compiling for {}", arguments.what.target));
            let compilation = session.compile(&source, &arguments.what.options()?);
            bar.finish_and_clear();
            let compilation = compilation?;
            crate::render::print_all(&compilation.warnings, &[]);
            // The same way as for an artifact on disk: written once, then mapped.
            let folder = tempfile::tempdir().map_err(|error| {
                Failure::user(format!("cannot make a temporary folder: {error}"), "set TMPDIR")
            })?;
            let path = folder.path().join("model.npu");
            compilation.write(&path)?;
            (path, Some(folder))
        }
    };
    let compile_ms = start.elapsed().as_secs_f64() * 1e3;
    let loaded = Loaded::open_with(&path, &arguments.how.opening())?;
    let artifact = loaded.artifact.clone();
    let blob = |name: &str| artifact.as_ref().and_then(|artifact| artifact.blob(name)).map(<[u8]>::to_vec);
    let mut config = GenerationConfig::default();
    for name in ["config.json", "generation_config.json"] {
        if let Some(bytes) = blob(name) {
            config = config.or(GenerationConfig::from_bytes(name, &bytes)?);
        }
    }
    Ok(Writer {
        tokenizer: blob("tokenizer.json"),
        target: artifact.as_ref().map_or(String::new(), |artifact| artifact.target.clone()),
        loaded,
        config,
        compile_ms: if folder.is_some() { compile_ms } else { 0.0 },
        _artifact: folder,
    })
}

fn prompt_text(arguments: &Arguments) -> Result<String, Failure> {
    match arguments.prompt.as_deref() {
        Some("-") => {
            Ok(crate::output::read_text(std::path::Path::new("-"))?.trim_end_matches('\n').to_string())
        }
        Some(text) => Ok(text.to_string()),
        None => Err(Failure::Usage("say what to continue: --prompt TEXT or --input-ids ID,...".into())),
    }
}

/// Writes the text.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let by_ids = !arguments.input_ids.is_empty();
    let text = if by_ids { String::new() } else { prompt_text(arguments)? };
    let writer = prepare(session, arguments)?;
    let codec = match (&writer.tokenizer, by_ids) {
        (_, true) => None,
        (Some(bytes), false) => Some(TokenCodec::from_bytes(bytes)?),
        (None, false) => {
            return Err(Failure::user(
                "the model has no tokenizer.json",
                "put one beside the model, or give token ids with --input-ids",
            ));
        }
    };
    let ids = match &codec {
        Some(codec) => codec.encode(&text)?,
        None => arguments.input_ids.clone(),
    };
    let stop_tokens = if arguments.eos.is_empty() { writer.config.eos_ids() } else { arguments.eos.clone() };
    let settings = Settings {
        sampling: Sampling {
            temperature: arguments.temperature,
            top_k: arguments.top_k,
            top_p: arguments.top_p,
            seed: arguments.seed,
        },
        token_count_max: arguments
            .max_new_tokens
            .or(writer.config.max_new_tokens)
            .unwrap_or(NEW_TOKENS_DEFAULT),
        stop_tokens,
    };
    let mut out = std::io::stdout().lock();
    // A closed pipe (`| head`) ends the story, not the program with a fault.
    let mut say = |piece: &str| out.write_all(piece.as_bytes()).and_then(|()| out.flush()).is_ok();
    if codec.is_some() {
        say(&text);
    }
    let timing = crate::story::modelled(&writer.loaded, session, &writer.target);
    let cache = CacheFiles { load: arguments.load_cache.as_deref(), save: arguments.save_cache.as_deref() };
    let story = Story { settings, stop: &arguments.stop, cache, codec: codec.as_ref() };
    let summary = story
        .write(writer.loaded.session, &ids, &mut say)
        .map_err(|error| Diagnostic::error(Location::Unknown, error.to_string()))?;
    say("\n");
    if !arguments.no_stats {
        let ending = match summary.ending {
            Ending::StopToken => "end of text",
            Ending::StopText => "stop text",
            Ending::Length => "length",
            Ending::ContextFull => "context window full",
            Ending::Closed => "output closed",
        };
        let decode_seconds = summary.decode.as_secs_f64();
        let rate = (summary.tokens.saturating_sub(1)) as f64 / decode_seconds.max(1e-9);
        eprintln!(
            "[{} tokens, {ending}; compile {:.0} ms, first token {:.0} ms, {rate:.1} tokens/s on this host{}]",
            summary.tokens,
            writer.compile_ms,
            summary.first_token.as_secs_f64() * 1e3,
            timing.map(|timing| format!("; {timing}")).unwrap_or_default(),
        );
    }
    Ok(())
}
