//! One matrix: every core op by what there is for it. A new op without a lowering, or an op that loses one, is a difference in the
//! snapshot.
//!
//! `INSTA_UPDATE=always cargo test --release -p tilewright-tests --test coverage` writes it anew.

use std::collections::BTreeSet;
use std::path::Path;
use tilewright_ir::dialects::core;
use tilewright_ir::op_def::{Evaluate, OpDef};
use tilewright_targets::lowering::Subject;
use tilewright_targets::target::Targets;

/// Every core op that occurs in a corpus file.
fn in_corpus(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            in_corpus(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "mlir") {
            let text = std::fs::read_to_string(&path).expect("a readable corpus file");
            let words = text.split('"').filter(|word| word.starts_with("core."));
            into.extend(words.map(ToString::to_string));
        }
    }
}

fn mark(there: bool) -> &'static str {
    if there { "yes" } else { "-" }
}

#[test]
fn matrix() {
    let mut corpus = BTreeSet::new();
    in_corpus(&harness::recorded::tests_folder().join("corpus"), &mut corpus);
    let targets = Targets::builtin();
    let npu = targets.find("npu-gen3").expect("the reference NPU is in-tree");
    let has_row =
        |def: &OpDef| npu.lowerings.iter().any(|row| matches!(row.subject, Subject::Op(op) if op == def));
    let mut text = format!(
        "{:<24} {:>8} {:>5} {:>7} {:>5} {:>9}\n",
        "op", "evaluate", "axes", "corpus", "host", "npu-gen3"
    );
    let mut without_corpus = Vec::new();
    let mut without_host = Vec::new();
    for def in core::DIALECT.ops {
        let evaluates = !matches!(def.evaluate, Evaluate::None);
        let is_marker = [&core::YIELD, &core::KERNEL].contains(def);
        let free = def.is(tilewright_ir::op_def::Traits::CONSTANT) || is_marker;
        let host = free || tilewright_targets::host::find(def).is_some();
        text += &format!(
            "{:<24} {:>8} {:>5} {:>7} {:>5} {:>9}\n",
            def.name,
            mark(evaluates),
            mark(!def.axes.is_empty()),
            mark(corpus.contains(def.name)),
            mark(host),
            mark(has_row(def))
        );
        if !corpus.contains(def.name) {
            without_corpus.push(def.name);
        }
        if !host {
            without_host.push(def.name);
        }
    }
    assert!(core::DIALECT.ops.len() <= 90, "core has {} ops, at most 90", core::DIALECT.ops.len());
    assert!(without_host.is_empty(), "core ops that nothing can run: {without_host:?}");
    assert!(without_corpus.is_empty(), "core ops without a corpus file: {without_corpus:?}");
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "." }, {
        insta::assert_snapshot!("coverage", text);
    });
}
