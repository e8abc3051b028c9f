//! `tilewright quantize`: weights quantised on samples, a table of what each lost, and a plan that a compilation takes.

use super::{CompileArguments, table};
use crate::calibrate::plan_file::Writer;
use crate::calibrate::{Candidate, Report, Row};
use crate::exit::Failure;
use crate::model::Source;
use crate::quantize::{Calibration, prepare};
use crate::session::Session;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Arguments.
#[derive(Args)]
#[command(after_help = "Examples:\n  tilewright quantize models/story-3m --calibrate text.txt\n  \
    tilewright quantize models/story-3m --calibrate text.txt --quantize w4a16_g32_sym -o story.plan.json\n  \
    tilewright compile models/story-3m --quantization-plan story.plan.json -o story.npu\n  \
    tilewright quantize vision.onnx --samples samples/ --method weighted --sensitivity --csv\n\n\
    SQNR is the energy of a weight over that of its change; output error the energy of its outputs' change over that of its\n\
    outputs, on the samples; loss the weight's part of the sum of all output errors.")]
pub(crate) struct Arguments {
    /// An .onnx file or a folder with one
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Write the plan here, its weights beside it
    #[arg(short, long, value_name = "PLAN.json")]
    output: Option<PathBuf>,
    #[command(flatten)]
    what: CompileArguments,
    /// Also tell what each weight would lose in other formats
    #[arg(long)]
    sensitivity: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// A bar on a terminal, nothing elsewhere; it counts thousandths.
pub(crate) fn bar(message: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {bar:30} {percent}% {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(1000).with_style(style).with_message(message.to_string())
}

/// What `--json` prints.
#[derive(Serialize)]
struct Json<'a> {
    weights: &'a [Row],
    #[serde(skip_serializing_if = "<[Candidate]>::is_empty")]
    candidates: &'a [Candidate],
}

/// Calibrates and reports.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let source = Source::open(&arguments.model)?;
    let options = arguments.what.options()?;
    let Some(calibration) = options.quantize.as_ref().and_then(|quantize| quantize.calibration.clone())
    else {
        return Err(Failure::Usage("a calibration needs --calibrate TEXT or --samples PATH".into()));
    };
    let mut options = options;
    if let Some(quantize) = &mut options.quantize {
        quantize.calibration = Some(Calibration { sensitivity: arguments.sensitivity, ..calibration });
    }
    let mut writer = arguments.output.as_deref().map(Writer::create).transpose()?;
    let progress = bar("calibrating");
    let keep = |weight| match &mut writer {
        Some(writer) => writer.add(&weight).map_err(|problem| vec![problem]),
        None => Ok(()),
    };
    let moved = |share: f64| progress.set_position((share * 1000.0) as u64);
    let found = prepare(session, &source, &options, &moved, keep);
    progress.finish_and_clear();
    let (found, warnings) = found?;
    crate::render::print_all(&warnings, &[]);
    if let Some(writer) = writer {
        writer.finish(&found.module, &found.decisions, &found.report.rows, found.activations)?;
    }
    show(arguments, &found.report)
}

fn show(arguments: &Arguments, report: &Report) -> Result<(), Failure> {
    if arguments.json {
        let json = Json { weights: &report.rows, candidates: &report.candidates };
        let text = serde_json::to_string_pretty(&json)
            .map_err(|error| Failure::user(format!("cannot write JSON: {error}"), ""))?;
        say!("{text}");
        return Ok(());
    }
    if arguments.csv {
        say!("weight,node,role,format,method,bits,bytes,sqnr_db,output_error,loss_share");
        for row in &report.rows {
            let quoted = [&row.name, &row.node].map(|text| format!("\"{}\"", text.replace('"', "\"\"")));
            let sqnr = row.sqnr_db.map_or(String::new(), |value| value.to_string());
            let Row { role, format, method, bits, bytes, output_error, loss_share, .. } = row;
            say!(
                "{},{},{role},{format},{method},{bits},{bytes},{sqnr},{output_error},{loss_share}",
                quoted[0],
                quoted[1]
            );
        }
        for one in &report.candidates {
            let sqnr = one.sqnr_db.map_or(String::new(), |value| value.to_string());
            let name = one.name.replace('"', "\"\"");
            say!(
                "\"{name}\",,,{},candidate,{},{},{sqnr},{},",
                one.format,
                one.bits,
                one.bytes,
                one.output_error
            );
        }
        return Ok(());
    }
    let decibels = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.1}"));
    let mut rows =
        table(&["weight", "node", "role", "format", "method", "bits", "SQNR dB", "output error", "loss"]);
    for row in &report.rows {
        rows.add_row([
            row.name.clone(),
            row.node.clone(),
            row.role.clone(),
            row.format.clone(),
            row.method.clone(),
            format!("{:.2}", row.bits),
            decibels(row.sqnr_db),
            format!("{:.2e}", row.output_error),
            format!("{:.1} %", row.loss_share * 100.0),
        ]);
    }
    say!("{rows}");
    let bytes: usize = report.rows.iter().map(|row| row.bytes).sum();
    say!("weights: {bytes} bytes");
    if !report.candidates.is_empty() {
        let mut rows = table(&["weight", "format", "bits", "bytes", "SQNR dB", "output error"]);
        for one in &report.candidates {
            rows.add_row([
                one.name.clone(),
                one.format.clone(),
                format!("{:.2}", one.bits),
                one.bytes.to_string(),
                decibels(one.sqnr_db),
                format!("{:.2e}", one.output_error),
            ]);
        }
        say!("\n{rows}");
    }
    Ok(())
}
