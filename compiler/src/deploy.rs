//! Compiles a manifest: an artifact per target, one file of weights for all, and the index that a runtime chooses by.
//!
//! Knows every stage and no terminal. All is written into a folder of its own beside the destination, which takes its place when it is
//! whole.
//!
//! ```text
//! assistant/deployment.npu  assistant/apple-m5-npu.npu  assistant/generic-linux-npu.npu  assistant/weights.npu   (and .sig beside each)
//! ```

use crate::driver::{Compilation, CompileOptions};
use crate::keys::SigningKey;
use crate::manifest::{Manifest, ManifestTarget};
use crate::model::Source;
use crate::plan::PlanOptions;
use crate::quantize::QuantizeOptions;
use crate::session::Session;
use std::path::Path;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_runtime::artifact::trust::{SECURITY_KEY, SecurityLevel};
use tilewright_runtime::artifact::{Artifact, ArtifactError, ArtifactWriter, Verify};
use tilewright_runtime::deployment::{DeployedTarget, Deployment, INDEX_FILE};

/// The file of weights in a deployment's folder.
pub const WEIGHTS_FILE: &str = "weights.npu";

/// What was deployed for one target.
#[derive(Clone, Debug)]
pub struct TargetReport {
    /// As the index has it.
    pub target: DeployedTarget,
    /// Size of its artifact.
    pub artifact_bytes: u64,
    /// Weights that it reads.
    pub weights_bytes: u64,
    /// Tensors of weights that were in the file already.
    pub tensors_shared: usize,
    /// Tensors of weights that it added to it.
    pub tensors_added: usize,
    /// Ops of all its programs that run on the host.
    pub host_ops: usize,
}

/// What was deployed.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// As the index has it.
    pub deployment: Deployment,
    /// Per target, in the manifest's order.
    pub targets: Vec<TargetReport>,
    /// Size of the file of weights.
    pub weights_bytes: u64,
    /// Whether artifacts and index are signed.
    pub is_signed: bool,
    /// Warnings, each told once.
    pub warnings: Diagnostics,
}

/// How a manifest is compiled.
pub struct Request<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// The model.
    pub source: &'a Source,
    /// The folder that is made.
    pub folder: &'a Path,
    /// Signs artifacts and index.
    pub key: Option<&'a SigningKey>,
    /// Threads that compile.
    pub threads: Option<usize>,
    /// Told of each target before it is compiled.
    pub progress: &'a dyn Fn(&str),
}

impl Session {
    /// Compiles a manifest into a folder. One that holds a deployment already is replaced; nothing is changed when there is an error.
    ///
    /// # Errors
    /// All problems of all targets; a folder that holds something else; files that cannot be written.
    pub fn deploy(&self, request: &Request) -> Result<Deployed, Diagnostics> {
        let one = |problem: Diagnostic| vec![problem];
        if request.manifest.security_level == SecurityLevel::High && request.key.is_none() {
            let what = "security_level: high, and there is no key to sign with";
            let help = "give --signing-key KEY.pem; `tilewright keygen KEY.pem` makes one";
            return Err(one(Diagnostic::error(Location::Unknown, what).with_help(help)));
        }
        check_folder(request.folder).map_err(one)?;
        let parent = match request.folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        crate::output::make_folder(parent).map_err(one)?;
        let staging =
            staging_folder(parent).map_err(|error| one(io_fault("make a folder in", parent, &error)))?;
        let deployed = self.stage(request, staging.path())?;
        put_in_place(staging, request.folder).map_err(one)?;
        Ok(deployed)
    }

    fn stage(&self, request: &Request, folder: &Path) -> Result<Deployed, Diagnostics> {
        let manifest = request.manifest;
        let (mut targets, mut problems, mut warnings) = (Vec::new(), Diagnostics::new(), Diagnostics::new());
        let mut told_before = Diagnostics::new();
        let mut weights_bytes = 0;
        for target in &manifest.targets {
            (request.progress)(&target.hardware);
            match self.stage_target(request, target, folder) {
                Ok((report, bytes, told)) => {
                    weights_bytes = bytes;
                    targets.push(report);
                    let new = told.into_iter().filter(|one| !warnings.contains(one)).collect::<Vec<_>>();
                    warnings.extend(new);
                }
                // Targets mostly fail for the same reason: it is told once.
                Err(faults) => {
                    for fault in
                        faults.into_iter().filter(|one| !told_before.contains(one)).collect::<Vec<_>>()
                    {
                        told_before.push(fault.clone());
                        problems.push(of_target(fault, target));
                    }
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let deployment = Deployment {
            model_name: manifest.model_name.clone(),
            version: manifest.version.clone(),
            security_level: manifest.security_level,
            context_window: manifest.context_window.map(|tokens| tokens as u64),
            targets: targets.iter().map(|report| report.target.clone()).collect(),
        };
        let index = folder.join(INDEX_FILE);
        write_index(&index, &deployment).map_err(|error| vec![artifact_fault(&index, &error)])?;
        if let Some(key) = request.key {
            // The weights are vouched for by the hashes in what is signed.
            let names = deployment.targets.iter().map(|target| target.artifact.as_str());
            for name in names.chain([INDEX_FILE]) {
                key.sign(&folder.join(name)).map_err(|problem| vec![problem])?;
            }
        }
        Ok(Deployed { deployment, targets, weights_bytes, is_signed: request.key.is_some(), warnings })
    }

    fn stage_target(
        &self,
        request: &Request,
        target: &ManifestTarget,
        folder: &Path,
    ) -> Result<(TargetReport, u64, Diagnostics), Diagnostics> {
        let manifest = request.manifest;
        let mut compilation = self.compile(request.source, &options(manifest, target, request.threads))?;
        let mut warnings = std::mem::take(&mut compilation.warnings);
        if manifest.context_window.is_some() && !compilation.has_context() {
            let what = "context_window: the model keeps no cache that it would bound";
            warnings.push(Diagnostic::warning(target.location.clone(), what).with_help("leave it out"));
        }
        compilation.describe("model_name", &manifest.model_name);
        compilation.describe("version", &manifest.version);
        compilation.describe("precision", &target.precision.name);
        compilation.describe("max_batch_size", &target.max_batch_size.to_string());
        compilation.describe(SECURITY_KEY, manifest.security_level.name());
        let name = format!("{}.npu", target.hardware);
        let (path, weights) = (folder.join(&name), folder.join(WEIGHTS_FILE));
        let one = |problem: Diagnostic| vec![problem];
        let (artifact_bytes, summary) = compilation.write_stripped(&path, &weights).map_err(one)?;
        let artifact =
            Artifact::open(&path, Verify::All).map_err(|error| one(artifact_fault(&path, &error)))?;
        let evidence = self.target(&target.hardware).map_err(one)?.evidence.to_vec();
        let report = TargetReport {
            artifact_bytes,
            weights_bytes: artifact.constant_index.iter().map(|info| info.bytes).sum(),
            tensors_shared: summary.shared,
            tensors_added: summary.added,
            host_ops: host_ops(&compilation),
            target: DeployedTarget {
                hardware: target.hardware.clone(),
                precision: target.precision.name.clone(),
                max_batch_size: target.max_batch_size as u64,
                artifact: name,
                identity: artifact.identity(),
                evidence,
                libraries: target.libraries.clone(),
            },
        };
        Ok((report, summary.file_bytes, warnings))
    }
}

fn host_ops(compilation: &Compilation) -> usize {
    let rows = compilation.programs.iter().flat_map(|report| &report.placement.rows);
    rows.filter(|row| row.target == "host").count()
}

fn options(manifest: &Manifest, target: &ManifestTarget, threads: Option<usize>) -> CompileOptions {
    let quantize = target.precision.preset().map(|preset| QuantizeOptions {
        preset: preset.to_owned(),
        allows_fallback: true,
        ..QuantizeOptions::default()
    });
    CompileOptions {
        target: target.hardware.clone(),
        bindings: manifest.bindings.clone(),
        plan: PlanOptions {
            context_window: manifest.context_window,
            batch_size: Some(target.max_batch_size),
            ..PlanOptions::default()
        },
        kv_cache: target.kv_cache,
        float: target.precision.float(),
        quantize,
        threads,
        ..CompileOptions::default()
    }
}

/// A problem, with the target that it is of.
fn of_target(mut problem: Diagnostic, target: &ManifestTarget) -> Diagnostic {
    problem.what = format!("for {} in {}: {}", target.hardware, target.precision.name, problem.what);
    if problem.location == Location::Unknown {
        problem.location = target.location.clone();
    }
    problem
}

fn write_index(path: &Path, deployment: &Deployment) -> Result<(), ArtifactError> {
    let mut writer = ArtifactWriter::create(path, "", crate::driver::TOOL)?;
    writer.metadata(&deployment.to_metadata())?;
    writer.finish().map(|_| ())
}

fn io_fault(action: &str, path: &Path, error: &std::io::Error) -> Diagnostic {
    let what = format!("cannot {action} '{}': {error}", path.display());
    Diagnostic::error(Location::Unknown, what).with_help("check that it is writable and has room")
}

fn artifact_fault(path: &Path, error: &ArtifactError) -> Diagnostic {
    Diagnostic::error(Location::Unknown, format!("'{}': {error}", path.display()))
}

/// A folder of something else is not touched.
fn check_folder(folder: &Path) -> Result<(), Diagnostic> {
    let is_empty =
        |folder: &Path| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if !folder.exists() || is_empty(folder) || folder.join(INDEX_FILE).is_file() {
        return Ok(());
    }
    let what = format!("'{}' is there and holds no deployment", folder.display());
    Err(Diagnostic::error(Location::Unknown, what).with_help("give -o another folder"))
}

/// Puts the finished folder where it belongs; an older deployment goes when the new one is there.
fn put_in_place(staging: tempfile::TempDir, folder: &Path) -> Result<(), Diagnostic> {
    let failed = |error: std::io::Error| io_fault("put the deployment at", folder, &error);
    let old = staging.path().with_extension("old");
    let has_old = folder.exists();
    if has_old {
        std::fs::rename(folder, &old).map_err(failed)?;
    }
    if let Err(error) = std::fs::rename(staging.path(), folder) {
        if has_old {
            // What was there comes back.
            let _ = std::fs::rename(&old, folder);
        }
        return Err(failed(error));
    }
    // It has another name now: there is nothing left to remove under the old one.
    let _ = staging.keep();
    if has_old {
        let _ = std::fs::remove_dir_all(&old);
    }
    Ok(())
}

/// A folder that becomes the deployment's: readable by whom the umask lets, where a temporary one is its owner's alone.
fn staging_folder(parent: &Path) -> std::io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".deploy-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(parent)
}
