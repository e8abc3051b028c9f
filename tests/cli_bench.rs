//! `bench` and `doctor`: that they measure what they say and print it in both forms. No time is asserted.

use super::{expect, model};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:.200}"))
}

fn assert_spread(spread: &Value) {
    let number = |name: &str| spread[name].as_f64().unwrap_or_else(|| panic!("no {name} in {spread}"));
    let (least, median, largest) = (number("min"), number("median"), number("max"));
    assert!(0.0 < least && least <= median && median <= largest, "{spread}");
}

#[test]
fn a_language_model_is_measured_in_fresh_processes() {
    let story = model("story-draft");
    let words = ["bench", &story, "--target", "host", "--chunk-lengths", "1,8", "--context-window", "64"];
    let more =
        ["--prompt-tokens", "8,20", "--decode-tokens", "3", "--repetitions", "2", "--threads", "2", "--json"];
    let told = json(&expect(0, &[&words[..], &more].concat()).out);
    assert_eq!(
        (&told["target"], &told["threads"], &told["processes"]),
        (&"host".into(), &2.into(), &2.into())
    );
    assert_spread(&told["load_s"]);
    assert_spread(&told["start_to_first_result_s"]);
    let prefill = told["prefill"].as_array().expect("prompts");
    let lengths: Vec<u64> = prefill.iter().filter_map(|prompt| prompt["tokens"].as_u64()).collect();
    assert_eq!(lengths, [8, 20]);
    prefill.iter().for_each(|prompt| assert_spread(&prompt["tokens_per_second"]));
    // 20 tokens are two chunks of 8 and four of 1, and each of those runs the whole model.
    let macs = |index: usize| prefill[index]["macs"].as_u64().expect("a number");
    assert!(macs(1) > 2 * macs(0) && macs(0) > 0);
    assert_eq!((&told["decode"]["tokens"], &told["decode"]["past_tokens"]), (&3.into(), &8.into()));
    assert_spread(&told["decode"]["tokens_per_second"]);
    // One token reads all weights but the rows of the embedding that it does not pick.
    let bytes = told["decode"]["bytes_per_token"].as_u64().expect("a number");
    let artifact = told["artifact_bytes"].as_u64().expect("a number");
    assert!(bytes > artifact / 3 && bytes < artifact, "{bytes} of {artifact}");
    let limits = told["limits"].as_array().expect("limits");
    assert_eq!(limits[0]["name"], "memory_read");
    limits.iter().for_each(|limit| assert_spread(&limit["per_second"]));
    let too_long = expect(1, &[&words[..], &["--prompt-tokens", "100", "--repetitions", "1"]].concat());
    assert!(too_long.err.contains("do not fit the context window of 64"), "{}", too_long.err);
    expect(2, &[&words[..], &["--prompt-tokens", "0"]].concat());
}

#[test]
fn a_network_is_measured_as_a_table() {
    let folder = super::folder();
    let networks = folder.path().display().to_string();
    expect(0, &["synthesize", "separable-tiny", "-o", &networks]);
    let words = ["bench", &networks, "--target", "host", "--runs", "2", "--repetitions", "1", "--no-limits"];
    let table = expect(0, &words).out;
    for row in ["compile s", "load s", "start to first result s", "latency p50 ms", "latency p10-p90 ms"] {
        assert!(table.contains(row), "'{row}' is not in\n{table}");
    }
}

#[test]
fn the_machine_is_told_and_features_can_be_hidden() {
    let told = json(&expect(0, &["doctor", "--threads", "1", "--json"]).out);
    assert!(told["machine"]["cores"].as_u64() >= Some(1));
    assert_eq!(told["limits"][0]["name"], "memory_read");
    let hidden = json(&expect(0, &["doctor", "--threads", "1", "--json", "--cpu-features", "none"]).out);
    assert_eq!(hidden["machine"]["features"], told["machine"]["features"]);
    assert_eq!(hidden["machine"]["features_used"], Value::Array(Vec::new()));
    let names: Vec<&str> = hidden["limits"]
        .as_array()
        .expect("limits")
        .iter()
        .filter_map(|limit| limit["name"].as_str())
        .collect();
    assert_eq!(names, ["memory_read", "f32_portable"]);
    let wrong = expect(2, &["doctor", "--cpu-features", "avx3"]).err;
    assert!(wrong.contains("there is no CPU feature 'avx3'") && wrong.contains("avx512_vnni"), "{wrong}");
    assert!(expect(0, &["doctor", "--threads", "1"]).out.contains("memory_read"));
}
