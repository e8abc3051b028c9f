//! `tilewright deploy`: a manifest to a folder with an artifact for each of its NPUs.

use super::{read_with, table};
use crate::deploy::{Deployed, Request};
use crate::exit::Failure;
use crate::keys::SigningKey;
use crate::manifest::{self, Manifest};
use crate::model::Source;
use crate::session::Session;
use serde_json::json;
use std::path::{Path, PathBuf};
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_runtime::artifact::trust::hex;

/// Arguments.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  tilewright deploy manifest.yaml --model models/story-3m -o assistant\n  \
    tilewright keygen key.pem && tilewright deploy manifest.yaml -o assistant --signing-key key.pem\n  \
    tilewright generate assistant --public-key key.pem.pub --prompt 'Once upon a time'\n  \
    tilewright deploy manifest.yaml --check\n  \
    tilewright deploy --schema > manifest.schema.json\n\n\
    A manifest:\n  model_name: \"assistant\"\n  version: \"2.1.0\"\n  runtime_targets:\n    - hardware: \"apple-m5-npu\"\n      \
    precision: \"fp16\"\n    - hardware: \"generic-linux-npu\"\n      precision: \"int8\"\n  context_window: 8192\n  \
    security_level: \"high\""
)]
pub(crate) struct Arguments {
    /// The manifest (see the guide "Deploy to several NPUs")
    #[arg(value_name = "MANIFEST.yaml", required_unless_present = "schema")]
    manifest: Option<PathBuf>,
    /// The folder to make; called after model_name, beside the manifest, when left out
    #[arg(short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The model: an .onnx file or a folder with one; goes before the manifest's own `model`
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Sign artifacts and index with this private key (PKCS #8 PEM, ed25519)
    #[arg(long, value_name = "KEY.pem")]
    signing_key: Option<PathBuf>,
    /// Read the manifest and say what is wrong with it, and compile nothing
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the JSON schema of manifests
    #[arg(long, exclusive = true)]
    schema: bool,
    /// Threads that compile; the result does not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Compiles a manifest, or checks it.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.schema {
        say!("{:#}", manifest::schema());
        return Ok(());
    }
    let path = arguments.manifest.as_deref().ok_or_else(|| Failure::Usage("a manifest is missing".into()))?;
    let manifest = read_with(path, |file, text| manifest::read(file, text, &session.targets))?;
    if arguments.check {
        say!(
            "{}: {} {} for {} targets",
            path.display(),
            manifest.model_name,
            manifest.version,
            manifest.targets.len()
        );
        return Ok(());
    }
    let beside = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let source = Source::open(&model(arguments, &manifest, &beside)?)?;
    let key = arguments.signing_key.as_deref().map(SigningKey::read).transpose()?;
    let folder = match &arguments.output {
        Some(folder) => folder.clone(),
        None => beside.join(manifest.model_name.replace(['/', '\\', ':'], "_")),
    };
    let bar = super::compile::spinner("deploying");
    let progress = |hardware: &str| bar.set_message(format!("compiling for {hardware}"));
    let request = Request {
        manifest: &manifest,
        source: &source,
        folder: &folder,
        key: key.as_ref(),
        threads: arguments.threads,
        progress: &progress,
    };
    let deployed = session.deploy(&request);
    bar.finish_and_clear();
    let deployed = deployed.map_err(|problems| {
        show(path, &problems);
        Failure::Shown(problems)
    })?;
    show(path, &deployed.warnings);
    if arguments.json {
        say!("{:#}", report_json(&deployed, &folder))
    } else {
        report(&deployed, &folder)
    }
    Ok(())
}

/// Shows problems with their lines of the manifest.
fn show(path: &Path, problems: &[Diagnostic]) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    crate::render::print_all(problems, &[(&path.display().to_string(), &text)]);
}

/// The model: what the command line says, what the manifest says, or what lies beside the manifest.
fn model(arguments: &Arguments, manifest: &Manifest, beside: &Path) -> Result<PathBuf, Failure> {
    if let Some(model) = &arguments.model {
        return Ok(model.clone());
    }
    if let Some(model) = &manifest.model {
        return Ok(beside.join(model));
    }
    let usual = beside.join("model.onnx");
    if usual.is_file() {
        return Ok(usual);
    }
    let what = format!("the manifest names no model, and there is no '{}'", usual.display());
    Err(Failure::user(what, "give --model MODEL, or `model:` in the manifest"))
}

fn report(deployed: &Deployed, folder: &Path) {
    let mut rows =
        table(&["hardware", "precision", "artifact", "bytes", "weights", "new", "shared", "host ops"]);
    for one in &deployed.targets {
        rows.add_row([
            one.target.hardware.clone(),
            one.target.precision.clone(),
            one.target.artifact.clone(),
            one.artifact_bytes.to_string(),
            one.weights_bytes.to_string(),
            one.tensors_added.to_string(),
            one.tensors_shared.to_string(),
            one.host_ops.to_string(),
        ]);
    }
    say!("{rows}");
    let signed = if deployed.is_signed { "signed" } else { "not signed" };
    let deployment = &deployed.deployment;
    say!(
        "{}: {} {}, security {}, {signed}; weights of all targets {} bytes",
        folder.display(),
        deployment.model_name,
        deployment.version,
        deployment.security_level.name(),
        deployed.weights_bytes
    );
}

fn report_json(deployed: &Deployed, folder: &Path) -> serde_json::Value {
    let targets: Vec<_> = deployed
        .targets
        .iter()
        .map(|one| {
            json!({
                "hardware": one.target.hardware, "precision": one.target.precision, "artifact": one.target.artifact,
                "identity": hex(&one.target.identity), "max_batch_size": one.target.max_batch_size,
                "libraries": one.target.libraries, "artifact_bytes": one.artifact_bytes,
                "weights_bytes": one.weights_bytes, "tensors_added": one.tensors_added,
                "tensors_shared": one.tensors_shared, "host_ops": one.host_ops,
            })
        })
        .collect();
    let deployment = &deployed.deployment;
    json!({
        "folder": folder, "model_name": deployment.model_name, "version": deployment.version,
        "security_level": deployment.security_level.name(), "context_window": deployment.context_window,
        "signed": deployed.is_signed, "weights_bytes": deployed.weights_bytes, "targets": targets,
    })
}
