//! ONNX Runtime's own operators: small cases with the values that it computes for them, recorded by
//! `models/scripts/contrib_cases.py`.
//!
//! | environment variable | meaning |
//! |---|---|
//! | `TILEWRIGHT_CONTRIB=TEXT` | runs the cases whose name contains it |

use crate::run::{Machine, TARGET, engines_of};
use harness::recorded::{cases_in, tests_folder};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tilewright::cases;
use tilewright::driver::CompileOptions;
use tilewright::execute::{On, execute};
use tilewright::import::onnx::support::{Record, only_operator};
use tilewright::loaded::Loaded;
use tilewright::metrics::compare;
use tilewright::model::Source;
use tilewright::session::Session;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::element::Element;
use tilewright_ir::tensor::Tensor;

/// Cases that do not agree: case, machine, why.
const EXCEPTIONS: &[(&str, Machine, &str)] = &[];

/// Absolute tolerances of cases by the beginning of their names; 1e-4 for others. The hidden state of a quantised recurrence is rounded
/// anew at every step, and one that lies on a border may go either way.
const TOLERANCES: &[(&str, f64)] = &[("dynamic_quantize_lstm", 2e-3)];

fn first_line(problems: &Diagnostics) -> String {
    problems.first().map(ToString::to_string).unwrap_or_default().replace('\n', "; ")
}

/// What a case shows beside its values.
#[derive(Default)]
struct Seen {
    on_host: BTreeSet<String>,
    engines: BTreeSet<String>,
    elements: BTreeSet<String>,
}

fn found_on(
    session: &Session,
    case: &cases::Case,
    machine: Machine,
    seen: &mut Seen,
) -> Result<Vec<Tensor>, Diagnostics> {
    let source = Source::Onnx(case.model.clone());
    let options = CompileOptions { target: TARGET.into(), ..CompileOptions::default() };
    if machine == Machine::Evaluator {
        return execute(session, &source, &case.inputs, &On::Reference(&options));
    }
    let compilation = session.compile(&source, &options)?;
    for report in &compilation.programs {
        seen.engines.extend(engines_of(report));
        seen.on_host.extend(report.placement.fallbacks().map(|row| format!("{}: {}", row.op, row.reason)));
    }
    let signature = &compilation.signature;
    Loaded::from_compilation(&compilation)?.run_once(signature, &case.inputs)
}

/// What is wrong with a case on a machine, if anything.
fn problem(session: &Session, folder: &Path, machine: Machine, seen: &mut Seen) -> Option<String> {
    let case = match cases::read(folder) {
        Ok(case) => case,
        Err(problems) => return Some(first_line(&problems)),
    };
    let values = case.inputs.iter().chain(&case.outputs);
    seen.elements.extend(values.map(|value| value.element.to_string()));
    let found = match catch_unwind(AssertUnwindSafe(|| found_on(session, &case, machine, seen))) {
        Ok(Ok(found)) => found,
        Ok(Err(problems)) => return Some(first_line(&problems)),
        Err(_) => return Some("panic".into()),
    };
    if found.len() != case.outputs.len() {
        return Some(format!("{} outputs, expected {}", found.len(), case.outputs.len()));
    }
    found.iter().zip(&case.outputs).enumerate().find_map(|(index, (found, expected))| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let own = TOLERANCES.iter().find(|row| name.starts_with(row.0)).map_or(1e-4, |row| row.1);
        let (rtol, atol) = if expected.element == Element::F16 { (1e-2, 1e-2) } else { (1e-3, own) };
        match compare(found, expected, rtol, atol) {
            Ok(distance) if distance.mismatches == 0 => None,
            Ok(distance) => Some(format!(
                "output {index}: {} of {} over, at most {:.2e}",
                distance.mismatches, distance.elements, distance.max_absolute_error
            )),
            Err(what) => Some(format!("output {index}: {what}")),
        }
    })
}

/// A case with what is wrong on each machine.
struct Verdict {
    name: String,
    folder: PathBuf,
    problems: [Option<String>; 2],
    seen: Seen,
}

fn run_all(only: &str) -> Vec<Verdict> {
    let session = Session::new();
    let run = |folder: PathBuf| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut seen = Seen::default();
        let problems = [Machine::Evaluator, Machine::Target]
            .map(|machine| problem(&session, &folder, machine, &mut seen));
        Verdict { name, folder, problems, seen }
    };
    let folders = cases_in(&tests_folder().join("models/contrib"));
    folders.into_par_iter().filter(|folder| folder.to_string_lossy().contains(only)).map(run).collect()
}

/// Adds what the cases show to a record.
pub(crate) fn add_to(record: &mut Record) {
    let verdicts = run_all("");
    let agree = |at: usize| verdicts.iter().filter(|verdict| verdict.problems[at].is_none()).count();
    record.suites.insert("com.microsoft".into(), [verdicts.len(), agree(0), agree(1)]);
    for verdict in verdicts.iter().filter(|verdict| verdict.problems[1].is_none()) {
        if let Some(key) = only_operator(&verdict.folder.join("model.onnx")) {
            let shown = record.operators.entry(key).or_default();
            shown.elements.extend(verdict.seen.elements.iter().cloned());
            shown.engines.extend(verdict.seen.engines.iter().cloned());
        }
    }
}

#[test]
fn operators_of_onnx_runtime_agree_with_it() {
    let verdicts = run_all(&std::env::var("TILEWRIGHT_CONTRIB").unwrap_or_default());
    assert!(!verdicts.is_empty(), "there are no cases");
    let (mut agreed, mut faults) = ([0, 0], Vec::new());
    let mut host: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for verdict in &verdicts {
        let name = &verdict.name;
        for (at, machine) in [Machine::Evaluator, Machine::Target].into_iter().enumerate() {
            let exception = EXCEPTIONS.iter().find(|row| row.0 == name && row.1 == machine);
            match (&verdict.problems[at], exception) {
                (None, None) => agreed[at] += 1,
                (None, Some(_)) => faults.push(format!("{name} on {}: agrees now", machine.name())),
                (Some(_), Some(_)) => {}
                (Some(what), None) => faults.push(format!("{name} on {}: {what}", machine.name())),
            }
        }
        for what in &verdict.seen.on_host {
            host.entry(what).or_default().push(name);
        }
    }
    let all = verdicts.len();
    println!("com.microsoft      of {all:>4}: evaluator {:>4}, {TARGET} {:>4}", agreed[0], agreed[1]);
    for (what, names) in &host {
        println!("  {:>4} on the host: {what} ({})", names.len(), names[0]);
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}
