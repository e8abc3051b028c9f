//! What a session remembers between runs: how many tokens, back to where it can return, and snapshots of it in a file.
//!
//! A snapshot holds the state of the tokens seen and nothing else: growing states up to the last token, others whole. It is bound to
//! the artifact by its hash and carries a hash of its own. This file must not know what programs compute.
//!
//! ```text
//! magic, version, artifact's hash · the caller's tokens · tokens held, tokens written · states: name, bytes · blake3 of all before
//! ```

use super::{Constants, Session, SessionError};
use crate::decode::Reader;
use crate::kernels::index;
use crate::kv_cache::{can_return, past_register};
use crate::memory::{Destination, Source, Window};
use crate::stream::StateBinding;
use crate::view::{Extent, Space, View};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"TWSTATE\n";
const VERSION: u32 = 1;
const HASH_BYTES: usize = 32;

/// Why a snapshot cannot be written or used. The session is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system said no.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// what was tried
        action: &'static str,
        /// on which file
        path: PathBuf,
        /// what the system said
        source: io::Error,
    },
    /// Not a snapshot at all.
    #[error("not a snapshot of a state: the magic bytes are missing")]
    Magic,
    /// Made by another version.
    #[error("snapshot version {found}, this runtime reads {VERSION}")]
    Version {
        /// version in the file
        found: u32,
    },
    /// Contents differ from what was written.
    #[error("the snapshot does not match its hash: the file is damaged")]
    Hash,
    /// Made with another model, or the same compiled in another way.
    #[error("the snapshot was made with another artifact")]
    OtherArtifact,
    /// A part that does not fit.
    #[error("malformed snapshot: {what}")]
    Malformed {
        /// which part
        what: String,
    },
}

fn malformed(what: impl Into<String>) -> SnapshotError {
    SnapshotError::Malformed { what: what.into() }
}

/// Tokens in the state, as far as runs tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// The state holds so many; the next run may begin at any of them that [`can_return`] allows.
    pub(super) tokens: u64,
    /// Most tokens ever written since the state was empty: what a ring may have overwritten.
    pub(super) written: u64,
}

impl Session {
    /// Tokens that the state holds, padding of the last run included.
    pub fn held_tokens(&self) -> u64 {
        self.held.tokens
    }

    /// Forgets all but the first `tokens` tokens, as if the others had never been run. Gives how many are kept: `tokens`, or 0 with
    /// everything forgotten where the state cannot return there (a state that is replaced as a whole, as a convolution window; a
    /// quantised cache whose full-precision window no longer reaches back). The caller runs what is missing again.
    pub fn trim_state(&mut self, tokens: u64) -> u64 {
        let tokens = tokens.min(self.held.tokens);
        if tokens > 0 && can_return(self.program(), self.held.written, self.held.tokens, tokens) {
            self.held.tokens = tokens;
            return tokens;
        }
        self.reset_state();
        0
    }

    /// Forgets everything: state memory is zero again.
    pub fn reset_state(&mut self) {
        self.memory.clear(Space::State);
        self.held = Held::default();
    }

    /// Whether the state can always return to fewer tokens within the last run, so that a run may be padded at its end.
    pub fn can_trim_state(&self) -> bool {
        self.program().states.iter().all(|state| state.growing_axis.is_some() || state.recent.is_some())
    }

    /// The state memory, as it lies.
    pub fn state(&self) -> &[u8] {
        self.memory.space(Space::State)
    }

    /// The bound past of the next run; none when no state grows.
    pub(super) fn past(&self) -> Option<u64> {
        let register = past_register(self.program())?;
        u64::try_from(self.registers[usize::from(register.0)]).ok()
    }

    /// Refuses a run from where a quantised cache holds nothing exact. Plain caches may have been fed from outside.
    pub(super) fn check_past(&self, past: u64) -> Result<(), SessionError> {
        let program = self.program();
        let is_plain = program.states.iter().all(|state| state.recent.is_none());
        let Held { tokens: held, written } = self.held;
        if is_plain || past == 0 || past <= held && can_return(program, written, held, past) {
            return Ok(());
        }
        Err(SessionError::Past { past, held })
    }

    /// After a run that began after `past` tokens.
    pub(super) fn ran(&mut self, past: u64) {
        let tokens = past + u64::from(self.program().chunk_length);
        // From an empty state nothing before is needed, whatever was there.
        let written = if past == 0 { tokens } else { self.held.written.max(tokens) };
        self.held = Held { tokens, written };
    }

    fn identity(&self) -> [u8; HASH_BYTES] {
        match &self.constants {
            Constants::Artifact(artifact) => artifact.identity(),
            Constants::Owned(constants) => {
                let mut hasher = blake3::Hasher::new();
                self.programs.iter().for_each(|program| {
                    hasher.update(&program.encode());
                });
                *hasher.update(constants).finalize().as_bytes()
            }
        }
    }

    /// The state's part that `tokens` tokens fill.
    fn held_view(&self, state: &StateBinding, tokens: u64) -> Option<View> {
        let mut view = state.output.view.clone();
        if let Some(axis) = state.growing_axis {
            let dim = view.dims.get_mut(usize::from(axis))?;
            *dim = Extent::fixed(u32::try_from(tokens).ok().filter(|count| *count <= dim.cap)?);
        }
        Some(view)
    }

    fn held_bytes(view: &View) -> Option<usize> {
        usize::try_from(view.element.packed_bytes(view.elements_max())?).ok()
    }

    /// The bytes of a snapshot; `tokens` are the caller's ids of what the state holds, given back by [`Session::restore`].
    ///
    /// # Errors
    /// When the state does not hold so many tokens.
    pub fn snapshot(&mut self, tokens: &[u32]) -> Result<Vec<u8>, SnapshotError> {
        if tokens.len() as u64 > self.held.tokens {
            return Err(malformed(format!("{} tokens for a state of {}", tokens.len(), self.held.tokens)));
        }
        let count = tokens.len() as u64;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.identity());
        bytes.extend((tokens.len() as u32).to_le_bytes());
        tokens.iter().for_each(|token| bytes.extend(token.to_le_bytes()));
        bytes.extend(self.held.written.to_le_bytes());
        let states = self.program().states.clone();
        bytes.extend((states.len() as u32).to_le_bytes());
        for state in &states {
            let name = &state.input.name;
            let view = self.held_view(state, count).ok_or_else(|| malformed(name.as_str()))?;
            let dense = self.read(&view).map_err(|error| malformed(error.to_string()))?.bytes;
            bytes.extend((name.len() as u32).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend((dense.len() as u64).to_le_bytes());
            bytes.extend(dense);
        }
        let hash = blake3::hash(&bytes);
        bytes.extend(hash.as_bytes());
        Ok(bytes)
    }

    /// Takes over what [`Session::snapshot`] gave; gives the caller's tokens back.
    ///
    /// # Errors
    /// When the bytes are no snapshot, are damaged or belong to another artifact; the state is unchanged then.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<Vec<u32>, SnapshotError> {
        if bytes.get(..MAGIC.len()) != Some(&MAGIC[..]) {
            return Err(SnapshotError::Magic);
        }
        let end = bytes.len().checked_sub(HASH_BYTES).filter(|end| *end >= MAGIC.len());
        let end = end.ok_or_else(|| malformed("it is cut off"))?;
        let mut reader = Reader::new(&bytes[MAGIC.len()..end]);
        let version = reader.u32().ok_or_else(|| malformed("it is cut off"))?;
        if version != VERSION {
            return Err(SnapshotError::Version { found: version });
        }
        if blake3::hash(&bytes[..end]).as_bytes()[..] != bytes[end..] {
            return Err(SnapshotError::Hash);
        }
        let cut = || malformed("it is cut off");
        if reader.array::<HASH_BYTES>().ok_or_else(cut)? != self.identity() {
            return Err(SnapshotError::OtherArtifact);
        }
        let count = reader.count(4).ok_or_else(cut)?;
        let tokens: Vec<u32> = (0..count).map(|_| reader.u32()).collect::<Option<_>>().ok_or_else(cut)?;
        let written = reader.u64().ok_or_else(cut)?;
        if written < count as u64 {
            return Err(malformed(format!("{written} tokens written, {count} held")));
        }
        let parts = self.snapshot_parts(&mut reader, count as u64)?;
        self.reset_state();
        for (view, dense) in parts {
            self.fill_state(&view, dense).map_err(|fault| malformed(fault.to_string()))?;
        }
        self.held = Held { tokens: count as u64, written };
        Ok(tokens)
    }

    /// The states of a snapshot, each with its place, all checked.
    fn snapshot_parts<'b>(
        &self,
        reader: &mut Reader<'b>,
        tokens: u64,
    ) -> Result<Vec<(View, &'b [u8])>, SnapshotError> {
        let states = &self.program().states;
        let count = reader.count(12).ok_or_else(|| malformed("its list of states"))?;
        if count != states.len() {
            return Err(malformed(format!("{count} states, the model has {}", states.len())));
        }
        let mut parts = Vec::new();
        for state in states {
            let expected = &state.input.name;
            let wrong = || malformed(format!("state '{expected}'"));
            let name = reader.string().ok_or_else(wrong)?;
            let length = reader.u64().and_then(|length| usize::try_from(length).ok()).ok_or_else(wrong)?;
            let dense = reader.take(length).ok_or_else(wrong)?;
            let view = self.held_view(state, tokens).ok_or_else(wrong)?;
            if name != *expected || Session::held_bytes(&view) != Some(length) {
                return Err(wrong());
            }
            parts.push((view, dense));
        }
        if reader.remaining() != 0 {
            return Err(malformed("bytes after the last state"));
        }
        Ok(parts)
    }

    fn fill_state(&mut self, view: &View, dense: &[u8]) -> Result<(), crate::kernels::Fault> {
        let shape = view.shape(&self.registers);
        let source = Source::packed(view.element, &shape, dense)?;
        let size = self.memory.size(view.space, self.constants.bytes());
        let window = Window::resolve(view, &self.registers, size)?;
        let ([mut destination], []) = self.memory.borrow(self.constants.bytes(), [window], [])?;
        let destination: &mut Destination<'_> = &mut destination;
        index::copy(destination, &source)
    }

    /// Writes [`Session::snapshot`] to a file: into a temporary one beside it first, then renamed.
    ///
    /// # Errors
    /// When the file cannot be written; nothing is left then.
    pub fn save_snapshot(&mut self, path: &Path, tokens: &[u32]) -> Result<(), SnapshotError> {
        let bytes = self.snapshot(tokens)?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let written = std::fs::File::create(&part)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&part, path));
        written.map_err(|source| {
            let _ = std::fs::remove_file(&part);
            SnapshotError::Io { action: "cannot write", path: path.to_owned(), source }
        })
    }

    /// Reads a file and takes it over as [`Session::restore`] does.
    ///
    /// # Errors
    /// When the file cannot be read, and as [`Session::restore`].
    pub fn load_snapshot(&mut self, path: &Path) -> Result<Vec<u32>, SnapshotError> {
        let failed = |source| SnapshotError::Io { action: "cannot read", path: path.to_owned(), source };
        self.restore(&std::fs::read(path).map_err(failed)?)
    }
}
