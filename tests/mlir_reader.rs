//! Real MLIR, as a reader of what this project prints.
//!
//! Every dump is generic MLIR text; these are the programs that say so. `tosa-opt` comes from the Python package tosa-tools, into
//! a virtual environment below the build folder, made at first use. `mlir-opt` (19 or later) is used as well where it is installed.
//! This file knows no dialect and no pass.
//!
//! ```no_run
//! use harness::mlir_reader::{Locations, readers};
//! for reader in readers() {
//!     let once = reader.print_again(&["\"core.x\"() : () -> ()"], Locations::Dropped);
//!     let text = once[0].as_ref().expect("generic MLIR");
//!     assert_eq!(reader.print_again(&[text], Locations::Dropped)[0].as_ref(), Ok(text));
//! }
//! ```
//!
//! | environment variable | meaning |
//! |---|---|
//! | `TILEWRIGHT_MLIR_OPT` | the `mlir-opt` to use; it must exist. Unset: `mlir-opt-19` or `mlir-opt` on the path, else none |
//! | `TILEWRIGHT_TOSA_OPT` | the `tosa-opt` to use instead of one in the build folder |

use crate::python;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The version that the tests are written against: LLVM 24's reader and printer.
const TOSA_TOOLS: &str = "tosa-tools==2026.8.0";

/// What stands between two modules of one text (`--split-input-file`).
pub const SEPARATOR: &str = "// -----";

/// Whether `loc(...)` is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locations {
    /// Not printed.
    Dropped,
    /// Printed in place, not as aliases at the end.
    Kept,
}

/// One installed MLIR printer.
#[derive(Clone, Debug)]
pub struct Reader {
    /// `tosa-opt` or `mlir-opt`.
    pub name: &'static str,
    program: PathBuf,
}

/// The readers of this machine: `tosa-opt` always, `mlir-opt` where there is one.
///
/// # Panics
/// When `tosa-opt` can be neither found nor installed; the message has the line that installs it.
pub fn readers() -> &'static [Reader] {
    static READERS: OnceLock<Vec<Reader>> = OnceLock::new();
    READERS.get_or_init(|| {
        let program = std::env::var_os("TILEWRIGHT_TOSA_OPT").map_or_else(installed_tosa_opt, PathBuf::from);
        let mut readers = vec![Reader { name: "tosa-opt", program }];
        readers.extend(mlir_opt().map(|program| Reader { name: "mlir-opt", program }));
        for reader in &readers {
            let version = Command::new(&reader.program).arg("--version").output();
            assert!(
                version.as_ref().is_ok_and(|output| output.status.success()),
                "{} does not run: {version:?}",
                reader.program.display()
            );
        }
        readers
    })
}

impl Reader {
    /// Reads each text as one module and prints it in generic form, or returns what the reader said against it. The printed text
    /// ends in one newline. All of them in one process, as starting it costs more than its work; when one is refused, halves are
    /// tried until the guilty ones stand alone.
    pub fn print_again(
        &self,
        modules: &[impl AsRef<str>],
        locations: Locations,
    ) -> Vec<Result<String, String>> {
        let modules: Vec<&str> = modules.iter().map(AsRef::as_ref).collect();
        let mut results = Vec::with_capacity(modules.len());
        self.print_halves(&modules, locations, &mut results);
        results
    }

    fn print_halves(
        &self,
        modules: &[&str],
        locations: Locations,
        results: &mut Vec<Result<String, String>>,
    ) {
        if modules.is_empty() {
            return;
        }
        match self.run(&modules.join(&format!("\n{SEPARATOR}\n")), locations) {
            Ok(printed) => {
                let parts = split_modules(&printed);
                assert_eq!(parts.len(), modules.len(), "{} printed another number of modules", self.name);
                results.extend(parts.into_iter().map(Ok));
            }
            Err(message) if modules.len() == 1 => results.push(Err(message)),
            Err(_) => {
                let (first, second) = modules.split_at(modules.len() / 2);
                self.print_halves(first, locations, results);
                self.print_halves(second, locations, results);
            }
        }
    }

    fn run(&self, text: &str, locations: Locations) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command.args(["--allow-unregistered-dialect", "--mlir-print-op-generic", "--split-input-file"]);
        if locations == Locations::Kept {
            command.args(["--mlir-print-debuginfo", "--mlir-print-local-scope"]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let mut stdin = child.stdin.take().expect("a pipe was asked for");
        let text = text.to_string();
        // A thread, as the reader may print before it has read everything. It may also stop reading at an error.
        let feeding = std::thread::spawn(move || stdin.write_all(text.as_bytes()).ok());
        let output = child.wait_with_output().expect("the child ends");
        feeding.join().expect("feeding does not panic");
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).expect("MLIR prints ASCII"))
        } else {
            Err(format!("{}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim_end()))
        }
    }
}

/// The modules of a text with separator lines, each ending in one newline.
pub fn split_modules(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == SEPARATOR {
            parts.push(String::new());
        } else {
            let part = parts.last_mut().expect("never empty");
            part.push_str(line);
            part.push('\n');
        }
    }
    parts.iter().map(|part| format!("{}\n", part.trim_matches('\n'))).collect()
}

fn mlir_opt() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("TILEWRIGHT_MLIR_OPT") {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH")?;
    let on_path =
        |name: &str| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|one| one.is_file());
    on_path("mlir-opt-19").or_else(|| on_path("mlir-opt"))
}

/// The `tosa-opt` of the build folder.
fn installed_tosa_opt() -> PathBuf {
    let environment = python::environment("tosa", &["--no-deps", TOSA_TOOLS]).unwrap_or_else(|problem| {
        panic!(
            "the tests check every dump with tosa-opt, which could not be installed: {problem}\nor name one in TILEWRIGHT_TOSA_OPT"
        )
    });
    environment.join("bin/tosa-opt")
}
