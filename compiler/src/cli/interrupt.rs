//! Ctrl-C: the first asks the work under way to end well, the second ends the program at once.

use crate::exit::Failure;
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A flag that ctrl-C sets from now on. While it is set, ctrl-C does what it always did.
pub(super) fn flag_on_ctrl_c() -> Result<Arc<AtomicBool>, Failure> {
    let is_set = Arc::new(AtomicBool::new(false));
    // Actions run in the order they are given: a second ctrl-C finds the flag set, and the program ends.
    flag::register_conditional_default(SIGINT, is_set.clone())
        .and_then(|_| flag::register(SIGINT, is_set.clone()))
        .map_err(|error| Failure::user(format!("cannot handle ctrl-C: {error}"), "report this"))?;
    Ok(is_set)
}
