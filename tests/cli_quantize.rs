//! Quantisation at the command line: what is told of weights, and which layer is at fault. A part of `cli.rs`, whose helpers it uses.

use super::*;

#[test]
fn a_bad_layer_of_a_quantised_artifact_is_named() {
    let (draft, heldout) = (model("story-draft"), text(&tests_folder().join("models/heldout.txt")));
    let node = "model.model.layers.1.mlp.down_proj/node_linear_13";
    let bad = format!("{node}=int4_tensor");
    let few =
        ["parity", &draft, "--text", &heldout, "--window", "32", "--limit", "100", "--min-sqnr-db", "24"];
    let eight_bits = ["--quantize", "w8a16", "--quantize-override"];
    let outcome = expect(4, &[&few[..], &eight_bits, &[&bad]].concat());
    let first = outcome.err.lines().next().unwrap_or_default();
    assert!(first.contains(node), "{}", outcome.err);
    let keep = format!("{node}=int8");
    assert!(outcome.out.contains(&format!("--quantize-override '{keep}'")), "{}", outcome.out);
    assert!(!outcome.out.contains("layers.0.mlp.down_proj/node_linear_6=int8"), "{}", outcome.out);
    // The advice helps.
    expect(0, &[&few[..], &eight_bits, &[&bad], &["--quantize-override", &keep]].concat());
    let limits = ["--max-perplexity-increase", "0.001"];
    let over = expect(4, &[&few[..8], &["--quantize", "mxfp4"], &limits].concat());
    assert!(over.err.contains("perplexity"), "{}", over.err);
}

#[test]
fn quantize_tells_what_weights_lose_and_writes_a_plan() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let own = |name: &str| tests_folder().join("models").join(name).display().to_string();
    let (model, text) = (own("story-3m"), own("calibration.txt"));
    let (plan, artifact, missing) = (path("p.plan.json"), path("story.npu"), path("no/p.plan.json"));
    let outcome = expect(2, &["quantize", &model]);
    assert!(outcome.err.contains("--calibrate"), "{}", outcome.err);
    let few = ["--calibration-tokens", "128", "--calibration-window", "64"];
    let words = [&["quantize", &model, "--calibrate", &text, "-o", &plan, "--csv"][..], &few].concat();
    let outcome = expect(0, &words);
    assert!(outcome.out.starts_with("weight,node,role,format,method,bits,"), "{}", outcome.out);
    assert_eq!(outcome.out.lines().count(), 1 + 43);
    let words = ["compile", &model, "--quantization-plan", &plan, "-o", &artifact];
    expect(0, &words);
    // What it holds is told by format.
    let inspected: serde_json::Value =
        serde_json::from_str(&expect(0, &["inspect", &artifact, "--json"]).out).expect("JSON");
    let formats = inspected["formats"].as_array().expect("formats");
    let of = |format: &str| formats.iter().find(|one| one["format"] == format).expect(format);
    assert_eq!(
        (&of("i4, f16 per 32")["tensors"], &of("i8, f32 per 192")["tensors"]),
        (&18.into(), &25.into())
    );
    let table = expect(0, &["inspect", &artifact, "--tensors"]).out;
    assert!(table.contains("i4, f16 per 32") && table.contains("2048x192"), "{table}");
    // Nothing is half-written: a plan into a folder that is not there leaves nothing.
    let words = [&["quantize", &model, "--calibrate", &text, "-o", &missing][..], &few].concat();
    expect(1, &words);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 3);
    // Options in a file; each fault is told with its line.
    let policy = path("policy.toml");
    let says = |text: &str| std::fs::write(&policy, text).expect("written");
    says("preset = \"w8a16\"\n\n[[weights]]\nrole = \"last\"\nformat = \"float\"\n");
    let words = ["compile", &model, "--quantize-policy", &policy, "-o", &artifact];
    expect(0, &words);
    let table = expect(0, &["inspect", &artifact]).out;
    assert!(table.contains("i8, f32 per 192") && !table.contains("i4"), "{table}");
    says("preset = \"w8a16\"\n\n[[weights]]\nrole = \"last\"\nformat = \"flaot\"\n");
    let refused = expect(1, &words).err;
    assert!(
        refused.contains("unknown weight format 'flaot'") && refused.contains("policy.toml:5:"),
        "{refused}"
    );
}
