//! `tilewright compile`: a model to an artifact, or to the text of a level on the way.

use super::CompileArguments;
use crate::driver::{Compilation, Level, ProgramReport};
use crate::exit::Failure;
use crate::model::Source;
use crate::session::Session;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;
use tilewright_passes::quantize_weights::WeightRow;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright compile models/story-3m -o story.npu\n  \
    tilewright compile models/story-3m -o story.npu --kv-cache kv4\n  \
    tilewright compile bert.onnx -o bert.npu --bind batch=1,seq=128 --require-target\n  \
    tilewright compile models/story-3m -o story.npu --quantize mixed --quantize-override 'role:last=fp8_e4m3'\n  \
    tilewright compile models/story-3m -o story.npu --prune 2:4 --quantize int4\n  \
    tilewright compile model.onnx -o - --compile-to kernels\n  \
    tilewright compile vision.onnx -o vision.npu --target micro-npu --optimize-for size\n  \
    tilewright compile model.onnx -o short.npu --chunk-lengths 1,32 --strip-weights --weights shared.weights.npu\n  \
    tilewright compile model.onnx -o model.npu --dump-compilation-phases-to phases --explain")]
pub(crate) struct Arguments {
    /// An .onnx file or a folder with one; '-' is standard input
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The artifact, or the text of the level given by --compile-to ('-' is standard output)
    #[arg(short, value_name = "OUT.npu")]
    output: PathBuf,
    #[command(flatten)]
    what: CompileArguments,
    /// Stop at this level and write its text
    #[arg(long, value_enum, default_value_t = Level::Commands, value_name = "LEVEL")]
    compile_to: Level,
    /// Write the text of every level into this folder
    #[arg(long, value_name = "DIR")]
    dump_compilation_phases_to: Option<PathBuf>,
    /// Write the weights into a file of their own, to which the artifact binds by the hash of each tensor
    #[arg(long)]
    strip_weights: bool,
    /// That file; tensors are added to it when it is there, equal ones are kept once. Beside the artifact as OUT.weights.npu when left out
    #[arg(long, value_name = "FILE", requires = "strip_weights")]
    weights: Option<PathBuf>,
    /// Say which rules made the kernels, what runs where and why
    #[arg(long)]
    explain: bool,
}

/// A spinner on a terminal, nothing elsewhere.
pub(crate) fn spinner(message: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style).with_message(message.to_string());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Compiles and writes.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let source = Source::open(&arguments.model)?;
    let mut options = arguments.what.options()?;
    options.compile_to = arguments.compile_to;
    options.dump_folder.clone_from(&arguments.dump_compilation_phases_to);
    options.explain = arguments.explain;
    let bar = spinner(&format!("compiling for {}", options.target));
    let compilation = session.compile(&source, &options);
    bar.finish_and_clear();
    let compilation = compilation?;
    crate::render::print_all(&compilation.warnings, &[]);
    if arguments.compile_to < Level::Commands {
        if arguments.explain {
            eprint!("{}", explanation(&compilation));
        }
        return Ok(crate::output::write(&arguments.output, level_text(&compilation).as_bytes())?);
    }
    if arguments.output == std::path::Path::new("-") {
        return Err(Failure::Usage("an artifact is mapped from a file: give -o a file name".into()));
    }
    let bar = spinner("writing weights");
    let written = write(&compilation, arguments);
    bar.finish_and_clear();
    let (bytes, weights) = written?;
    if arguments.explain {
        say!("{}", explanation(&compilation));
    }
    let phases: Vec<String> = compilation
        .phases
        .iter()
        .map(|(name, took)| format!("{name} {:.0} ms", took.as_secs_f64() * 1e3))
        .collect();
    let programs: Vec<&str> = compilation.programs.iter().map(|report| report.name.as_str()).collect();
    eprintln!(
        "{}: {bytes} bytes{weights}, programs {} ({})",
        arguments.output.display(),
        programs.join(", "),
        phases.join(", ")
    );
    Ok(())
}

/// Writes what was asked for: the artifact's size in bytes, and words about a file of weights.
fn write(compilation: &Compilation, arguments: &Arguments) -> Result<(u64, String), Failure> {
    if !arguments.strip_weights {
        return Ok((compilation.write(&arguments.output)?, String::new()));
    }
    let beside = arguments.output.with_extension("weights.npu");
    let weights = arguments.weights.as_ref().unwrap_or(&beside);
    let (bytes, summary) = compilation.write_stripped(&arguments.output, weights)?;
    let words = format!(
        "; weights in {}: {} bytes, {} tensors added, {} there already",
        weights.display(),
        summary.file_bytes,
        summary.added,
        summary.shared
    );
    Ok((bytes, words))
}

/// The text of the level where compilation stopped, programs separated as MLIR separates modules.
fn level_text(compilation: &Compilation) -> String {
    if compilation.programs.is_empty() {
        return compilation.imported_text.clone();
    }
    let texts: Vec<&str> = compilation.programs.iter().map(|report| report.text.as_str()).collect();
    texts.join("// -----\n")
}

/// What became of the weights; kernels, rules and placement of every program.
fn explanation(compilation: &Compilation) -> String {
    let programs: String = compilation.programs.iter().map(explain_program).collect();
    if compilation.weights.is_empty() { programs } else { weights_table(compilation) + &programs }
}

/// One line per weight: its part, its format and who chose it.
fn weights_table(compilation: &Compilation) -> String {
    let mut table = super::table(&["weight", "node", "role", "format", "bytes", "of", "reason"]);
    for row in &compilation.weights {
        table.add_row([
            row.name.clone(),
            tilewright_targets::emit::location_text(&row.location),
            row.role.name().to_string(),
            row.format.clone(),
            row.to_bytes.to_string(),
            row.from_bytes.to_string(),
            row.reason.clone(),
        ]);
    }
    let sum = |of: fn(&WeightRow) -> usize| compilation.weights.iter().map(of).sum::<usize>();
    format!("{table}\nweights: {} bytes of {}\n\n", sum(|row| row.to_bytes), sum(|row| row.from_bytes))
}

fn explain_program(report: &ProgramReport) -> String {
    let mut text = format!("program {}: {} kernels\n", report.name, report.kernel_count);
    for block in &report.explain {
        text += &format!("{block}\n");
    }
    if !report.placement.rows.is_empty() {
        text += &report.placement.text();
    }
    for plan in &report.memory {
        text += &format!("memory plan, {plan}\n");
    }
    text + "\n"
}
