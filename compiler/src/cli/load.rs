//! How an artifact is loaded: shared by the verbs that run one. A deployment's folder becomes the artifact for the hardware that is there.

use super::CompileArguments;
use crate::driver::CompileOptions;
use crate::exit::Failure;
use crate::keys::read_public;
use crate::loaded::told;
use crate::model::Source;
use crate::session::Session;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tilewright_runtime::artifact::{Load, LoadOptions, Verify};
use tilewright_runtime::hardware::System;
use tilewright_runtime::opening::{Opening, choose};

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

/// An artifact on disk, and how it is to be opened.
pub(crate) struct Mapped {
    pub(crate) path: PathBuf,
    pub(crate) opening: Opening,
    /// Seconds that compiling took; none for what was an artifact already.
    pub(crate) compile_s: Option<f64>,
    /// The file that was compiled lives as long as this.
    _folder: Option<tempfile::TempDir>,
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
        let chosen = choose(&folder, &opening, &system).map_err(told)?;
        chosen.reasons.iter().for_each(|reason| eprintln!("{reason}"));
        opening.identity = Some(chosen.identity);
        Ok((Source::Artifact(chosen.artifact), opening))
    }

    /// The artifact of a path: itself, or what the model there compiles to, written to a temporary folder and mapped from there as any
    /// other. `adjust` may change how it is compiled.
    pub(crate) fn artifact(
        &self,
        session: &Session,
        path: &Path,
        what: &CompileArguments,
        adjust: impl FnOnce(&mut CompileOptions),
    ) -> Result<Mapped, Failure> {
        let start = Instant::now();
        let (source, mut opening) = self.source(path)?;
        opening.threads = what.threads.unwrap_or(0);
        if let Source::Artifact(path) = source {
            return Ok(Mapped { path, opening, compile_s: None, _folder: None });
        }
        let mut options = what.options()?;
        adjust(&mut options);
        let bar = super::compile::spinner(&format!("compiling for {}", what.target));
        let compilation = session.compile(&source, &options);
        bar.finish_and_clear();
        let compilation = compilation?;
        crate::render::print_all(&compilation.warnings, &[]);
        let folder = tempfile::tempdir().map_err(|error| {
            Failure::user(format!("cannot make a temporary folder: {error}"), "set TMPDIR")
        })?;
        let path = folder.path().join("model.npu");
        compilation.write(&path)?;
        // What was compiled just now needs no signature.
        opening.trusted.clear();
        let compile_s = Some(start.elapsed().as_secs_f64());
        Ok(Mapped { path, opening, compile_s, _folder: Some(folder) })
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
