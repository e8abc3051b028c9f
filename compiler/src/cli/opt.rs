//! `tilewright opt`: passes over IR text, with MLIR's flag names.

use crate::exit::Failure;
use crate::instruments::{DumpOptions, Dumper, Timer, reproducer_text};
use crate::session::Session;
use std::path::PathBuf;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics, Severity};
use tilewright_ir::location::Location;
use tilewright_ir::parse::{ParseOptions, parse, split_input};
use tilewright_ir::print::{PrintOptions, print};
use tilewright_passes::pipeline::{Instrument, PassManager};

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright opt in.mlir --pass-pipeline 'canonicalize,cse'\n  \
    tilewright opt in.mlir --pass-pipeline 'builtin.module(optimize{nodes=20000})' --mlir-print-ir-after-change\n  \
    tilewright import model.onnx | tilewright opt - --pass-pipeline optimize --rules my.rules --mlir-timing")]
pub(crate) struct Arguments {
    /// IR text; '-' is standard input
    #[arg(value_name = "FILE.mlir", default_value = "-")]
    input: PathBuf,
    /// Where the result goes; '-' is standard output
    #[arg(short, default_value = "-", value_name = "FILE")]
    output: PathBuf,
    /// The passes, such as 'canonicalize,cse' or 'builtin.module(optimize{nodes=20000})'
    #[arg(long, default_value = "", value_name = "TEXT")]
    pass_pipeline: String,
    /// Print the IR before these passes
    #[arg(long, value_name = "PASS,...", value_delimiter = ',')]
    mlir_print_ir_before: Vec<String>,
    /// Print the IR before each pass
    #[arg(long)]
    mlir_print_ir_before_all: bool,
    /// Print the IR after these passes
    #[arg(long, value_name = "PASS,...", value_delimiter = ',')]
    mlir_print_ir_after: Vec<String>,
    /// Print the IR after each pass
    #[arg(long)]
    mlir_print_ir_after_all: bool,
    /// Print the IR after passes that changed it
    #[arg(long)]
    mlir_print_ir_after_change: bool,
    /// Print the IR after a pass that failed
    #[arg(long)]
    mlir_print_ir_after_failure: bool,
    /// Print into files of this folder, one per dump
    #[arg(long, value_name = "DIR")]
    mlir_print_ir_tree_dir: Option<PathBuf>,
    /// Print where ops came from
    #[arg(long)]
    mlir_print_debuginfo: bool,
    /// Report the time of each pass
    #[arg(long)]
    mlir_timing: bool,
    /// On failure write the module before the failed pass and the rest of the pipeline to this file
    #[arg(long, value_name = "FILE")]
    mlir_pass_pipeline_crash_reproducer: Option<PathBuf>,
    /// Treat parts between '// -----' lines as modules of their own
    #[arg(long)]
    split_input_file: bool,
    /// Expect the diagnostics written in '// expected-error {{..}}' comments, and no others
    #[arg(long)]
    verify_diagnostics: bool,
    /// Do not run the verifier after each pass
    #[arg(long)]
    no_verify_each: bool,
    /// Read more rewrite rules from a file; may be given again
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// Give weights that the text names, but whose bytes are elsewhere, seeded values
    #[arg(long, value_name = "SEED")]
    seed_resources: Option<u64>,
}

impl Arguments {
    fn dump_options(&self) -> DumpOptions {
        DumpOptions {
            before: self.mlir_print_ir_before.clone(),
            before_all: self.mlir_print_ir_before_all,
            after: self.mlir_print_ir_after.clone(),
            after_all: self.mlir_print_ir_after_all,
            after_change: self.mlir_print_ir_after_change,
            after_failure: self.mlir_print_ir_after_failure,
            tree_folder: self.mlir_print_ir_tree_dir.clone(),
            print: self.print_options(),
        }
    }

    fn print_options(&self) -> PrintOptions {
        PrintOptions { locations: self.mlir_print_debuginfo, ..PrintOptions::default() }
    }
}

/// Runs the pipeline over each module of the input.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let text = crate::output::read_text(&arguments.input)?;
    let file = arguments.input.display().to_string();
    let parts: Vec<(usize, &str)> =
        if arguments.split_input_file { split_input(&text) } else { vec![(0, text.as_str())] };
    let mut results = Vec::new();
    let mut problems = Diagnostics::new();
    for (lines_before, part) in &parts {
        let outcome = one(session, arguments, part, *lines_before, &file);
        if arguments.verify_diagnostics {
            let found = outcome.err().unwrap_or_default();
            problems.extend(compare_with_expected(part, *lines_before, &file, &found));
            continue;
        }
        match outcome {
            Ok(result) => results.push(result),
            Err(found) => problems.extend(found),
        }
    }
    if problems.iter().any(|one| one.severity == Severity::Error) {
        crate::render::print_all(&problems, &[(&file, &text)]);
        // Shown above with the source; the exit code is all that is left to say.
        return Err(Failure::Shown(problems));
    }
    crate::render::print_all(&problems, &[(&file, &text)]);
    if arguments.verify_diagnostics {
        return Ok(());
    }
    Ok(crate::output::write(&arguments.output, results.join("// -----\n").as_bytes())?)
}

fn one(
    session: &Session,
    arguments: &Arguments,
    text: &str,
    first_line: usize,
    file: &str,
) -> Result<String, Diagnostics> {
    let options =
        ParseOptions { file, first_line, stand_in_seed: arguments.seed_resources, ..ParseOptions::default() };
    let mut module = parse(text, &session.registry, &options)?;
    let problems = tilewright_ir::verify::verify(&module);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut manager =
        PassManager::parse(&arguments.pass_pipeline, &session.passes).map_err(|one| vec![one])?;
    if arguments.no_verify_each {
        manager.verifier = None;
    }
    manager.keep_reproducer = arguments.mlir_pass_pipeline_crash_reproducer.is_some();
    let mut context = session.pass_context(&arguments.rules).map_err(|one| vec![one])?;
    let mut dumper = Dumper::new(arguments.dump_options());
    let mut timer = Timer::default();
    let mut instruments: Vec<&mut dyn Instrument> = vec![&mut dumper];
    if arguments.mlir_timing {
        instruments.push(&mut timer);
    }
    let outcome = manager.run(&mut module, &mut context, &mut instruments);
    if arguments.mlir_timing {
        eprint!("{}", timer.report());
    }
    crate::render::print_all(&context.diagnostics, &[]);
    if let Err(failure) = outcome {
        let mut problems = failure.diagnostics;
        if let (Some(path), Some(saved)) =
            (&arguments.mlir_pass_pipeline_crash_reproducer, failure.reproducer)
        {
            let text = reproducer_text(&saved.module, &saved.pipeline);
            match crate::output::write(path, text.as_bytes()) {
                Ok(()) => problems.push(Diagnostic {
                    severity: Severity::Note,
                    ..Diagnostic::error(
                        Location::Unknown,
                        format!("reproducer written to '{}'", path.display()),
                    )
                }),
                Err(problem) => problems.push(problem),
            }
        }
        return Err(problems);
    }
    if !dumper.problems.is_empty() {
        return Err(dumper.problems);
    }
    Ok(print(&module, &arguments.print_options()))
}

/// One expectation: the line it is about and a part of the message.
struct Expected {
    line: u32,
    severity: Severity,
    text: String,
}

/// Reads `// expected-error {{part of the message}}`, `expected-error@+1`, `expected-error@below`, also for warnings.
fn expectations(text: &str, lines_before: usize) -> Vec<Expected> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (marker, severity) in
            [("expected-error", Severity::Error), ("expected-warning", Severity::Warning)]
        {
            let Some(at) = line.find(marker) else { continue };
            let rest = &line[at + marker.len()..];
            let (Some(open), Some(close)) = (rest.find("{{"), rest.rfind("}}")) else { continue };
            let own = (lines_before + index) as i64 + 1;
            let offset = match rest[..open].trim().strip_prefix('@') {
                Some("below") => 1,
                Some("above") => -1,
                Some(number) => number.parse().unwrap_or(0),
                None => 0,
            };
            let text = rest[open + 2..close.max(open + 2)].to_string();
            found.push(Expected { line: (own + offset).max(1) as u32, severity, text });
        }
    }
    found
}

fn compare_with_expected(text: &str, lines_before: usize, file: &str, found: &[Diagnostic]) -> Diagnostics {
    let mut left: Vec<&Diagnostic> = found.iter().filter(|one| one.severity != Severity::Note).collect();
    let mut problems = Diagnostics::new();
    for expected in expectations(text, lines_before) {
        let fits = |one: &&Diagnostic| {
            let line = match &one.location {
                Location::File(_, line, _) => Some(*line),
                _ => None,
            };
            one.severity == expected.severity
                && one.what.contains(&expected.text)
                && line.is_none_or(|line| line == expected.line)
        };
        match left.iter().position(fits) {
            Some(at) => {
                left.remove(at);
            }
            None => problems.push(Diagnostic::error(
                Location::File(file.into(), expected.line, 1),
                format!("expected a diagnostic that says '{}', which did not come", expected.text),
            )),
        }
    }
    problems.extend(
        left.into_iter().map(|one| Diagnostic { what: format!("unexpected: {}", one.what), ..one.clone() }),
    );
    problems
}
