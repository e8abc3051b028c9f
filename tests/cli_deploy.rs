//! Manifests, deployments and signatures at the command line. A part of `cli.rs`, whose helpers it uses.

use super::{expect, folder, model, names, text, tilewright};
use std::path::Path;

const MANIFEST: &str = include_str!("../compiler/src/manifest/example.yaml");
const WRITE: [&str; 4] = ["--prompt", "Once upon a time", "--max-new-tokens", "4"];

fn write(folder: &Path, name: &str, contents: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, contents).expect("a file");
    text(&path)
}

/// Runs a deployment of high security; `None` where this system does not let memory be locked, which it must say.
fn generate(words: &[&str]) -> Option<super::Outcome> {
    let outcome = tilewright(&[&["generate"][..], words, &WRITE].concat());
    if outcome.err.contains("memory cannot be locked") {
        println!("not run: this system does not let memory be locked");
        return None;
    }
    assert_eq!(outcome.code, 0, "{words:?}\n{}\n{}", outcome.out, outcome.err);
    Some(outcome)
}

#[test]
fn a_manifest_becomes_signed_artifacts_and_the_runtime_chooses() {
    let folder = folder();
    let manifest = write(folder.path(), "m.yaml", MANIFEST);
    let (key, out) = (text(&folder.path().join("key.pem")), text(&folder.path().join("out")));
    let story = model("story-draft");
    let deploy = ["deploy", &manifest, "--model", &story, "-o", &out];
    let unsigned = expect(1, &deploy).err;
    assert!(unsigned.contains("--signing-key"), "{unsigned}");
    assert!(!Path::new(&out).exists(), "nothing is left behind");
    expect(0, &["keygen", &key]);
    assert!(expect(1, &["keygen", &key]).err.contains("never overwritten"));
    let told = expect(0, &[&deploy[..], &["--signing-key", &key, "--json"]].concat()).out;
    let report: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let targets = report["targets"].as_array().expect("a list");
    assert_eq!(targets.len(), 3);
    let shared: u64 = targets.iter().map(|one| one["tensors_shared"].as_u64().expect("a number")).sum();
    assert!(shared > 0, "int4 and int8 have floats in common: {report}");
    let all: u64 = targets.iter().map(|one| one["weights_bytes"].as_u64().expect("a number")).sum();
    assert!(report["weights_bytes"].as_u64().expect("a number") < all);
    let files = names(Path::new(&out));
    assert_eq!(files.len(), 9, "three artifacts and an index, each signed, and weights: {files:?}");

    let public = format!("{key}.pub");
    let with_key = [out.as_str(), "--public-key", &public];
    if let Some(outcome) = generate(&with_key) {
        assert!(outcome.err.contains("generic-linux-npu: "), "{}", outcome.err);
    }
    for hardware in ["apple-m5-npu", "qualcomm-snapdragon-x-gen3"] {
        let words = [&with_key[..], &["--assume-hardware", hardware]].concat();
        if let Some(outcome) = generate(&words) {
            assert!(outcome.err.contains(&format!("{hardware}: assumed")), "{}", outcome.err);
            assert!(outcome.err.contains(&format!("modelled on {hardware}")), "{}", outcome.err);
        }
    }
    let refused = |words: &[&str]| expect(1, &[&["generate"][..], words, &WRITE].concat()).err;
    assert!(refused(&[&out]).contains("no key is trusted"));
    assert!(refused(&[&text(&Path::new(&out).join("apple-m5-npu.npu"))]).contains("no key is trusted"));
    assert!(
        refused(&[&with_key[..], &["--assume-hardware", "none"]].concat()).contains("there are apple-m5-npu")
    );
    expect(0, &["keygen", &text(&folder.path().join("other.pem"))]);
    let other = text(&folder.path().join("other.pem.pub"));
    assert!(refused(&[&out, "--public-key", &other]).contains("which is not trusted"));
    assert!(refused(&[&out, "--public-key", &key]).contains("no public ed25519 key"));

    // Every file is vouched for: a byte changed anywhere is told, with all hashes that can be made right again made right.
    for file in ["generic-linux-npu.npu", "weights.npu", "deployment.npu"] {
        let path = Path::new(&out).join(file);
        let bytes = std::fs::read(&path).expect("a file");
        let mut changed = bytes.clone();
        // In the weights: the middle of the tensors of the last target, which was written last.
        let at = if file == "weights.npu" { bytes.len() * 9 / 10 } else { 200 };
        changed[at] ^= 1;
        tilewright_runtime::artifact::recompute_hashes(&mut changed);
        assert_ne!(changed, bytes);
        std::fs::write(&path, &changed).expect("a file");
        let told = refused(&with_key);
        let sayings = ["it was changed after it was signed", "does not match its hash", "index names"];
        assert!(sayings.iter().any(|saying| told.contains(saying)), "{file}: {told}");
        std::fs::write(&path, &bytes).expect("a file");
    }
    std::fs::remove_file(Path::new(&out).join("generic-linux-npu.npu.sig")).expect("a file");
    assert!(refused(&with_key).contains("it is not signed"));
    // An artifact of another deployment, signed by the same key, is not taken for this one's.
    let (one, two) = ("generic-linux-npu.npu", "apple-m5-npu.npu");
    let at = |name: &str| Path::new(&out).join(name);
    std::fs::copy(at(two), at(one)).expect("a copy");
    std::fs::copy(at("apple-m5-npu.npu.sig"), at("generic-linux-npu.npu.sig")).expect("a copy");
    assert!(refused(&with_key).contains("not the one that the deployment's index names"));

    // The same again gives the same bytes in the place of what is there.
    expect(0, &[&deploy[..], &["--signing-key", &key]].concat());
    let first: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(at(file)).expect("a file")).collect();
    expect(0, &[&deploy[..], &["--signing-key", &key, "--threads", "1"]].concat());
    for (file, bytes) in files.iter().zip(first) {
        assert!(std::fs::read(at(file)).expect("a file") == bytes, "{file} differs");
    }
}

#[test]
fn a_manifest_is_checked_in_its_lines() {
    let folder = folder();
    let good = write(folder.path(), "good.yaml", MANIFEST);
    assert!(expect(0, &["deploy", &good, "--check"]).out.contains("for 3 targets"));
    assert!(expect(1, &["deploy", &good]).err.contains("--model"));
    let bad = MANIFEST.replace("context_window", "context_windw").replace("\"int8\"", "\"int9\"");
    let bad = write(folder.path(), "bad.yaml", &bad);
    let told = expect(1, &["deploy", &bad, "--check"]).err;
    for words in ["bad.yaml:13:1", "'context_window'", "bad.yaml:11:16", "'int4'"] {
        assert!(told.contains(words), "{words} is not in\n{told}");
    }
    let schema: serde_json::Value =
        serde_json::from_str(&expect(0, &["deploy", "--schema"]).out).expect("JSON");
    assert_eq!(schema["type"], "object");
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).expect("a folder");
    std::fs::write(taken.join("thesis.txt"), "all of it").expect("a file");
    let standard = write(folder.path(), "s.yaml", &MANIFEST.replace("\"high\"", "\"standard\""));
    let told = expect(1, &["deploy", &standard, "--model", &model("story-draft"), "-o", &text(&taken)]).err;
    assert!(told.contains("holds no deployment") && taken.join("thesis.txt").is_file(), "{told}");
}

#[test]
fn any_batch_up_to_the_largest_is_taken() {
    let folder = folder();
    let manifest = "model_name: m\nversion: '1'\nruntime_targets:\n  - {hardware: npu-gen3, precision: fp32, max_batch_size: 3}\n";
    let manifest = write(folder.path(), "m.yaml", manifest);
    let source = model("cases/lstm-torch18");
    let out = text(&folder.path().join("out"));
    expect(0, &["deploy", &manifest, "--model", &source, "-o", &out]);
    let values = |rows: usize| {
        let numbers = (0..rows * 12 * 16).map(|index| ((index * 37 % 101) as f64 - 50.0) / 50.0).collect();
        let shape = [rows, 12, 16];
        tilewright_ir::tensor::Tensor::from_floats(tilewright_ir::element::Element::F32, &shape, numbers)
    };
    for rows in [1, 2, 3] {
        let x = folder.path().join("x.npy");
        tilewright::npy::write(&x, &values(rows)).expect("a file");
        let input = format!("x=@{}", x.display());
        let (here, there) = (folder.path().join("here"), folder.path().join("there"));
        expect(0, &["run", &out, "--input", &input, "--output-dir", &text(&here)]);
        expect(0, &["run", &source, "--reference", "--input", &input, "--output-dir", &text(&there)]);
        let [here, there] =
            [here, there].map(|dir| tilewright::npy::read(&dir.join("y.npy")).expect("an output").tensor);
        assert_eq!(here.shape, there.shape);
        let found = tilewright::metrics::compare(&here, &there, 1e-5, 1e-6).expect("they compare");
        assert_eq!(found.mismatches, 0, "a batch of {rows}");
    }
    let x = folder.path().join("x.npy");
    tilewright::npy::write(&x, &values(4)).expect("a file");
    let told = expect(1, &["run", &out, "--input", &format!("x=@{}", x.display())]).err;
    assert!(told.contains("4") && told.contains("0..=3"), "{told}");
    let story = model("story-draft");
    assert!(expect(1, &["deploy", &manifest, "--model", &story, "-o", &out]).err.contains("one sequence"));
    // What was there is there still.
    assert!(names(Path::new(&out)).contains(&"deployment.npu".to_owned()));
}

#[test]
fn signatures_stand_beside_artifacts() {
    let folder = folder();
    let artifact = super::small_artifact(folder.path());
    let key = text(&folder.path().join("key.pem"));
    expect(0, &["keygen", &key]);
    expect(0, &["sign", &artifact, "--key", &key]);
    let public = format!("{key}.pub");
    // The signature is right: what is missing then is an input.
    assert!(expect(1, &["run", &artifact, "--public-key", &public]).err.contains("inputs are missing"));
    std::fs::write(format!("{artifact}.sig"), "nonsense").expect("a file");
    assert!(expect(1, &["run", &artifact, "--public-key", &public]).err.contains("is no signature: line 1"));
    assert!(expect(1, &["sign", &artifact, "--key", &public]).err.contains("no private ed25519 key"));
    assert!(expect(1, &["sign", &key, "--key", &key]).err.contains("cannot sign"));
}

#[test]
fn one_word_is_a_precision() {
    let folder = folder();
    let out = text(&folder.path().join("m.npu"));
    let story = model("story-draft");
    let bytes = |words: &[&str]| {
        expect(0, &[&["compile", story.as_str(), "-o", &out][..], words].concat());
        std::fs::metadata(&out).expect("a file").len()
    };
    let (whole, half, four) = (bytes(&[]), bytes(&["--precision", "fp16"]), bytes(&["--precision", "int4"]));
    assert!(half * 3 < whole * 2 && four < half, "{whole} {half} {four}");
    let told =
        expect(1, &["compile", &story, "-o", &out, "--target", "apple-m5-npu", "--precision", "fp32"]).err;
    assert!(told.contains("does not multiply f32") && told.contains("f16"), "{told}");
    assert!(expect(2, &["compile", &story, "-o", &out, "--precision", "fp61"]).err.contains("'fp16'"));
}
