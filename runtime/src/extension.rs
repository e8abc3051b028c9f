//! Commands of a target's own: how the runtime checks and executes what it does not know.

use crate::commands::{Access, ViewId};
use crate::memory::{Destination, Source};

/// Most destinations a target's command may have.
pub const DESTINATIONS_MAX: usize = 4;
/// Most sources a target's command may have.
pub const SOURCES_MAX: usize = 8;

/// Executes a target's commands (opcodes from 0x80). Views are resolved, bounds-checked and borrowed by the runtime.
pub trait Extension: Send + Sync {
    /// The views of a command, destinations before sources; each destination is written (or updated), each source read.
    ///
    /// # Errors
    /// When opcode or payload are not this target's; the text says why.
    fn operands(&self, opcode: u8, payload: &[u8]) -> Result<Vec<(Access, ViewId)>, String>;

    /// Executes a command over the operands that [`Extension::operands`] named, in that order. Extents may be anything.
    ///
    /// # Errors
    /// When operands do not fit each other; the text says why.
    fn execute(
        &self,
        opcode: u8,
        payload: &[u8],
        destinations: &mut [Destination<'_>],
        sources: &[Source<'_>],
    ) -> Result<(), String>;

    /// The text of a command in dumps; by default its bytes.
    fn disassemble(&self, _opcode: u8, _payload: &[u8]) -> Option<String> {
        None
    }
}
