//! The corpus: every file below `tests/corpus`, with its snapshot beside it.
//!
//! `INSTA_UPDATE=always cargo test --release -p tilewright-tests --test corpus` writes the snapshots anew; read the difference before
//! you commit it. `TILEWRIGHT_CORPUS=word` runs only the files whose path holds the word.

use harness::corpus_file;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tilewright::session::Session;

/// Fewest files that the corpus holds: a walk that finds less is broken.
const FILES_MIN: usize = 150;

fn walk(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a readable folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, extension, into);
        } else if path.extension().is_some_and(|found| found == extension) {
            into.push(path);
        }
    }
}

fn corpus_folder() -> PathBuf {
    harness::recorded::tests_folder().join("corpus")
}

#[test]
fn corpus() {
    let mut files = Vec::new();
    walk(&corpus_folder(), "mlir", &mut files);
    assert!(
        files.len() >= FILES_MIN,
        "the corpus holds {} files, at least {FILES_MIN} are expected",
        files.len()
    );
    let only = std::env::var("TILEWRIGHT_CORPUS").unwrap_or_default();
    let session = Session::new();
    let mut failures = Vec::new();
    for path in files.iter().filter(|path| path.to_string_lossy().contains(&only)) {
        let text = std::fs::read_to_string(path).expect("a readable corpus file");
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a file name").to_string();
        // One broken file must not hide the others.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let found = corpus_file::run(&session, &stem, &text);
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path(path.parent().expect("a folder"));
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings.bind(|| insta::assert_snapshot!(stem.as_str(), found));
        }));
        if outcome.is_err() {
            failures.push(path.strip_prefix(corpus_folder()).unwrap_or(path).display().to_string());
        }
    }
    assert!(
        failures.is_empty(),
        "{} corpus files fail:\n  {}\nTo accept changed snapshots: INSTA_UPDATE=always cargo test --release -p \
         tilewright-tests --test corpus",
        failures.len(),
        failures.join("\n  ")
    );
}

#[test]
fn no_snapshot_without_its_file() {
    let (mut files, mut snapshots) = (Vec::new(), Vec::new());
    walk(&corpus_folder(), "mlir", &mut files);
    walk(&corpus_folder(), "snap", &mut snapshots);
    let stems: BTreeSet<PathBuf> = files.iter().map(|path| path.with_extension("")).collect();
    let stale: Vec<&PathBuf> =
        snapshots.iter().filter(|path| !stems.contains(&path.with_extension(""))).collect();
    assert!(stale.is_empty(), "snapshots without a corpus file: {stale:?}");
}
