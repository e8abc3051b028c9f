//! `tilewright bench`: how fast a model runs on this machine.
//!
//! Each measurement is a process of its own, this program again with a hidden argument, so that load, first touch and peak memory
//! are those of a fresh start.

use super::CompileArguments;
use super::load::LoadArguments;
use crate::bench::report::Report;
use crate::bench::{Plan, Run, process};
use crate::exit::Failure;
use crate::session::Session;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use tilewright_runtime::kernels::pool::Pool;

/// Arguments.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  tilewright bench tests/models/story-3m --target host-cpu --quantize int4\n  \
    tilewright bench model.npu --prompt-tokens 128,512 --decode-tokens 64 --json\n  \
    tilewright bench resnet50.onnx --target host-cpu --precision bf16 --runs 50\n\n\
    Prompts and inputs are made up. The first prompt of a process, with cold pages and caches, counts in the time to the first token\n\
    only; rates are the best of the other two. Numbers are medians over processes, with the least and the largest."
)]
pub(crate) struct Arguments {
    /// An .onnx file, a folder with one, or an .npu artifact
    #[arg(value_name = "MODEL|OUT.npu")]
    model: PathBuf,
    /// Lengths of prompts, for a language model; the first is the one that tokens are written after
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "128")]
    prompt_tokens: Vec<usize>,
    /// Tokens written one by one after the first prompt
    #[arg(long, value_name = "N", default_value_t = 64)]
    decode_tokens: usize,
    /// Runs of a network without tokens, in each process
    #[arg(long, value_name = "N", default_value_t = 30)]
    runs: usize,
    /// Processes
    #[arg(long, value_name = "N", default_value_t = 3)]
    repetitions: usize,
    /// Do not measure the machine's limits beside
    #[arg(long)]
    no_limits: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Measure in this process, which was started then, and print what was measured
    #[arg(long, hide = true, value_name = "NANOSECONDS")]
    started: Option<u64>,
    /// What the model was compiled to
    #[arg(long, hide = true, value_name = "OUT.npu", requires = "started")]
    artifact: Option<PathBuf>,
    #[command(flatten)]
    how: LoadArguments,
    #[command(flatten)]
    what: CompileArguments,
}

/// Measures and shows.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let plan = Plan {
        prompt_tokens: arguments.prompt_tokens.clone(),
        decode_tokens: arguments.decode_tokens,
        runs: arguments.runs,
        threads: arguments.what.threads.unwrap_or(0),
    };
    if plan.prompt_tokens.contains(&0) || plan.prompt_tokens.is_empty() || arguments.repetitions == 0 {
        return Err(Failure::Usage("--prompt-tokens and --repetitions begin at 1".into()));
    }
    let model = arguments.artifact.as_ref().unwrap_or(&arguments.model);
    let mut mapped = arguments.how.artifact(session, model, &arguments.what, |_| {})?;
    if let Some(started) = arguments.started {
        if arguments.artifact.is_some() {
            // What was compiled just now needs no signature.
            mapped.opening.trusted.clear();
        }
        let started = process::started(started);
        let measured = process::measure(session, &mapped.path, &mapped.opening, &plan, started)?;
        say!("{}", serde_json::to_string(&measured).unwrap_or_default());
        return Ok(());
    }
    let compiled = mapped.compile_s.map(|_| &*mapped.path);
    let bar = super::compile::spinner("measuring");
    let runs = (0..arguments.repetitions).map(|_| measure(compiled)).collect::<Result<Vec<Run>, _>>();
    bar.finish_and_clear();
    let runs = runs?;
    let threads = runs.first().map_or(1, |run| run.threads);
    let limits = if arguments.no_limits { Vec::new() } else { super::doctor::limits(&Pool::new(threads)) };
    let size = std::fs::metadata(&mapped.path).map_or(0, |metadata| metadata.len());
    let name = arguments.model.display().to_string();
    let report =
        Report { model: name, plan, compile_s: mapped.compile_s, artifact_bytes: size, runs, limits };
    if arguments.json {
        say!("{:#}", report.to_json());
        return Ok(());
    }
    let first = &report.runs[0];
    say!(
        "{} for {} on {} threads, {} processes",
        report.model,
        first.target,
        first.threads,
        report.runs.len()
    );
    let mut table = super::table(&["", "median (min-max)", "of the machine"]);
    report.rows().into_iter().for_each(|row| {
        table.add_row(row);
    });
    say!("{table}");
    Ok(())
}

/// Starts this program again as it was started, with the artifact if it was compiled here, and takes what it prints.
fn measure(compiled: Option<&Path>) -> Result<Run, Failure> {
    let trouble = |what: String| {
        Failure::user(what, "try --repetitions 1; `tilewright run` tells more of a model that fails")
    };
    let program =
        std::env::current_exe().map_err(|error| trouble(format!("cannot find this program: {error}")))?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).stdin(Stdio::null()).stderr(Stdio::inherit());
    if let Some(artifact) = compiled {
        command.arg("--artifact").arg(artifact);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    command.arg("--started").arg(now.as_nanos().to_string());
    let output = command.output().map_err(|error| trouble(format!("cannot start a process: {error}")))?;
    if !output.status.success() {
        return Err(trouble(format!("a measuring process ended with {}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| trouble(format!("a measuring process: {error}")))
}
