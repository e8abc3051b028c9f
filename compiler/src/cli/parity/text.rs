//! `tilewright parity MODEL --text FILE`: perplexity, divergence and agreement of artifacts against their original.

use super::{Arguments, csv_line};
use crate::cli::compile::spinner;
use crate::cli::table;
use crate::driver::CompileOptions;
use crate::exit::Failure;
use crate::model::Source;
use crate::session::Session;
use crate::text_parity::score::Figures;
use crate::text_parity::subject::Subject;
use crate::text_parity::windows::{WINDOW_DEFAULT, Windows};
use crate::text_parity::{Measurement, measure};
use crate::tokens::TokenCodec;
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
}

/// One artifact on one machine.
#[derive(Serialize)]
struct Row {
    artifact: String,
    on: String,
    artifact_bytes: Option<u64>,
    #[serde(flatten)]
    figures: Figures,
    problems: Vec<String>,
}

/// Measures and reports.
pub(super) fn run(session: &Session, arguments: &Arguments, model: &Path) -> Result<(), Failure> {
    let given = &arguments.text;
    let source = Source::open(model)?;
    let text = crate::output::read_text(given.text.as_deref().unwrap_or(Path::new("-")))?;
    let windows = Windows::new(tokens(&source, &text)?, given.window, given.limit)?;
    let options = arguments.what.options()?;
    let (original, others) = prepare(session, arguments, &source, &options, windows.length())?;
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
    let rows: Vec<Row> = others
        .iter()
        .zip(&scores)
        .map(|(subject, scores)| {
            let figures = scores.figures(perplexity);
            let on = subject.artifact().map_or("reference".into(), |artifact| artifact.target.clone());
            let problems = problems(given, &figures);
            Row { artifact: subject.name.clone(), on, artifact_bytes: subject.bytes, figures, problems }
        })
        .collect();
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
) -> Result<(Subject, Vec<Subject>), Failure> {
    let bar = spinner("compiling");
    let exact = CompileOptions {
        target: ORIGINAL_TARGET.into(),
        bindings: options.bindings.clone(),
        frozen: options.frozen.clone(),
        threads: options.threads,
        ..CompileOptions::default()
    };
    let original = Subject::compile(session, source, "original", &exact, window)?;
    let mut subjects = Vec::new();
    for path in &arguments.text.artifact {
        subjects.push(Subject::open(path)?);
    }
    let by_target = [options.target.clone()];
    let on = match (&arguments.on[..], subjects.is_empty()) {
        ([], true) => &by_target[..],
        (given, _) => given,
    };
    for on in on {
        subjects.push(if on == "reference" {
            Subject::reference(session, source, options)?
        } else {
            let options = CompileOptions { target: on.clone(), ..options.clone() };
            Subject::compile(session, source, "as compiled", &options, window)?
        });
    }
    bar.finish_and_clear();
    Ok((original, subjects))
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

fn problems(given: &TextArguments, figures: &Figures) -> Vec<String> {
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
    problems
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
            header + &csv_line(&first) + &rows.iter().map(|row| csv_line(&cells(row))).collect::<String>()
        } else {
            let mut report = table(&HEADER);
            report.add_row(first);
            rows.iter().for_each(|row| {
                report.add_row(cells(row));
            });
            format!("{report}\n{tokens} tokens in {count} windows of {length}\n")
        }
    };
    Ok(crate::output::write(Path::new("-"), text.as_bytes())?)
}
