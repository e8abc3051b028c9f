//! Where recorded models are: a selection in the repository, and the large optional set beside it.
//!
//! What is absent is said and counted, never passed over in silence.

use std::path::{Path, PathBuf};

/// The tests' own folder.
pub fn tests_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The cases that travel with the source.
pub fn own_cases() -> Vec<PathBuf> {
    let cases = cases_in(&tests_folder().join("models/cases"));
    assert!(!cases.is_empty(), "tests/models/cases holds no case");
    cases
}

/// The cases of the optional reference folder `../shared/models`; says so when it is not there. `TILEWRIGHT_SHARED` names another
/// place.
pub fn shared_cases() -> Vec<PathBuf> {
    let folder = match std::env::var_os("TILEWRIGHT_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => tests_folder().join("../../shared"),
    };
    let cases = cases_in(&folder.join("models"));
    if cases.is_empty() {
        eprintln!("skipped: {} is absent, only the cases of the repository are run", folder.display());
    }
    cases
}

/// Folders below `folder` that hold a model, sorted.
pub fn cases_in(folder: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.join("model.onnx").is_file())
        .collect();
    cases.sort();
    cases
}
