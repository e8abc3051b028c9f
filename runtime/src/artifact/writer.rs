//! Writes the container: sections as they come, weights tensor by tensor, table and header last, then a rename.
//!
//! This file must not know what is in a program or a weight.

use super::{
    ArtifactError, FORMAT_VERSION, HASH_RANGE, HEADER_BYTES, Header, MAGIC, NAME_BYTES, Section, SectionKind,
    decode_sections, malformed, section_range,
};
use crate::stream::{ConstantInfo, Program};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes an artifact: sections in any order, then [`ArtifactWriter::finish`]. Dropped before that, it removes what it wrote.
#[derive(Debug)]
pub struct ArtifactWriter {
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    destination: PathBuf,
    target: String,
    tool: String,
    position: u64,
    sections: Vec<Section>,
}

impl ArtifactWriter {
    /// Begins an artifact. `target` and `tool` (its version) are cut to 28 bytes.
    ///
    /// # Errors
    /// When the temporary file beside the destination cannot be made.
    pub fn create(path: impl AsRef<Path>, target: &str, tool: &str) -> Result<ArtifactWriter, ArtifactError> {
        let destination = path.as_ref().to_owned();
        let mut name = std::ffi::OsString::from(".");
        name.push(destination.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", std::process::id()));
        let temporary = destination.with_file_name(name);
        let file = File::create(&temporary).map_err(|source| ArtifactError::Io {
            action: "cannot create",
            path: temporary.clone(),
            source,
        })?;
        Ok(ArtifactWriter {
            file: Some(BufWriter::with_capacity(1 << 20, file)),
            temporary,
            destination,
            target: target.to_owned(),
            tool: tool.to_owned(),
            position: 0,
            sections: Vec::new(),
        })
    }

    fn io<T>(&mut self, run: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> Result<T, ArtifactError> {
        let file = self.file.as_mut().ok_or_else(|| malformed("the writer has finished"))?;
        run(file).map_err(|source| ArtifactError::Io {
            action: "cannot write",
            path: self.destination.clone(),
            source,
        })
    }

    fn pad_to(&mut self, offset_bytes: u64) -> Result<(), ArtifactError> {
        let gap = offset_bytes.saturating_sub(self.position);
        self.io(|file| io::copy(&mut io::Read::take(io::repeat(0), gap), file))?;
        self.position += gap;
        Ok(())
    }

    fn begin_section(&mut self, kind: SectionKind) -> Result<u64, ArtifactError> {
        let start = self.position.max(HEADER_BYTES as u64).next_multiple_of(kind.alignment_bytes());
        self.pad_to(start)?;
        Ok(start)
    }

    fn section(&mut self, kind: SectionKind, name: &str, bytes: &[u8]) -> Result<(), ArtifactError> {
        let offset_bytes = self.begin_section(kind)?;
        self.io(|file| file.write_all(bytes))?;
        self.position += bytes.len() as u64;
        let hash = *blake3::hash(bytes).as_bytes();
        self.sections.push(Section {
            kind,
            name: name.to_owned(),
            offset_bytes,
            bytes: bytes.len() as u64,
            hash,
        });
        Ok(())
    }

    /// Writes string keys and values.
    ///
    /// # Errors
    /// When writing fails.
    pub fn metadata(&mut self, entries: &BTreeMap<String, String>) -> Result<(), ArtifactError> {
        let mut bytes = (entries.len() as u32).to_le_bytes().to_vec();
        for text in entries.iter().flat_map(|(key, value)| [key, value]) {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        self.section(SectionKind::Metadata, "", &bytes)
    }

    /// Writes a program, and its symbols when it has any.
    ///
    /// # Errors
    /// When writing fails.
    pub fn program(&mut self, program: &Program) -> Result<(), ArtifactError> {
        self.section(SectionKind::Program, &program.name, &program.encode())?;
        match program.symbols.is_empty() {
            true => Ok(()),
            false => self.section(SectionKind::Symbols, &program.name, &program.encode_symbols()),
        }
    }

    /// Writes an extra file.
    ///
    /// # Errors
    /// When writing fails.
    pub fn blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), ArtifactError> {
        self.section(SectionKind::Blob, name, bytes)
    }

    /// Writes all weights, one after the other: `produce(index, sink)` writes the bytes of `infos[index]`. Nothing but the
    /// writer's buffer is held in memory.
    ///
    /// # Errors
    /// When infos overlap or do not ascend by offset, when a producer fails or gives another number of bytes than announced, or
    /// when writing fails.
    pub fn constants(
        &mut self,
        infos: &[ConstantInfo],
        mut produce: impl FnMut(usize, &mut dyn Write) -> io::Result<()>,
    ) -> Result<(), ArtifactError> {
        let mut section = self.begin_constants()?;
        for (index, info) in infos.iter().enumerate() {
            self.constant(&mut section, info.clone(), |sink| produce(index, sink))?;
        }
        self.end_constants(section)
    }

    /// Begins the weights, for [`ArtifactWriter::constant`].
    pub(super) fn begin_constants(&mut self) -> Result<ConstantsSection, ArtifactError> {
        let start = self.begin_section(SectionKind::Constants)?;
        let (infos, hashes) = Default::default();
        Ok(ConstantsSection { start, hasher: blake3::Hasher::new(), end_bytes: 0, infos, hashes })
    }

    /// Writes the next weight.
    pub(super) fn constant(
        &mut self,
        section: &mut ConstantsSection,
        info: ConstantInfo,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), ArtifactError> {
        let (name, end_bytes) = (info.name.clone(), section.end_bytes);
        if info.offset_bytes < end_bytes {
            return Err(ArtifactError::ConstantOrder { name, offset_bytes: info.offset_bytes, end_bytes });
        }
        io::copy(&mut io::Read::take(io::repeat(0), info.offset_bytes - end_bytes), &mut section.hasher)
            .map_err(|source| ArtifactError::Io {
                action: "cannot hash",
                path: self.destination.clone(),
                source,
            })?;
        self.pad_to(section.start + info.offset_bytes)?;
        let mut own = blake3::Hasher::new();
        let written = self.io(|file| {
            let mut sink = HashingSink { file, hashers: [&mut section.hasher, &mut own], bytes: 0 };
            produce(&mut sink)?;
            Ok(sink.bytes)
        })?;
        self.position += written;
        if written != info.bytes {
            return Err(ArtifactError::ConstantSize { name, announced: info.bytes, written });
        }
        section.end_bytes = info.offset_bytes + info.bytes;
        section.hashes.push(*own.finalize().as_bytes());
        section.infos.push(info);
        Ok(())
    }

    /// Ends the weights and writes their index.
    pub(super) fn end_constants(&mut self, section: ConstantsSection) -> Result<(), ArtifactError> {
        let ConstantsSection { start, hasher, end_bytes, infos, hashes } = section;
        self.sections.push(Section {
            kind: SectionKind::Constants,
            name: String::new(),
            offset_bytes: start,
            bytes: end_bytes,
            hash: *hasher.finalize().as_bytes(),
        });
        self.constant_index(&infos, &hashes)
    }

    /// Writes the index of weights alone: the artifact is bound to them when it is opened.
    ///
    /// # Errors
    /// When writing fails.
    pub fn constant_index(
        &mut self,
        infos: &[ConstantInfo],
        hashes: &[[u8; 32]],
    ) -> Result<(), ArtifactError> {
        self.section(SectionKind::ConstantIndex, "", &encode_constant_index(infos, hashes))
    }

    /// Writes table and header, flushes to the disk, and puts the file in its place. Returns its size.
    ///
    /// # Errors
    /// When writing or renaming fails; nothing is left then.
    pub fn finish(mut self) -> Result<u64, ArtifactError> {
        let table = encode_sections(&self.sections);
        let table_offset = self.position.max(HEADER_BYTES as u64).next_multiple_of(8);
        self.pad_to(table_offset)?;
        let file_bytes = table_offset + table.len() as u64;
        let header =
            encode_header(&self.target, &self.tool, self.sections.len() as u32, table_offset, &table);
        self.io(|file| {
            file.write_all(&table)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)?;
            file.flush()?;
            file.get_ref().sync_all()
        })?;
        self.file = None;
        std::fs::rename(&self.temporary, &self.destination).map_err(|source| ArtifactError::Io {
            action: "cannot move the finished artifact to",
            path: self.destination.clone(),
            source,
        })?;
        Ok(file_bytes)
    }
}

impl Drop for ArtifactWriter {
    fn drop(&mut self) {
        // After a successful rename there is nothing left to remove, and the error says so.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Weights being written.
#[derive(Debug)]
pub(super) struct ConstantsSection {
    start: u64,
    hasher: blake3::Hasher,
    pub(super) end_bytes: u64,
    infos: Vec<ConstantInfo>,
    hashes: Vec<[u8; 32]>,
}

/// Hashes what it writes: for the section, and for the weight alone.
struct HashingSink<'a> {
    file: &'a mut BufWriter<File>,
    hashers: [&'a mut blake3::Hasher; 2],
    bytes: u64,
}

impl Write for HashingSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        for hasher in &mut self.hashers {
            hasher.update(&bytes[..written]);
        }
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn put_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn encode_constant_index(infos: &[ConstantInfo], hashes: &[[u8; 32]]) -> Vec<u8> {
    let mut bytes = (infos.len() as u32).to_le_bytes().to_vec();
    for (info, hash) in infos.iter().zip(hashes) {
        put_text(&info.name, &mut bytes);
        bytes.push(info.element as u8);
        bytes.extend((info.shape.len() as u32).to_le_bytes());
        info.shape.iter().for_each(|extent| bytes.extend(extent.to_le_bytes()));
        bytes.extend(info.offset_bytes.to_le_bytes());
        bytes.extend(info.bytes.to_le_bytes());
        bytes.extend(hash);
    }
    bytes
}

fn encode_sections(sections: &[Section]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for section in sections {
        bytes.push(section.kind as u8);
        put_text(&section.name, &mut bytes);
        bytes.extend(section.offset_bytes.to_le_bytes());
        bytes.extend(section.bytes.to_le_bytes());
        bytes.extend(section.hash);
    }
    bytes
}

fn encode_header(
    target: &str,
    tool: &str,
    sections: u32,
    table_offset: u64,
    table: &[u8],
) -> [u8; HEADER_BYTES] {
    let mut header = [0u8; HEADER_BYTES];
    let name = |text: &str| {
        let mut field = [0u8; NAME_BYTES];
        let length = text.floor_char_boundary(NAME_BYTES);
        field[..length].copy_from_slice(&text.as_bytes()[..length]);
        field
    };
    header[0..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&sections.to_le_bytes());
    header[16..24].copy_from_slice(&table_offset.to_le_bytes());
    header[24..32].copy_from_slice(&(table_offset + table.len() as u64).to_le_bytes());
    header[32..32 + NAME_BYTES].copy_from_slice(&name(target));
    header[64..64 + NAME_BYTES].copy_from_slice(&name(tool));
    let hash = *blake3::Hasher::new().update(&header).update(table).finalize().as_bytes();
    header[HASH_RANGE].copy_from_slice(&hash);
    header
}

/// Makes all hashes of an artifact's bytes right again, for tests that damage files below the hash. Does nothing to bytes
/// whose header or table cannot be read.
pub fn recompute_hashes(bytes: &mut [u8]) {
    let Ok(header) = Header::read(bytes) else { return };
    let Some(table) = bytes.get(header.table.clone()) else { return };
    let Some(mut sections) = decode_sections(table, header.sections) else { return };
    for section in &mut sections {
        if let Some(contents) = section_range(section).and_then(|range| bytes.get(range)) {
            section.hash = *blake3::hash(contents).as_bytes();
        }
    }
    let table = encode_sections(&sections);
    let header_bytes =
        encode_header(&header.target, &header.tool, sections.len() as u32, header.table.start as u64, &table);
    if let Some(place) = bytes.get_mut(header.table.clone()).filter(|place| place.len() == table.len()) {
        place.copy_from_slice(&table);
        bytes[..HEADER_BYTES].copy_from_slice(&header_bytes);
    }
}
