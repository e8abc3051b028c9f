//! `tilewright profile`: what a model or an artifact costs on its machine.

use super::CompileArguments;
use crate::driver::{Compilation, CompileOptions};
use crate::exit::Failure;
use crate::model::Source;
use crate::output;
use crate::placement_file;
use crate::report::text::{Shown, text};
use crate::report::{Contexts, Report, Subject, build, csv, html, trace};
use crate::session::Session;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tilewright_passes::machine::Machine;
use tilewright_passes::quantize_weights::WeightRow;
use tilewright_runtime::artifact::{Artifact, Verify};
use tilewright_runtime::stream::Program;
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
    let report = Opened::open(session, &arguments.model, &arguments.what)?.report(&contexts)?;
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

/// What is profiled: an artifact, or a model that was compiled for it.
pub(super) struct Opened {
    name: String,
    target: &'static Target,
    machine: Machine,
    what: What,
}

enum What {
    Artifact(Box<Artifact>),
    Model(Source, Box<Compilation>),
}

impl Opened {
    /// Opens an artifact, or compiles a model.
    pub(super) fn open(
        session: &Session,
        path: &Path,
        arguments: &CompileArguments,
    ) -> Result<Opened, Failure> {
        let name = name_of(path);
        match Source::open(path)? {
            Source::Artifact(path) => {
                let artifact = Box::new(super::inspect::open(&path, Verify::ExceptConstants)?);
                let target = session.targets.find(&artifact.target).ok_or_else(|| {
                    let made = format!("'{}' was compiled for '{}'", path.display(), artifact.target);
                    let help = "give the file that describes it: --machine FILE.toml";
                    Failure::user(format!("{made}, which is no known target"), help)
                })?;
                Ok(Opened { name, target, machine: target.machine(), what: What::Artifact(artifact) })
            }
            source => {
                let options = CompileOptions { explain: true, ..arguments.options()? };
                let bar = super::compile::spinner(&format!("compiling for {}", options.target));
                let compilation = session.compile(&source, &options);
                bar.finish_and_clear();
                let compilation = Box::new(compilation?);
                crate::render::print_all(&compilation.warnings, &[]);
                let target = session.target(&options.target)?;
                let first = compilation.programs.first();
                let machine = first.map_or_else(|| target.machine(), |program| program.machine.clone());
                Ok(Opened { name, target, machine, what: What::Model(source, compilation) })
            }
        }
    }

    /// The machine that it is for.
    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Its programs.
    pub(super) fn programs(&self) -> Vec<&Program> {
        match &self.what {
            What::Artifact(artifact) => artifact.programs.iter().collect(),
            What::Model(_, compilation) => {
                compilation.programs.iter().filter_map(|report| report.program.as_ref()).collect()
            }
        }
    }

    /// The nodes of the model before anything was done to it; none for an artifact.
    pub(super) fn imported_names(
        &self,
        session: &Session,
        arguments: &CompileArguments,
    ) -> Result<BTreeSet<String>, Failure> {
        let What::Model(source, _) = &self.what else { return Ok(BTreeSet::new()) };
        let module = session.import_with(source, &arguments.options()?.import_options())?.module;
        let names = module.all_ops().into_iter().flat_map(|op| module.op(op).location.names());
        Ok(names.map(|name| name.to_string()).collect())
    }

    /// What it costs.
    pub(super) fn report(&self, contexts: &Contexts) -> Result<Report, Failure> {
        let note = "This artifact does not hold why an op is where it is: give the model for the reasons.";
        let (placement, placement_note, weights_bytes) = match &self.what {
            What::Artifact(artifact) => {
                let stored = artifact.constant_index.iter().map(|info| info.bytes).sum();
                let rows = placement_file::read(artifact, self.target.name)
                    .map_err(|what| Failure::user(what, "compile the model again"))?;
                let note = rows.is_none().then(|| note.to_string());
                (rows.unwrap_or_default(), note, (stored, stored))
            }
            What::Model(_, compilation) => {
                (placement_file::rows(compilation), None, weights_bytes(compilation))
            }
        };
        let subject = Subject {
            model: self.name.clone(),
            programs: self.programs(),
            machine: &self.machine,
            about: self.target.doc,
            placement,
            placement_note,
            weights_bytes,
        };
        let report = build(subject, contexts)?;
        if report.runs.is_empty() {
            let wanted = contexts.program.as_deref().unwrap_or_default();
            let names: Vec<&str> = self.programs().iter().map(|program| program.name.as_str()).collect();
            let help = format!("there are: {}", names.join(", "));
            return Err(Failure::user(format!("no program '{wanted}'"), help));
        }
        Ok(report)
    }
}

/// Bytes of weights in the model, and as they are stored.
fn weights_bytes(compilation: &Compilation) -> (u64, u64) {
    let stored: u64 = compilation.constants.constants().iter().map(|one| one.info.bytes).sum();
    let sum = |of: fn(&WeightRow) -> usize| compilation.weights.iter().map(of).sum::<usize>() as u64;
    let saved = sum(|row| row.from_bytes) as i64 - sum(|row| row.to_bytes) as i64;
    (stored.saturating_add_signed(saved), stored)
}
