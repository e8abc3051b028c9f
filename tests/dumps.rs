//! Every dump of every level, and every corpus file, is generic MLIR: the real readers take it, printing it there again is a fixpoint,
//! and what they print reads back here as the same module.

use harness::mlir_reader::{Locations, Reader, readers};
use harness::recorded::{own_cases, tests_folder};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tilewright::cases;
use tilewright::driver::CompileOptions;
use tilewright::execute::bind;
use tilewright::model::Source;
use tilewright::plan::PlanOptions;
use tilewright::session::Session;
use tilewright::signature::Signature;
use tilewright_ir::parse::{ParseOptions, parse};
use tilewright_ir::print::{PrintOptions, print};

/// The text as this project prints it again; `None` when it does not parse here.
fn printed(session: &Session, text: &str) -> Option<String> {
    let options = ParseOptions { stand_in_seed: Some(1), ..ParseOptions::default() };
    let module = parse(text, &session.registry, &options).ok()?;
    Some(print(&module, &PrintOptions::default()))
}

/// What is wrong with texts by name, as one reader sees it.
fn faults(session: &Session, reader: &Reader, texts: &BTreeMap<String, String>) -> Vec<String> {
    let again = |texts: &[&String]| reader.print_again(texts, Locations::Dropped);
    let mut faults = Vec::new();
    let mut read = Vec::new();
    for (name, once) in texts.keys().zip(again(&texts.values().collect::<Vec<_>>())) {
        match once {
            Ok(once) => read.push((name, once)),
            Err(message) => {
                faults.push(format!("{name}: refused: {}", message.lines().next().unwrap_or_default()))
            }
        }
    }
    let twice = again(&read.iter().map(|(_, once)| once).collect::<Vec<_>>());
    for ((name, once), twice) in read.iter().zip(twice) {
        if twice.as_ref() != Ok(once) {
            faults.push(format!("{name}: printing again is no fixpoint"));
        }
    }
    // Names of values differ; the reader's own numbering makes the two comparable.
    let ours: Vec<Option<String>> = read.iter().map(|(_, once)| printed(session, once)).collect();
    let there = again(&ours.iter().flatten().collect::<Vec<_>>());
    let mut there = there.into_iter();
    for ((name, once), ours) in read.iter().zip(&ours) {
        match ours {
            None => faults.push(format!("{name}: what the reader printed does not parse here")),
            Some(_) if there.next().as_ref() != Some(&Ok(once.clone())) => {
                faults.push(format!("{name}: what the reader printed is another module here"));
            }
            Some(_) => {}
        }
    }
    faults
}

#[track_caller]
fn check(session: &Session, texts: &BTreeMap<String, String>) {
    for reader in readers() {
        let faults = faults(session, reader, texts);
        assert!(
            faults.is_empty(),
            "{}: {} faults in {} texts:\n  {}",
            reader.name,
            faults.len(),
            texts.len(),
            faults.join("\n  ")
        );
    }
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "mlir") {
            into.push(path);
        }
    }
}

#[test]
fn corpus_files_are_mlir() {
    let session = Session::new();
    let mut files = Vec::new();
    walk(&tests_folder().join("corpus"), &mut files);
    let mut texts = BTreeMap::new();
    for path in &files {
        let text = std::fs::read_to_string(path).expect("a corpus file");
        let name = path.strip_prefix(tests_folder()).unwrap_or(path).display().to_string();
        // Files that are there to be refused are no MLIR either.
        let options = ParseOptions { stand_in_seed: Some(1), ..ParseOptions::default() };
        let Ok(module) = parse(&text, &session.registry, &options) else { continue };
        if tilewright_ir::verify::verify(&module).is_empty() {
            texts.insert(name, print(&module, &PrintOptions::default()));
        }
    }
    assert!(texts.len() * 2 > files.len(), "{} of {} corpus files parse", texts.len(), files.len());
    check(&session, &texts);
}

/// The dumps of all levels of a compilation.
fn dumps(
    session: &Session,
    name: &str,
    source: &Source,
    options: CompileOptions,
) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = CompileOptions { dump_folder: Some(folder.path().to_path_buf()), ..options };
    if let Err(problems) = session.compile(source, &options) {
        panic!("{name}: {}", problems[0]);
    }
    let mut files = Vec::new();
    walk(folder.path(), &mut files);
    let read = |path: &PathBuf| std::fs::read_to_string(path).expect("a dump");
    let stem = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    files.iter().map(|path| (format!("{name}/{}", stem(path)), read(path))).collect()
}

fn npu(bindings: BTreeMap<String, i64>) -> CompileOptions {
    let plan = PlanOptions { chunk_lengths: vec![1, 8], context_window: Some(128), ..PlanOptions::default() };
    CompileOptions { target: "npu-gen3".into(), bindings, plan, ..CompileOptions::default() }
}

#[test]
fn dumps_of_all_levels_are_mlir() {
    let session = Session::new();
    let mut texts = BTreeMap::new();
    for folder in own_cases() {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let case = cases::read(&folder).unwrap_or_else(|problems| panic!("{}", problems[0]));
        let source = Source::Onnx(case.model.clone());
        let imported = session
            .import(&source, &BTreeMap::new(), Default::default())
            .unwrap_or_else(|problems| panic!("{}", problems[0]));
        let signature = Signature::of(&imported.module, imported.module.functions()[0]);
        let bindings =
            bind(&signature.inputs, &case.inputs).unwrap_or_else(|problems| panic!("{}", problems[0]));
        let bindings = bindings.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        texts.extend(dumps(&session, &name, &source, npu(bindings)));
    }
    let story = Source::Onnx(tests_folder().join("models/story-3m/model.onnx"));
    let of_story = dumps(&session, "story-3m", &story, npu(BTreeMap::new()));
    // Imported once; core, optimized, kernels, tile and placed for each of two chunk lengths.
    assert_eq!(of_story.len(), 11, "{:?}", of_story.keys());
    texts.extend(of_story);
    check(&session, &texts);
}
