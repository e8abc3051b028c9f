//! What starting costs: from the process's start to the first token of an artifact that is in the page cache, and private memory.
//!
//! ```sh
//! cargo bench -p tilewright-tests --bench cold_start -- llama-135m
//! cargo bench -p tilewright-tests --bench cold_start -- llama-1b --quantize int4 --chunk-lengths 1,16
//! ```
//!
//! The first word is a shape of `tilewright synthesize`; the others are arguments of `tilewright compile`. Each measurement is a process of
//! its own; the best of three is printed, so that the file is in the page cache.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tilewright::loaded::Loaded;
use tilewright_runtime::artifact::{Load, LoadOptions};
use tilewright_runtime::generate::generation::{Generation, Settings};
use tilewright_runtime::generate::session::ArtifactModel;
use tilewright_runtime::opening::Opening;

/// The prompt: few tokens, so that what is measured is the start.
const PROMPT: [u32; 4] = [1, 2, 3, 4];
const ROUNDS: usize = 3;
/// Ways to load, by the words of the table.
const WAYS: [&str; 3] = ["mmap", "mmap+prefault", "read"];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.first().map(String::as_str) {
        Some("child") => child(Path::new(&words[1]), &words[2]),
        Some(shape) => measure(shape, &words[1..]),
        None => measure("tiny", &[]),
    }
}

fn tilewright(words: &[&str]) -> Duration {
    let start = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_tilewright-under-test")).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("the program does not start: {error}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    start.elapsed()
}

fn measure(shape: &str, compile: &[String]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, artifact) = (path("model"), path("model.npu"));
    tilewright(&["synthesize", shape, "-o", &model]);
    let more: Vec<&str> = compile.iter().map(String::as_str).collect();
    tilewright(&[&["compile", &model, "-o", &artifact][..], &more].concat());
    std::fs::remove_dir_all(&model).expect("the model can be removed");
    let bytes = std::fs::metadata(&artifact).expect("the artifact").len();
    println!(
        "{shape} {}: artifact {:.1} MB, prompt of {} tokens",
        more.join(" "),
        bytes as f64 / 1e6,
        PROMPT.len()
    );
    println!(
        "{:<16} {:>10} {:>16} {:>12} {:>18}",
        "load", "load ms", "first token ms", "private MB", "whole process ms"
    );
    for way in WAYS {
        let rounds: Vec<[f64; 3]> = (0..ROUNDS).map(|_| run_child(&artifact, way)).collect();
        let best = |at: usize| rounds.iter().map(|round| round[at]).fold(f64::INFINITY, f64::min);
        let whole = (0..ROUNDS).map(|_| whole_process(&artifact, way)).min().unwrap_or_default();
        println!(
            "{way:<16} {:>10.1} {:>16.1} {:>12.1} {:>18.1}",
            best(0),
            best(1),
            best(2),
            whole.as_secs_f64() * 1e3
        );
    }
    println!("aims: load 50 ms, private memory 200 MB and the cache of keys and values");
}

/// `tilewright generate` of one token, from start to end.
fn whole_process(artifact: &str, way: &str) -> Duration {
    let ids = PROMPT.map(|id| id.to_string()).join(",");
    let how: &[&str] = match way {
        "read" => &["--load", "read"],
        "mmap+prefault" => &["--prefault"],
        _ => &[],
    };
    tilewright(&[&["generate", artifact, "--input-ids", &ids, "--max-new-tokens", "1"], how].concat())
}

fn run_child(artifact: &str, way: &str) -> [f64; 3] {
    let program = std::env::current_exe().expect("this program's path");
    let output = Command::new(program).args(["child", artifact, way]).output().expect("it starts again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let problem = || panic!("{text}{}", String::from_utf8_lossy(&output.stderr));
    numbers.try_into().unwrap_or_else(|_| problem())
}

/// Prints milliseconds of loading, milliseconds from there to the first token, and private memory in MB.
fn child(artifact: &Path, way: &str) {
    let load = LoadOptions {
        load: if way == "read" { Load::Read } else { Load::Map },
        prefault: way == "mmap+prefault",
    };
    let start = Instant::now();
    let loaded = Loaded::open_with(artifact, &Opening { load, ..Opening::default() });
    let loaded = loaded.unwrap_or_else(|problems| panic!("{}", problems[0]));
    let mut model = ArtifactModel::new(loaded.session).unwrap_or_else(|error| panic!("{error}"));
    let opened = start.elapsed();
    let settings = Settings { token_count_max: 1, ..Settings::default() };
    let token = Generation::start(&mut model, &PROMPT, settings).and_then(|mut one| one.next_token());
    token.unwrap_or_else(|error| panic!("{error}"));
    let first = start.elapsed() - opened;
    println!(
        "{} {} {}",
        opened.as_secs_f64() * 1e3,
        first.as_secs_f64() * 1e3,
        private_megabytes().unwrap_or(f64::NAN)
    );
}

/// Memory of this process alone: pages that no file stands behind. Mapped weights are the page cache's.
fn private_megabytes() -> Option<f64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kilobytes| kilobytes / 1024.0)
}
