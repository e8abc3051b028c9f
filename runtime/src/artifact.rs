//! The `.npu` container: programs, weights, symbols and extra files in one mappable file.
//!
//! ```text
//! 0        header, 128 bytes: magic, format version, section count, place of the section table, file size,
//!          target name, tool version, blake3 of (header with this field zero, section table)
//! 128      first section; the weights begin at a multiple of 64 KiB, other sections at one of 64
//! ..       section table at the end: kind, name, offset, bytes, blake3 of each section
//! ```
//!
//! A program may stand in a file without its weights: then it holds their index only, and binds to a file of weights by the hash of
//! each (`artifact/weights.rs`).
//!
//! The writer streams weights tensor by tensor into a temporary file beside the destination and renames it when all is
//! written, so that a failure leaves nothing. The reader maps the file and copies no weights. Decoding is bounded and total: any
//! bytes are an [`Artifact`] or an [`ArtifactError`]. This file must not know what commands mean.

mod load;
pub mod trust;
mod weights;
mod writer;

pub use load::{Load, LoadOptions};
pub use weights::{WeightsSummary, WeightsWriter};
pub use writer::{ArtifactWriter, recompute_hashes};

use crate::decode::Reader;
use crate::element::Element;
use crate::stream::{ConstantInfo, Program, StreamError};
use load::Backing;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// First bytes of every artifact. Not text, so that a transfer that changes line ends breaks it visibly (as PNG does).
pub const MAGIC: [u8; 8] = *b"\x89NPU\r\n\x1a\n";
/// Version of the container; a reader refuses others.
pub const FORMAT_VERSION: u32 = 2;
/// The weights begin at a multiple of this, so that they can be mapped alone: the largest page size in use (arm64, powerpc64).
pub const CONSTANTS_ALIGNMENT_BYTES: u64 = 64 << 10;
/// Other sections, which are decoded, begin at multiples of a cache line.
pub const SECTION_ALIGNMENT_BYTES: u64 = 64;
const HEADER_BYTES: usize = 128;
const NAME_BYTES: usize = 28;
const HASH_RANGE: Range<usize> = 96..128;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SectionKind {
    /// String keys and values.
    Metadata = 0,
    /// One program, by its name.
    Program = 1,
    /// All weights; programs address them in the constant space.
    Constants = 2,
    /// Names, places and hashes of the weights.
    ConstantIndex = 3,
    /// Source locations of the program of the same name.
    Symbols = 4,
    /// An extra file, by its name: `tokenizer.json`.
    Blob = 5,
}

impl SectionKind {
    /// A section of this kind begins at a multiple of so many bytes.
    pub fn alignment_bytes(self) -> u64 {
        if self == SectionKind::Constants { CONSTANTS_ALIGNMENT_BYTES } else { SECTION_ALIGNMENT_BYTES }
    }

    fn from_tag(tag: u8) -> Option<SectionKind> {
        use SectionKind::{Blob, ConstantIndex, Constants, Metadata, Program, Symbols};
        [Metadata, Program, Constants, ConstantIndex, Symbols, Blob].get(usize::from(tag)).copied()
    }
}

/// One row of the section table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// Which one; may be empty for kinds that occur once.
    pub name: String,
    /// Where it begins in the file.
    pub offset_bytes: u64,
    /// Its length.
    pub bytes: u64,
    /// blake3 of its bytes.
    pub hash: [u8; 32],
}

/// Why a file is not a usable artifact, or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
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
    /// Not an artifact at all.
    #[error("not an .npu artifact: the magic bytes are missing")]
    Magic,
    /// Made by another version of the format.
    #[error("artifact format version {found}, this runtime reads {FORMAT_VERSION}; compile the model again")]
    Version {
        /// version in the file
        found: u32,
    },
    /// Truncated, or a value outside its set.
    #[error("malformed artifact: {what}")]
    Malformed {
        /// what is wrong
        what: String,
    },
    /// Contents differ from what was written.
    #[error("{what} does not match its hash: the file is damaged")]
    Hash {
        /// which part
        what: String,
    },
    /// A program section does not decode.
    #[error("program {name:?}: {source}")]
    Program {
        /// which program
        name: String,
        /// why
        source: StreamError,
    },
    /// A weight's producer gave another number of bytes than announced.
    #[error("constant {name:?}: {announced} bytes announced, {written} written")]
    ConstantSize {
        /// which weight
        name: String,
        /// its [`ConstantInfo::bytes`]
        announced: u64,
        /// what came
        written: u64,
    },
    /// A weight that a program needs is not in the file of weights.
    #[error(
        "the weights hold no tensor with the contents of {name:?} (blake3 {}): they are of another model or another compilation; {missing} of {count} are missing",
        .hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>()
    )]
    WeightMissing {
        /// the first that is missing
        name: String,
        /// hash of its bytes
        hash: [u8; 32],
        /// how many are missing
        missing: usize,
        /// how many are needed
        count: usize,
    },
    /// A program reads constants outside of all weights.
    #[error("program {program:?} reads constants at {offset_bytes}, where no weight lies")]
    WeightPlace {
        /// its name
        program: String,
        /// where
        offset_bytes: i64,
    },
    /// Weights overlap, or do not ascend.
    #[error("constant {name:?} begins at {offset_bytes}, before the end of the one before it ({end_bytes})")]
    ConstantOrder {
        /// which weight
        name: String,
        /// its start
        offset_bytes: u64,
        /// end of its predecessor
        end_bytes: u64,
    },
}

pub(crate) fn malformed(what: impl Into<String>) -> ArtifactError {
    ArtifactError::Malformed { what: what.into() }
}

/// An opened artifact: decoded programs and tables; weights stay in the file.
#[derive(Debug)]
pub struct Artifact {
    backing: Backing,
    constants: Option<Range<usize>>,
    /// The weights of an artifact without its own.
    weights: Option<Arc<Artifact>>,
    /// The target it was compiled for.
    pub target: String,
    /// Version of the compiler that made it.
    pub tool: String,
    /// The section table.
    pub sections: Vec<Section>,
    /// String keys and values.
    pub metadata: BTreeMap<String, String>,
    /// The programs, in file order.
    pub programs: Vec<Program>,
    /// The weights' names and places.
    pub constant_index: Vec<ConstantInfo>,
    /// blake3 of each weight's bytes, in the order of the index.
    pub constant_hashes: Vec<[u8; 32]>,
}

/// Whether to compare contents with their hashes on opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// All sections.
    All,
    /// All but the weights, whose hashing reads the whole file.
    ExceptConstants,
}

impl Artifact {
    /// Maps and decodes a file.
    ///
    /// # Errors
    /// When the file cannot be mapped or is not a well-formed artifact.
    pub fn open(path: impl AsRef<Path>, verify: Verify) -> Result<Artifact, ArtifactError> {
        Artifact::open_with(path, verify, &LoadOptions::default())
    }

    /// Maps or reads a file, as the options say, and decodes it.
    ///
    /// # Errors
    /// When the file cannot be read or is not a well-formed artifact.
    pub fn open_with(
        path: impl AsRef<Path>,
        verify: Verify,
        options: &LoadOptions,
    ) -> Result<Artifact, ArtifactError> {
        Artifact::read(Backing::load(path.as_ref(), options)?, verify)
    }

    /// Decodes an artifact held in memory.
    ///
    /// # Errors
    /// When the bytes are not a well-formed artifact.
    pub fn from_bytes(bytes: Vec<u8>, verify: Verify) -> Result<Artifact, ArtifactError> {
        Artifact::read(Backing::from(bytes), verify)
    }

    fn read(backing: Backing, verify: Verify) -> Result<Artifact, ArtifactError> {
        let bytes = backing.bytes();
        let header = Header::read(bytes)?;
        let table = bytes
            .get(header.table.clone())
            .ok_or_else(|| malformed("the section table lies outside the file"))?;
        let mut zeroed = bytes[..HEADER_BYTES].to_vec();
        zeroed[HASH_RANGE].fill(0);
        if blake3::Hasher::new().update(&zeroed).update(table).finalize().as_bytes()[..] != bytes[HASH_RANGE]
        {
            return Err(ArtifactError::Hash { what: "the header".into() });
        }
        let sections = decode_sections(table, header.sections).ok_or_else(|| malformed("section table"))?;
        let mut artifact = Artifact {
            constants: None,
            weights: None,
            target: header.target,
            tool: header.tool,
            metadata: BTreeMap::new(),
            programs: Vec::new(),
            constant_index: Vec::new(),
            constant_hashes: Vec::new(),
            sections: Vec::new(),
            backing: Backing::default(),
        };
        for section in &sections {
            artifact.read_section(section, bytes, verify)?;
        }
        let room = artifact.constants.as_ref().map_or(u64::MAX, |constants| constants.len() as u64);
        for info in &artifact.constant_index {
            let end = info.offset_bytes.checked_add(info.bytes);
            if end.is_none_or(|end| end > room) {
                return Err(malformed(format!("constant {:?} lies outside the constants", info.name)));
            }
        }
        artifact.sections = sections;
        artifact.backing = backing;
        Ok(artifact)
    }

    fn read_section(&mut self, section: &Section, bytes: &[u8], verify: Verify) -> Result<(), ArtifactError> {
        let what = || format!("section {:?} {:?}", section.kind, section.name);
        if !section.offset_bytes.is_multiple_of(section.kind.alignment_bytes()) {
            return Err(malformed(format!("{} is not aligned", what())));
        }
        let range = section_range(section).filter(|range| range.end <= bytes.len());
        let range = range.ok_or_else(|| malformed(format!("{} lies outside the file", what())))?;
        let contents = &bytes[range.clone()];
        let is_checked = verify == Verify::All || section.kind != SectionKind::Constants;
        if is_checked && *blake3::hash(contents).as_bytes() != section.hash {
            return Err(ArtifactError::Hash { what: what() });
        }
        match section.kind {
            SectionKind::Metadata => {
                self.metadata = decode_metadata(contents).ok_or_else(|| malformed("metadata"))?;
            }
            SectionKind::Program => {
                let failed = |source| ArtifactError::Program { name: section.name.clone(), source };
                let program = Program::decode(contents).map_err(failed)?;
                if self.programs.iter().any(|other| other.name == program.name) {
                    return Err(malformed(format!("two programs are named {:?}", program.name)));
                }
                self.programs.push(program);
            }
            SectionKind::Symbols => {
                let failed = |source| ArtifactError::Program { name: section.name.clone(), source };
                let program = self.programs.iter_mut().find(|program| program.name == section.name);
                program.ok_or_else(|| malformed(what()))?.decode_symbols(contents).map_err(failed)?;
            }
            SectionKind::Constants => self.constants = Some(range),
            SectionKind::ConstantIndex => {
                (self.constant_index, self.constant_hashes) =
                    decode_constant_index(contents).ok_or_else(|| malformed("constant index"))?;
            }
            SectionKind::Blob => {}
        }
        Ok(())
    }

    /// The weights' bytes, in place; empty while an artifact without its own is not bound to any.
    pub fn constants(&self) -> &[u8] {
        match (&self.constants, &self.weights) {
            (Some(range), _) => &self.backing.bytes()[range.clone()],
            (None, Some(weights)) => weights.constants(),
            (None, None) => &[],
        }
    }

    /// The bytes of an extra file.
    pub fn blob(&self, name: &str) -> Option<&[u8]> {
        let is_it = |section: &&Section| section.kind == SectionKind::Blob && section.name == name;
        let range = section_range(self.sections.iter().find(is_it)?)?;
        self.backing.bytes().get(range)
    }

    /// The program of this name.
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.name == name)
    }

    /// The hash in the header: of the section table with the hash of every section, and so of the whole file.
    pub fn identity(&self) -> [u8; 32] {
        std::array::from_fn(|index| self.backing.bytes()[HASH_RANGE.start + index])
    }

    /// Size of the file.
    pub fn file_bytes(&self) -> u64 {
        self.backing.bytes().len() as u64
    }
}

struct Header {
    sections: u32,
    table: Range<usize>,
    target: String,
    tool: String,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Header, ArtifactError> {
        if bytes.get(..8) != Some(&MAGIC[..]) {
            return Err(ArtifactError::Magic);
        }
        let truncated = || malformed("the file ends inside the header");
        let mut reader = Reader::new(bytes.get(8..HEADER_BYTES).ok_or_else(truncated)?);
        let version = reader.u32().ok_or_else(truncated)?;
        if version != FORMAT_VERSION {
            return Err(ArtifactError::Version { found: version });
        }
        let sections = reader.u32().ok_or_else(truncated)?;
        let (table_start, file_bytes) =
            (reader.u64().ok_or_else(truncated)?, reader.u64().ok_or_else(truncated)?);
        if file_bytes != bytes.len() as u64 || table_start > file_bytes {
            return Err(malformed(format!(
                "the header says {file_bytes} bytes, the file has {}",
                bytes.len()
            )));
        }
        let name = |start: usize| {
            let field = &bytes[start..start + NAME_BYTES];
            let length = field.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
            std::str::from_utf8(&field[..length])
                .map(str::to_owned)
                .map_err(|_| malformed("a name is not UTF-8"))
        };
        Ok(Header { sections, table: table_start as usize..bytes.len(), target: name(32)?, tool: name(64)? })
    }
}

fn section_range(section: &Section) -> Option<Range<usize>> {
    let end = section.offset_bytes.checked_add(section.bytes)?;
    Some(usize::try_from(section.offset_bytes).ok()?..usize::try_from(end).ok()?)
}

fn decode_sections(bytes: &[u8], count: u32) -> Option<Vec<Section>> {
    let mut reader = Reader::new(bytes);
    let mut sections = Vec::new();
    for _ in 0..count {
        sections.push(Section {
            kind: SectionKind::from_tag(reader.u8()?)?,
            name: reader.string()?,
            offset_bytes: reader.u64()?,
            bytes: reader.u64()?,
            hash: reader.array()?,
        });
    }
    (reader.remaining() == 0).then_some(sections)
}

fn decode_metadata(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(8)?;
    let entries = (0..count).map(|_| Some((reader.string()?, reader.string()?))).collect::<Option<_>>()?;
    (reader.remaining() == 0).then_some(entries)
}

fn decode_constant_index(bytes: &[u8]) -> Option<(Vec<ConstantInfo>, Vec<[u8; 32]>)> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(57)?;
    let (mut infos, mut hashes) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let name = reader.string()?;
        let element = Element::from_tag(reader.u8()?)?;
        let rank = reader.count(8)?;
        let shape = (0..rank).map(|_| reader.u64()).collect::<Option<_>>()?;
        infos.push(ConstantInfo { name, element, shape, offset_bytes: reader.u64()?, bytes: reader.u64()? });
        hashes.push(reader.array()?);
    }
    (reader.remaining() == 0).then_some((infos, hashes))
}

#[cfg(test)]
mod tests;
