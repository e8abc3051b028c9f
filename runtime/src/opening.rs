//! From a path to an artifact that may be run: opened, bound to its weights, trusted as far as it asks for.
//!
//! What asks for security level high is never mapped: it is compared in the memory it is used from. This file must not know sessions.
//!
//! ```no_run
//! use tilewright_runtime::opening::{Opening, open_artifact};
//! let artifact = open_artifact("model.npu".as_ref(), &Opening::default())?;
//! # Ok::<(), tilewright_runtime::opening::OpenError>(())
//! ```

use crate::artifact::trust::{SecurityLevel, TrustedKey};
use crate::artifact::{Artifact, Load, LoadOptions, Verify};
use crate::deployment::{Deployment, INDEX_FILE};
use crate::hardware::System;
use crate::protect;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why an artifact cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct OpenError {
    /// What is wrong, with the file's name.
    pub what: String,
    /// A way out.
    pub help: &'static str,
}

/// How an artifact is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// How its bytes are brought in, and those of its weights.
    pub load: LoadOptions,
    /// Whether weights are compared with their hashes.
    pub verify: Verify,
    /// The file of weights of an artifact that has none; `None` takes the one it names, from its own folder.
    pub weights: Option<PathBuf>,
    /// Run once before anything is asked.
    pub prewarm: bool,
    /// Only what one of these keys has signed is opened, with all hashes compared; where there are none, nothing that asks for it.
    pub trusted: Vec<TrustedKey>,
    /// The artifact must have this [`Artifact::identity`].
    pub identity: Option<[u8; 32]>,
    /// Threads that kernels use; 0 for as many as the process may use cores.
    pub threads: usize,
}

impl Default for Opening {
    fn default() -> Opening {
        let load = LoadOptions::default();
        let (weights, trusted, identity, threads) = Default::default();
        Opening { load, verify: Verify::ExceptConstants, weights, prewarm: false, trusted, identity, threads }
    }
}

/// Opens an artifact file, and binds it to its weights when it has none of its own. One that asks for security level high, and one of which
/// a signature is asked, is verified with all its hashes; the former in memory of its own, which nobody can change after that.
///
/// # Errors
/// Says which of the two files is wrong, and what is; that it is not trusted, and why.
pub fn open_artifact(path: &Path, opening: &Opening) -> Result<Artifact, OpenError> {
    let open = |opening: &Opening| {
        Artifact::open_with(path, opening.verify, &opening.load).map_err(|error| {
            let what = format!("cannot use artifact '{}': {error}", path.display());
            problem(what, "make it again with `tilewright compile MODEL -o OUT.npu`")
        })
    };
    let artifact = open(opening)?;
    let level = artifact.security_level().map_err(|error| distrust(path, &error.to_string()))?;
    if level == SecurityLevel::Standard && opening.trusted.is_empty() {
        check_identity(path, &artifact, opening)?;
        return bind(path, artifact, opening);
    }
    let mut opening = Opening { verify: Verify::All, ..opening.clone() };
    if level == SecurityLevel::High {
        opening.load = LoadOptions { load: Load::Read, prefault: false };
        let failed = |error| distrust(path, &format!("core dumps cannot be forbidden: {error}"));
        protect::no_core_dumps().map_err(failed)?;
    }
    drop(artifact);
    let artifact = open(&opening)?;
    if artifact.security_level().ok() != Some(level) {
        return Err(distrust(path, "it changes while it is opened"));
    }
    check_identity(path, &artifact, &opening)?;
    if opening.trusted.is_empty() {
        return Err(distrust(path, "it asks for security level high, and no key is trusted"));
    }
    artifact.verify_signature(path, &opening.trusted).map_err(|error| distrust(path, &error.to_string()))?;
    bind(path, artifact, &opening)
}

fn bind(path: &Path, artifact: Artifact, opening: &Opening) -> Result<Artifact, OpenError> {
    if !artifact.needs_weights() {
        return match &opening.weights {
            None => Ok(artifact),
            Some(weights) => Err(problem(
                format!("'{}' has its own weights; '{}' is not needed", path.display(), weights.display()),
                "leave --weights out, or compile the artifact with --strip-weights",
            )),
        };
    }
    let beside = path.parent().unwrap_or(Path::new("")).join(artifact.weights_file().unwrap_or_default());
    let weights = opening.weights.as_ref().unwrap_or(&beside);
    // What the file of weights says of itself is not looked at: each tensor is compared with the hash that the artifact has of it.
    let opened = Artifact::open_with(weights, Verify::ExceptConstants, &opening.load);
    let bound = opened.and_then(|weights| artifact.bind(Arc::new(weights)));
    let proved = bound.and_then(|artifact| match opening.verify {
        Verify::All => artifact.verify_weights().map(|()| artifact),
        Verify::ExceptConstants => Ok(artifact),
    });
    proved.map_err(|error| {
        problem(
            format!("cannot bind '{}' to weights '{}': {error}", path.display(), weights.display()),
            "give the file that `compile --strip-weights` wrote or added to, with --weights FILE",
        )
    })
}

fn check_identity(path: &Path, artifact: &Artifact, opening: &Opening) -> Result<(), OpenError> {
    match opening.identity {
        Some(identity) if identity != artifact.identity() => {
            Err(distrust(path, "it is not the one that the deployment's index names"))
        }
        _ => Ok(()),
    }
}

fn problem(what: String, help: &'static str) -> OpenError {
    OpenError { what, help }
}

fn distrust(path: &Path, why: &str) -> OpenError {
    let help = "give --public-key KEY.pub of the key that `tilewright deploy` or `tilewright sign` was given";
    problem(format!("'{}' is not trusted: {why}", path.display()), help)
}

/// Locks what a model is kept in, where it asks for that. Call it when everything is loaded.
///
/// # Errors
/// When the system refuses.
pub fn lock(artifact: &Artifact) -> Result<(), OpenError> {
    if artifact.security_level().ok() != Some(SecurityLevel::High) {
        return Ok(());
    }
    protect::lock_memory().map_err(|error| {
        problem(
            format!("security level high: memory cannot be locked: {error}"),
            "raise the limit of locked memory (`ulimit -l unlimited`, or LimitMEMLOCK= of its service)",
        )
    })
}

/// The artifact of a deployment that was chosen.
pub struct Chosen {
    /// Its file.
    pub artifact: PathBuf,
    /// Its identity, as the index has it.
    pub identity: [u8; 32],
    /// Why it was chosen and others were not, a line each.
    pub reasons: Vec<String>,
}

/// Chooses of a deployment's folder the artifact for a system.
///
/// # Errors
/// When the index is damaged or not trusted, or has nothing for hardware that is assumed.
pub fn choose(folder: &Path, opening: &Opening, system: &System) -> Result<Chosen, OpenError> {
    let path = folder.join(INDEX_FILE);
    let opening = Opening { weights: None, identity: None, ..opening.clone() };
    let index = open_artifact(&path, &opening)?;
    let deployment = Deployment::of(&index).map_err(|error| {
        problem(format!("'{}': {error}", path.display()), "make it again with `tilewright deploy`")
    })?;
    let choice = deployment.choose(system).map_err(|why| {
        problem(format!("'{}': {why}", folder.display()), "leave --assume-hardware out to have it detected")
    })?;
    let target = &deployment.targets[choice.target];
    Ok(Chosen { artifact: folder.join(&target.artifact), identity: target.identity, reasons: choice.reasons })
}
