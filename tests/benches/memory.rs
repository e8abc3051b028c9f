//! What compiling a model of real size costs in time, private memory and bytes: `cargo bench -p tilewright-tests --bench memory`.
//!
//! Writes a model of the shape of Llama-3.2-1B in fp16 (2.5 GB) into a temporary folder, compiles it, and removes it again. Another shape
//! and more formats: `-- llama-7b int4 palette4`; `TMPDIR` says where.
//!
//! Private memory is `RssAnon` of `/proc/self/status`, sampled: what the process holds beside mapped files, which the system drops when it
//! needs room.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tilewright::driver::CompileOptions;
use tilewright::model::Source;
use tilewright::session::Session;
use tilewright::synthesize::{Options, Shape, write};

const MEGABYTE: f64 = (1 << 20) as f64;

/// Name, aims for seconds, private megabytes and gigabytes of the artifact at 4 bits.
const AIMS: &[(&str, f64, f64, f64)] = &[
    ("tiny", 1.0, 50.0, 0.001),
    ("llama-135m", 3.0, 300.0, 0.11),
    ("llama-1b", 20.0, 600.0, 0.78),
    ("llama-7b", 120.0, 1500.0, 3.9),
];

fn private_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Processor time of this process so far, in seconds: on a busy machine it says more than the clock. Linux counts it in hundredths.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let words: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let hundredths = |at: usize| words.get(at).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    (hundredths(11) + hundredths(12)) / 100.0
}

/// Runs `work` and gives the most private memory seen meanwhile, in bytes.
fn watched<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let (peak, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                peak.fetch_max(private_kilobytes(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let result = work();
        is_done.store(true, Ordering::Relaxed);
        result
    });
    (result, peak.into_inner() as f64 * 1024.0)
}

fn row(what: &str, found: f64, aim: f64, unit: &str) {
    println!("{what:<44} {found:>10.2} {unit:<4} aim {aim:>8.2}   ratio {:>6.2}", found / aim);
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let name = words.first().map_or("llama-1b", String::as_str);
    let formats: Vec<&str> =
        if words.len() > 1 { words[1..].iter().map(String::as_str).collect() } else { vec!["int4"] };
    let Some((_, seconds, megabytes, gigabytes)) = AIMS.iter().find(|aim| aim.0 == name) else {
        panic!("the shapes are {:?}", AIMS.iter().map(|aim| aim.0).collect::<Vec<_>>());
    };
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"));
    let model = folder.path().join("model");
    let shape = Shape::preset(name).unwrap_or_else(|| panic!("no shape {name}"));
    let start = Instant::now();
    let (bytes, private) = watched(|| write(&shape, &Options::default(), &model));
    let bytes = bytes.unwrap_or_else(|problem| panic!("{problem}"));
    let rate = bytes as f64 / MEGABYTE / start.elapsed().as_secs_f64();
    println!(
        "{name}: wrote {:.2} GB at {rate:.0} MB/s, private memory {:.0} MB",
        bytes as f64 / 1e9,
        private / MEGABYTE
    );
    for format in formats {
        compile(&model, folder.path(), format, (*seconds, *megabytes, *gigabytes));
    }
}

/// Compiles and writes; formats may be followed by a pruning, as in `int4+2:4`.
fn compile(model: &std::path::Path, folder: &std::path::Path, format: &str, aims: (f64, f64, f64)) {
    let session = Session::new();
    let (preset, prune) = format.split_once('+').unwrap_or((format, ""));
    let options = CompileOptions {
        target: "npu-gen3".into(),
        require_target: true,
        quantize: Some(tilewright::quantize::QuantizeOptions {
            preset: preset.into(),
            prune: prune.into(),
            ..Default::default()
        }),
        ..CompileOptions::default()
    };
    let artifact = folder.join("model.npu");
    let (start, worked) = (Instant::now(), processor_seconds());
    let (bytes, private) = watched(|| {
        let compilation = session.compile(&Source::Onnx(model.join("model.onnx")), &options);
        let compilation = compilation.unwrap_or_else(|problems| panic!("{}", problems[0]));
        compilation.write(&artifact).unwrap_or_else(|problem| panic!("{problem}"))
    });
    row(&format!("{format}: compile and write"), start.elapsed().as_secs_f64(), aims.0, "s");
    println!("{:<44} {:>10.2} s", format!("{format}: processor time"), processor_seconds() - worked);
    row(&format!("{format}: most private memory"), private / MEGABYTE, aims.1, "MB");
    row(&format!("{format}: artifact"), bytes as f64 / 1e9, aims.2, "GB");
}
