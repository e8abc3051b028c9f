//! Who may import whom, read from `cargo metadata`. The device carries no compiler; passes know no target.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Package, the packages of ours it may name, and outside packages that must not appear in its tree.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tilewright-ir", &[]),
    ("tilewright-runtime", &[]),
    ("tilewright-passes", &["tilewright-ir"]),
    ("tilewright-targets", &["tilewright-ir", "tilewright-passes", "tilewright-runtime"]),
    ("tilewright", &["tilewright-ir", "tilewright-passes", "tilewright-runtime", "tilewright-targets"]),
];

/// What the device's runtime must never carry.
const NOT_ON_THE_DEVICE: &[&str] =
    &["egg", "prost", "protobuf", "onnx-protobuf", "clap", "tokenizers", "serde_json"];

fn metadata() -> serde_json::Value {
    // Packages of other platforms are not on a fresh clone's disk, and a test does not fetch.
    let host = host();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &host])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// The platform that the tests run on, as rustc names it.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = version.lines().find_map(|line| line.strip_prefix("host: "));
    line.unwrap_or_else(|| panic!("rustc -vV names no host: {version}")).to_string()
}

/// Normal (not dev, not build) dependencies by package name.
fn dependencies(metadata: &serde_json::Value) -> BTreeMap<String, BTreeSet<String>> {
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let names = package["dependencies"].as_array().expect("dependencies").iter();
            let normal = names.filter(|one| one["kind"].is_null()).map(|one| text(&one["name"])).collect();
            (text(&package["name"]), normal)
        })
        .collect()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

#[test]
fn only_allowed_imports() {
    let metadata = metadata();
    let graph = dependencies(&metadata);
    for (package, allowed) in ALLOWED {
        let found = graph.get(*package).unwrap_or_else(|| panic!("no package '{package}' in the workspace"));
        let ours = found.iter().filter(|name| ALLOWED.iter().any(|row| row.0 == name.as_str()));
        let wrong: Vec<&String> = ours.filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(wrong.is_empty(), "{package} must not import {wrong:?}");
    }
    for (package, names) in &graph {
        assert!(!names.contains("tilewright-tests"), "{package} must not import the tests");
    }
}

#[test]
fn the_device_carries_no_compiler() {
    let metadata = metadata();
    let graph = dependencies(&metadata);
    let mut seen = BTreeSet::new();
    let mut open = vec!["tilewright-runtime".to_string()];
    while let Some(package) = open.pop() {
        if seen.insert(package.clone()) {
            open.extend(graph.get(&package).into_iter().flatten().cloned());
        }
    }
    assert!(seen.len() > 3, "the walk is broken: {seen:?}");
    for name in NOT_ON_THE_DEVICE {
        assert!(!seen.contains(*name), "tilewright-runtime reaches '{name}'");
    }
}
