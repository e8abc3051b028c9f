//! What is supported of ONNX: the table of rows joined with a record of what cases have shown, as lists and as a page.
//!
//! The record `support.txt` is written by the conformance test: for every operator that a case of its own has, the element types
//! and the engines that its commands ran on, and how many cases of each suite agree.
//!
//! ```text
//! suite node 1884 1841 1805
//! operator ai.onnx Conv f16,f32 matrix
//! ```

use super::schema::ModelProto;
use super::table::{OPSET_MAX, OPSET_MIN, operators};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// The record that the program was built with.
pub const RECORD: &str = include_str!("support.txt");

/// What others reach, measured with the same cases and tolerances: suite, and pairs of name and count.
pub const PEERS: &[(&str, &[(&str, usize)])] = &[
    (
        "node",
        &[
            ("onnx reference 1.23.2", 1869),
            ("ONNX Runtime 1.31.1", 1484),
            ("OpenVINO 2026.4.1", 1257),
            ("tract 0.23.9", 1035),
        ],
    ),
    ("pytorch-converted", &[("OpenVINO 2026.4.1", 82), ("tract 0.23.9", 79), ("ONNX Runtime 1.31.1", 59)]),
    ("pytorch-operator", &[("tract 0.23.9", 35), ("OpenVINO 2026.4.1", 31), ("ONNX Runtime 1.31.1", 24)]),
    ("simple", &[("ONNX Runtime 1.31.1", 17), ("OpenVINO 2026.4.1", 15), ("tract 0.23.9", 3)]),
];

/// What cases have shown of an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Element types of inputs and outputs.
    pub elements: BTreeSet<String>,
    /// Engines that commands ran on.
    pub engines: BTreeSet<String>,
}

/// A record: what was shown by domain and operator, and (cases, evaluator, target) by suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// By domain and operator.
    pub operators: BTreeMap<(String, String), Shown>,
    /// By suite.
    pub suites: BTreeMap<String, [usize; 3]>,
}

impl Record {
    /// Reads the text form. Lines of other forms are passed over.
    pub fn parse(text: &str) -> Record {
        let mut record = Record::default();
        let set = |words: &str| words.split(',').filter(|word| *word != "-").map(String::from).collect();
        for line in text.lines() {
            match line.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["suite", name, counts @ ..] => {
                    let mut row = [0; 3];
                    row.iter_mut().zip(counts).for_each(|(to, from)| *to = from.parse().unwrap_or(0));
                    record.suites.insert((*name).to_string(), row);
                }
                ["operator", domain, name, elements, engines] => {
                    let shown = Shown { elements: set(elements), engines: set(engines) };
                    record.operators.insert(((*domain).to_string(), (*name).to_string()), shown);
                }
                _ => {}
            }
        }
        record
    }

    /// The text form.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "# What cases have shown of each operator, and how many agree. Written by the conformance test.\n",
        );
        let joined = |set: &BTreeSet<String>| match set.is_empty() {
            true => "-".to_string(),
            false => set.iter().cloned().collect::<Vec<_>>().join(","),
        };
        for (suite, [all, evaluator, target]) in &self.suites {
            let _ = writeln!(text, "suite {suite} {all} {evaluator} {target}");
        }
        for ((domain, name), shown) in &self.operators {
            let (elements, engines) = (joined(&shown.elements), joined(&shown.engines));
            let _ = writeln!(text, "operator {domain} {name} {elements} {engines}");
        }
        text
    }
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// Its domain.
    pub domain: String,
    /// Its name.
    pub name: String,
    /// Opset versions of its domain: `7 to 28`.
    pub opsets: String,
    /// What cases have shown.
    pub shown: Shown,
}

impl Support {
    /// Element types that cases have shown.
    pub fn elements(&self) -> String {
        words(&self.shown.elements)
    }

    /// Where it runs: the engines of the target, and `host`.
    pub fn engines(&self) -> String {
        words(&self.shown.engines)
    }
}

fn words(set: &BTreeSet<String>) -> String {
    set.iter().cloned().collect::<Vec<_>>().join(" ")
}

/// All operators with what a record shows of them, by domain and name.
pub fn support(record: &Record) -> Vec<Support> {
    let mut all: Vec<Support> = Vec::new();
    for row in operators() {
        let domain = if row.domain.is_empty() { "ai.onnx" } else { row.domain };
        let since = if row.domain.is_empty() { row.since.max(OPSET_MIN) } else { row.since };
        let opsets = match row.until {
            Some(until) if until != i64::MAX => format!("{since} to {until}"),
            _ if row.domain.is_empty() => format!("{since} to {OPSET_MAX}"),
            _ => format!("{since} on"),
        };
        if let Some(last) = all.last_mut().filter(|last| last.domain == domain && last.name == row.name) {
            last.opsets += &format!(", {opsets}");
            continue;
        }
        let key = (domain.to_string(), row.name.to_string());
        let shown = record.operators.get(&key).cloned().unwrap_or_default();
        all.push(Support { domain: key.0, name: key.1, opsets, shown });
    }
    all
}

/// The page of the documentation.
pub fn page(record: &Record) -> String {
    let mut text = String::from(
        "# ONNX operators\n\n\
         <!-- Written by the conformance test; do not edit. -->\n\n\
         `tilewright ops --onnx` prints this table (`--json`, `--csv`). *Types* and *runs on* are what cases have shown: the element\n\
         types of their inputs and outputs, and the engines of `npu-gen3` that ran their commands (`host` is the CPU). An operator\n\
         without them is read, but no case of its own proves it. Strings and images are refused at import, the node named.\n\n\
         ## Suites\n\n\
         | suite | cases | evaluator | npu-gen3 | others |\n|---|---:|---:|---:|---|\n",
    );
    for (suite, [all, evaluator, target]) in &record.suites {
        let peers = PEERS.iter().find(|row| row.0 == suite).map_or(&[][..], |row| row.1);
        let peers: Vec<String> = peers.iter().map(|(name, count)| format!("{name}: {count}")).collect();
        let _ = writeln!(text, "| {suite} | {all} | {evaluator} | {target} | {} |", peers.join(", "));
    }
    text += "\n`com.microsoft` are recorded cases of ONNX Runtime's own operators; the others come with the onnx package.\n\n\
             ## Operators\n\n| domain | operator | opset | types | runs on |\n|---|---|---|---|---|\n";
    for row in support(record) {
        let (elements, engines) = (row.elements(), row.engines());
        let _ = writeln!(text, "| {} | {} | {} | {elements} | {engines} |", row.domain, row.name, row.opsets);
    }
    text
}

/// The operator that a model is a case of: its only one that is no constant.
pub fn only_operator(path: &Path) -> Option<(String, String)> {
    let bytes = std::fs::read(path).ok()?;
    let graph = ModelProto::decode(bytes.as_slice()).ok()?.graph?;
    let name = |node: &super::schema::NodeProto| {
        let domain = super::importer::domain_of(node.domain.as_deref());
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        (domain.to_string(), node.op_type.clone().unwrap_or_default())
    };
    let names: BTreeSet<_> = graph.node.iter().map(name).filter(|(_, op)| op != "Constant").collect();
    let own: BTreeSet<_> = names.iter().filter(|(domain, _)| domain != "ai.onnx").cloned().collect();
    // A standard operator beside one of another domain only shows its result.
    let names = if own.is_empty() { names } else { own };
    (names.len() == 1).then(|| names.into_iter().next()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_reads_what_it_writes() {
        let record = Record::parse(RECORD);
        assert_eq!(record.text(), RECORD);
        assert!(record.operators.len() > 100, "{} operators are recorded", record.operators.len());
    }

    #[test]
    fn what_is_recorded_has_a_row() {
        let known: BTreeSet<(String, String)> =
            support(&Record::default()).into_iter().map(|row| (row.domain, row.name)).collect();
        let record = Record::parse(RECORD);
        let stray: Vec<_> = record.operators.keys().filter(|key| !known.contains(*key)).collect();
        assert!(stray.is_empty(), "recorded, but without a row: {stray:?}");
    }

    #[test]
    fn the_page_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guide/onnx_operators.md");
        let wanted = page(&Record::parse(RECORD));
        if std::env::var("INSTA_UPDATE").is_ok_and(|how| how == "always") {
            std::fs::write(&path, &wanted).expect("the source folder is writable when blessing");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == wanted, "guide/onnx_operators.md is old; INSTA_UPDATE=always writes it anew");
    }
}
