//! Hostile files, end to end: a compiled artifact with bits flipped, bytes cut or words overwritten, also with its hashes made right
//! again, so that the checker has to find it. Never a panic, never an endless run.
//!
//! `TILEWRIGHT_MUTATIONS` sets the number of mutations. Mutated ONNX files and IR texts are tested beside their readers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tilewright::driver::CompileOptions;
use tilewright::model::Source;
use tilewright::session::Session;
use tilewright_ir::sample::Sampler;
use tilewright_runtime::artifact::{Artifact, Verify, recompute_hashes};
use tilewright_runtime::session::{Options, Session as Runtime};

const MUTATIONS_DEFAULT: usize = 10_000;
/// Enough for the unharmed program, little enough to stop a loop that a mutation made long.
const WORK_MAX: u64 = 2_000_000;

fn mutations() -> usize {
    std::env::var("TILEWRIGHT_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(MUTATIONS_DEFAULT)
}

fn artifact_bytes() -> Vec<u8> {
    let model = harness::recorded::tests_folder().join("models/cases/trap-reshape-zero-copy-dim");
    let model = if model.exists() { model } else { harness::recorded::own_cases().remove(0) };
    let session = Session::new();
    let source = Source::open(&model).expect("a recorded model");
    let case = tilewright::cases::read(&model).expect("a recorded case");
    let imported =
        session.import(&source, &Default::default(), Default::default()).expect("the model imports");
    let signature = tilewright::signature::Signature::of(&imported.module, imported.module.functions()[0]);
    let bound = tilewright::execute::bind(&signature.inputs, &case.inputs).expect("the inputs fit");
    let options = CompileOptions {
        target: "npu-gen3".into(),
        bindings: bound.iter().map(|(name, value)| (name.to_string(), *value)).collect(),
        ..CompileOptions::default()
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.npu");
    session.compile(&source, &options).expect("the model compiles").write(&path).expect("it can be written");
    std::fs::read(path).expect("it can be read")
}

/// How far a file came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    Container,
    Checker,
    Run,
    End,
}

fn try_all(bytes: Vec<u8>) -> Stop {
    let Ok(artifact) = Artifact::from_bytes(bytes, Verify::All) else { return Stop::Container };
    let options = Options { work_max: WORK_MAX, ..Options::default() };
    let Ok(mut session) = Runtime::new(Arc::new(artifact), options) else { return Stop::Checker };
    match session.run() {
        Ok(()) => Stop::End,
        Err(_) => Stop::Run,
    }
}

fn mutate(bytes: &[u8], random: &mut Sampler, places: &[usize]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let pick = |random: &mut Sampler, count: usize| random.below(0, count as i64 - 1) as usize;
    match random.below(0, 9) {
        0 => bytes.truncate(pick(random, bytes.len())),
        1..=5 => {
            for _ in 0..=pick(random, 3) {
                let at = places[pick(random, places.len())];
                bytes[at] ^= 1 << pick(random, 8);
            }
        }
        _ => {
            let at = places[pick(random, places.len())];
            let word = [0, 1, 0x7f, 0xff, random.bits() as u8][pick(random, 5)];
            let end = (at + 1 + pick(random, 8)).min(bytes.len());
            bytes[at..end].fill(word);
        }
    }
    bytes
}

#[test]
fn mutated_artifacts_are_errors() {
    let bytes = artifact_bytes();
    assert!(matches!(try_all(bytes.clone()), Stop::End | Stop::Run), "the unharmed artifact is refused");
    // Padding between sections is zero; mutations there would test nothing.
    let places: Vec<usize> =
        (0..bytes.len()).filter(|at| bytes[at.saturating_sub(8)..=*at].iter().any(|b| *b != 0)).collect();
    let mut random = Sampler::new(7);
    let mut stops = [0usize; 4];
    for number in 0..mutations() {
        let mut harmed = mutate(&bytes, &mut random, &places);
        if number % 4 != 0 {
            recompute_hashes(&mut harmed);
        }
        let stop = catch_unwind(AssertUnwindSafe(|| try_all(harmed)));
        match stop {
            Ok(stop) => stops[stop as usize] += 1,
            Err(_) => panic!("mutation {number} panics"),
        }
    }
    println!("container {}, checker {}, run {}, end {}", stops[0], stops[1], stops[2], stops[3]);
    assert!(stops[Stop::Container as usize] > 0 && stops[Stop::Checker as usize] > 0, "{stops:?}");
}
