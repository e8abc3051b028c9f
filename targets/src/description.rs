//! A machine as text: one TOML per NPU, read into a target that uses the lowerings of an in-tree one.
//!
//! It knows the text and the table of keys ([`KEYS`]), no file. What a key means, stands there.
//!
//! ```toml
//! name = "my-npu"
//! lowerings = "npu-gen3"      # whose instructions it has
//! sram.bytes = 524288
//! ```

use crate::target::{Figures, Target, Targets};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::registry::nearest;
use tilewright_passes::machine::{MacRate, Machine};
use tilewright_runtime::hardware::{Evidence, Source};
use toml::Spanned;

/// Every key with what it means, for documentation and for suggestions.
pub const KEYS: &[(&str, &str)] = &[
    ("name", "the target's name at the command line"),
    ("lowerings", "the in-tree target whose lowerings, and with them commands, it has"),
    ("about", "one paragraph: what it is, and of what class of hardware it is a model"),
    ("clock_mhz", "clock, in MHz; all cycles are of this clock"),
    ("launch_cycles", "cycles from the sequencer to an engine's start"),
    ("sram.bytes", "on-chip memory that holds tiles, in bytes"),
    ("sram.accumulator_bytes", "memory of the matrix engine's accumulators, in bytes"),
    ("sram.alignment_bytes", "alignment of tiles, a power of two, in bytes"),
    ("sram.bytes_per_cycle", "bytes read or written on chip per cycle, all banks together"),
    (
        "sram.banks",
        "banks that share these bytes per cycle evenly: words of one bank's width lie in them in turn",
    ),
    ("sram.energy_fj_per_byte", "energy of one byte on chip, in femtojoules"),
    ("dram.bytes_per_cycle", "bytes to and from off-chip memory per cycle, all DMA engines together"),
    ("dram.latency_cycles", "cycles from a transfer's start to its first byte"),
    ("dram.energy_fj_per_byte", "energy of one byte to or from off-chip memory, in femtojoules"),
    ("vector.lanes", "elements of 32 bits that the vector engine takes per cycle"),
    ("vector.elements", "element types that the vector engine computes on; others go to the host"),
    ("matrix.activations", "element types on the left side of the products of this row"),
    ("matrix.weights", "element types on the right side; every pair with the left ones"),
    ("matrix.macs_per_cycle", "multiply-accumulates per cycle for these pairs"),
    ("matrix.energy_fj_per_mac", "energy of one multiply-accumulate, in femtojoules"),
    (
        "detect.file",
        "a file that shows on a running system that the machine is there, for deployments; `*` in a part of the path stands for any letters",
    ),
    ("detect.sysctl", "the same as a name of macOS's sysctl"),
    ("detect.contains", "what the file or the value contains; left out, that it is there is enough"),
    ("sources", "where a figure comes from, by key"),
];

/// Tiles of the smallest kernels and their second buffers.
const SRAM_BYTES_MIN: u64 = 16 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: Spanned<String>,
    lowerings: Spanned<String>,
    #[serde(default)]
    about: String,
    clock_mhz: NonZeroU64,
    launch_cycles: u64,
    sram: Sram,
    dram: Dram,
    vector: Vector,
    matrix: Vec<Spanned<Rate>>,
    #[serde(default)]
    detect: Vec<Spanned<Detect>>,
    #[serde(default)]
    sources: BTreeMap<Spanned<String>, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sram {
    bytes: Spanned<u64>,
    accumulator_bytes: NonZeroU64,
    alignment_bytes: Spanned<u64>,
    bytes_per_cycle: NonZeroU64,
    banks: Spanned<NonZeroU64>,
    energy_fj_per_byte: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dram {
    bytes_per_cycle: NonZeroU64,
    latency_cycles: u64,
    energy_fj_per_byte: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    lanes: NonZeroU64,
    elements: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    activations: Vec<Spanned<String>>,
    weights: Vec<Spanned<String>>,
    macs_per_cycle: NonZeroU64,
    energy_fj_per_mac: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detect {
    file: Option<String>,
    sysctl: Option<String>,
    #[serde(default)]
    contains: String,
}

/// A machine as its text tells it.
#[derive(Clone, Debug)]
pub struct Description {
    /// What it is.
    pub about: String,
    /// The target whose lowerings it has.
    pub lowerings: String,
    /// Its figures; the name is in there.
    pub machine: Machine,
    /// What shows that a system has it.
    pub evidence: Vec<Evidence>,
    /// Where figures come from, by key.
    pub sources: BTreeMap<String, String>,
}

/// Reads a description. `file` is its name in messages.
///
/// # Errors
/// Each with line and column: text that is no TOML, a key or a value that is not known, a figure that no machine has. What is no
/// TOML, or lacks a key, is told first and alone.
pub fn parse(text: &str, file: &str) -> Result<Description, Diagnostics> {
    read(text, file).map(|(description, _)| description)
}

/// Where the words stand that only a list of targets can judge.
struct Places {
    name: Location,
    lowerings: Location,
}

fn read(text: &str, file: &str) -> Result<(Description, Places), Diagnostics> {
    let place = |offset: usize| Location::in_text(file, text, offset);
    let read: Text = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        vec![
            Diagnostic::error(place(start), error.message().trim().to_string())
                .with_help(help(error.message())),
        ]
    })?;
    let mut reader = Reader { problems: Vec::new(), place: &place };
    let machine = reader.machine(&read);
    let evidence = reader.evidence(&read.detect);
    for key in read.sources.keys() {
        if !KEYS.iter().any(|(known, _)| known == key.get_ref()) {
            let help = suggestion(key.get_ref(), KEYS.iter().map(|(key, _)| *key));
            let what = format!("a source of '{}', which is no key", key.get_ref());
            reader.problem(key.span().start, what, help);
        }
    }
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    let sources = read.sources.into_iter().map(|(key, source)| (key.into_inner(), source)).collect();
    let places =
        Places { name: place(read.name.span().start), lowerings: place(read.lowerings.span().start) };
    let lowerings = read.lowerings.into_inner();
    Ok((Description { about: read.about, lowerings, machine, evidence, sources }, places))
}

/// Reads a description and makes its target. The target lives as long as the program: targets are compared by address.
///
/// # Errors
/// As [`parse`]; when its lowerings are of no known target, or its name is taken.
pub fn target(text: &str, file: &str, known: &Targets) -> Result<&'static Target, Diagnostics> {
    let (description, places) = read(text, file)?;
    let mut problems = Diagnostics::new();
    let base = known.find(&description.lowerings);
    if base.is_none() {
        let names: Vec<&str> = known.iter().map(|target| target.name).collect();
        let what = format!("no target is called '{}'", description.lowerings);
        let help = format!("there are: {}", names.join(", "));
        problems.push(Diagnostic::error(places.lowerings, what).with_help(help));
    }
    if known.find(&description.machine.name).is_some() {
        let what = format!("a target is called '{}' already", description.machine.name);
        problems.push(Diagnostic::error(places.name, what).with_help("give it a name of its own"));
    }
    match base {
        Some(base) if problems.is_empty() => Ok(Box::leak(Box::new(Target {
            name: String::leak(description.machine.name.clone()),
            doc: String::leak(description.about),
            machine: Figures::Given(description.machine),
            copy_engine: base.copy_engine,
            evidence: Vec::leak(description.evidence),
            lowerings: base.lowerings,
        }))),
        _ => Err(problems),
    }
}

struct Reader<'a> {
    problems: Diagnostics,
    place: &'a dyn Fn(usize) -> Location,
}

impl Reader<'_> {
    fn problem(&mut self, offset: usize, what: String, help: String) {
        self.problems.push(Diagnostic::error((self.place)(offset), what).with_help(help));
    }

    fn machine(&mut self, text: &Text) -> Machine {
        let (sram, dram, vector) = (&text.sram, &text.dram, &text.vector);
        let name = text.name.get_ref();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            let what = format!("'{name}' is no name of a target");
            self.problem(text.name.span().start, what, "use letters, digits, '-', '_' and '.'".into());
        }
        let alignment = *sram.alignment_bytes.get_ref();
        if !alignment.is_power_of_two() {
            let what = format!("an alignment of {alignment} bytes");
            self.problem(sram.alignment_bytes.span().start, what, "give a power of two, such as 64".into());
        }
        let bytes = *sram.bytes.get_ref();
        if bytes < SRAM_BYTES_MIN {
            let what = format!("{bytes} bytes of SRAM, expected at least {SRAM_BYTES_MIN}");
            self.problem(sram.bytes.span().start, what, "tiles and their second buffers need room".into());
        }
        let (banks, per_cycle) = (sram.banks.get_ref().get(), sram.bytes_per_cycle.get());
        if per_cycle % banks != 0 {
            let what = format!("{per_cycle} bytes per cycle of {banks} banks");
            self.problem(
                sram.banks.span().start,
                what,
                "each bank gives the same whole number of bytes".into(),
            );
        }
        let vector_elements = self.elements(&vector.elements);
        let mac_rates = self.rates(&text.matrix);
        Machine {
            name: name.clone(),
            sram_bytes: bytes,
            accumulator_bytes: sram.accumulator_bytes.get(),
            vector_lanes: vector.lanes.get(),
            mac_rates,
            vector_elements,
            preferred_float: None,
            dram_bytes_per_cycle: dram.bytes_per_cycle.get(),
            sram_bytes_per_cycle: per_cycle,
            sram_banks: banks,
            dram_latency_cycles: dram.latency_cycles,
            launch_cycles: text.launch_cycles,
            clock_mhz: text.clock_mhz.get(),
            dram_energy_fj_per_byte: dram.energy_fj_per_byte,
            sram_energy_fj_per_byte: sram.energy_fj_per_byte,
            alignment_bytes: alignment,
        }
    }

    fn evidence(&mut self, rows: &[Spanned<Detect>]) -> Vec<Evidence> {
        let mut found = Vec::new();
        for row in rows {
            let Detect { file, sysctl, contains } = row.get_ref();
            let (source, name) = match (file, sysctl) {
                (Some(file), None) if file.starts_with('/') => (Source::File, file),
                (None, Some(name)) if !name.is_empty() => (Source::Sysctl, name),
                _ => {
                    let what = "a way to detect that is neither a file nor a sysctl".to_owned();
                    let help = "give 'file' with an absolute path, or 'sysctl' with a name".to_owned();
                    self.problem(row.span().start, what, help);
                    continue;
                }
            };
            if [name, contains].into_iter().any(|text| text.contains(['\t', '\n'])) {
                let help = "leave tabs and line ends out".to_owned();
                self.problem(row.span().start, "a way to detect with a tab or a line end".to_owned(), help);
            }
            let (name, contains) = (name.clone().into(), contains.clone().into());
            found.push(Evidence { source, name, contains });
        }
        found
    }

    fn rates(&mut self, rows: &[Spanned<Rate>]) -> Vec<MacRate> {
        let mut rates: Vec<MacRate> = Vec::new();
        for row in rows {
            let (start, row) = (row.span().start, row.get_ref());
            let (activations, weights) = (self.elements(&row.activations), self.elements(&row.weights));
            for activation in activations {
                for weight in weights.iter().copied() {
                    if rates.iter().any(|rate| (rate.activation, rate.weight) == (activation, weight)) {
                        let what = format!("a second rate of {} by {}", name_of(activation), name_of(weight));
                        self.problem(start, what, "each pair has one row".into());
                    }
                    let (macs_per_cycle, energy_fj) = (row.macs_per_cycle.get(), row.energy_fj_per_mac);
                    rates.push(MacRate { activation, weight, macs_per_cycle, energy_fj });
                }
            }
        }
        rates
    }

    fn elements(&mut self, names: &[Spanned<String>]) -> Vec<Element> {
        let mut found = Vec::new();
        for name in names {
            match Element::ALL.iter().find(|element| name_of(**element) == name.get_ref()) {
                Some(element) => found.push(*element),
                None => {
                    let help =
                        suggestion(name.get_ref(), Element::ALL.iter().map(|element| name_of(*element)));
                    let what = format!("no element type is called '{}'", name.get_ref());
                    self.problem(name.span().start, what, help);
                }
            }
        }
        found
    }
}

/// The name of an element type, without its dialect.
fn name_of(element: Element) -> &'static str {
    let text = element.text();
    text.strip_prefix("!core.").unwrap_or(text)
}

fn suggestion(word: &str, known: impl Iterator<Item = &'static str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(name) => format!("did you mean '{name}'?"),
        None => format!("there are: {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// A way out of what the reader of TOML says: the nearest key where one is not known.
fn help(message: &str) -> String {
    let mut words = message.split('`');
    match (words.next(), words.next()) {
        (Some(before), Some(word)) if before.starts_with("unknown field") => {
            let last = |key: &'static str| key.rsplit('.').next().unwrap_or(key);
            suggestion(word, KEYS.iter().map(move |(key, _)| last(key)))
        }
        (Some(before), Some(word)) if before.starts_with("missing field") => {
            let doc = KEYS.iter().find(|(key, _)| key.rsplit('.').next() == Some(word)).map(|(_, doc)| *doc);
            doc.map_or_else(String::new, |doc| format!("{word}: {doc}"))
        }
        _ => "tilewright targets NAME prints a description to begin with".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines;

    fn npu_gen3() -> &'static str {
        machines::text("npu-gen3").expect("it is described")
    }

    fn told(text: &str) -> Vec<String> {
        let problems = parse(text, "my.toml").expect_err("it is wrong");
        problems.iter().map(|one| format!("{} {} ({})", one.location, one.what, one.help)).collect()
    }

    #[test]
    fn all_described_machines_are_targets() {
        let targets = Targets::builtin();
        for (name, text) in machines::descriptions() {
            let description = parse(text, name).expect("it reads");
            let target = targets.find(&description.machine.name).expect("it is a target");
            assert_eq!(target.machine(), description.machine);
            assert_eq!(target.name, name);
            assert!(!description.about.is_empty() && !description.sources.is_empty(), "{name}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_line_and_a_way_out() {
        let text = npu_gen3();
        let unknown = told(&text.replace("lanes = 32", "lane = 32"));
        assert_eq!(unknown.len(), 1, "{unknown:?}");
        assert!(unknown[0].contains("\"my.toml\":23:1") && unknown[0].contains("'lanes'"), "{unknown:?}");
        let missing = told(&text.replace("launch_cycles = 64\n", ""));
        assert!(missing[0].contains("launch_cycles") && missing[0].contains("sequencer"), "{missing:?}");
        let zero = told(&text.replace("clock_mhz = 1000", "clock_mhz = 0"));
        assert!(zero[0].contains("\"my.toml\":6:13") && zero[0].contains('0'), "{zero:?}");
        assert!(told("name = ")[0].contains("\"my.toml\":1:"));
    }

    #[test]
    fn all_values_that_are_wrong_are_told_at_once() {
        let text = npu_gen3()
            .replace("alignment_bytes = 64", "alignment_bytes = 48")
            .replace("bytes = 1048576", "bytes = 4096")
            .replace("banks = 8", "banks = 7")
            .replace("\"i1\"]", "\"i17\"]")
            .replace("weights = [\"f16\", \"bf16\"]", "weights = [\"f32\"]")
            .replace("\"vector.lanes\" =", "\"vector.lanez\" =")
            .replace("name = \"npu-gen3\"\nlow", "name = \"my npu\"\nlow");
        let problems = told(&text).join("\n");
        for word in [
            "48 bytes",
            "4096 bytes",
            "of 7 banks",
            "'i17'",
            "f32 by f32",
            "did you mean 'vector.lanes'?",
            "'my npu'",
        ] {
            assert!(problems.contains(word), "{word} is not in\n{problems}");
        }
    }

    #[test]
    fn a_target_needs_lowerings_and_a_name_of_its_own() {
        let known = Targets::builtin();
        let text = npu_gen3().replace("lowerings = \"npu-gen3\"", "lowerings = \"npu-gen4\"");
        let problems = target(&text, "my.toml", &known).expect_err("both are wrong");
        let at: Vec<String> = problems.iter().map(|one| one.location.to_string()).collect();
        assert_eq!(at, ["\"my.toml\":4:13", "\"my.toml\":3:8"], "{problems:?}");
        let text = npu_gen3().replace("name = \"npu-gen3\"", "name = \"my-npu\"");
        let mine = target(&text, "my.toml", &known).expect("it reads");
        assert_eq!(mine.name, "my-npu");
        assert_eq!(mine.lowerings.len(), known.find("npu-gen3").expect("a target").lowerings.len());
    }

    #[test]
    fn the_guide_tells_every_key() {
        let guide = include_str!("../../compiler/guide/describe_a_machine.md");
        for (key, meaning) in KEYS {
            assert!(
                guide.contains(&format!("| `{key}` | {meaning} |")),
                "the guide lacks: | `{key}` | {meaning} |"
            );
        }
    }
}
