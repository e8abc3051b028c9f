//! Virtual Python environments below the build folder, for tools that come as Python packages.
//!
//! Made at first use, by the first of all test processes that asks, and used again by all later ones.
//!
//! ```no_run
//! let environment = harness::python::environment("onnx", &["onnx==1.23.2"]).unwrap();
//! let python = environment.join("bin/python");
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The build folder: the nearest `target` above this test's program.
pub fn build_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a test has a program");
    let build = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    build.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), Path::to_path_buf)
}

/// Runs `make` once for all processes and all later runs: `folder` holds the `stamp` when it was done. Others wait.
///
/// # Errors
/// What `make` says.
pub fn once(
    folder: &Path,
    stamp: &str,
    make: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<(), String> {
    let parent = folder.parent().expect("a folder below the build folder");
    std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let lock = File::create(folder.with_extension("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| format!("file locks do not work in the build folder: {error}"))?;
    let ready = folder.join(stamp);
    if !ready.exists() {
        make(folder)?;
        File::create(&ready).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A virtual environment with what `pip install` makes of these words, the last of which is a pinned requirement.
///
/// # Errors
/// Why it could not be made, with the line that makes it.
pub fn environment(name: &str, requirements: &[&str]) -> Result<PathBuf, String> {
    let environment = build_folder().join("tools").join(name);
    let stamp = requirements.last().expect("something to install");
    once(&environment, stamp, |folder| install(folder, requirements)).map_err(|problem| {
        let (path, words) = (environment.display(), requirements.join(" "));
        format!(
            "{problem}\n\
             install it by hand (on Debian first: apt-get install python3-venv) with\n    \
             python3 -m venv --clear {path} && {path}/bin/pip install {words} && touch {path}/{stamp}"
        )
    })?;
    Ok(environment)
}

fn install(environment: &Path, requirements: &[&str]) -> Result<(), String> {
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment))?;
    let pip = environment.join("bin/pip");
    run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]).args(requirements))
}

/// Runs a program to its end without input.
///
/// # Errors
/// What it said, when it failed or could not be started.
pub fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    // A broken venv module complains on standard output, pip on standard error.
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{program}: {}", String::from_utf8_lossy(&said).trim_end()))
}
