//! `tilewright profile`: what a model or an artifact costs on its machine.

use super::CompileArguments;
use crate::exit::Failure;
use crate::model::Source;
use crate::output;
use crate::report::text::{Shown, text};
use crate::report::{Contexts, Report, Subject, build, csv, html, trace};
use crate::session::Session;
use std::path::{Path, PathBuf};
use tilewright_runtime::artifact::Verify;
use tilewright_targets::placement::PlacementRow;
use tilewright_targets::target::Target;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright profile story.npu\n  \
    tilewright profile models/story-3m --context 128,1024,8000 --html story.html\n  \
    tilewright profile model.onnx --machine my.toml --quantize int4 --json | jq '.runs[].cycles'\n  \
    tilewright profile story.npu --program chunk_32 --trace story.json    # for ui.perfetto.dev or chrome://tracing\n  \
    tilewright profile story.npu --csv reports                            # Vela's columns")]
pub(crate) struct Arguments {
    /// An artifact, an .onnx file or a folder with one
    #[arg(value_name = "OUT.npu|MODEL")]
    model: PathBuf,
    /// Tokens in the cache: a run for each. When left out, 128, 1024 and 8192 for a token, as far as the cache holds them, and none for a
    /// chunk of a prompt
    #[arg(long, value_name = "TOKENS,...", value_delimiter = ',')]
    context: Vec<i64>,
    /// Only the program of this name (see `tilewright inspect`)
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
    /// Ops in the table of ops
    #[arg(long, default_value_t = 15, value_name = "N")]
    top: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write NAME_summary_MACHINE.csv and NAME_per-layer.csv into this folder, in Vela's columns
    #[arg(long, value_name = "DIR")]
    csv: Option<PathBuf>,
    /// Write time lines as Chrome trace events, which Perfetto reads
    #[arg(long, value_name = "FILE.json")]
    trace: Option<PathBuf>,
    /// Write one page with all tables and time lines, which needs nothing else
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    #[command(flatten)]
    what: CompileArguments,
}

/// Makes the report and shows it in all forms that were asked for.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let contexts = Contexts {
        tokens: arguments.context.clone(),
        program: arguments.program.clone(),
        with_details: arguments.html.is_some() || arguments.trace.is_some(),
    };
    if let Some(wrong) = contexts.tokens.iter().find(|tokens| **tokens < 0) {
        return Err(Failure::Usage(format!("a context of {wrong} tokens")));
    }
    let report = report(session, &arguments.model, &arguments.what, &contexts)?;
    if let Some(folder) = &arguments.csv {
        output::make_folder(folder)?;
        let summary = folder.join(format!("{}_summary_{}.csv", report.model, report.machine.name));
        output::write(&summary, csv::summary(&report).as_bytes())?;
        if let Some(run) = report.summary_run() {
            let layers = folder.join(format!("{}_per-layer.csv", report.model));
            output::write(&layers, csv::per_layer(&report, run).as_bytes())?;
        }
    }
    if let Some(path) = &arguments.trace {
        output::write(path, trace::trace(&report).as_bytes())?;
    }
    if let Some(path) = &arguments.html {
        output::write(path, html::html(&report).as_bytes())?;
    }
    if arguments.json {
        say!("{:#}", report.to_json());
    } else {
        say!("{}", text(&report, Shown { top: arguments.top }).trim_end());
    }
    Ok(())
}

/// What a file is called without its endings; a folder by its own name.
fn name_of(path: &Path) -> String {
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    stem.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

/// The report of an artifact, or of a model that is compiled for it.
pub(super) fn report(
    session: &Session,
    path: &Path,
    what: &CompileArguments,
    contexts: &Contexts,
) -> Result<Report, Failure> {
    let source = Source::open(path)?;
    let report = match &source {
        Source::Artifact(path) => of_artifact(session, path, contexts)?,
        _ => of_model(session, &source, name_of(path), what, contexts)?,
    };
    if report.runs.is_empty() {
        let wanted = contexts.program.as_deref().unwrap_or_default();
        let help = "`tilewright inspect OUT.npu` lists the programs; a model has one per --chunk-lengths";
        return Err(Failure::user(format!("no program '{wanted}'"), help));
    }
    Ok(report)
}

fn of_artifact(session: &Session, path: &Path, contexts: &Contexts) -> Result<Report, Failure> {
    let artifact = super::inspect::open(path, Verify::ExceptConstants)?;
    let target = session.targets.find(&artifact.target).ok_or_else(|| {
        Failure::user(
            format!("'{}' was compiled for '{}', which is no known target", path.display(), artifact.target),
            "give the file that describes it: --machine FILE.toml",
        )
    })?;
    let stored = artifact.constant_index.iter().map(|info| info.bytes).sum();
    let note = "An artifact does not hold why an op is where it is: profile the model for the reasons.";
    let subject = Subject {
        model: name_of(path),
        programs: artifact.programs.iter().collect(),
        machine: &target.machine(),
        about: target.doc,
        placement: Vec::new(),
        placement_note: Some(note.into()),
        weights_bytes: (stored, stored),
    };
    Ok(build(subject, contexts)?)
}

fn of_model(
    session: &Session,
    source: &Source,
    model: String,
    what: &CompileArguments,
    contexts: &Contexts,
) -> Result<Report, Failure> {
    let options = what.options()?;
    let bar = super::compile::spinner(&format!("compiling for {}", options.target));
    let compilation = session.compile(source, &options);
    bar.finish_and_clear();
    let compilation = compilation?;
    crate::render::print_all(&compilation.warnings, &[]);
    let Some(first) = compilation.programs.first() else {
        return Err(Failure::user("the model has no program", "compile it to see why"));
    };
    let target: &Target = session.target(&options.target)?;
    let stored: u64 = compilation.constants.constants().iter().map(|one| one.info.bytes).sum();
    let original = match compilation.weights.is_empty() {
        true => stored,
        false => {
            let sum = |of: fn(&tilewright_passes::quantize_weights::WeightRow) -> usize| {
                compilation.weights.iter().map(of).sum::<usize>() as u64
            };
            (stored + sum(|row| row.from_bytes)).saturating_sub(sum(|row| row.to_bytes))
        }
    };
    let mut placement: Vec<PlacementRow> = Vec::new();
    for row in compilation.programs.iter().flat_map(|program| &program.placement.rows) {
        let is_same = |known: &PlacementRow| {
            (&known.location, &known.op, known.target, &known.reason)
                == (&row.location, &row.op, row.target, &row.reason)
        };
        if !placement.iter().any(is_same) {
            placement.push(row.clone());
        }
    }
    let subject = Subject {
        model,
        programs: compilation.programs.iter().filter_map(|report| report.program.as_ref()).collect(),
        machine: &first.machine,
        about: target.doc,
        placement,
        placement_note: None,
        weights_bytes: (original, stored),
    };
    Ok(build(subject, contexts)?)
}
