//! `tilewright inspect`: what is in an artifact, without running it.

use super::table;
use crate::exit::Failure;
use crate::loaded::told;
use crate::placement_file;
use crate::stored_formats::{self, StoredWeight};
use crate::strings;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tilewright_runtime::artifact::{Artifact, Verify};
use tilewright_runtime::kv_cache;
use tilewright_runtime::opening::{Opening, open_artifact};
use tilewright_runtime::stream::Program;
use tilewright_runtime::view::{Space, View};

/// Arguments.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  tilewright inspect story.npu\n  tilewright inspect story.npu --json | jq .programs\n  \
        tilewright inspect story.npu --tensors"
)]
pub(crate) struct Arguments {
    /// The artifact
    #[arg(value_name = "OUT.npu")]
    artifact: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Bind the artifact to these weights; `inspect` looks for none by itself
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Also list every tensor of weights with its format
    #[arg(long)]
    tensors: bool,
    /// Do not compare the weights with their hashes (reads less of the file)
    #[arg(long)]
    skip_weight_hashes: bool,
}

/// Opens an artifact without looking for its weights, or says why not.
pub(crate) fn open(path: &std::path::Path, verify: Verify) -> Result<Artifact, Failure> {
    Artifact::open(path, verify).map_err(|error| {
        Failure::user(
            format!("cannot use artifact '{}': {error}", path.display()),
            "make it again with `tilewright compile MODEL -o OUT.npu`",
        )
    })
}

fn view_text(view: &View) -> String {
    let dims: Vec<String> = view
        .dims
        .iter()
        .map(|dim| if dim.bound.is_some() { format!("<={}", dim.cap) } else { dim.cap.to_string() })
        .collect();
    format!("{}[{}]", view.element.name(), dims.join(", "))
}

/// The type of an input or output, which may be strings.
fn type_text(name: &str, view: &View, strings: &[String]) -> String {
    let Some((length, dims)) = view.dims.split_last().filter(|_| strings.iter().any(|one| one == name))
    else {
        return view_text(view);
    };
    let dims: Vec<String> = dims.iter().map(|dim| dim.cap.to_string()).collect();
    format!("strings [{}], up to {} characters", dims.join(", "), length.cap)
}

fn program_json(program: &Program, strings: &[String]) -> serde_json::Value {
    let spaces: serde_json::Map<String, serde_json::Value> = Space::ALL
        .iter()
        .map(|space| (space.name().into(), program.space_bytes[*space as usize].into()))
        .collect();
    let binding = |name: &str, view: &View| json!({"name": name, "type": type_text(name, view, strings)});
    json!({
        "name": program.name,
        "chunk_length": program.chunk_length,
        "commands": program.commands.len(),
        "views": program.views.len(),
        "encoded_bytes": program.encode().len(),
        "space_bytes": spaces,
        "registers": program.registers.iter().filter(|one| one.is_bound).map(|one|
            json!({"name": one.name, "minimum": one.minimum, "maximum": one.maximum})).collect::<Vec<_>>(),
        "inputs": program.inputs.iter().map(|one| binding(&one.name, &one.view)).collect::<Vec<_>>(),
        "outputs": program.outputs.iter().map(|one| binding(&one.name, &one.view)).collect::<Vec<_>>(),
        "states": program.states.iter().map(|one| json!({
            "input": one.input.name, "output": one.output.name, "type": view_text(&one.output.view),
            "growing_axis": one.growing_axis})).collect::<Vec<_>>(),
        "cache_bytes_per_token": kv_cache::bytes_per_token(program),
        "fixed_state_bytes": kv_cache::fixed_bytes(program),
    })
}

/// What the weights are stored as.
fn show_formats(weights: &[StoredWeight], with_tensors: bool) {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let mut formats = table(&["format", "tensors", "bytes", "share"]);
    for one in stored_formats::formats(weights) {
        formats.add_row([one.format, one.tensors.to_string(), one.bytes.to_string(), percent(one.share)]);
    }
    say!("\n{formats}");
    if with_tensors {
        let mut tensors = table(&["tensor", "format", "shape", "bytes", "share"]);
        for one in weights {
            let dims: Vec<String> = one.shape.iter().map(u64::to_string).collect();
            let cells =
                [&one.name, &one.format, &dims.join("x"), &one.bytes.to_string(), &percent(one.share)];
            tensors.add_row(cells);
        }
        say!("\n{tensors}");
    }
}

/// How many kernels and ops run where, and those of which there is something to say.
fn show_placement(rows: &[placement_file::Row]) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter().for_each(|row| *counts.entry(row.target.as_str()).or_default() += 1);
    let counts: Vec<String> = counts.iter().map(|(target, count)| format!("{count} on {target}")).collect();
    if !counts.is_empty() {
        say!("\nkernels and ops of all programs: {}", counts.join(", "));
    }
    let mut told = table(&["node", "op", "runs on", "reason"]);
    for row in rows.iter().filter(|row| !row.reason.is_empty()) {
        told.add_row([&row.nodes.join(" + "), &row.op, &row.target, &row.reason]);
    }
    if told.row_count() > 0 {
        say!("{told}");
    }
}

/// Prints what is in the artifact.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let verify = if arguments.skip_weight_hashes { Verify::ExceptConstants } else { Verify::All };
    let artifact = match &arguments.weights {
        None => open(&arguments.artifact, verify)?,
        Some(_) => {
            let opening = Opening { verify, weights: arguments.weights.clone(), ..Opening::default() };
            open_artifact(&arguments.artifact, &opening).map_err(told)?
        }
    };
    let strings = strings::names(&artifact.metadata);
    let placement =
        placement_file::kept(&artifact).map_err(|what| Failure::user(what, "compile the model again"))?;
    if arguments.json {
        let sections: Vec<_> = artifact
            .sections
            .iter()
            .map(|one| {
                let hash: String = one.hash.iter().map(|byte| format!("{byte:02x}")).collect();
                json!({"kind": format!("{:?}", one.kind), "name": one.name, "offset_bytes": one.offset_bytes,
                       "bytes": one.bytes, "blake3": hash})
            })
            .collect();
        let weights = stored_formats::weights(&artifact.constant_index);
        let report = json!({
            "target": artifact.target, "tool": artifact.tool, "file_bytes": artifact.file_bytes(),
            "metadata": artifact.metadata, "sections": sections, "weights": artifact.constant_index.len(), "weights_file": artifact.weights_file(),
            "formats": stored_formats::formats(&weights), "tensors": weights,
            "placement": placement, "programs": artifact.programs.iter().map(|program| program_json(program, &strings)).collect::<Vec<_>>(),
        });
        say!("{report:#}");
        return Ok(());
    }
    say!("{}  {} bytes", arguments.artifact.display(), artifact.file_bytes());
    say!("target {}   made by {}", artifact.target, artifact.tool);
    for (key, value) in &artifact.metadata {
        say!("{key}: {value}");
    }
    let weights_bytes: u64 = artifact.constant_index.iter().map(|info| info.bytes).sum();
    let place = match (artifact.bound_weights(), artifact.weights_file()) {
        (Some(_), _) => ", all found in the file of weights".into(),
        (None, Some(file)) => format!(", to be found in '{file}'"),
        (None, None) => String::new(),
    };
    say!("{} tensors of weights, {weights_bytes} bytes{place}", artifact.constant_index.len());
    show_formats(&stored_formats::weights(&artifact.constant_index), arguments.tensors);
    let mut sections = table(&["section", "name", "offset", "bytes", "blake3"]);
    for one in &artifact.sections {
        let hash: String = one.hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        sections.add_row([
            format!("{:?}", one.kind),
            one.name.clone(),
            one.offset_bytes.to_string(),
            one.bytes.to_string(),
            hash,
        ]);
    }
    say!("\n{sections}");
    show_placement(placement.as_deref().unwrap_or_default());
    for program in &artifact.programs {
        say!(
            "\nprogram {}: {} commands, {} views, {} tokens a run",
            program.name,
            program.commands.len(),
            program.views.len(),
            program.chunk_length
        );
        let mut bindings = table(&["", "name", "type"]);
        for (role, list) in [("input", &program.inputs), ("output", &program.outputs)] {
            for one in list {
                bindings.add_row([role, &one.name, &type_text(&one.name, &one.view, &strings)]);
            }
        }
        for one in &program.states {
            bindings.add_row(["state", &one.input.name, &view_text(&one.output.view)]);
        }
        say!("{bindings}");
        let sizes: Vec<String> = Space::ALL
            .iter()
            .map(|space| format!("{} {}", space.name(), program.space_bytes[*space as usize]))
            .collect();
        say!("bytes: {}", sizes.join(", "));
        if !program.states.is_empty() {
            let (token, fixed) = (kv_cache::bytes_per_token(program), kv_cache::fixed_bytes(program));
            say!("state: {token} bytes per token, {fixed} bytes whatever the length");
        }
    }
    Ok(())
}
