//! What runs where and why, as an artifact keeps it: the extra file [`NAME`], one row for each kernel or op of any program.
//!
//! ```text
//! [{"nodes": ["/layers.0/q_proj"], "op": "kernel linear", "target": "npu-gen3", "reason": "", "rules": ["fuse_bias"], "commands": 42, ..}]
//! ```

use crate::driver::Compilation;
use crate::report::node::rules;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tilewright_ir::location::Location;
use tilewright_runtime::artifact::Artifact;
use tilewright_targets::placement::{Cost, PlacementRow};
use tilewright_targets::target::HOST;

/// The file's name in an artifact.
pub const NAME: &str = "placement.json";

/// A row as it is written.
#[derive(Deserialize, Serialize)]
pub(crate) struct Row {
    pub(crate) nodes: Vec<String>,
    pub(crate) op: String,
    pub(crate) target: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<String>,
    commands: u64,
    macs: u64,
    dram_bytes: u64,
}

/// Rows of all programs, equal ones once.
pub fn rows(compilation: &Compilation) -> Vec<PlacementRow> {
    let mut rows: Vec<PlacementRow> = Vec::new();
    let mut known = BTreeSet::new();
    for row in compilation.programs.iter().flat_map(|program| &program.placement.rows) {
        if known.insert((row.location.names(), row.op.clone(), row.target, row.reason.clone())) {
            rows.push(row.clone());
        }
    }
    rows
}

/// The file's bytes.
pub(crate) fn write(rows: &[PlacementRow]) -> Vec<u8> {
    let rows: Vec<Row> = rows
        .iter()
        .map(|row| Row {
            nodes: row.location.names().iter().map(|name| name.to_string()).collect(),
            op: row.op.clone(),
            target: row.target.into(),
            reason: row.reason.clone(),
            rules: rules(&row.location),
            commands: row.cost.commands,
            macs: row.cost.macs,
            dram_bytes: row.cost.dram_bytes,
        })
        .collect();
    serde_json::to_vec(&rows).unwrap_or_default()
}

/// The rows as an artifact keeps them; none when it was made without.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn kept(artifact: &Artifact) -> Result<Option<Vec<Row>>, String> {
    let rows = artifact.blob(NAME).map(serde_json::from_slice).transpose();
    rows.map_err(|problem| format!("the artifact's {NAME} cannot be read: {problem}"))
}

/// The rows of an artifact for `target`; none when it was made without.
///
/// # Errors
/// When they cannot be read.
pub fn read(artifact: &Artifact, target: &'static str) -> Result<Option<Vec<PlacementRow>>, String> {
    let Some(rows) = kept(artifact)? else { return Ok(None) };
    let placed = rows.into_iter().map(|row| {
        let tag = row.rules.join(", ");
        let names = row.nodes.iter().map(|name| Location::name(name));
        Ok(PlacementRow {
            location: Location::fuse(Some(tag.as_str()).filter(|tag| !tag.is_empty()), names),
            target: [HOST.name, target]
                .into_iter()
                .find(|name| *name == row.target)
                .ok_or_else(|| format!("the artifact's {NAME} names the target '{}'", row.target))?,
            op: row.op,
            reason: row.reason,
            cost: Cost { commands: row.commands, macs: row.macs, dram_bytes: row.dram_bytes },
        })
    });
    placed.collect::<Result<Vec<_>, String>>().map(Some)
}
