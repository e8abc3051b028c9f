//! `tilewright parity`: a model's results against recorded ones, on the reference evaluator and on targets; or a language model's
//! artifact against its original, on a text.

mod text;

use super::{CompileArguments, table};
use crate::cases;
use crate::execute::{On, execute};
use crate::exit::Failure;
use crate::import::Activations;
use crate::metrics::{Distance, compare};
use crate::model::Source;
use crate::session::Session;
use serde::Serialize;
use std::path::PathBuf;
use tilewright_ir::diagnostic::{Diagnostics, Kind};
use tilewright_ir::element::Element;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright parity --cases models/llama --on reference\n  \
    tilewright parity --cases models/* --on npu-gen3 --json > parity.json\n  \
    tilewright parity tests/models/story-3m --text heldout.txt --max-perplexity-increase 1\n  \
    tilewright parity model.onnx --text heldout.txt --artifact model.npu --limit 4096\n\n\
    A case is a folder with model.onnx, input_K.npy and output_K.npy in graph order; folders below it with inputs of\n\
    their own are cases of the same model. Tolerance: |found - expected| <= atol + rtol * |expected|.\n\n\
    With --text the original (as imported, exact, on target 'host') and the artifact compiled by the options given are run\n\
    on windows of the text. All tokens of a window are scored, nothing is put before it, and what does not fill a window is\n\
    left out.")]
pub(crate) struct Arguments {
    /// The language model to measure with --text: an .onnx file or a folder with one
    #[arg(value_name = "MODEL", requires = "text")]
    model: Option<PathBuf>,
    /// Folders of cases
    #[arg(long, required_unless_present = "text", conflicts_with = "text", num_args = 1.., value_name = "DIR")]
    cases: Vec<PathBuf>,
    #[command(flatten)]
    text: text::TextArguments,
    /// Where to run: 'reference' or a target; may be given again. Cases run on the reference, texts on --target, when it is left out
    #[arg(long, value_name = "NAME")]
    on: Vec<String>,
    /// Relative tolerance of f32 and wider results; f16 and bf16, and all results of a machine that computes in them, get ten times as
    /// much, and a hundred times the absolute tolerance
    #[arg(long, default_value_t = 1e-3)]
    rtol: f64,
    /// Absolute tolerance
    #[arg(long, default_value_t = 1e-4)]
    atol: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    what: CompileArguments,
}

/// The ways to take activations that a case may have been recorded with; the first is reported when none agrees.
const CANDIDATES: [Activations; 3] = [Activations::Int8, Activations::Exact, Activations::Int8Fused];

/// One output of one case on one machine.
#[derive(Serialize)]
struct Row {
    case: String,
    on: String,
    activations: &'static str,
    output: usize,
    #[serde(flatten)]
    distance: Option<Distance>,
    problem: Option<String>,
    agrees: bool,
}

/// Runs all cases and reports.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.model {
        Some(model) => text::run(session, arguments, model),
        None if arguments.cases.is_empty() => {
            Err(Failure::Usage("--text needs the model it is to be run on: parity MODEL --text FILE".into()))
        }
        None => run_cases(session, arguments),
    }
}

fn run_cases(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.what.kv_cache.is_some() {
        let what =
            "--kv-cache is for --text: a recorded case feeds its cache from outside, as the model has it";
        return Err(Failure::Usage(what.into()));
    }
    let on = if arguments.on.is_empty() { &["reference".to_string()][..] } else { &arguments.on };
    let mut rows = Vec::new();
    let mut unsupported = false;
    let mut without_reference = Vec::new();
    for folder in &arguments.cases {
        for folder in cases::find(folder)? {
            let case = cases::read(&folder)?;
            if case.outputs.is_empty() {
                without_reference.push(case.name);
                continue;
            }
            for on in on {
                let (found, kinds) = run_case(session, arguments, &case, on)?;
                unsupported |= kinds;
                rows.extend(found);
            }
        }
    }
    show(arguments, &rows, &without_reference)?;
    let over = rows.iter().filter(|row| !row.agrees).count();
    if over == 0 {
        return Ok(());
    }
    let what = format!("{over} of {} outputs are over the threshold", rows.len());
    if unsupported {
        // A model that cannot be compiled is not a matter of tolerance.
        let problem = tilewright_ir::diagnostic::Diagnostic::unsupported(Default::default(), what);
        return Err(Failure::Diagnostics(vec![
            problem.with_help("the rows above say what is not supported"),
        ]));
    }
    Err(Failure::Parity(what))
}

/// Runs a case with each candidate until it agrees; else gives what the first candidate gave.
fn run_case(
    session: &Session,
    arguments: &Arguments,
    case: &cases::Case,
    on: &str,
) -> Result<(Vec<Row>, bool), Failure> {
    let mut first = None;
    let given = arguments.what.activations.as_ref().map(std::slice::from_ref);
    for activations in given.unwrap_or(&CANDIDATES) {
        let found = run_with(session, arguments, case, on, *activations)?;
        if found.0.iter().all(|row| row.agrees) {
            return Ok(found);
        }
        first.get_or_insert(found);
    }
    Ok(first.unwrap_or_default())
}

fn run_with(
    session: &Session,
    arguments: &Arguments,
    case: &cases::Case,
    on: &str,
    activations: Activations,
) -> Result<(Vec<Row>, bool), Failure> {
    let source = Source::Onnx(case.model.clone());
    let mut options = arguments.what.options()?;
    options.target = on.into();
    options.activations = activations;
    let place = if on == "reference" { On::Reference(&options) } else { On::Target(&options) };
    let row = |output: usize| Row {
        case: case.name.clone(),
        on: on.into(),
        activations: match activations {
            Activations::Exact => "exact",
            Activations::Int8 => "int8",
            Activations::Int8Fused => "int8-fused",
        },
        output,
        distance: None,
        problem: None,
        agrees: false,
    };
    let found = match execute(session, &source, &case.inputs, &place) {
        Ok(found) => found,
        Err(problems) => {
            let unsupported = problems.iter().any(|problem| problem.kind == Kind::Unsupported);
            return Ok((vec![Row { problem: Some(first_line(&problems)), ..row(0) }], unsupported));
        }
    };
    let demotes = session.targets.find(on).is_some_and(|target| target.machine().narrower_float().is_some());
    let mut rows = Vec::new();
    if found.len() != case.outputs.len() {
        let problem = format!("expected {} outputs, found {}", case.outputs.len(), found.len());
        rows.push(Row { problem: Some(problem), ..row(0) });
    }
    for (index, (found, expected)) in found.iter().zip(&case.outputs).enumerate() {
        let coarse = demotes || matches!(expected.element, Element::F16 | Element::BF16);
        let rtol = if coarse { arguments.rtol * 10.0 } else { arguments.rtol };
        let atol = if coarse { arguments.atol * 100.0 } else { arguments.atol };
        // A letter is not nearly another one.
        let [rtol, atol] = if case.strings[1][index] { [0.0; 2] } else { [rtol, atol] };
        rows.push(match compare(found, expected, rtol, atol) {
            Ok(distance) => {
                let agrees = distance.mismatches == 0;
                Row { agrees, distance: Some(distance), ..row(index) }
            }
            Err(problem) => Row { problem: Some(problem), ..row(index) },
        });
    }
    Ok((rows, false))
}

fn first_line(problems: &Diagnostics) -> String {
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    let more = if problems.len() > 1 { format!(" (and {} more)", problems.len() - 1) } else { String::new() };
    first.lines().collect::<Vec<_>>().join("; ") + &more
}

fn cells(row: &Row) -> [String; 9] {
    let number =
        |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
    let distance = row.distance.as_ref();
    [
        row.case.clone(),
        row.on.clone(),
        row.activations.into(),
        row.output.to_string(),
        distance.map_or("-".into(), |one| format!("{:.3e}", one.max_absolute_error)),
        number(distance.map(|one| one.cosine), 6),
        number(distance.map(|one| one.sqnr_db), 1),
        distance.map_or("-".into(), |one| format!("{}/{}", one.mismatches, one.elements)),
        if row.agrees { "agrees".into() } else { row.problem.clone().unwrap_or_else(|| "over".into()) },
    ]
}

/// A line of quoted cells.
fn csv_line(cells: &[String]) -> String {
    let quote = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
    cells.iter().map(quote).collect::<Vec<_>>().join(",") + "\n"
}

const HEADER: [&str; 9] =
    ["case", "on", "activations", "output", "max abs error", "cosine", "SQNR dB", "over/elements", "verdict"];

fn show(arguments: &Arguments, rows: &[Row], without_reference: &[String]) -> Result<(), Failure> {
    let agreed = rows.iter().filter(|row| row.agrees).count();
    let text = if arguments.json {
        let report = serde_json::json!({
            "rtol": arguments.rtol, "atol": arguments.atol, "rows": rows,
            "agreed": agreed, "outputs": rows.len(), "without_reference": without_reference,
        });
        format!("{report:#}\n")
    } else if arguments.csv {
        let mut lines: Vec<[String; 9]> = vec![HEADER.map(String::from)];
        lines.extend(rows.iter().map(cells));
        lines.iter().map(|line| csv_line(line)).collect()
    } else {
        let mut report = table(&HEADER);
        rows.iter().for_each(|row| {
            report.add_row(cells(row));
        });
        let mut text = format!("{report}\n{agreed} of {} outputs agree\n", rows.len());
        for case in without_reference {
            text += &format!("{case}: no recorded outputs, not compared\n");
        }
        text
    };
    Ok(crate::output::write(std::path::Path::new("-"), text.as_bytes())?)
}
