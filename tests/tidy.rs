//! The house rules that a machine can check: sizes of files, module docs, words that do not belong.
//!
//! Public items without documentation are refused by the `missing_docs` lint, which CI denies.

use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;
const INTERPRETER_LINES_MAX: usize = 300;
const LINE_WIDTH_MAX: usize = 120;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a readable folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !["target", ".git", "node_modules"].contains(&name) {
                rust_files(&path, into);
            }
        } else if name.ends_with(".rs") {
            into.push(path);
        }
    }
}

/// Files that a tool wrote say so in their first line.
fn is_generated(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.contains("@generated"))
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for folder in ["ir", "passes", "runtime", "targets", "compiler", "tests"] {
        rust_files(&root().join(folder), &mut files);
    }
    assert!(files.len() > 50, "found only {} source files: the walk is broken", files.len());
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            (path.strip_prefix(root()).expect("below the root").to_path_buf(), text)
        })
        .filter(|(_, text)| !is_generated(text))
        .collect()
}

fn refuse(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn files_have_one_subject() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        let limit =
            if path.ends_with("runtime/src/interpreter.rs") { INTERPRETER_LINES_MAX } else { LINES_MAX };
        if lines > limit {
            problems.push(format!("{}: {lines} lines, at most {limit}", path.display()));
        }
    }
    refuse(&problems);
}

#[test]
fn the_median_file_is_short() {
    let mut sizes: Vec<usize> = sources().iter().map(|(_, text)| text.lines().count()).collect();
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2];
    assert!(median <= 250, "the median source file has {median} lines; aim at 200");
}

#[test]
fn files_say_what_they_are() {
    let without: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| {
            !text.lines().find(|line| !line.is_empty()).is_some_and(|line| line.starts_with("//!"))
        })
        .map(|(path, _)| format!("{}: no module doc", path.display()))
        .collect();
    refuse(&without);
}

#[test]
fn lines_fit() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            // Tables of data and long literals are left to their authors.
            let literal = line.contains('"') || line.ends_with('\\') || line.trim_start().starts_with("//");
            if !literal && line.chars().count() > LINE_WIDTH_MAX {
                problems.push(format!("{}:{}: {} columns", path.display(), number + 1, line.chars().count()));
            }
        }
    }
    refuse(&problems);
}

#[test]
fn nothing_unfinished() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        if path.ends_with("tests/tidy.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for word in ["todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX", "#[ignore"] {
                if line.contains(word) {
                    problems.push(format!("{}:{}: {word}", path.display(), number + 1));
                }
            }
        }
    }
    refuse(&problems);
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let allowed = ["runtime/src/artifact", "runtime/src/kernels", "compiler/src/import/onnx/"];
    let mut problems = Vec::new();
    for (path, text) in sources() {
        let name = path.to_string_lossy().replace('\\', "/");
        if name == "tests/tidy.rs" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if (code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl"))
                && !allowed.iter().any(|prefix| name.starts_with(prefix))
            {
                problems.push(format!("{name}:{}: unsafe outside its rooms", number + 1));
            }
        }
    }
    refuse(&problems);
}
