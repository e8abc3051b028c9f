//! Keeps the memory of a process to itself: nothing is swapped out, and a crash leaves no image of it.
//!
//! What this is not: an enclave. Whoever may read the process's memory (root, a debugger with that right) reads the model.
//!
//! ```text
//! no_core_dumps()?; load; lock_memory()?;
//! ```

use std::io;

/// Forbids core dumps, and on Linux debuggers and `/proc/PID/mem` of other users' processes: a limit of 0 bytes, and a process that is
/// not dumpable (prctl(2), PR_SET_DUMPABLE).
///
/// # Errors
/// What the system says; on systems other than Unix that it cannot be done.
#[cfg(unix)]
pub fn no_core_dumps() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Locks all pages that the process has now into memory (mlockall(2), MCL_CURRENT). Call it when a model is loaded: nothing is allocated
/// while it runs.
///
/// # Errors
/// What the system says: most often that the limit of locked memory (`ulimit -l`) is too low; on systems other than Linux that it cannot
/// be done.
#[cfg(target_os = "linux")]
pub fn lock_memory() -> io::Result<()> {
    Ok(rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT)?)
}

/// As on Unix; here it cannot be done.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub fn no_core_dumps() -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// As on Linux; here it cannot be done.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn lock_memory() -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}
