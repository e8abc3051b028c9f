//! Files and standard streams: whole results or none.
//!
//! A file is written beside its destination under a temporary name and renamed when complete, so that nobody sees half of it.

use std::io::{Read, Write};
use std::path::Path;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;

fn fault(path: &Path, doing: &str, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error(Location::Unknown, format!("cannot {doing} '{}': {error}", path.display()))
        .with_help("check that the folder exists, is writable and has room")
}

/// Writes a line to standard output. A reader that closed its end (`| head`) has seen what it wanted: that is no fault.
pub fn say(line: std::fmt::Arguments) {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write standard output: {error}");
        }
        _ => {}
    }
}

/// Writes a whole file, or standard output for `-`; there a reader that closed its end is no fault.
///
/// # Errors
/// Names the path and the system's reason; an existing file stays as it was.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Diagnostic> {
    if path == Path::new("-") {
        let mut stdout = std::io::stdout().lock();
        return match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(fault(path, "write", &error)),
            _ => Ok(()),
        };
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary_in(folder).map_err(|error| fault(path, "write", &error))?;
    file.write_all(bytes).map_err(|error| fault(path, "write", &error))?;
    file.persist(path).map_err(|error| fault(path, "write", &error.error))?;
    Ok(())
}

/// A file under a temporary name in a folder, readable by whom new files are (the process's umask); removed when dropped.
///
/// # Errors
/// The system's reason.
pub(crate) fn temporary_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Reads a whole text file, or standard input for `-`.
///
/// # Errors
/// Names the path and the reason.
pub fn read_text(path: &Path) -> Result<String, Diagnostic> {
    let bytes = read(path)?;
    String::from_utf8(bytes).map_err(|error| {
        Diagnostic::error(Location::Unknown, format!("'{}' is not UTF-8: {error}", path.display()))
    })
}

/// Reads a whole file, or standard input for `-`.
///
/// # Errors
/// Names the path and the reason.
pub fn read(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let fault = |error: &std::io::Error| {
        Diagnostic::error(Location::Unknown, format!("cannot read '{}': {error}", path.display()))
            .with_help("check the path; '-' reads standard input")
    };
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map_err(|error| fault(&error))?;
        return Ok(bytes);
    }
    std::fs::read(path).map_err(|error| fault(&error))
}

/// Makes a folder with its parents.
///
/// # Errors
/// Names the path and the reason.
pub fn make_folder(path: &Path) -> Result<(), Diagnostic> {
    std::fs::create_dir_all(path).map_err(|error| fault(path, "make folder", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/such/out.npu");
        let error = write(&missing, b"x").unwrap_err();
        assert!(error.what.contains("out.npu"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        write(&folder.path().join("a"), b"1").unwrap();
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"1");
    }
}
