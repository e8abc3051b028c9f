//! Operators of ONNX Runtime, and those that ONNX's own tests leave out: small cases with the values that it computes, recorded by
//! `models/scripts/contrib_cases.py`.
//!
//! | environment variable | meaning |
//! |---|---|
//! | `TILEWRIGHT_CONTRIB=TEXT` | runs the cases whose name contains it |

use crate::run::{Machine, TARGET, engines_of, host_reason};
use harness::recorded::{cases_in, tests_folder};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tilewright::cases;
use tilewright::driver::CompileOptions;
use tilewright::execute::{On, bind, execute};
use tilewright::import::onnx::support::{Evidence, Record, Shown};
use tilewright::loaded::Loaded;
use tilewright::metrics::compare;
use tilewright::model::Source;
use tilewright::session::Session;
use tilewright::signature::Signature;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::element::Element;
use tilewright_ir::tensor::Tensor;

/// The name of these cases among the suites.
const SUITE: &str = "onnx-runtime";
/// Cases that do not agree: case, machine, why.
const EXCEPTIONS: &[(&str, Machine, &str)] = &[];

/// Absolute tolerances of cases by the beginning of their names; 1e-4 for others. The hidden state of a quantised recurrence is rounded
/// anew at every step, and one that lies on a border may go either way.
const TOLERANCES: &[(&str, f64)] = &[("dynamic_quantize_lstm", 2e-3)];

fn first_line(problems: &Diagnostics) -> String {
    problems.first().map(ToString::to_string).unwrap_or_default().replace('\n', "; ")
}

fn found_on(
    session: &Session,
    case: &cases::Case,
    machine: Machine,
    seen: &mut Shown,
) -> Result<Vec<Tensor>, Diagnostics> {
    let source = Source::Onnx(case.model.clone());
    let mut options = CompileOptions { target: TARGET.into(), ..CompileOptions::default() };
    if machine == Machine::Evaluator {
        return execute(session, &source, &case.inputs, &On::Reference(&options));
    }
    let imported = session.import_with(&source, &options.import_options())?;
    let signature = Signature::of(&imported.module, imported.module.functions()[0]);
    let bindings = bind(&signature.inputs, &case.inputs)?;
    options.bindings.extend(bindings.iter().map(|(name, value)| (name.to_string(), *value)));
    let compilation = session.compile(&source, &options)?;
    for report in &compilation.programs {
        seen.engines.extend(engines_of(report));
        seen.hosted.extend(report.placement.fallbacks().filter_map(|row| host_reason(&row.op, &row.reason)));
    }
    let signature = &compilation.signature;
    Loaded::from_compilation(&compilation)?.run_once(signature, &case.inputs)
}

/// What is wrong with a case on a machine, if anything.
fn problem(session: &Session, folder: &Path, machine: Machine, seen: &mut Shown) -> Option<String> {
    let case = match cases::read(folder) {
        Ok(case) => case,
        Err(problems) => return Some(first_line(&problems)),
    };
    let values = case.inputs.iter().chain(&case.outputs).zip(case.strings.iter().flatten());
    let element = |value: &Tensor, is_text: bool| match is_text {
        true => "string".to_string(),
        false => value.element.to_string(),
    };
    seen.elements.extend(values.map(|(value, is_text)| element(value, *is_text)));
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
        let (rtol, atol) = match expected.element {
            _ if case.strings[1][index] => (0.0, 0.0),
            Element::F16 => (1e-2, 1e-2),
            _ => (1e-3, own),
        };
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
    seen: Shown,
}

fn run_all(only: &str) -> Vec<Verdict> {
    let session = Session::new();
    let run = |folder: PathBuf| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut seen = Shown::default();
        let problems = [Machine::Evaluator, Machine::Target]
            .map(|machine| problem(&session, &folder, machine, &mut seen));
        Verdict { name, folder, problems, seen }
    };
    let folders = cases_in(&tests_folder().join("models/contrib"));
    folders.into_par_iter().filter(|folder| folder.to_string_lossy().contains(only)).map(run).collect()
}

/// Adds the counts to a record, and what the cases show to the evidence.
pub(crate) fn add_to(record: &mut Record, evidence: &mut Vec<Evidence>) {
    let verdicts = run_all("");
    let agree = |at: usize| verdicts.iter().filter(|verdict| verdict.problems[at].is_none()).count();
    record.suites.insert(SUITE.into(), [verdicts.len(), agree(0), agree(1)]);
    let proven = verdicts.into_iter().filter(|verdict| verdict.problems[1].is_none());
    evidence
        .extend(proven.filter_map(|verdict| Evidence::of(&verdict.folder.join("model.onnx"), verdict.seen)));
}

/// What runs on the host of each operator. A new line is an operator that an engine does not take any more.
fn fallbacks(verdicts: &[Verdict]) -> String {
    let mut lines = BTreeSet::new();
    for verdict in verdicts {
        let case = Evidence::of(&verdict.folder.join("model.onnx"), verdict.seen.clone());
        if let Some(case) = &case
            && let Some((_, operator)) = case.only_operator()
        {
            lines.extend(case.shown.hosted.iter().map(|reason| format!("{operator}: {reason}\n")));
        }
    }
    lines.into_iter().collect()
}

#[test]
fn operators_of_onnx_runtime_agree_with_it() {
    let filter = std::env::var("TILEWRIGHT_CONTRIB").unwrap_or_default();
    let verdicts = run_all(&filter);
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
        for what in &verdict.seen.hosted {
            host.entry(what).or_default().push(name);
        }
    }
    let all = verdicts.len();
    println!("{SUITE:<18} of {all:>4}: evaluator {:>4}, {TARGET} {:>4}", agreed[0], agreed[1]);
    for (what, names) in &host {
        println!("  {:>4} on the host: {what} ({})", names.len(), names[0]);
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
    if filter.is_empty() {
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "." }, {
            insta::assert_snapshot!("host_fallbacks_contrib", fallbacks(&verdicts));
        });
    }
}
