//! A deployment manifest: one model, the NPUs it goes to, and how it is kept there. YAML, typed by one table of keys.
//!
//! Knows no compilation ([`crate::deploy`]). All faults of a manifest are told at once, each in its line.
//!
//! ```yaml
//! model_name: "assistant"
//! version: "2.1.0"
//! runtime_targets:
//!   - hardware: "npu-gen3"
//!     precision: "int4"
//! context_window: 8192
//! security_level: "high"
//! ```

mod read;
mod schema;

pub use read::read;
pub use schema::schema;

use crate::kv_cache::KvCache;
use crate::precision::Precision;
use std::collections::BTreeMap;
use tilewright_ir::location::Location;
use tilewright_runtime::artifact::trust::SecurityLevel;

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// Text that is not empty.
    Text,
    /// A whole number within these bounds.
    Number(i64, i64),
    /// One of some words: each with what it means.
    Word(fn() -> Vec<(&'static str, &'static str)>),
    /// The name of a target.
    Hardware,
    /// A word of [`Precision`].
    Precision,
    /// Numbers by name.
    Numbers,
    /// A list of mappings with these keys.
    List(&'static [Key]),
}

/// A row of the table of keys.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What stands behind it.
    pub takes: Takes,
    /// Whether a manifest must have it.
    pub is_required: bool,
    /// What it means, in one line.
    pub about: &'static str,
}

const fn key(name: &'static str, takes: Takes, is_required: bool, about: &'static str) -> Key {
    Key { name, takes, is_required, about }
}

fn caches() -> Vec<(&'static str, &'static str)> {
    use clap::ValueEnum;
    let name = |cache: &KvCache| cache.name();
    let about = ["32-bit floats", "16-bit floats", "8 bits", "4 bits"];
    KvCache::value_variants().iter().map(name).zip(about).collect()
}

fn levels() -> Vec<(&'static str, &'static str)> {
    let about = [
        "hashes of programs are compared",
        "signed by a trusted key, all hashes compared, locked memory, no core dumps",
    ];
    SecurityLevel::NAMES.iter().map(|row| row.0).zip(about).collect()
}

/// Keys of a manifest.
pub const KEYS: &[Key] = &[
    key(
        "model_name",
        Takes::Text,
        true,
        "the model's name; the folder is called after it where no other is named",
    ),
    key("version", Takes::Text, true, "the model's version, in quotes"),
    key("model", Takes::Text, false, "the ONNX file, or a folder with one, seen from the manifest's folder"),
    key("runtime_targets", Takes::List(TARGET_KEYS), true, "the NPUs, the preferred ones first"),
    key("context_window", Takes::Number(1, 1 << 20), false, "tokens that the KV cache holds at most"),
    key("bind", Takes::Numbers, false, "values of symbolic dimensions, such as seq: 128"),
    key(
        "security_level",
        Takes::Word(levels),
        false,
        "how carefully the model is kept; standard when left out",
    ),
];

/// Keys of an entry of `runtime_targets`.
pub const TARGET_KEYS: &[Key] = &[
    key("hardware", Takes::Hardware, true, "the target, as `tilewright targets` lists it"),
    key("precision", Takes::Precision, true, "what it computes in"),
    key(
        "max_batch_size",
        Takes::Number(1, 1 << 16),
        false,
        "samples that one run takes at most; 1 when left out",
    ),
    key(
        "kv_cache",
        Takes::Word(caches),
        false,
        "how the KV cache is kept; as the model has it when left out",
    ),
    key(
        "acceleration_library",
        Takes::Text,
        false,
        "a vendor's library; told on, not used: artifacts run in this runtime",
    ),
    key("backend", Takes::Text, false, "the same"),
];

/// The keys of [`TARGET_KEYS`] whose texts are only told on.
pub const LIBRARY_KEYS: [&str; 2] = ["acceleration_library", "backend"];

/// A manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The model's name.
    pub model_name: String,
    /// The model's version.
    pub version: String,
    /// The model, seen from the manifest's folder.
    pub model: Option<String>,
    /// The targets, the preferred ones first; at least one.
    pub targets: Vec<ManifestTarget>,
    /// Tokens that the KV cache holds.
    pub context_window: Option<usize>,
    /// Values of symbolic dimensions.
    pub bindings: BTreeMap<String, i64>,
    /// How carefully the model is kept.
    pub security_level: SecurityLevel,
}

/// A target of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestTarget {
    /// The target's name.
    pub hardware: String,
    /// What it computes in.
    pub precision: Precision,
    /// Samples that one run takes at most.
    pub max_batch_size: usize,
    /// How the KV cache is kept.
    pub kv_cache: Option<KvCache>,
    /// Texts of [`LIBRARY_KEYS`].
    pub libraries: BTreeMap<String, String>,
    /// Where it stands.
    pub location: Location,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_targets::target::Targets;

    /// As the users' own document has it, to the letter.
    const EXAMPLE: &str = include_str!("manifest/example.yaml");

    fn told(text: &str) -> Vec<String> {
        let problems = read("m.yaml", text, &Targets::builtin()).expect_err("it is wrong");
        problems.iter().map(|one| format!("{}: {} ({})", one.location, one.what, one.help)).collect()
    }

    #[test]
    fn the_example_is_read() {
        let manifest = read("m.yaml", EXAMPLE, &Targets::builtin()).unwrap();
        assert_eq!(
            (manifest.model_name.as_str(), manifest.version.as_str()),
            ("secure-assistant-slm", "2.1.0")
        );
        let targets: Vec<(&str, &str)> =
            manifest.targets.iter().map(|one| (one.hardware.as_str(), one.precision.name.as_str())).collect();
        let expected =
            [("apple-m5-npu", "fp16"), ("qualcomm-snapdragon-x-gen3", "int4"), ("generic-linux-npu", "int8")];
        assert_eq!(targets, expected);
        assert_eq!(manifest.targets[2].libraries["backend"], "openvino-2026.1");
        assert_eq!((manifest.context_window, manifest.security_level), (Some(8192), SecurityLevel::High));
    }

    #[test]
    fn every_fault_is_told_with_its_line_and_a_way_out() {
        let text = EXAMPLE
            .replace("context_window: 8192", "context_windw: 8192")
            .replace("\"high\"", "\"hgih\"")
            .replace("\"fp16\"", "\"fp61\"")
            .replace("max_batch_size: 1", "max_batch_size: 0")
            .replace("\"generic-linux-npu\"", "\"generic-linux\"")
            .replace("version: \"2.1.0\"", "version: 2.1");
        let problems = told(&text);
        let expected = [
            ("\"m.yaml\":2:10: version: expected text", "quotes"),
            ("\"m.yaml\":5:16: no precision is called 'fp61'", "'fp16'"),
            ("\"m.yaml\":6:21: max_batch_size: expected a whole number from 1", ""),
            ("\"m.yaml\":10:15: no target is called 'generic-linux'", ""),
            ("\"m.yaml\":13:1: a manifest has no key 'context_windw'", "'context_window'"),
            ("\"m.yaml\":14:17: security_level: 'hgih'", "'high'"),
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        let mut sorted = problems.clone();
        sorted.sort();
        for (what, help) in expected {
            assert!(
                problems.iter().any(|one| one.starts_with(what) && one.contains(help)),
                "{what}: {problems:#?}"
            );
        }
    }

    #[test]
    fn what_is_no_manifest_is_told() {
        assert!(told("")[0].contains("the manifest is empty"));
        assert!(told("- a\n")[0].contains("expected a mapping"));
        assert!(told("model_name: a\nmodel_name: b\n")[0].starts_with("\"m.yaml\":2:1: duplicate"));
        assert!(told("a: [")[0].starts_with("\"m.yaml\":"));
        let missing = told("runtime_targets: []\n");
        assert!(missing.iter().any(|one| one.contains("'model_name' is missing")), "{missing:?}");
        assert!(
            missing.iter().any(|one| one.contains("runtime_targets: expected at least one")),
            "{missing:?}"
        );
        let twice = EXAMPLE.replace("qualcomm-snapdragon-x-gen3", "apple-m5-npu");
        assert!(told(&twice)[0].contains("'apple-m5-npu' is there already"), "{:?}", told(&twice));
        assert!(told(&format!("{EXAMPLE}---\na: 1\n"))[0].contains("one document"));
        assert!(told(&format!("{EXAMPLE}bind: {{seq: long}}\n"))[0].contains("bind.seq"));
    }

    #[test]
    fn the_guide_tells_every_key() {
        let guide = include_str!("../guide/deploy.md");
        for key in KEYS.iter().chain(TARGET_KEYS) {
            let row = format!("| `{}` | {} |", key.name, key.about);
            assert!(guide.contains(&row), "the guide lacks: {row}");
        }
        assert!(guide.contains(EXAMPLE), "the guide shows the example");
    }
}
