//! Programs without weights, and files of weights that several programs share.
//!
//! A file of weights is an artifact with constants and no program; equal tensors stand in it once, by the hash of their bytes. A program
//! compiled without weights keeps the index of what it reads: for each tensor the place its commands think it has, and its hash. Binding
//! finds each tensor by its hash and moves the program's views to where it lies, as a linker does. Neither reads a weight's bytes, so
//! that opening costs as much as the index is long. This file must not know what commands mean.
//!
//! ```text
//! story.npu            programs, tokenizer, index {name, place, bytes, hash}      some KB
//! story.weights.npu    constants, index {name, place, bytes, hash}                shared by chunk lengths, targets, presets
//! ```

use super::writer::ConstantsSection;
use super::{Artifact, ArtifactError, ArtifactWriter, Verify};
use crate::stream::{ConstantInfo, Program};
use crate::view::{Expression, Space, View};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Weights begin at multiples of this, so that the widest vector load is aligned.
const ALIGNMENT_BYTES: u64 = 64;

/// The metadata key under which a program names the file of its weights, as a path from the program's own folder.
const FILE_KEY: &str = "weights";

impl Artifact {
    /// Whether it has programs that need weights from another file.
    pub fn needs_weights(&self) -> bool {
        self.constants.is_none() && self.weights.is_none() && !self.constant_index.is_empty()
    }

    /// The name of the file with its weights, as it was called when the program was compiled; `None` when it has its own.
    pub fn weights_file(&self) -> Option<&str> {
        if self.constants.is_some() { None } else { self.metadata.get(FILE_KEY).map(String::as_str) }
    }

    /// Metadata of a program without weights: the name of their file.
    pub fn weights_metadata(file: &str) -> (String, String) {
        (FILE_KEY.to_owned(), file.to_owned())
    }

    /// The file of weights it is bound to.
    pub fn bound_weights(&self) -> Option<&Arc<Artifact>> {
        self.weights.as_ref()
    }

    /// Binds programs to weights: each tensor is found by its hash. Gives an artifact that has its own back as it was.
    ///
    /// # Errors
    /// Names a tensor that the weights do not have, or a program that reads where none lies.
    pub fn bind(mut self, weights: Arc<Artifact>) -> Result<Artifact, ArtifactError> {
        if !self.needs_weights() {
            return Ok(self);
        }
        let moves = self.moves(&weights)?;
        let end_bytes = moves.iter().map(|one| one.to + one.bytes).max().unwrap_or(0);
        for program in &mut self.programs {
            relocate(program, &moves)?;
            program.space_bytes[Space::Constant as usize] = end_bytes;
        }
        self.weights = Some(weights);
        Ok(self)
    }

    /// Where each weight of the index begins in [`Artifact::constants`].
    pub(super) fn constant_places(&self) -> Result<Vec<u64>, ArtifactError> {
        let infos = self.constant_index.iter();
        let Some(weights) = &self.weights else { return Ok(infos.map(|info| info.offset_bytes).collect()) };
        let moves = self.moves(weights)?;
        // Those without bytes do not move.
        let place =
            |from: u64| moves.get(moves.partition_point(|one| one.from < from)).map_or(0, |one| one.to);
        Ok(infos.map(|info| if info.bytes == 0 { 0 } else { place(info.offset_bytes) }).collect())
    }

    /// Where each of the tensors goes, ascending by where it is thought to be.
    fn moves(&self, weights: &Artifact) -> Result<Vec<Move>, ArtifactError> {
        // An index without constants has nothing to give.
        let has_bytes = usize::from(weights.constants.is_some());
        let entries = weights.constant_hashes.iter().zip(&weights.constant_index);
        let stored: BTreeMap<(&[u8; 32], u64), u64> = entries
            .take(has_bytes * weights.constant_index.len())
            .map(|(hash, info)| ((hash, info.bytes), info.offset_bytes))
            .collect();
        let needed = || self.constant_index.iter().zip(&self.constant_hashes);
        let place = |(info, hash): (&ConstantInfo, &[u8; 32])| {
            let to = *stored.get(&(hash, info.bytes))?;
            Some(Move { from: info.offset_bytes, to, bytes: info.bytes })
        };
        let mut absent = needed().filter(|one| place(*one).is_none());
        if let Some((info, hash)) = absent.next() {
            let (name, missing) = (info.name.clone(), 1 + absent.count());
            return Err(ArtifactError::WeightMissing { name, hash: *hash, missing, count: needed().count() });
        }
        let mut moves: Vec<Move> = needed().filter_map(place).filter(|one| one.bytes > 0).collect();
        moves.sort_unstable_by_key(|one| one.from);
        Ok(moves)
    }
}

/// One tensor's place in a program and in the file of weights.
struct Move {
    from: u64,
    to: u64,
    bytes: u64,
}

/// Moves all views on constants. A view belongs to the tensor in which it begins when all registers are zero.
fn relocate(program: &mut Program, moves: &[Move]) -> Result<(), ArtifactError> {
    let Program { name, views, inputs, outputs, states, .. } = program;
    let bindings = inputs
        .iter_mut()
        .chain(outputs)
        .chain(states.iter_mut().flat_map(|state| [&mut state.input, &mut state.output]));
    let all = views.iter_mut().chain(bindings.map(|binding| &mut binding.view));
    for view in all.filter(|view| view.space == Space::Constant) {
        relocate_view(view, moves)
            .map_err(|offset_bytes| ArtifactError::WeightPlace { program: name.clone(), offset_bytes })?;
    }
    Ok(())
}

fn relocate_view(view: &mut View, moves: &[Move]) -> Result<(), i64> {
    let base = view.base_bytes.constant_part();
    let at = u64::try_from(base).map_err(|_| base)?;
    if view.elements_max() == 0 {
        view.base_bytes = Expression::constant(0);
        return Ok(());
    }
    let after = moves.partition_point(|one| one.from <= at);
    let found = moves[..after].last().filter(|one| at - one.from < one.bytes).ok_or(base)?;
    let moved = found.to.checked_add(at - found.from).and_then(|to| i64::try_from(to).ok()).ok_or(base)?;
    view.base_bytes = Expression::new(moved, view.base_bytes.terms().iter().copied());
    Ok(())
}

/// What a [`WeightsWriter`] wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightsSummary {
    /// Size of the file.
    pub file_bytes: u64,
    /// Tensors that were added.
    pub added: usize,
    /// Tensors that were there already, or came twice.
    pub shared: usize,
}

/// Writes a file of weights, or adds to one: tensors that it has already keep their places, so that programs bound to it stay bound.
#[derive(Debug)]
pub struct WeightsWriter {
    path: PathBuf,
    tool: String,
    existing: Option<Artifact>,
    known: BTreeSet<([u8; 32], u64)>,
    /// Open from the first new tensor on; the file is left as it is when there is none.
    open: Option<(ArtifactWriter, ConstantsSection)>,
    summary: WeightsSummary,
}

impl WeightsWriter {
    /// Begins a file of weights, or opens the one that is there.
    ///
    /// # Errors
    /// When there is a file that is no well-formed artifact, or one that holds programs.
    pub fn create(path: impl AsRef<Path>, tool: &str) -> Result<WeightsWriter, ArtifactError> {
        let path = path.as_ref().to_owned();
        let existing = match path.exists() {
            false => None,
            true => Some(Artifact::open(&path, Verify::ExceptConstants)?),
        };
        if existing.as_ref().is_some_and(|old| !old.programs.is_empty() || old.constants.is_none()) {
            let path = path.display();
            return Err(super::malformed(format!(
                "'{path}' is not a file of weights: nothing is added to it"
            )));
        }
        let keys = existing.iter().flat_map(|old| old.constant_hashes.iter().zip(&old.constant_index));
        let known = keys.map(|(hash, info)| (*hash, info.bytes)).collect();
        Ok(WeightsWriter {
            path,
            tool: tool.to_owned(),
            existing,
            known,
            open: None,
            summary: WeightsSummary::default(),
        })
    }

    /// Adds a tensor, unless its bytes are there; gives their hash. Its place in `info` is not looked at.
    ///
    /// # Errors
    /// When writing fails.
    pub fn add(&mut self, info: &ConstantInfo, bytes: &[u8]) -> Result<[u8; 32], ArtifactError> {
        if bytes.len() as u64 != info.bytes {
            let (announced, written) = (info.bytes, bytes.len() as u64);
            return Err(ArtifactError::ConstantSize { name: info.name.clone(), announced, written });
        }
        let hash = *blake3::hash(bytes).as_bytes();
        if !self.known.insert((hash, info.bytes)) {
            self.summary.shared += 1;
            return Ok(hash);
        }
        if self.open.is_none() {
            self.open = Some(self.begin()?);
        }
        if let Some((writer, section)) = &mut self.open {
            let offset_bytes = section.end_bytes.next_multiple_of(ALIGNMENT_BYTES);
            let info = ConstantInfo { offset_bytes, ..info.clone() };
            writer.constant(section, info, |sink| sink.write_all(bytes))?;
            self.summary.added += 1;
        }
        Ok(hash)
    }

    /// A new file with the tensors of the old one.
    fn begin(&self) -> Result<(ArtifactWriter, ConstantsSection), ArtifactError> {
        let mut writer = ArtifactWriter::create(&self.path, "", &self.tool)?;
        let mut section = writer.begin_constants()?;
        if let Some(old) = &self.existing {
            for (info, hash) in old.constant_index.iter().zip(&old.constant_hashes) {
                let range = info.offset_bytes as usize..(info.offset_bytes + info.bytes) as usize;
                let bytes = &old.constants()[range];
                if blake3::hash(bytes).as_bytes() != hash {
                    return Err(ArtifactError::Hash { what: format!("constant {:?}", info.name) });
                }
                writer.constant(&mut section, info.clone(), |sink| sink.write_all(bytes))?;
            }
        }
        Ok((writer, section))
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When writing or renaming fails; an older file is left as it was.
    pub fn finish(mut self) -> Result<WeightsSummary, ArtifactError> {
        if self.open.is_none() && self.existing.is_none() {
            self.open = Some(self.begin()?);
        }
        self.summary.file_bytes = match (self.open.take(), &self.existing) {
            (Some((mut writer, section)), _) => {
                writer.end_constants(section)?;
                writer.finish()?
            }
            (None, old) => old.as_ref().map_or(0, Artifact::file_bytes),
        };
        Ok(self.summary)
    }
}
