//! ONNX's own backend tests: how many agree in the reference evaluator, and how many through a target's compiler and interpreter.
//!
//! | environment variable | meaning |
//! |---|---|
//! | `TILEWRIGHT_BLESS_WAIVERS=1` | writes `waivers.txt` anew |
//! | `TILEWRIGHT_CONFORMANCE=TEXT` | runs the cases whose name contains it and prints each verdict |

mod cases;
#[cfg(test)]
mod casts;
mod contrib;
mod run;
mod waivers;

use crate::cases::Case;
use crate::run::{Machine, Verdict, run};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write;
use tilewright::import::onnx::support::{Evidence, PEERS, Record, Shown, shown_by};
use tilewright::session::Session;

/// Each case on both machines.
type Verdicts = Vec<(Case, [Verdict; 2])>;

fn run_all(cases: Vec<Case>) -> Verdicts {
    let session = Session::new();
    // Graphs nest: deep ones need more stack than a thread has by default.
    let pool = rayon::ThreadPoolBuilder::new().stack_size(64 << 20).build().expect("threads start");
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let verdicts = pool.install(|| {
        cases
            .into_par_iter()
            .with_max_len(1)
            .map(|case| {
                let both = [Machine::Evaluator, Machine::Target].map(|machine| run(&session, &case, machine));
                (case, both)
            })
            .collect()
    });
    std::panic::set_hook(hook);
    verdicts
}

fn figures(verdicts: &Verdicts) -> String {
    let mut suites: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    let (mut frozen, mut with_host, mut host_alone) = (0, 0, 0);
    for (case, [evaluator, target]) in verdicts {
        let row = suites.entry(&case.suite).or_default();
        row[0] += 1;
        row[1] += usize::from(evaluator.problem.is_none());
        row[2] += usize::from(target.problem.is_none());
        frozen += usize::from(!evaluator.frozen.is_empty());
        if target.problem.is_none() && !target.on_host.is_empty() {
            with_host += 1;
            host_alone += usize::from(!target.on_target);
        }
    }
    let mut text = String::new();
    for (suite, [all, evaluator, target]) in suites {
        let peers = PEERS.iter().find(|row| row.0 == suite).map_or(&[][..], |row| row.1);
        let peers: Vec<String> = peers.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let _ = writeln!(
            text,
            "{suite:<18} of {all:>4}: evaluator {evaluator:>4}, {} {target:>4}   ({})",
            run::TARGET,
            peers.join(", ")
        );
    }
    let _ = writeln!(
        text,
        "inputs frozen at compile time in {frozen} cases; of those that agree through {} {with_host} have ops on the host, {host_alone} \
         have all of them there",
        run::TARGET
    );
    text + &host_ops(verdicts)
}

/// Which ops fell back to the host in how many cases.
fn host_ops(verdicts: &Verdicts) -> String {
    let mut ops: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (_, [_, target]) in verdicts {
        let mut rows: Vec<_> = target.on_host.iter().collect();
        rows.sort();
        rows.dedup();
        for (op, reason) in rows {
            *ops.entry((op, reason)).or_default() += 1;
        }
    }
    let mut rows: Vec<_> = ops.into_iter().collect();
    rows.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    rows.iter().fold(String::new(), |mut text, ((op, reason), count)| {
        let _ = writeln!(text, "  {count:>4} on the host: {op}: {reason}");
        text
    })
}

/// What runs on the host in node cases that agree. A new line is an op that an engine does
/// not take any more.
fn fallbacks(verdicts: &Verdicts) -> String {
    let mut lines = std::collections::BTreeSet::new();
    let cases = verdicts.iter().filter(|(case, both)| case.suite == "node" && both[1].problem.is_none());
    for (op, reason) in cases.flat_map(|(_, both)| &both[1].on_host) {
        lines.extend(run::host_reason(op, reason).map(|line| line + "\n"));
    }
    lines.into_iter().collect()
}

/// What a run shows, for the table of operators.
fn record_of(verdicts: &Verdicts) -> Record {
    let (mut record, mut evidence) = (Record::default(), Vec::new());
    for (case, [evaluator, target]) in verdicts {
        let row = record.suites.entry(case.suite.clone()).or_default();
        row[0] += 1;
        row[1] += usize::from(evaluator.problem.is_none());
        row[2] += usize::from(target.problem.is_none());
        if target.problem.is_none() {
            let shown = Shown {
                elements: case.elements().into_iter().collect(),
                engines: target.engines.clone(),
                hosted: target
                    .on_host
                    .iter()
                    .filter_map(|(op, reason)| run::host_reason(op, reason))
                    .collect(),
            };
            evidence.extend(Evidence::of(&case.model(), shown));
        }
    }
    contrib::add_to(&mut record, &mut evidence);
    record.operators = shown_by(&evidence);
    record
}

/// Compares with the list of waivers; gives what must be changed.
fn check(verdicts: &Verdicts) -> Vec<String> {
    let bless = std::env::var_os("TILEWRIGHT_BLESS_WAIVERS").is_some();
    let mut waivers = waivers::read();
    let mut problems = Vec::new();
    let mut kept = waivers::Waivers::new();
    for (case, both) in verdicts {
        for (machine, verdict) in [Machine::Evaluator, Machine::Target].into_iter().zip(both) {
            let key = (case.id(), machine);
            let waiver = waivers.remove(&key);
            match (&verdict.problem, waiver) {
                (None, None) => {}
                (Some(problem), Some(reason)) => {
                    if problem.starts_with("panic") {
                        problems.push(format!("{} on {}: {problem}", key.0, machine.name()));
                    }
                    kept.insert(key, reason);
                }
                (Some(problem), None) => {
                    problems.push(format!("{} on {} fails: {problem}", key.0, machine.name()));
                    kept.insert(key, waivers::UNEXPLAINED.into());
                }
                (None, Some(_)) => {
                    problems.push(format!("{} on {} agrees: remove its waiver", key.0, machine.name()));
                }
            }
        }
    }
    problems.extend(waivers.keys().map(|(case, _)| format!("waivers name '{case}', which is no case")));
    if bless {
        waivers::write(&kept);
        return Vec::new();
    }
    if kept.values().any(|reason| reason == waivers::UNEXPLAINED) {
        problems.push(format!("waivers.txt has cases under [{}]: give a reason", waivers::UNEXPLAINED));
    }
    problems
}

#[test]
fn the_suite_agrees_but_for_the_waivers() {
    let mut cases = cases::all();
    let filter = std::env::var("TILEWRIGHT_CONFORMANCE").ok();
    if let Some(filter) = &filter {
        cases.retain(|case| case.id().contains(filter.as_str()));
    }
    let verdicts = run_all(cases);
    if filter.is_some() {
        for (case, both) in &verdicts {
            for (machine, verdict) in [Machine::Evaluator, Machine::Target].into_iter().zip(both) {
                let said = verdict.problem.as_deref().unwrap_or("agrees");
                println!("{:<9} {}: {said}", machine.name(), case.id());
            }
        }
        print!("{}", figures(&verdicts));
        return;
    }
    print!("{}", figures(&verdicts));
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "." }, {
        insta::assert_snapshot!("host_fallbacks", fallbacks(&verdicts));
    });
    let record = record_of(&verdicts);
    let mut problems = check(&verdicts);
    problems.extend(run::check_record(&record));
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
