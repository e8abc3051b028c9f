//! How an artifact is loaded: shared by the verbs that run one. A deployment's folder becomes the artifact for the hardware that is there.

use crate::exit::Failure;
use crate::keys::read_public;
use crate::loaded::Opening;
use crate::model::Source;
use std::path::{Path, PathBuf};
use tilewright_runtime::artifact::{Load, LoadOptions, Verify};
use tilewright_runtime::hardware::System;

/// How an artifact is loaded.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct LoadArguments {
    /// The weights of an artifact that was compiled with --strip-weights; left out, the file that its compilation named
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Map the weights, or read them into memory
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    load: How,
    /// Put all pages of the mapped weights in place on loading, so that none is waited for later
    #[arg(long)]
    prefault: bool,
    /// Run once on zeros after loading, so that pages and caches are warm when the first input comes
    #[arg(long)]
    prewarm: bool,
    /// Compare the weights with their hashes, which reads all of them
    #[arg(long)]
    verify_weights: bool,
    /// Take only what this key has signed, with all hashes compared; may be given again for another key
    #[arg(long, value_name = "KEY.pub", env = "TILEWRIGHT_PUBLIC_KEY")]
    public_key: Vec<PathBuf>,
    /// Of a deployment, take the artifact for this hardware, whatever is detected
    #[arg(long, value_name = "NAME")]
    assume_hardware: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum How {
    /// Pages come from the page cache when they are touched, and are shared with other processes.
    #[default]
    Mmap,
    /// A copy of its own.
    Read,
}

impl LoadArguments {
    /// Finds out what a path is. Of a deployment it chooses the artifact, and says on standard error which and why.
    pub(crate) fn source(&self, path: &Path) -> Result<(Source, Opening), Failure> {
        let mut opening = self.opening()?;
        let folder = match (Source::open(path)?, &self.assume_hardware) {
            (Source::Deployment(folder), _) => folder,
            (source, None) => return Ok((source, opening)),
            (_, Some(name)) => {
                let what = format!("--assume-hardware {name}: '{}' is no deployment", path.display());
                return Err(Failure::user(what, "give the folder that `tilewright deploy` made"));
            }
        };
        let system = System { root: None, assumed: self.assume_hardware.clone() };
        let chosen = crate::loaded::choose(&folder, &opening, &system)?;
        chosen.reasons.iter().for_each(|reason| eprintln!("{reason}"));
        opening.identity = Some(chosen.identity);
        Ok((Source::Artifact(chosen.artifact), opening))
    }

    fn opening(&self) -> Result<Opening, Failure> {
        let load = match self.load {
            How::Mmap => Load::Map,
            How::Read => Load::Read,
        };
        Ok(Opening {
            load: LoadOptions { load, prefault: self.prefault },
            verify: if self.verify_weights { Verify::All } else { Verify::ExceptConstants },
            weights: self.weights.clone(),
            prewarm: self.prewarm,
            trusted: self.public_key.iter().map(|path| read_public(path)).collect::<Result<_, _>>()?,
            identity: None,
            threads: 0,
        })
    }
}
