//! Reads a manifest's text by the table of keys.

use super::{KEYS, Key, LIBRARY_KEYS, Manifest, ManifestTarget, TARGET_KEYS, Takes};
use crate::kv_cache::KvCache;
use crate::precision::Precision;
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use std::collections::BTreeMap;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_ir::registry::nearest;
use tilewright_runtime::artifact::trust::SecurityLevel;
use tilewright_targets::target::Targets;

/// Reads a manifest. `file` is its name in messages, `targets` is the hardware that is known.
///
/// # Errors
/// Text that is no YAML; else all keys and values that are unknown, missing or out of their bounds, each in its line.
pub fn read(file: &str, text: &str, targets: &Targets) -> Result<Manifest, Diagnostics> {
    let place = |line: usize, column: usize| Location::File(file.into(), line as u32, column as u32 + 1);
    let documents = MarkedYaml::load_from_str(text).map_err(|error| {
        let at = error.marker();
        let help = "a manifest is YAML: `tilewright deploy --help` shows one";
        vec![Diagnostic::error(place(at.line(), at.col()), error.info().to_string()).with_help(help)]
    })?;
    let mut reader = Reader { place: &place, targets, problems: Diagnostics::new() };
    let manifest = match documents.as_slice() {
        [] => {
            let what = "the manifest is empty".to_owned();
            reader.problems.push(Diagnostic::error(place(1, 0), what).with_help(needed(KEYS)));
            None
        }
        [document] => reader.manifest(document),
        [_, second, ..] => {
            reader.fault(second, "a second document: a manifest is one document".into(), "leave '---' out");
            None
        }
    };
    match manifest {
        Some(manifest) if reader.problems.is_empty() => Ok(manifest),
        _ => Err(reader.problems),
    }
}

fn needed(keys: &[Key]) -> String {
    let names: Vec<&str> = keys.iter().filter(|key| key.is_required).map(|key| key.name).collect();
    format!("it needs {}", names.join(", "))
}

/// A value that its row of the table has found right.
enum Value<'n, 'i> {
    Text(String),
    Number(i64),
    Numbers(BTreeMap<String, i64>),
    List(&'n [MarkedYaml<'i>]),
}

impl Value<'_, '_> {
    fn text(&self) -> String {
        if let Value::Text(text) = self { text.clone() } else { String::new() }
    }

    fn count(&self) -> Option<usize> {
        if let Value::Number(number) = self { usize::try_from(*number).ok() } else { None }
    }
}

type Fields<'n, 'i> = BTreeMap<&'static str, Value<'n, 'i>>;

struct Reader<'a> {
    place: &'a dyn Fn(usize, usize) -> Location,
    targets: &'a Targets,
    problems: Diagnostics,
}

impl Reader<'_> {
    fn at(&self, node: &MarkedYaml) -> Location {
        (self.place)(node.span.start.line(), node.span.start.col())
    }

    fn fault(&mut self, node: &MarkedYaml, what: String, help: impl Into<String>) {
        self.problems.push(Diagnostic::error(self.at(node), what).with_help(help));
    }

    fn manifest(&mut self, document: &MarkedYaml) -> Option<Manifest> {
        let fields = self.fields(document, KEYS, "a manifest")?;
        let text = |name: &str| fields.get(name).map(Value::text);
        let nodes: &[MarkedYaml] =
            if let Some(Value::List(nodes)) = fields.get("runtime_targets") { nodes } else { &[] };
        let mut targets: Vec<ManifestTarget> = Vec::new();
        for node in nodes {
            let Some(target) = self.target(node) else { continue };
            if targets.iter().any(|other| other.hardware == target.hardware) {
                let what = format!("'{}' is there already", target.hardware);
                self.fault(node, what, "a target has one entry: the first that is detected is taken");
            }
            targets.push(target);
        }
        let bindings = match fields.get("bind") {
            Some(Value::Numbers(numbers)) => numbers.clone(),
            _ => BTreeMap::new(),
        };
        Some(Manifest {
            model_name: text("model_name").unwrap_or_default(),
            version: text("version").unwrap_or_default(),
            model: text("model"),
            targets,
            context_window: fields.get("context_window").and_then(Value::count),
            bindings,
            security_level: text("security_level")
                .and_then(|name| SecurityLevel::find(&name))
                .unwrap_or_default(),
        })
    }

    fn target(&mut self, node: &MarkedYaml) -> Option<ManifestTarget> {
        let fields = self.fields(node, TARGET_KEYS, "an entry of runtime_targets")?;
        let text = |name: &str| fields.get(name).map(Value::text);
        let libraries = LIBRARY_KEYS.iter().filter_map(|key| Some(((*key).to_owned(), text(key)?)));
        Some(ManifestTarget {
            hardware: text("hardware")?,
            precision: Precision::parse(&text("precision")?).ok()?,
            max_batch_size: fields.get("max_batch_size").and_then(Value::count).unwrap_or(1),
            kv_cache: text("kv_cache").and_then(|name| KvCache::find(&name)),
            libraries: libraries.collect(),
            location: self.at(node),
        })
    }

    /// A mapping's values by the table of its keys; `None` when it is no mapping.
    fn fields<'n, 'i>(&mut self, node: &'n MarkedYaml<'i>, keys: &[Key], of: &str) -> Option<Fields<'n, 'i>> {
        let YamlData::Mapping(entries) = &node.data else {
            self.fault(node, format!("{of}: expected a mapping"), needed(keys));
            return None;
        };
        let mut fields = Fields::new();
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in entries {
            let YamlData::Value(Scalar::String(text)) = &name.data else {
                self.fault(name, format!("{of} has names for keys"), needed(keys));
                continue;
            };
            let Some(key) = keys.iter().find(|key| key.name == text.as_ref()) else {
                let names = keys.iter().map(|key| key.name);
                let help = match nearest(text, names.clone()) {
                    Some(near) => format!("did you mean '{near}'?"),
                    None => format!("it has {}", names.collect::<Vec<_>>().join(", ")),
                };
                self.fault(name, format!("{of} has no key '{text}'"), help);
                continue;
            };
            seen.push(key.name);
            if let Some(value) = self.value(key, value) {
                fields.insert(key.name, value);
            }
        }
        for key in keys.iter().filter(|key| key.is_required && !seen.contains(&key.name)) {
            self.fault(
                node,
                format!("{of}: '{}' is missing", key.name),
                format!("{}: {}", key.name, key.about),
            );
        }
        Some(fields)
    }

    fn value<'n, 'i>(&mut self, key: &Key, node: &'n MarkedYaml<'i>) -> Option<Value<'n, 'i>> {
        match key.takes {
            Takes::Text => self.text(key, node).map(Value::Text),
            Takes::Number(least, most) => self.number(key.name, node, least, most).map(Value::Number),
            Takes::Numbers => self.numbers(key, node).map(Value::Numbers),
            Takes::Word(words) => self.word(key, node, &words()).map(Value::Text),
            Takes::Precision => self.precision(key, node).map(Value::Text),
            Takes::Hardware => self.hardware(key, node).map(Value::Text),
            Takes::List(_) => match &node.data {
                YamlData::Sequence(nodes) if !nodes.is_empty() => Some(Value::List(nodes)),
                _ => {
                    self.fault(
                        node,
                        format!("{}: expected at least one entry", key.name),
                        "begin each with '-'",
                    );
                    None
                }
            },
        }
    }

    fn text(&mut self, key: &Key, node: &MarkedYaml) -> Option<String> {
        match &node.data {
            YamlData::Value(Scalar::String(text)) if !text.trim().is_empty() => Some(text.to_string()),
            _ => {
                self.fault(node, format!("{}: expected text", key.name), "put it in quotes");
                None
            }
        }
    }

    fn number(&mut self, name: &str, node: &MarkedYaml, least: i64, most: i64) -> Option<i64> {
        match &node.data {
            YamlData::Value(Scalar::Integer(number)) if (least..=most).contains(number) => Some(*number),
            _ => {
                let what = format!("{name}: expected a whole number from {least} to {most}");
                self.fault(node, what, "without quotes");
                None
            }
        }
    }

    fn numbers(&mut self, key: &Key, node: &MarkedYaml) -> Option<BTreeMap<String, i64>> {
        let YamlData::Mapping(entries) = &node.data else {
            self.fault(node, format!("{}: expected a mapping", key.name), "such as seq: 128");
            return None;
        };
        let mut numbers = BTreeMap::new();
        for (name, value) in entries {
            let name = self.text(key, name)?;
            let number = self.number(&format!("{}.{name}", key.name), value, 0, i64::from(u32::MAX))?;
            numbers.insert(name, number);
        }
        Some(numbers)
    }

    fn word(&mut self, key: &Key, node: &MarkedYaml, words: &[(&str, &str)]) -> Option<String> {
        let text = self.text(key, node)?;
        if words.iter().any(|word| word.0 == text) {
            return Some(text);
        }
        let known: Vec<&str> = words.iter().map(|word| word.0).collect();
        let help = match nearest(&text, known.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("known are {}", known.join(", ")),
        };
        self.fault(node, format!("{}: '{text}' is not known", key.name), help);
        None
    }

    fn precision(&mut self, key: &Key, node: &MarkedYaml) -> Option<String> {
        let text = self.text(key, node)?;
        let Err(what) = Precision::parse(&text) else { return Some(text) };
        let (what, help) = what.split_once(": ").unwrap_or((&what, ""));
        self.fault(node, what.to_owned(), help);
        None
    }

    fn hardware(&mut self, key: &Key, node: &MarkedYaml) -> Option<String> {
        let text = self.text(key, node)?;
        if self.targets.find(&text).is_some() {
            return Some(text);
        }
        let names: Vec<&str> = self.targets.iter().map(|target| target.name).collect();
        let help = match nearest(&text, names.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("known are {}; --machine FILE.toml adds another", names.join(", ")),
        };
        self.fault(node, format!("no target is called '{text}'"), help);
        None
    }
}
