//! Arguments of the verbs that load an artifact: from where its weights come, and how their bytes are brought in.

use crate::loaded::Opening;
use std::path::PathBuf;
use tilewright_runtime::artifact::{Load, LoadOptions, Verify};

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
    pub(crate) fn opening(&self) -> Opening {
        let load = match self.load {
            How::Mmap => Load::Map,
            How::Read => Load::Read,
        };
        Opening {
            load: LoadOptions { load, prefault: self.prefault },
            verify: if self.verify_weights { Verify::All } else { Verify::ExceptConstants },
            weights: self.weights.clone(),
            prewarm: self.prewarm,
        }
    }
}
