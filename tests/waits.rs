//! Waits of finished streams: leaving one out is found, or the walk through the whole stream shows that nothing needed it. A part of `end_to_end.rs`.

use super::{as_recorded, compile_case, npu, read};
use harness::recorded::{cases_in, tests_folder};
use std::collections::BTreeSet;
use tilewright::driver::Compilation;
use tilewright::model::Source;
use tilewright::session::Session;
use tilewright_runtime::checker::trace::walk;
use tilewright_runtime::commands::Command;
use tilewright_runtime::stream::Program;

/// Far above what the programs here run.
const STEPS_MAX: u64 = 1 << 22;

/// Values of the bound registers to walk with: the smallest and, where a program has any, two larger ones.
fn values(program: &Program) -> Vec<Vec<(&str, i64)>> {
    let bound = || program.registers.iter().filter(|register| register.is_bound);
    let at = |tokens: i64| -> Vec<(&str, i64)> {
        bound().map(|one| (one.name.as_str(), tokens.clamp(one.minimum, one.maximum))).collect()
    };
    if bound().count() == 0 { vec![Vec::new()] } else { vec![at(0), at(37), at(150)] }
}

/// The waits of a program.
#[derive(Default)]
struct Waits {
    all: usize,
    /// Never meet a transfer that moves anything, for the values walked with: in a branch not taken, or after a tile past its end.
    idle: Vec<usize>,
    /// Meet one, but guard only a tile past the end, which has no elements: the next wait for the same transfer comes in time.
    spare: Vec<usize>,
}

fn waits(name: &str, program: &Program) -> Waits {
    let values = values(program);
    let mut busy = BTreeSet::new();
    for values in &values {
        let walked = walk(program, values, STEPS_MAX);
        let walked = walked.unwrap_or_else(|problem| panic!("{name} at {values:?}: {problem}"));
        assert!(walked.hazard.is_none(), "{name} at {values:?}: {:?}", walked.hazard);
        busy.extend(walked.busy_waits);
    }
    let mut waits = Waits::default();
    for at in 0..program.commands.len() {
        if !matches!(program.commands[at], Command::Wait { .. }) {
            continue;
        }
        waits.all += 1;
        let mut without = program.clone();
        without.commands.remove(at);
        let is_found = values
            .iter()
            .any(|values| walk(&without, values, STEPS_MAX).is_ok_and(|walked| walked.hazard.is_some()));
        match (is_found, busy.contains(&at)) {
            (true, _) => {}
            (false, true) => waits.spare.push(at),
            (false, false) => waits.idle.push(at),
        }
    }
    waits
}

#[test]
fn a_missing_wait_is_found() {
    let session = Session::new();
    let mut compilations: Vec<(String, Compilation)> = Vec::new();
    let draft = tests_folder().join("models/story-draft/model.onnx");
    let compiled = session.compile(&Source::Onnx(draft), &npu(256, &[1, 8]));
    compilations.push(("story-draft".into(), compiled.unwrap_or_else(|problems| panic!("{}", problems[0]))));
    for folder in cases_in(&tests_folder().join("models/cases")) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Ok(compiled) = compile_case(&session, &read(&folder), &as_recorded(&name)) {
            compilations.push((name, compiled));
        }
    }
    let (mut programs, mut count, mut idle) = (0, 0, 0);
    let mut spare = Vec::new();
    for (name, compilation) in &compilations {
        for program in compilation.programs.iter().filter_map(|report| report.program.as_ref()) {
            let found = waits(name, program);
            (programs, count, idle) = (programs + 1, count + found.all, idle + found.idle.len());
            for at in &found.idle {
                println!(
                    "{name} {}: command {at} has nothing to wait for: {}",
                    program.name,
                    program.location(*at).unwrap_or_default()
                );
            }
            spare.extend(found.spare.iter().map(|at| format!("{name} {}: command {at}", program.name)));
        }
    }
    println!("{count} waits of {programs} programs, each left out in turn: {idle} have nothing to wait for");
    assert!(programs > 5 && count > 1000, "only {count} waits of {programs} programs");
    println!("{} guard only a tile past the end:\n{}", spare.len(), spare.join("\n"));
    assert!(idle * 50 < count, "{idle} of {count} waits have nothing to wait for");
    assert!(spare.len() * 500 < count, "{} of {count} waits can be left out", spare.len());
}
