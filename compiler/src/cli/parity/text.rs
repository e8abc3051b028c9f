//! `tilewright parity MODEL --text FILE`: perplexity, divergence and agreement of artifacts against their original.

use super::{Arguments, csv_line};
use crate::cli::compile::spinner;
use crate::cli::{CompileArguments, table};
use crate::driver::CompileOptions;
use crate::exit::Failure;
use crate::model::Source;
use crate::session::Session;
use crate::text_parity::layers::{self, LayerRow};
use crate::text_parity::score::Figures;
use crate::text_parity::subject::Subject;
use crate::text_parity::windows::{WINDOW_DEFAULT, Windows};
use crate::text_parity::{Measurement, measure};
use crate::tokens::TokenCodec;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Where the original runs: whole tensors in their own types, no tiles.
const ORIGINAL_TARGET: &str = "host";

/// Arguments of the measurement on a text.
#[derive(clap::Args)]
pub(super) struct TextArguments {
    /// Measure perplexity, KL divergence and top-1 agreement on this text; '-' is standard input
    #[arg(long, value_name = "FILE", requires = "model")]
    text: Option<PathBuf>,
    /// An artifact to measure in place of compiling one; may be given again
    #[arg(long, value_name = "OUT.npu", requires = "text")]
    artifact: Vec<PathBuf>,
    /// Measure one more artifact, compiled by these options of `compile` in place of those given, such as '--sram-bytes 256KiB'; may be
    /// given again, and prints one table
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true, requires = "text")]
    variant: Vec<String>,
    /// Tokens per window; windows are independent of each other
    #[arg(long, default_value_t = WINDOW_DEFAULT, value_name = "TOKENS")]
    window: usize,
    /// Use so many tokens of the text at most
    #[arg(long, value_name = "TOKENS")]
    limit: Option<usize>,
    /// Exit with code 4 when the perplexity is more than so much above the original's
    #[arg(long, value_name = "PERCENT")]
    max_perplexity_increase: Option<f64>,
    /// Exit with code 4 when the mean KL divergence is larger, in nats per token
    #[arg(long, value_name = "NATS")]
    max_kl_divergence: Option<f64>,
    /// Exit with code 4 when the likeliest token is the original's less often
    #[arg(long, value_name = "PERCENT")]
    min_top1_agreement: Option<f64>,
    /// Print the signal to noise ratio of the values inside, under the names of their ONNX nodes, on the first windows
    #[arg(long, conflicts_with = "artifact")]
    per_layer: bool,
    /// Exit with code 4 when a value inside has a lower ratio, and say what to keep at 8 bits; implies --per-layer
    #[arg(long, value_name = "DB", conflicts_with = "artifact")]
    min_sqnr_db: Option<f64>,
}

/// The options of one variant.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct Variant {
    #[command(flatten)]
    what: CompileArguments,
}

/// What is measured against the original, and how it is compiled; nothing says that for an artifact which is there.
type Candidate = (Subject, Option<CompileOptions>);

/// Windows whose values inside are compared: each has thousands of elements.
const LAYER_WINDOWS: usize = 2;

/// One artifact on one machine.
#[derive(Serialize)]
struct Row {
    artifact: String,
    on: String,
    artifact_bytes: Option<u64>,
    #[serde(flatten)]
    figures: Figures,
    /// Values inside, in the order of the graph; empty when not asked for.
    layers: Vec<LayerRow>,
    /// Arguments of --quantize-override that keep at 8 bits what falls below the threshold first.
    suggestions: Vec<String>,
    problems: Vec<String>,
}

/// Measures and reports.
pub(super) fn run(session: &Session, arguments: &Arguments, model: &Path) -> Result<(), Failure> {
    let given = &arguments.text;
    let source = Source::open(model)?;
    let text = crate::output::read_text(given.text.as_deref().unwrap_or(Path::new("-")))?;
    let windows = Windows::new(tokens(&source, &text)?, given.window, given.limit)?;
    let options = arguments.what.options()?;
    let bar = spinner("compiling");
    let prepared = prepare(session, arguments, &source, &options, windows.length());
    bar.finish_and_clear();
    let (original, candidates) = prepared?;
    let (others, compiled): (Vec<Subject>, Vec<Option<CompileOptions>>) = candidates.into_iter().unzip();
    let bar = progress(windows.count());
    let step = || bar.inc(1);
    let measured = match options.threads {
        None => measure(&original, &others, &windows, &step),
        Some(threads) => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let refused = |error: rayon::ThreadPoolBuildError| {
                Failure::user(format!("cannot start {threads} threads: {error}"), "use --threads 1")
            };
            pool.map_err(refused)?.install(|| measure(&original, &others, &windows, &step))
        }
    };
    bar.finish_and_clear();
    let Measurement { original: own, others: scores } = measured?;
    let perplexity = own.perplexity();
    let mut rows = Vec::new();
    for ((subject, compiled), scores) in others.iter().zip(&compiled).zip(&scores) {
        let figures = scores.figures(perplexity);
        let on = subject.artifact().map_or("reference".into(), |artifact| artifact.target.clone());
        let layers = match compiled {
            Some(options) if given.per_layer || given.min_sqnr_db.is_some() => {
                layers(session, &source, options, &windows)?
            }
            _ => Vec::new(),
        };
        let (artifact, artifact_bytes) = (subject.name.clone(), subject.bytes);
        let suggestions = given.min_sqnr_db.map_or(Vec::new(), |least| layers::suggestions(&layers, least));
        let problems = problems(given, &figures, &layers);
        rows.push(Row { artifact, on, artifact_bytes, figures, layers, suggestions, problems });
    }
    show(arguments, model, &windows, perplexity, &rows)?;
    let over: Vec<String> = rows
        .iter()
        .flat_map(|row| {
            row.problems.iter().map(|problem| format!("{} on {}: {problem}", row.artifact, row.on))
        })
        .collect();
    if over.is_empty() { Ok(()) } else { Err(Failure::Parity(over.join("\n"))) }
}

/// The text's token ids, by the tokenizer beside the model.
fn tokens(source: &Source, text: &str) -> Result<Vec<u32>, Failure> {
    let companions = source.companions()?;
    let tokenizer = companions.iter().find(|(name, _)| *name == "tokenizer.json");
    let (_, bytes) = tokenizer.ok_or_else(|| {
        Failure::user("the model has no tokenizer.json", "put the model's tokenizer.json beside it")
    })?;
    Ok(TokenCodec::from_bytes(bytes)?.encode(text)?)
}

/// The original, and what is measured against it.
fn prepare(
    session: &Session,
    arguments: &Arguments,
    source: &Source,
    options: &CompileOptions,
    window: usize,
) -> Result<(Subject, Vec<Candidate>), Failure> {
    let original = Subject::compile(session, source, "original", &exact(options), window)?;
    let mut candidates: Vec<Candidate> = Vec::new();
    for path in &arguments.text.artifact {
        candidates.push((Subject::open(path)?, None));
    }
    let mut wanted = vec![("as compiled", options.clone())];
    if !(candidates.is_empty() && arguments.text.variant.is_empty()) && arguments.on.is_empty() {
        wanted.clear();
    }
    for text in &arguments.text.variant {
        let read = Variant::try_parse_from(text.split_whitespace());
        let read = read.map_err(|error| Failure::Usage(format!("--variant '{text}': {error}")))?;
        wanted.push((text, read.what.options()?));
    }
    for (name, options) in wanted {
        let by_target = [options.target.clone()];
        for on in if arguments.on.is_empty() { &by_target[..] } else { &arguments.on } {
            candidates.push(if on == "reference" {
                (Subject::reference(session, source, &options)?, None)
            } else {
                let options = CompileOptions { target: on.clone(), ..options.clone() };
                (Subject::compile(session, source, name, &options, window)?, Some(options))
            });
        }
    }
    Ok((original, candidates))
}

/// The original: what the model is, and nothing of what is done to it.
fn exact(options: &CompileOptions) -> CompileOptions {
    CompileOptions {
        target: ORIGINAL_TARGET.into(),
        bindings: options.bindings.clone(),
        frozen: options.frozen.clone(),
        threads: options.threads,
        ..CompileOptions::default()
    }
}

/// Compares values inside. Both sides are compiled again with these values as outputs, in the same chunks.
fn layers(
    session: &Session,
    source: &Source,
    options: &CompileOptions,
    windows: &Windows,
) -> Result<Vec<LayerRow>, Failure> {
    let found = CompileOptions { layer_outputs: true, ..options.clone() };
    let original = CompileOptions { layer_outputs: true, plan: options.plan.clone(), ..exact(options) };
    let original = Subject::compile(session, source, "original", &original, windows.length())?;
    let found = Subject::compile(session, source, "as compiled", &found, windows.length())?;
    Ok(layers::compare(&original, &found, windows, LAYER_WINDOWS)?)
}

/// A bar of windows on a terminal, nothing elsewhere.
fn progress(windows: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} windows, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(windows as u64).with_style(style)
}

fn problems(given: &TextArguments, figures: &Figures, layers: &[LayerRow]) -> Vec<String> {
    let mut problems = Vec::new();
    // Written so that a figure that is no number is over every threshold.
    let mut limit = |holds: bool, what: String| {
        if !holds {
            problems.push(what);
        }
    };
    if let Some(most) = given.max_perplexity_increase {
        let found = figures.perplexity_increase_percent;
        limit(
            found <= most,
            format!("perplexity is {found:.2} % above the original's, at most {most} % is allowed"),
        );
    }
    if let Some(most) = given.max_kl_divergence {
        let found = figures.kl_mean;
        limit(found <= most, format!("mean KL divergence is {found:.6} nats, at most {most} is allowed"));
    }
    if let Some(least) = given.min_top1_agreement {
        let found = figures.top1_agreement_percent;
        limit(found >= least, format!("top-1 agreement is {found:.2} %, at least {least} % is asked for"));
    }
    if let Some((least, first)) =
        given.min_sqnr_db.and_then(|least| Some((least, layers::first_below(layers, least)?)))
    {
        let (node, found) = (&first.node, first.sqnr_db);
        problems.push(format!("'{node}' is the first value below {least} dB: {found:.1} dB"));
    }
    problems
}

const LAYER_HEADER: [&str; 4] = ["node", "kind", "SQNR dB", "own noise"];

fn layer_cells(row: &LayerRow) -> [String; 4] {
    let kind = if row.is_product { "product" } else { "residual" };
    let own = if row.is_product { format!("{:.2e}", row.own_noise) } else { "-".into() };
    [row.node.clone(), kind.into(), format!("{:.1}", row.sqnr_db), own]
}

/// The values inside of one artifact, and what to do about them.
fn layer_text(arguments: &Arguments, row: &Row) -> String {
    if row.layers.is_empty() {
        return String::new();
    }
    let lines = row.layers.iter().map(layer_cells);
    if arguments.csv {
        let header = csv_line(&LAYER_HEADER.map(String::from));
        return format!("\n{header}{}", lines.map(|line| csv_line(&line)).collect::<String>());
    }
    let mut report = table(&LAYER_HEADER);
    lines.for_each(|line| {
        report.add_row(line);
    });
    let mut text = format!("\n{} on {}, values inside:\n{report}\n", row.artifact, row.on);
    if !row.suggestions.is_empty() {
        let quoted = row.suggestions.iter().map(|one| format!(" --quantize-override '{one}'"));
        text += &format!("keep at 8 bits:{}\n", quoted.collect::<String>());
    }
    text
}

const HEADER: [&str; 9] =
    ["artifact", "on", "bytes", "perplexity", "increase %", "KL mean", "KL p99", "KL max", "top-1 %"];

fn cells(row: &Row) -> [String; 9] {
    let figures = &row.figures;
    [
        row.artifact.clone(),
        row.on.clone(),
        row.artifact_bytes.map_or("-".into(), |bytes| bytes.to_string()),
        format!("{:.3}", figures.perplexity),
        format!("{:+.2}", figures.perplexity_increase_percent),
        format!("{:.6}", figures.kl_mean),
        format!("{:.6}", figures.kl_p99),
        format!("{:.6}", figures.kl_max),
        format!("{:.2}", figures.top1_agreement_percent),
    ]
}

fn show(
    arguments: &Arguments,
    model: &Path,
    windows: &Windows,
    perplexity: f64,
    rows: &[Row],
) -> Result<(), Failure> {
    let (tokens, count, length) = (windows.tokens(), windows.count(), windows.length());
    let text = if arguments.json {
        let report = serde_json::json!({
            "model": model.display().to_string(),
            "tokens": tokens, "windows": count, "window_tokens": length,
            "original": { "on": ORIGINAL_TARGET, "perplexity": perplexity },
            "rows": rows,
        });
        format!("{report:#}\n")
    } else {
        let first: Vec<String> =
            ["original", ORIGINAL_TARGET, "-", &format!("{perplexity:.3}"), "-", "-", "-", "-", "-"]
                .map(String::from)
                .into();
        if arguments.csv {
            let header = csv_line(&HEADER.map(String::from));
            let lines: String = rows.iter().map(|row| csv_line(&cells(row))).collect();
            let layers: String = rows.iter().map(|row| layer_text(arguments, row)).collect();
            header + &csv_line(&first) + &lines + &layers
        } else {
            let mut report = table(&HEADER);
            report.add_row(first);
            rows.iter().for_each(|row| {
                report.add_row(cells(row));
            });
            let layers: String = rows.iter().map(|row| layer_text(arguments, row)).collect();
            format!("{report}\n{tokens} tokens in {count} windows of {length}\n{layers}")
        }
    };
    Ok(crate::output::write(Path::new("-"), text.as_bytes())?)
}
