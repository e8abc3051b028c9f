//! Brings a file's bytes within reach: mapped, so that pages come from the page cache when they are touched, or read into memory.
//!
//! ```text
//! map              opening costs nothing per byte; memory is the page cache's, shared by all processes
//! map, prefault    the same with all pages put in place on opening: no faults while the model runs
//! read             a private copy; for file systems that map badly, and to compare
//! ```

use super::ArtifactError;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zerocopy::{FromZeros, IntoBytes};

/// Where the bytes of a file are taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Load {
    /// Mapped.
    #[default]
    Map,
    /// Read into memory of its own.
    Read,
}

/// How a file is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Mapped or read.
    pub load: Load,
    /// With [`Load::Map`]: put all pages in place on opening (Linux's `MAP_POPULATE`; elsewhere the system is told that they are
    /// wanted, where it listens).
    pub prefault: bool,
}

/// A file's bytes, or bytes made in memory. Sections lie at multiples of a cache line in all of them.
#[derive(Debug)]
pub(super) enum Backing {
    Mapped(memmap2::Mmap),
    /// Words of 8 bytes, so that weights are aligned for any element; the number is the length in bytes.
    Owned(Vec<u64>, usize),
}

impl Default for Backing {
    fn default() -> Backing {
        Backing::Owned(Vec::new(), 0)
    }
}

impl From<Vec<u8>> for Backing {
    fn from(bytes: Vec<u8>) -> Backing {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(&bytes);
        Backing::Owned(words, bytes.len())
    }
}

impl Backing {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Backing::Mapped(map) => map,
            Backing::Owned(words, length) => &words.as_bytes()[..*length],
        }
    }

    pub(super) fn load(path: &Path, options: &LoadOptions) -> Result<Backing, ArtifactError> {
        let failed = |source| ArtifactError::Io { action: "cannot open", path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        if options.load == Load::Read {
            let length = usize::try_from(file.metadata().map_err(failed)?.len());
            let no_room = || failed(std::io::Error::from(std::io::ErrorKind::OutOfMemory));
            let length = length.map_err(|_| no_room())?;
            let mut words = u64::new_vec_zeroed(length.div_ceil(8)).map_err(|_| no_room())?;
            file.read_exact(&mut words.as_mut_bytes()[..length]).map_err(failed)?;
            return Ok(Backing::Owned(words, length));
        }
        let mut mapping = memmap2::MmapOptions::new();
        if options.prefault {
            mapping.populate();
        }
        #[allow(unsafe_code, reason = "mapping a file is how weights are loaded without a copy")]
        // SAFETY: the mapping is private and read-only. As for every mapped file, another process that truncates it while it is
        // in use makes reads fault; the writer never changes a finished file in place (it renames).
        let map = unsafe { mapping.map(&file) }.map_err(failed)?;
        #[cfg(unix)]
        if options.prefault {
            // A hint: a system that does not take it loads pages as they are touched.
            let _ = map.advise(memmap2::Advice::WillNeed);
        }
        Ok(Backing::Mapped(map))
    }
}
