//! `tilewright explain`: where a node of the model went, and why.

use super::profile::Opened;
use super::{CompileArguments, table};
use crate::exit::Failure;
use crate::report::node::{NodeReport, find};
use crate::report::{Contexts, Report};
use crate::session::Session;
use std::collections::BTreeSet;
use std::path::PathBuf;
use tilewright_ir::registry::nearest;

/// Names that are told beside a wrong one.
const NAMES_MAX: usize = 8;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright explain /model/layers.0/mlp/up_proj/MatMul model.onnx\n  \
    tilewright explain lm_head story.npu             # a part of a name that only one node has\n  \
    tilewright explain /TopK model.onnx --target apple-m5-npu --json")]
pub(crate) struct Arguments {
    /// The node's name in the model, or a part of it that no other node has
    #[arg(value_name = "NODE")]
    node: String,
    /// The model, or an artifact made from it
    #[arg(value_name = "MODEL|OUT.npu")]
    model: PathBuf,
    /// Tokens in the cache
    #[arg(long, value_name = "TOKENS")]
    context: Option<i64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    what: CompileArguments,
}

/// Finds the node and tells what is known of it.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let contexts = Contexts { tokens: arguments.context.into_iter().collect(), ..Contexts::default() };
    let opened = Opened::open(session, &arguments.model, &arguments.what)?;
    let report = opened.report(&contexts)?;
    let names = names(&report);
    let node = match resolve(&arguments.node, &names) {
        Ok(node) => node,
        Err(failure) => {
            let imported = opened.imported_names(session, &arguments.what)?;
            if imported.contains(&arguments.node) {
                say!(
                    "{}: nothing of it is left. Its value is known at compile time, another node computes the same, or nobody uses it.",
                    arguments.node
                );
                return Ok(());
            }
            return Err(failure);
        }
    };
    let programs = opened.programs();
    let found = find(&node, &report, &programs, opened.machine()).ok_or_else(|| {
        Failure::user(format!("nothing is known of node '{node}'"), "compile the model again")
    })?;
    if arguments.json {
        let json = serde_json::to_value(&found).unwrap_or_default();
        say!("{json:#}");
    } else {
        say!("{}", text(&found, &report).trim_end());
    }
    Ok(())
}

/// All nodes that something carries the name of.
fn names(report: &Report) -> BTreeSet<String> {
    let placed = report.placement.iter().flat_map(|row| row.location.names());
    let rows = report.runs.iter().flat_map(|run| &run.ops).flat_map(|row| row.nodes.iter().cloned());
    placed.map(|name| name.to_string()).chain(rows).collect()
}

/// The node that is meant: by name, by the last part of its path, or by any part that one node alone has.
fn resolve(word: &str, names: &BTreeSet<String>) -> Result<String, Failure> {
    if names.contains(word) {
        return Ok(word.to_string());
    }
    let is_last = |name: &&String| name.rsplit('/').next() == Some(word);
    let mut holding: Vec<&String> = names.iter().filter(is_last).collect();
    if holding.len() != 1 {
        holding = names.iter().filter(|name| name.contains(word)).collect();
    }
    match holding[..] {
        [one] => Ok(one.clone()),
        [] => {
            let known = || names.iter().map(String::as_str);
            let help = match nearest(word, known()) {
                Some(name) => format!("did you mean '{name}'?"),
                None => {
                    let some: Vec<&str> = known().take(NAMES_MAX).collect();
                    format!("there are {} nodes, such as: {}", names.len(), some.join(", "))
                }
            };
            Err(Failure::user(format!("no node is called '{word}'"), help))
        }
        _ => {
            let some: Vec<&str> = holding.iter().take(NAMES_MAX).map(|name| name.as_str()).collect();
            let what = format!("'{word}' is a part of {} names", holding.len());
            Err(Failure::user(what, format!("say which one: {}", some.join(", "))))
        }
    }
}

fn text(found: &NodeReport, report: &Report) -> String {
    let mut out = format!("{}\n", found.node);
    for one in &found.placed {
        let place = match (one.target, one.reason.as_str()) {
            ("host", "") => "on the host".to_string(),
            ("host", reason) => format!("on the host: {reason}"),
            (target, "") => format!("on {target}"),
            (target, reason) => format!("on {target}; {reason}"),
        };
        out += &format!("  became {} {place}\n", one.op);
        if !one.rules.is_empty() {
            out += &format!("  by rules: {}\n", one.rules.join(", "));
        }
    }
    if found.placed.is_empty() {
        out += &format!("  {}\n", report.placement_note.as_deref().unwrap_or("no placement is known"));
    }
    for carrier in &found.carriers {
        let row = &carrier.row;
        let others = row.nodes.iter().filter(|name| **name != found.node).count();
        let together = match others {
            0 => String::new(),
            1 => ", together with another node".into(),
            _ => format!(", together with {others} other nodes"),
        };
        let (first, last) = carrier.commands;
        out += &format!("\n{}: commands {first} to {last}{together}\n", carrier.run);
        out += &format!(
            "  {} cycles ({:.1} %), {} of them stalls; {} MACs, {} bytes of DRAM, {} of SRAM, {:.1} nJ\n",
            row.cycles,
            carrier.share * 100.0,
            row.stall_cycles.min(row.cycles),
            row.macs,
            row.dram_bytes,
            row.sram_bytes,
            row.energy_pj / 1e3
        );
        let mut tiles =
            table(&["  engine", "command", "commands", "run", "busy cycles", "DRAM bytes", "tile"]);
        for tile in &carrier.tiles {
            tiles.add_row([
                format!("  {}", tile.engine),
                tile.command.to_string(),
                tile.commands.to_string(),
                tile.executions.to_string(),
                tile.busy_cycles.to_string(),
                tile.dram_bytes.to_string(),
                tile.shape.clone(),
            ]);
        }
        out += &format!("{tiles}\n");
        if others > 0 {
            out += &format!("  nodes: {}\n", row.nodes.join(", "));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_is_enough_where_it_is_one_nodes() {
        let names: BTreeSet<String> =
            ["/a/q_proj/MatMul", "/a/k_proj/MatMul", "/b/Add", "/b/Add_1"].map(String::from).into();
        assert_eq!(resolve("/b/Add", &names).ok().as_deref(), Some("/b/Add"));
        assert_eq!(resolve("Add", &names).ok().as_deref(), Some("/b/Add"));
        assert_eq!(resolve("q_proj", &names).ok().as_deref(), Some("/a/q_proj/MatMul"));
        let told = |word: &str| match resolve(word, &names) {
            Err(Failure::Diagnostics(problems)) => format!("{} {}", problems[0].what, problems[0].help),
            other => panic!("{other:?}"),
        };
        assert!(told("MatMul").contains("2 names") && told("MatMul").contains("/a/k_proj/MatMul"));
        assert!(told("/a/q_prj/MatMul").contains("did you mean '/a/q_proj/MatMul'?"));
    }
}
