//! Caches at the command line: kept small, saved to a file, taken up again. A part of `cli.rs`, whose helpers it uses.

use super::{BIND, SMALL, expect, folder, model, names, text};

#[test]
fn a_cache_is_kept_small_saved_and_taken_up_again() {
    let folder = folder();
    let file = |name: &str| text(&folder.path().join(name));
    let (artifact, state) = (file("story.npu"), file("text.state"));
    let draft = model("story-draft");
    let compile = ["compile", &draft, "-o", &artifact, "--context-window", "128", "--kv-cache"];
    expect(0, &[&compile[..], &["kv4"]].concat());
    let inspected = expect(0, &["inspect", &artifact, "--json"]).out;
    let report: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
    let program = &report["programs"][0];
    let kept = |program: &serde_json::Value| program["cache_bytes_per_token"].as_u64().expect("a number");
    assert!(program["states"].to_string().contains("past_key_values.0.key.recent"), "{program}");
    let other = file("plain.npu");
    expect(0, &["compile", &draft, "-o", &other, "--context-window", "128"]);
    let plain: serde_json::Value =
        serde_json::from_str(&expect(0, &["inspect", &other, "--json"]).out).expect("JSON");
    assert!(kept(program) * 6 < kept(&plain["programs"][0]), "{inspected}");

    let write = |prompt: &str, count: &str, words: &[&str]| {
        let all = ["generate", &artifact, "--prompt", prompt, "--max-new-tokens", count, "--stats", "none"];
        expect(0, &[&all[..], words].concat()).out
    };
    let whole = write("Once upon a time", "24", &[]);
    let first = write("Once upon a time", "12", &["--save-cache", &state]);
    assert!(whole.starts_with(first.trim_end_matches('\n')));
    // The state of a longer text serves a prompt that it begins with, and one that leaves it half way.
    assert_eq!(write("Once upon a time", "24", &["--load-cache", &state]), whole);
    let leaves = write("Once upon a hill", "8", &[]);
    assert_eq!(write("Once upon a hill", "8", &["--load-cache", &state]), leaves);
    let refused = |words: &[&str]| {
        let all = ["generate", "--prompt", "Once", "--max-new-tokens", "2"];
        expect(1, &[&all[..], words].concat()).err
    };
    assert!(refused(&[&other, "--load-cache", &state]).contains("another artifact"));
    assert!(refused(&[&artifact, "--load-cache", &file("none")]).contains("cannot read"));
    std::fs::write(file("broken"), &std::fs::read(&state).expect("reads")[..200]).expect("writes");
    assert!(refused(&[&artifact, "--load-cache", &file("broken")]).contains("damaged"));
    let unwritable = file("none/text.state");
    assert!(refused(&[&artifact, "--save-cache", &unwritable]).contains("cannot write"));
    assert!(!names(folder.path()).iter().any(|name| name.ends_with(".part")), "nothing half-written");
    let small = model(SMALL);
    let no_cache = expect(1, &[&["compile", &small, "-o", &other, "--kv-cache", "kv8"][..], &BIND].concat());
    assert!(no_cache.err.contains("keeps no key/value cache"), "{}", no_cache.err);
    expect(2, &["parity", "--cases", &draft, "--kv-cache", "kv8"]);
}
