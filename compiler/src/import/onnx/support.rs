//! What is supported of ONNX: the table of rows joined with a record of what cases have shown, as lists and as a page.
//!
//! The record `support.txt` is written by the conformance test: for every operator the element types of its cases, the engines that
//! their commands ran on and what of them ran on the host; and how many cases of each suite agree. What is refused of an operator
//! stands at its row.
//!
//! ```text
//! suite node 1884 1841 1805
//! operator ai.onnx Cast f16,f32,i4 host,vector
//! host ai.onnx Cast core.cast: rows of a tensor do not begin at whole bytes
//! ```

use super::schema::{ModelProto, NodeProto};
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
    /// Core ops on the host, with the reason where it is not that no engine has them.
    pub hosted: BTreeSet<String>,
}

/// Domain and name of an operator.
pub type Key = (String, String);

/// A record: what was shown by domain and operator, and (cases, evaluator, target) by suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// By domain and operator.
    pub operators: BTreeMap<Key, Shown>,
    /// By suite.
    pub suites: BTreeMap<String, [usize; 3]>,
}

impl Record {
    /// Reads the text form. Lines of other forms are passed over.
    pub fn parse(text: &str) -> Record {
        let mut record = Record::default();
        let key = |domain: &str, name: &str| (domain.to_string(), name.to_string());
        let set = |words: &str| words.split(',').filter(|word| *word != "-").map(String::from).collect();
        for line in text.lines() {
            match line.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["suite", name, counts @ ..] => {
                    let mut row = [0; 3];
                    row.iter_mut().zip(counts).for_each(|(to, from)| *to = from.parse().unwrap_or(0));
                    record.suites.insert((*name).to_string(), row);
                }
                ["operator", domain, name, elements, engines] => {
                    let shown = record.operators.entry(key(domain, name)).or_default();
                    (shown.elements, shown.engines) = (set(elements), set(engines));
                }
                ["host", domain, name, reason @ ..] => {
                    let shown = record.operators.entry(key(domain, name)).or_default();
                    shown.hosted.insert(reason.join(" "));
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
            for reason in &shown.hosted {
                let _ = writeln!(text, "host {domain} {name} {reason}");
            }
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
    /// What of it is refused.
    pub refused: String,
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

    /// What of it is refused, and what was seen on the host.
    pub fn limits(&self) -> String {
        let hosted: Vec<&str> = self.shown.hosted.iter().map(String::as_str).collect();
        let parts = [("refused", self.refused.clone()), ("on the host", hosted.join("; "))];
        let parts = parts.into_iter().filter(|(_, what)| !what.is_empty());
        parts.map(|(how, what)| format!("{how}: {what}")).collect::<Vec<_>>().join(". ")
    }
}

/// The columns of the table of operators.
pub const COLUMNS: [&str; 6] = ["domain", "operator", "opset", "types", "runs on", "limits"];

impl Support {
    /// The cells of its line.
    pub fn cells(&self) -> [String; 6] {
        let (elements, engines, limits) = (self.elements(), self.engines(), self.limits());
        [self.domain.clone(), self.name.clone(), self.opsets.clone(), elements, engines, limits]
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
            if !last.refused.contains(row.refused) {
                last.refused += &format!("; {}", row.refused);
            }
            continue;
        }
        let key = (domain.to_string(), row.name.to_string());
        let shown = record.operators.get(&key).cloned().unwrap_or_default();
        all.push(Support { domain: key.0, name: key.1, opsets, shown, refused: row.refused.to_string() });
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
         that no case has to itself shows those of the smallest case that it is part of; one without any is read, but no case proves\n\
         it. *Limits* are what is refused at import, the node named, and what of its cases ran on the host. Operators that are not\n\
         listed (of images, mostly) are refused.\n\n\
         A tensor of strings is compiled as its code points (i32) along one more axis, as long as `--bind x_characters=N` says for input\n\
         `x`. Case changes by Unicode's default mapping, as in ONNX's reference: `ß` becomes `SS`, and `Σ` becomes `ς` at the end of a\n\
         word, where ONNX Runtime maps code points one by one. A string has no U+0000.\n\n\
         ## Suites\n\n\
         | suite | cases | evaluator | npu-gen3 | others |\n|---|---:|---:|---:|---|\n",
    );
    for (suite, [all, evaluator, target]) in &record.suites {
        let peers = PEERS.iter().find(|row| row.0 == suite).map_or(&[][..], |row| row.1);
        let peers: Vec<String> = peers.iter().map(|(name, count)| format!("{name}: {count}")).collect();
        let _ = writeln!(text, "| {suite} | {all} | {evaluator} | {target} | {} |", peers.join(", "));
    }
    text += "\n`onnx-runtime` are cases recorded from ONNX Runtime: its own operators, and those that ONNX's tests leave out. The others come with the\n\
             onnx package.\n\n\
             ## Operators\n\n";
    let _ = writeln!(text, "| {} |\n|{}", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()));
    for row in support(record) {
        let _ = writeln!(text, "| {} |", row.cells().join(" | "));
    }
    text
}

/// What a case has shown, of all operators of its model.
pub struct Evidence {
    /// Its operators, those of subgraphs and functions included.
    pub operators: BTreeSet<Key>,
    /// What it has shown.
    pub shown: Shown,
}

impl Evidence {
    /// What a model's run has shown; `None` when it cannot be read.
    pub fn of(model: &Path, shown: Shown) -> Option<Evidence> {
        let model = ModelProto::decode(std::fs::read(model).ok()?.as_slice()).ok()?;
        let mut operators = BTreeSet::new();
        model.graph.iter().for_each(|graph| collect(&graph.node, &mut operators));
        model.functions.iter().for_each(|function| collect(&function.node, &mut operators));
        Some(Evidence { operators, shown })
    }

    /// The operator that it is a case of: its only one that is no constant.
    pub fn only_operator(&self) -> Option<&Key> {
        let names: Vec<&Key> = self.operators.iter().filter(|(_, op)| op != "Constant").collect();
        let own: Vec<&Key> = names.iter().copied().filter(|(domain, _)| domain != "ai.onnx").collect();
        // A standard operator beside one of another domain only shows its result.
        let names = if own.is_empty() { names } else { own };
        if let [only] = names.as_slice() { Some(*only) } else { None }
    }
}

fn collect(nodes: &[NodeProto], into: &mut BTreeSet<Key>) {
    for node in nodes {
        let domain = super::importer::domain_of(node.domain.as_deref());
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        into.insert((domain.to_string(), node.op_type.clone().unwrap_or_default()));
        let attributes = node.attribute.iter();
        attributes
            .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
            .for_each(|graph| collect(&graph.node, into));
    }
}

/// What cases show of each operator: those that it has to itself, else the smallest that it is part of.
pub fn shown_by(cases: &[Evidence]) -> BTreeMap<Key, Shown> {
    let mut operators: BTreeMap<Key, Shown> = BTreeMap::new();
    for case in cases {
        if let Some(key) = case.only_operator() {
            let shown = operators.entry(key.clone()).or_default();
            shown.elements.extend(case.shown.elements.iter().cloned());
            shown.engines.extend(case.shown.engines.iter().cloned());
            shown.hosted.extend(case.shown.hosted.iter().cloned());
        }
    }
    for row in support(&Record::default()) {
        let key = (row.domain, row.name);
        let cases = cases.iter().filter(|case| case.operators.contains(&key));
        if let (false, Some(case)) =
            (operators.contains_key(&key), cases.min_by_key(|case| case.operators.len()))
        {
            operators.insert(key, Shown { hosted: BTreeSet::new(), ..case.shown.clone() });
        }
    }
    operators
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
