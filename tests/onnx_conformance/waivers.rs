//! The checked-in list of cases that do not agree, each with its reason.
//!
//! ```text
//! [strings are no tensors here: refused at import]
//! node/test_string_concat  both
//! ```

use crate::run::Machine;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The section that blessing puts new failures in. The test fails while it is there.
pub(crate) const UNEXPLAINED: &str = "unexplained";

/// Reason by case and machine.
pub(crate) type Waivers = BTreeMap<(String, Machine), String>;

/// The list's file.
pub(crate) fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("onnx_conformance/waivers.txt")
}

/// Reads the list.
///
/// # Panics
/// On a line that is neither a section, nor a case with its figure, nor a remark.
pub(crate) fn read() -> Waivers {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let (mut waivers, mut reason) = (Waivers::new(), String::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            reason = section.to_string();
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let machines: &[Machine] = match words.as_slice() {
            [_, "both"] => &[Machine::Evaluator, Machine::Target],
            [_, "evaluator"] => &[Machine::Evaluator],
            [_, crate::run::TARGET] => &[Machine::Target],
            _ => panic!("waivers: cannot read '{line}'"),
        };
        for machine in machines {
            let earlier = waivers.insert((words[0].to_string(), *machine), reason.clone());
            assert!(earlier.is_none(), "waivers: '{line}' is listed twice");
        }
    }
    waivers
}

/// Writes the list: sections by reason, cases by name.
pub(crate) fn write(waivers: &Waivers) {
    let mut sections: BTreeMap<&str, BTreeMap<&str, Vec<&'static str>>> = BTreeMap::new();
    for ((case, machine), reason) in waivers {
        sections.entry(reason).or_default().entry(case).or_default().push(machine.name());
    }
    let mut text = String::from(
        "# Cases of ONNX's backend tests that do not agree, and why. The test checks that each still fails.\n\
         # TILEWRIGHT_BLESS_WAIVERS=1 drops those that agree and puts new failures under [unexplained].\n",
    );
    for (reason, cases) in sections {
        text += &format!("\n[{reason}]\n");
        for (case, machines) in cases {
            let machines = if machines.len() == 2 { "both" } else { machines[0] };
            text += &format!("{case}  {machines}\n");
        }
    }
    std::fs::write(path(), text).expect("the source folder is writable when blessing");
}
