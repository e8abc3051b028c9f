//! The command line as a user meets it: the real program in its own process, its exit codes, its streams, and the files it leaves.

mod cli_bench;
mod cli_cache;
mod cli_deploy;
mod cli_device;
mod cli_machine;
mod cli_memory;
mod cli_profile;
mod cli_quantize;
mod cli_strings;

use harness::recorded::tests_folder;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const VERBS: [&str; 23] = [
    "import",
    "opt",
    "quantize",
    "compile",
    "deploy",
    "keygen",
    "sign",
    "run",
    "generate",
    "parity",
    "inspect",
    "profile",
    "explain",
    "bench",
    "doctor",
    "disassemble",
    "targets",
    "ops",
    "passes",
    "rules",
    "plan-memory",
    "synthesize",
    "completion",
];

/// What a process said.
#[derive(Debug)]
struct Outcome {
    code: i32,
    out: String,
    err: String,
    out_bytes: Vec<u8>,
}

fn tilewright_with(input: &[u8], words: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilewright-under-test"));
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe was asked for");
    let input = input.to_vec();
    // The program may end without reading; that is its right.
    let feeder = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().expect("the program ends");
    feeder.join().expect("the feeder ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
        out_bytes: output.stdout,
    }
}

fn tilewright(words: &[&str]) -> Outcome {
    tilewright_with(b"", words)
}

/// Runs and expects an exit code.
#[track_caller]
fn expect(code: i32, words: &[&str]) -> Outcome {
    let outcome = tilewright(words);
    assert_eq!(outcome.code, code, "tilewright {words:?}\n{}\n{}", outcome.out, outcome.err);
    assert!(!outcome.err.contains("panicked"), "{}", outcome.err);
    outcome
}

fn model(name: &str) -> String {
    let path = tests_folder().join("models").join(name);
    assert!(path.is_dir(), "{} is absent", path.display());
    path.display().to_string()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A small model whose dimensions are all known.
const SMALL: &str = "cases/trap-gather-scalar-vs-rank1";
const BIND: [&str; 2] = ["--bind", "b=1,s=2,batch=1,n=2,seq=2,N=2"];

fn small_artifact(folder: &Path) -> String {
    let path = text(&folder.join("small.npu"));
    expect(0, &[&["compile", &model(SMALL), "-o", &path][..], &BIND].concat());
    path
}

#[test]
fn every_verb_helps_with_examples() {
    let all = expect(0, &["--help"]);
    assert!(all.out.contains("Exit codes:"), "{}", all.out);
    for verb in VERBS {
        assert!(all.out.contains(verb), "--help does not name {verb}");
        let help = expect(0, &[verb, "--help"]);
        assert!(help.out.contains("Examples:"), "{verb} --help has no examples:\n{}", help.out);
        let wrong = expect(2, &[verb, "--no-such-flag"]);
        assert!(wrong.err.contains("--no-such-flag"), "{}", wrong.err);
    }
    assert!(expect(0, &["--version"]).out.starts_with("tilewright "));
    expect(2, &["no-such-verb"]);
    expect(2, &[]);
}

#[test]
fn lists_are_tables_and_json() {
    for verb in ["targets", "ops", "passes", "rules"] {
        let table = expect(0, &[verb]).out;
        let json: serde_json::Value = serde_json::from_str(&expect(0, &[verb, "--json"]).out).expect("JSON");
        let rows = json.as_array().unwrap_or_else(|| panic!("{verb}: an array"));
        assert!(!rows.is_empty() && table.lines().count() > 1, "{verb} lists nothing");
    }
    assert!(expect(0, &["targets"]).out.contains("npu-gen3"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(expect(0, &["completion", shell]).out.contains("tilewright"));
    }
}

#[test]
fn user_errors_are_1_and_usage_is_2() {
    let folder = folder();
    let missing = text(&folder.path().join("absent.onnx"));
    for words in [
        &["import", &missing][..],
        &["compile", &missing, "-o", "x.npu"],
        &["run", &missing],
        &["generate", &missing, "--prompt", "x"],
        &["parity", "--cases", &missing],
        &["inspect", &missing],
        &["disassemble", &missing],
        &["opt", &missing],
    ] {
        let outcome = expect(1, words);
        assert!(outcome.err.contains("absent.onnx") && outcome.err.contains("help"), "{}", outcome.err);
    }
    let small = model(SMALL);
    let out = text(&folder.path().join("x.npu"));
    let unknown = expect(1, &["compile", &small, "-o", &out, "--target", "abacus"]);
    assert!(unknown.err.contains("abacus") && unknown.err.contains("npu-gen3"), "{}", unknown.err);
    expect(2, &["compile", &small, "-o", &out, "--bind", "b"]);
    expect(2, &["compile", &small, "-o", &out, "--sram-bytes", "many"]);
    expect(2, &["compile", &small, "-o", "-"]);
    expect(2, &["compile", &small]);
    let garbage = folder.path().join("garbage.onnx");
    std::fs::write(&garbage, b"\xff\xfe not a model").expect("a writable folder");
    assert!(expect(1, &["import", &text(&garbage)]).err.contains("ONNX"));
    assert_eq!(names(folder.path()), ["garbage.onnx"], "failures leave nothing behind");
}

/// A model in which every node of one operator has a name that nobody knows; gives the file and how many nodes.
fn unsupported(folder: &Path) -> (PathBuf, usize) {
    let bytes =
        std::fs::read(tests_folder().join("models/cases/genai-llama-int4/model.onnx")).expect("a model");
    let (known, unknown) = (b"SkipSimplifiedLayerNormalization", b"SkipSimplifiedLayerNormalizatioX");
    let mut changed = bytes.clone();
    let mut count = 0;
    for at in 0..bytes.len().saturating_sub(known.len()) {
        // Field 4 of a node (its operator), then the length: names of nodes hold the word too.
        if bytes[at..].starts_with(known) && bytes[..at].ends_with(&[0x22, known.len() as u8]) {
            changed[at..at + known.len()].copy_from_slice(unknown);
            count += 1;
        }
    }
    assert!(count >= 2, "the model has {count} nodes of the operator");
    let path = folder.join("unsupported.onnx");
    std::fs::write(&path, changed).expect("a writable folder");
    (path, count)
}

#[test]
fn an_unsupported_operator_is_3_with_all_its_nodes() {
    let folder = folder();
    let (path, count) = unsupported(folder.path());
    let out = text(&folder.path().join("out.npu"));
    let outcome = expect(3, &["compile", &text(&path), "-o", &out]);
    let told = outcome.err.matches("SkipSimplifiedLayerNormalizatioX").count();
    assert!(told >= count, "{told} of {count} nodes are told:\n{}", outcome.err);
    assert_eq!(names(folder.path()), ["unsupported.onnx"]);
}

#[test]
fn parity_over_the_threshold_is_4() {
    let case = model("cases/llama-torch18");
    let good = expect(0, &["parity", "--cases", &case, "--on", "reference", "--on", "npu-gen3", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&good.out).expect("JSON");
    assert!(json["rows"].as_array().is_some_and(|rows| rows.len() >= 6), "{json:#}");
    assert_eq!(json["agreed"], json["outputs"]);
    let strict = ["parity", "--cases", &case, "--rtol", "0", "--atol", "0"];
    let over = expect(4, &strict);
    assert!(over.out.contains("over") && over.err.contains("threshold"), "{} {}", over.out, over.err);
    let csv = expect(4, &[&strict[..], &["--csv"]].concat());
    assert!(csv.out.lines().count() > 1 && csv.out.starts_with("\"case\""), "{}", csv.out);
}

#[test]
fn a_dash_is_a_standard_stream() {
    let path = tests_folder().join("models").join(SMALL).join("model.onnx");
    let bytes = std::fs::read(path).expect("a model");
    let imported = tilewright_with(&bytes, &["import", "-"]);
    assert_eq!(imported.code, 0, "{}", imported.err);
    assert!(imported.out.contains("\"func.func\""), "{}", imported.out);
    let again =
        tilewright_with(&imported.out_bytes, &["opt", "-", "--pass-pipeline", "canonicalize,cse,dce"]);
    assert_eq!(again.code, 0, "{}", again.err);
    let twice = tilewright_with(&again.out_bytes, &["opt"]);
    assert_eq!(twice.out, again.out, "no passes: the same text");
}

#[test]
fn compilation_stops_at_each_level_and_dumps_all() {
    let folder = folder();
    let small = model(SMALL);
    for (level, word) in [
        ("imported", "\"core."),
        ("core", "\"core."),
        ("optimized", "\"core."),
        ("kernels", "\"core."),
        ("tile", "\"tile."),
        ("placed", "\"tile."),
    ] {
        let words = [&["compile", &small, "-o", "-", "--compile-to", level][..], &BIND].concat();
        let outcome = expect(0, &words);
        assert!(outcome.out.contains(word), "{level}:\n{}", outcome.out);
        let read =
            tilewright_with(&outcome.out_bytes, &["opt", "--split-input-file", "--seed-resources", "1"]);
        assert_eq!(read.code, 0, "{level} does not read back: {}", read.err);
    }
    let (phases, out) = (text(&folder.path().join("phases")), text(&folder.path().join("x.npu")));
    let dump = ["compile", &small, "-o", &out, "--dump-compilation-phases-to", &phases, "--explain"];
    let outcome = expect(0, &[&dump[..], &BIND].concat());
    assert!(outcome.out.contains("kernels") && outcome.out.contains("runs on"), "{}", outcome.out);
    let files = names(Path::new(&phases));
    assert_eq!(files.len(), 7, "one file per level: {files:?}");
    expect(2, &["compile", &small, "-o", "-", "--compile-to", "heaven"]);
}

#[test]
fn an_artifact_is_inspected_disassembled_and_run() {
    let folder = folder();
    let artifact = small_artifact(folder.path());
    let json: serde_json::Value =
        serde_json::from_str(&expect(0, &["inspect", &artifact, "--json"]).out).expect("JSON");
    assert_eq!(json["target"], "npu-gen3");
    assert!(expect(0, &["inspect", &artifact]).out.contains("program"));
    assert!(!expect(0, &["disassemble", &artifact]).out.is_empty());
    // The recorded values of a language model, through an artifact of the same shapes, by name.
    let missing = expect(1, &["run", &artifact]);
    assert!(missing.err.contains("missing"), "{}", missing.err);
    expect(2, &["run", &artifact, "--input", "x"]);
    let mut damaged = std::fs::read(&artifact).expect("the artifact");
    let middle = damaged.len() - 1;
    damaged[middle] ^= 1;
    let path = text(&folder.path().join("damaged.npu"));
    std::fs::write(&path, damaged).expect("a writable folder");
    for verb in ["inspect", "disassemble", "run"] {
        assert!(expect(1, &[verb, &path]).err.contains("damaged.npu"), "{verb}");
    }
}

#[test]
fn a_text_measures_an_artifact_against_its_original() {
    let folder = folder();
    let (draft, heldout) = (model("story-draft"), text(&tests_folder().join("models/heldout.txt")));
    let small = ["parity", &draft, "--text", &heldout, "--window", "32", "--limit", "100", "--json"];
    let measured = expect(0, &[&small[..], &["--on", "npu-gen3", "--on", "reference"]].concat()).out;
    let report: serde_json::Value = serde_json::from_str(&measured).expect("JSON");
    assert_eq!((&report["tokens"], &report["windows"]), (&96.into(), &3.into()));
    let original = report["original"]["perplexity"].as_f64().expect("a number");
    assert!(original > 10.0 && original < 2048.0, "{original}");
    for (row, on) in report["rows"].as_array().expect("rows").iter().zip(["npu-gen3", "reference"]) {
        assert_eq!(row["on"], on);
        assert!(row["perplexity_increase_percent"].as_f64().expect("a number").abs() < 1e-3, "{row}");
        assert!(row["kl_max"].as_f64().expect("a number") < 1e-6, "{row}");
        assert_eq!(row["top1_agreement_percent"], 100.0);
    }
    // One thread or two, one run per window or chunks over the cache: the same figures.
    let one = expect(0, &[&small[..], &["--threads", "1"]].concat()).out;
    assert_eq!(expect(0, &[&small[..], &["--threads", "2"]].concat()).out, one);
    let artifact = text(&folder.path().join("draft.npu"));
    expect(0, &["compile", &draft, "-o", &artifact, "--chunk-lengths", "1,16", "--context-window", "64"]);
    let chunked = expect(0, &[&small[..], &["--artifact", &artifact]].concat()).out;
    let chunked: serde_json::Value = serde_json::from_str(&chunked).expect("JSON");
    assert!(chunked["rows"][0]["kl_max"].as_f64().expect("a number") < 1e-6, "{chunked}");
    assert_eq!(chunked["rows"][0]["artifact"], artifact.as_str());
    // Values inside, under the names of their nodes, the same on both sides of an exact compilation.
    let inside = expect(0, &[&small[..], &["--min-sqnr-db", "80"]].concat()).out;
    let inside: serde_json::Value = serde_json::from_str(&inside).expect("JSON");
    let layers = inside["rows"][0]["layers"].as_array().expect("rows");
    let nodes: Vec<&str> = layers.iter().filter_map(|row| row["node"].as_str()).collect();
    assert_eq!(
        nodes.len(),
        2 * 9,
        "7 products and 2 sums per layer; the last product is a result: {nodes:?}"
    );
    assert_eq!(
        nodes[6..9],
        [
            "model.model.layers.0.mlp.up_proj/node_linear_5",
            "model.model.layers.0.mlp.down_proj/node_linear_6",
            "model.model.layers.0/node_add_10"
        ]
    );
    // Several compilations in one table.
    let variants = ["--variant", "--sram-bytes 128KiB", "--variant", "--target host --chunk-lengths 16"];
    let table: serde_json::Value =
        serde_json::from_str(&expect(0, &[&small[..], &variants].concat()).out).expect("JSON");
    let rows: Vec<_> = table["rows"].as_array().expect("rows").iter().map(|row| &row["artifact"]).collect();
    assert_eq!(rows, ["--sram-bytes 128KiB", "--target host --chunk-lengths 16"]);
    assert_eq!(table["rows"][1]["on"], "host");
    let unknown = expect(2, &[&small[..], &["--variant", "--no-such-option"]].concat());
    assert!(unknown.err.contains("no-such-option"), "{}", unknown.err);
    // Thresholds, other forms, and what cannot be measured.
    let strict = expect(4, &[&small[..8], &["--min-top1-agreement", "101"]].concat());
    assert!(strict.err.contains("101") && strict.out.contains("96 tokens"), "{}{}", strict.out, strict.err);
    assert!(expect(0, &[&small[..8], &["--csv"]].concat()).out.starts_with("\"artifact\""));
    let short = expect(1, &["parity", &draft, "--text", &heldout, "--window", "1000000"]);
    assert!(short.err.contains("window of 1000000 needs 1000001"), "{}", short.err);
    let no_tokenizer = expect(1, &["parity", &model(SMALL), "--text", &heldout]);
    assert!(no_tokenizer.err.contains("tokenizer.json"), "{}", no_tokenizer.err);
    expect(2, &["parity", "--text", &heldout]);
    expect(2, &["parity", &draft]);
}

#[test]
fn programs_share_a_file_of_weights() {
    let folder = folder();
    let at = |name: &str| text(&folder.path().join(name));
    let draft = model("story-draft");
    let (whole, one, two) = (at("whole.npu"), at("one.npu"), at("two.npu"));
    let compile = |more: &[&str]| expect(0, &[&["compile", &draft, "--context-window", "64"], more].concat());
    compile(&["-o", &whole]);
    compile(&["-o", &one, "--strip-weights"]);
    let weights = at("one.weights.npu");
    let size = |path: &str| std::fs::metadata(path).expect("a file").len();
    let (before, first) = (size(&weights), std::fs::read(&one).expect("a file"));
    assert!(size(&one) < size(&whole) / 4 && size(&one) + before < size(&whole) + (128 << 10), "once");
    // Other chunk lengths need the same weights, and a table of their own; another target has some tensors of its own.
    let again = compile(&["-o", &two, "--chunk-lengths", "1,8", "--strip-weights", "--weights", &weights]);
    assert!(again.err.contains(" 1 tensors added, 24 there already"), "{}", again.err);
    assert!(size(&weights) < before + (64 << 10));
    let host = at("host.npu");
    compile(&["-o", &host, "--target", "host", "--strip-weights", "--weights", &weights]);
    let generate = |more: &[&str]| {
        let words = ["--prompt", "Once", "--max-new-tokens", "12", "--stats", "none"];
        expect(0, &[&["generate"], more, &words].concat()).out
    };
    let story = generate(&[&whole]);
    for more in [&[][..], &["--load", "read"], &["--prefault"], &["--prewarm"], &["--verify-weights"]] {
        assert_eq!(generate(&[&[one.as_str()], more].concat()), story, "{more:?}");
        assert_eq!(generate(&[&[whole.as_str()], more].concat()), story, "{more:?}");
    }
    assert_eq!((generate(&[&two]), generate(&[&host])), (story.clone(), story.clone()));
    let shown = expect(0, &["inspect", &one]).out;
    assert!(shown.contains("to be found in 'one.weights.npu'"), "{shown}");
    assert!(expect(0, &["inspect", &one, "--weights", &weights]).out.contains("all found"));
    // The same bytes again; the file may be elsewhere; wrong and missing ones are named.
    compile(&["-o", &one, "--strip-weights"]);
    assert_eq!(std::fs::read(&one).expect("a file"), first);
    let moved = at("moved.npu");
    std::fs::rename(&weights, &moved).expect("it can be moved");
    assert_eq!(generate(&[&one, "--weights", &moved]), story);
    let words = ["generate", &one, "--prompt", "Once"];
    assert!(expect(1, &words).err.contains("one.weights.npu"), "absent");
    let other = at("other.npu");
    expect(0, &["compile", &model(SMALL), "-o", &other, "--strip-weights", BIND[0], BIND[1]]);
    let wrong = expect(1, &[&words[..], &["--weights", &at("other.weights.npu")]].concat());
    assert!(wrong.err.contains("another model") && wrong.err.contains("blake3"), "{}", wrong.err);
    // A whole artifact of the same model has the same tensors.
    assert_eq!(generate(&[&one, "--weights", &whole]), story);
    let needless = expect(1, &["generate", &whole, "--prompt", "Once", "--weights", &moved]);
    assert!(needless.err.contains("has its own weights"), "{}", needless.err);
    expect(2, &["compile", &draft, "-o", &one, "--weights", &weights]);
}

#[test]
fn a_model_runs_on_files_and_writes_files() {
    let folder = folder();
    let case = tests_folder().join("models/cases/trap-init-input-output");
    let meta = std::fs::read_to_string(case.join("meta.json")).expect("meta.json");
    let meta: serde_json::Value = serde_json::from_str(&meta).expect("JSON");
    let mut words = vec!["run".to_string(), text(&case)];
    for (index, input) in meta["inputs"].as_array().expect("inputs").iter().enumerate() {
        let file = text(&case.join(format!("input_{index}.npy")));
        words.extend(["--input".into(), format!("{}=@{file}", input["name"].as_str().expect("a name"))]);
    }
    let out = text(&folder.path().join("out"));
    for place in [&["--target", "npu-gen3"][..], &["--target", "host"], &["--reference"]] {
        let more = [place, &["--output-dir", &out]].concat();
        let all: Vec<&str> = words.iter().map(String::as_str).chain(more).collect();
        expect(0, &all);
        assert!(names(Path::new(&out)).iter().all(|name| name.ends_with(".npy")), "{out}");
    }
    let shown: Vec<&str> = words.iter().map(String::as_str).collect();
    assert!(expect(0, &shown).out.contains("tensor<"));
}

#[test]
fn nothing_is_left_where_nothing_can_be_written() {
    let folder = folder();
    let small = model(SMALL);
    let lost = text(&folder.path().join("no/such/folder/out.npu"));
    let outcome = expect(1, &[&["compile", &small, "-o", &lost][..], &BIND].concat());
    assert!(outcome.err.contains("out.npu"), "{}", outcome.err);
    assert!(expect(1, &["import", &small, "-o", &lost]).err.contains("out.npu"));
    // The place of the output is taken by a folder.
    let taken = folder.path().join("taken.npu");
    std::fs::create_dir(&taken).expect("a writable folder");
    expect(1, &[&["compile", &small, "-o", &text(&taken)][..], &BIND].concat());
    assert_eq!(names(folder.path()), ["taken.npu"], "no half file, no temporary file");
    assert!(names(&taken).is_empty());
    // A full disk, where there is one to try.
    if Path::new("/dev/full").exists() {
        let full = Command::new(env!("CARGO_BIN_EXE_tilewright-under-test"))
            .args(["import", &small])
            .stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full"))
            .output()
            .expect("the program starts");
        assert_eq!(full.status.code(), Some(1), "{}", String::from_utf8_lossy(&full.stderr));
    }
}

/// Two modules; the second fails the verifier.
const TWO: &str = r#"// expected-no-error
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2xf32>) -> tensor<2xf32>, sym_name = "f"}> ({
  ^bb0(%x: tensor<2xf32>):
    %y = "core.neg"(%x) : (tensor<2xf32>) -> tensor<2xf32>
    %z = "core.neg"(%x) : (tensor<2xf32>) -> tensor<2xf32>
    %s = "core.add"(%y, %z) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
    "func.return"(%s) : (tensor<2xf32>) -> ()
  }) : () -> ()
}) : () -> ()
// -----
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2xf32>) -> tensor<2xf32>, sym_name = "g"}> ({
  ^bb0(%x: tensor<2xf32>):
    // expected-error@below {{core.nonsense}}
    %y = "core.nonsense"(%x) : (tensor<2xf32>) -> tensor<2xf32>
    "func.return"(%y) : (tensor<2xf32>) -> ()
  }) : () -> ()
}) : () -> ()
"#;

#[test]
fn opt_has_the_flags_of_mlir_opt() {
    let first = TWO.split("// -----").next().expect("a first module");
    let opt =
        |text: &str, words: &[&str]| tilewright_with(text.as_bytes(), &[&["opt", "-"][..], words].concat());
    let verified = opt(TWO, &["--split-input-file", "--verify-diagnostics"]);
    assert_eq!(verified.code, 0, "{}", verified.err);
    let unexpected = opt(
        &TWO.replace("core.nonsense}}", "another text}}"),
        &["--split-input-file", "--verify-diagnostics"],
    );
    assert_eq!(unexpected.code, 1, "{}", unexpected.err);
    let plain = opt(TWO, &["--split-input-file"]);
    assert!(plain.code == 1 && plain.err.contains("core.nonsense"), "{}", plain.err);
    let pipeline = ["--pass-pipeline", "canonicalize,cse"];
    for (flag, dumps) in [
        ("--mlir-print-ir-before-all", 2),
        ("--mlir-print-ir-after-all", 2),
        ("--mlir-print-ir-after-change", 1),
        ("--mlir-print-ir-before=cse", 1),
        ("--mlir-print-ir-after=cse", 1),
        ("--mlir-print-ir-after-failure", 0),
    ] {
        let outcome = opt(first, &[&pipeline[..], &[flag]].concat());
        assert_eq!(outcome.code, 0, "{flag}: {}", outcome.err);
        assert_eq!(outcome.err.matches("\"builtin.module\"").count(), dumps, "{flag}:\n{}", outcome.err);
    }
    let timing = opt(first, &[&pipeline[..], &["--mlir-timing"]].concat());
    assert!(timing.err.contains("cse"), "{}", timing.err);
    let folder = folder();
    let tree = text(&folder.path().join("tree"));
    let outcome = opt(
        first,
        &[&pipeline[..], &["--mlir-print-ir-after-all", "--mlir-print-ir-tree-dir", &tree]].concat(),
    );
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(Path::new(&tree).is_dir());
    assert_eq!(opt(first, &["--pass-pipeline", "no-such-pass"]).code, 1);
    // Nothing fails, so there is nothing to reproduce.
    let reproducer = folder.path().join("crash.mlir");
    let sound =
        opt(first, &[&pipeline[..], &["--mlir-pass-pipeline-crash-reproducer", &text(&reproducer)]].concat());
    assert!(sound.code == 0 && !reproducer.exists(), "{}", sound.err);
    let located = opt(first, &["--mlir-print-debuginfo"]);
    assert!(located.out.contains("loc("), "{}", located.out);
}

#[test]
fn a_story_is_reproducible_and_stops_where_told() {
    let folder = folder();
    let artifact = text(&folder.path().join("story.npu"));
    expect(0, &["compile", &model("story-draft"), "-o", &artifact, "--context-window", "128"]);
    let write = |words: &[&str]| {
        let all =
            [&["generate", &artifact, "--prompt", "Once upon a time", "--max-new-tokens", "24"][..], words]
                .concat();
        let outcome = expect(0, &all);
        assert!(std::str::from_utf8(&outcome.out_bytes).is_ok(), "whole characters only");
        outcome
    };
    let greedy = write(&[]);
    assert!(greedy.out.starts_with("Once upon a time"), "{}", greedy.out);
    assert!(greedy.err.contains("24 tokens") && greedy.err.contains("tokens/s"), "{}", greedy.err);
    assert_eq!(write(&["--stats", "none"]).err, "");
    assert_eq!(write(&[]).out, greedy.out);
    let drawn =
        |seed: &str| write(&["--temperature", "0.9", "--top-k", "40", "--top-p", "0.95", "--seed", seed]).out;
    assert_eq!(drawn("7"), drawn("7"));
    assert!((1..6).any(|seed| drawn(&seed.to_string()) != drawn("7")), "seeds make no difference");
    // The first whole word after the prompt ends the text before it is shown.
    let rest = &greedy.out["Once upon a time".len()..];
    let word = rest.split_whitespace().nth(3).expect("some words");
    let stopped = write(&["--stop", word]);
    assert!(
        stopped.out.len() < greedy.out.len() && greedy.out.starts_with(stopped.out.trim_end_matches('\n'))
    );
    assert!(!stopped.out["Once upon a time".len()..].contains(word), "{:?} in {}", word, stopped.out);
    let ids = expect(0, &["generate", &artifact, "--input-ids", "47,78,384", "--max-new-tokens", "4"]);
    assert_eq!(ids.out.split_whitespace().filter(|id| id.parse::<u32>().is_ok()).count(), 4, "{}", ids.out);
    let piped = tilewright_with(
        b"Once upon a time\n",
        &["generate", &artifact, "--prompt", "-", "--max-new-tokens", "24"],
    );
    assert_eq!(piped.out, greedy.out);
    let accents =
        expect(0, &["generate", &artifact, "--prompt", "Zoë — “naïve” 猫", "--max-new-tokens", "8"]);
    assert!(std::str::from_utf8(&accents.out_bytes).is_ok() && accents.out.starts_with("Zoë — “naïve” 猫"));
    expect(2, &["generate", &artifact]);
    expect(1, &["generate", &artifact, "--input-ids", &vec!["1"; 200].join(",")]);
}

#[test]
fn a_closed_pipe_is_no_panic() {
    for words in [&["rules", "--json"][..], &["ops"], &["completion", "bash"], &["passes"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tilewright-under-test"));
        let mut child =
            command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        // Nobody reads: the first write finds the pipe closed.
        drop(child.stdout.take());
        let ended = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && !said.contains("panicked"), "{words:?}: {said}");
    }
}

#[test]
fn a_synthesized_model_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("tiny");
    let model = model.to_str().expect("UTF-8");
    expect(0, &["synthesize", "tiny", "-o", model]);
    let out = expect(0, &["generate", model, "--input-ids", "1,2,3,4", "--max-new-tokens", "8"]);
    // What ONNX Runtime 1.32 says for the same file, greedily.
    assert_eq!(out.out.trim(), "164 81 135 233 233 233 136 81");
    let unknown = expect(2, &["synthesize", "huge", "-o", model]);
    assert!(unknown.err.contains("llama-7b (Llama-2-7B)"), "{}", unknown.err);
    expect(1, &["synthesize", "tiny", "--layers", "0", "-o", model]);
}
