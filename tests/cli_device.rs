//! `tilewright-run`, what a device carries: built as for a device, it gives what `tilewright` gives. Its size and dependencies are printed.

use super::{expect, folder, model};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn cargo(words: &[&str]) -> Output {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args(words);
    let output = command.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Builds it in a folder beside the tests' own.
fn build() -> PathBuf {
    let tests = Path::new(env!("CARGO_BIN_EXE_tilewright-under-test"));
    let target = tests.ancestors().nth(2).expect("target/PROFILE/NAME").join("for-a-device");
    let folder = target.display().to_string();
    let what = ["-p", "tilewright-runtime", "--bin", "tilewright-run", "--target-dir", &folder];
    cargo(&[&["build", "-q", "--locked", "--profile", "device"][..], &what].concat());
    target.join("device/tilewright-run")
}

#[test]
fn the_runtime_alone_runs_what_was_compiled() {
    let program = build();
    let tree = ["tree", "-p", "tilewright-runtime", "-e", "normal", "--prefix", "none", "--locked"];
    let tree = String::from_utf8(cargo(&tree).stdout).expect("text");
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let bytes = std::fs::metadata(&program).expect("it was built").len();
    println!(
        "tilewright-run: {:.2} MiB stripped, {} crates",
        bytes as f64 / f64::from(1 << 20),
        crates.len()
    );
    assert!(bytes < 4 << 20, "{bytes} bytes: something large has come in");
    for name in ["clap", "egg", "prost", "serde", "tokenizers"] {
        assert!(!crates.contains(name), "{name} is a dependency");
    }
    let run = |words: &[&str]| {
        let output = Command::new(&program).args(words).output().expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };

    // Tokens, as `tilewright generate` writes them.
    let room = folder();
    let at = |name: &str| room.path().join(name).display().to_string();
    let artifact = at("story.npu");
    let short = ["--chunk-lengths", "1,8", "--context-window", "64"];
    expect(0, &[&["compile", &model("story-draft"), "-o", &artifact][..], &short].concat());
    let ids = "1,403,2,77,12,9,30,31,5,8,100";
    let (code, tokens, error) = run(&[&artifact, "--input-ids", ids, "--max-new-tokens", "12"]);
    assert_eq!(code, Some(0), "{error}");
    let tokens: Vec<&str> = tokens.split_whitespace().collect();
    assert_eq!(tokens.len(), 12);
    let written = expect(
        0,
        &[
            "generate",
            &artifact,
            "--input-ids",
            ids,
            "--max-new-tokens",
            "12",
            "--ignore-eos",
            "--stats",
            "none",
        ],
    );
    let continued = format!("{ids},{}", tokens[..6].join(","));
    let (_, rest, _) =
        run(&[&artifact, "--input-ids", &continued, "--max-new-tokens", "6", "--threads", "1"]);
    assert_eq!(rest.split_whitespace().collect::<Vec<_>>(), tokens[6..]);
    assert!(!written.out.trim().is_empty());

    // A network, from and to .npy files.
    expect(0, &["synthesize", "separable-tiny", "-o", &at("net")]);
    expect(0, &["compile", &at("net"), "-o", &at("net.npu")]);
    let loaded = tilewright::loaded::Loaded::open(Path::new(&at("net.npu"))).expect("an artifact");
    let input = &loaded.session.program().inputs[0];
    let (element, shape) = loaded.session.input_shape(&input.name).expect("it has a shape");
    let count = shape.iter().product::<usize>() * element.bits() as usize / 8;
    let data: Vec<u8> = (0..count).map(|at| (at * 7 % 60) as u8).collect();
    let content = tilewright_runtime::npy::Content::Numbers(element);
    let file = tilewright_runtime::npy::encode(content, &shape, &data).expect("numpy has the type");
    std::fs::write(at("x.npy"), file).expect("writable");
    let given = format!("{}=@{}", input.name, at("x.npy"));
    let words = [at("net.npu"), "--input".into(), given, "--output-dir".into()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (code, _, error) = run(&[&words[..], &[&at("small")]].concat());
    assert_eq!(code, Some(0), "{error}");
    expect(0, &[&["run"], &words[..], &[&at("large")]].concat());
    let output = format!("{}.npy", loaded.session.program().outputs[0].name.replace('/', "_"));
    let read = |folder: &str| std::fs::read(Path::new(&at(folder)).join(&output)).expect("an output");
    assert_eq!(read("small"), read("large"));

    // Faults.
    assert_eq!(run(&["--help"]).0, Some(0));
    assert_eq!(run(&[]).0, Some(2));
    assert_eq!(run(&[&artifact, "--cpu-features", "sse9"]).0, Some(2));
    let (code, _, error) = run(&[&at("x.npy")]);
    assert!(code == Some(1) && error.contains("x.npy"), "{error}");
    let (code, _, error) = run(&[&artifact, "--input-ids", "1,999999"]);
    assert!(code == Some(1) && error.contains("the vocabulary has"), "{error}");
}
