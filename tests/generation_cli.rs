//! `tilewright generate` as a user meets it: chats, samplers, drafts, statistics, schemas and ctrl-C, in a process of its own.

use harness::recorded::tests_folder;
use serde_json::Value;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Outcome {
    /// The statistics of the last text.
    fn stats(&self) -> Value {
        let line = self.err.lines().rfind(|line| line.starts_with('{')).expect("statistics");
        serde_json::from_str(line).expect("JSON")
    }
}

fn start(words: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilewright-under-test"));
    command.arg("generate").args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

fn generate_with(input: &str, words: &[&str]) -> Outcome {
    let mut child = start(words);
    // The program may end without reading; that is its right.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("whole characters only");
    Outcome { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[track_caller]
fn generate(words: &[&str]) -> Outcome {
    let outcome = generate_with("", words);
    assert_eq!(outcome.code, Some(0), "{words:?}: {}", outcome.err);
    outcome
}

#[track_caller]
fn refuse(code: i32, words: &[&str], why: &str) {
    let outcome = generate_with("", words);
    assert_eq!(outcome.code, Some(code), "{words:?}: {}", outcome.err);
    assert!(outcome.err.contains(why), "{words:?}: {}", outcome.err);
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A copy of the draft model with other files beside it.
fn model_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = folder();
    for name in ["model.onnx", "tokenizer.json", "config.json", "generation_config.json"] {
        let from = tests_folder().join("models/story-draft").join(name);
        std::fs::copy(from, folder.path().join(name)).expect("a copy");
    }
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("a file");
    }
    folder
}

/// The draft model compiled for a window, with other files beside it.
fn compiled(files: &[(&str, &str)], window: &str) -> (tempfile::TempDir, String) {
    let folder = model_with(files);
    let artifact = text(&folder.path().join("model.npu"));
    let words = ["compile", &text(folder.path()), "-o", &artifact, "--context-window", window];
    let program = env!("CARGO_BIN_EXE_tilewright-under-test");
    let output =
        Command::new(program).args(words).args(["--chunk-lengths", "1,8,32"]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (folder, artifact)
}

const TEMPLATE: &str = "{% for m in messages %}\n{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}\n{{ m.role }}: {{ m.content }}\n{% endfor %}\nassistant:";

#[test]
fn a_chat_goes_through_the_artifacts_template() {
    let (folder, artifact) = compiled(&[("chat_template.jinja", TEMPLATE)], "512");
    let common = ["--max-new-tokens", "12", "--stats", "json"];
    let write = |words: &[&str]| generate(&[&[&artifact[..]], words, &common].concat());
    let raw = "system: Be brief.\nuser: Who is the king?\nassistant:";
    let expected = write(&["--prompt", raw]);
    let chat = write(&["--chat", "--system", "Be brief.", "--prompt", "Who is the king?"]);
    assert_eq!(format!("{raw}{}", chat.out), expected.out);
    let messages = folder.path().join("messages.json");
    let list =
        r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who is the king?"}]"#;
    std::fs::write(&messages, list).expect("a file");
    assert_eq!(write(&["--messages", &text(&messages)]).out, chat.out);
    std::fs::write(&messages, r#"[{"role": "tool", "content": "x"}]"#).expect("a file");
    refuse(1, &[&artifact, "--messages", &text(&messages)], "line 2");
    // The second turn runs only what is new of it.
    let turns = generate_with(
        "Who is the king?\nAnd the queen?\n",
        &[&[&artifact[..], "--interactive"], &common[..]].concat(),
    );
    assert_eq!(turns.code, Some(0), "{}", turns.err);
    let last = turns.stats();
    let (prompt, cached) = (last["prompt_tokens"].as_u64(), last["cached_tokens"].as_u64());
    assert!(cached > Some(10) && cached < prompt, "{last}");
    refuse(2, &[&artifact, "--system", "x", "--prompt", "y"], "add --chat");
    refuse(2, &[&artifact, "--chat-template-kwargs", "{}", "--prompt", "y"], "add --chat");
    refuse(1, &[&artifact, "--chat", "--chat-template-kwargs", "{x}", "--prompt", "y"], "variables");
    let plain = text(&tests_folder().join("models/story-draft"));
    refuse(1, &[&plain, "--chat", "--prompt", "x"], "no chat template");
}

#[test]
fn the_models_configuration_counts_and_options_win() {
    let config = r#"{"do_sample": true, "temperature": 1.5, "max_new_tokens": 5, "eos_token_id": [0, 1]}"#;
    let (folder, artifact) = compiled(&[("generation_config.json", config)], "128");
    let write = |words: &[&str]| {
        generate(&[&[&artifact[..], "--prompt", "The king", "--stats", "json"], words].concat())
    };
    assert!(write(&[]).stats()["tokens"].as_u64() <= Some(5));
    assert_ne!(write(&["--seed", "1"]).out, write(&["--seed", "2"]).out);
    assert_eq!(
        write(&["--seed", "1", "--temperature", "0"]).out,
        write(&["--seed", "2", "--temperature", "0"]).out
    );
    assert_eq!(write(&["--max-new-tokens", "3", "--ignore-eos"]).stats()["tokens"], 3);
    // The tokens that greedy takes end the text when they are told to, and never come when they are forbidden.
    let ids = |words: &[&str]| -> Vec<String> {
        let common = [&artifact, "--input-ids", "47,78,384", "--temperature", "0"];
        let outcome = generate(&[&common[..], words].concat());
        outcome.out.split_whitespace().map(str::to_string).collect()
    };
    let greedy = ids(&[]);
    assert_eq!(greedy.len(), 5);
    assert!(ids(&["--eos", &greedy[2]]).len() <= 2);
    assert!(!ids(&["--logit-bias", &format!("{}=-inf", greedy[0])]).contains(&greedy[0]));
    let forced = ids(&["--logit-bias", "99=1000"]);
    assert!(forced.iter().all(|id| id == "99"), "{forced:?}");
    assert!(ids(&["--logit-bias", "99=1000", "--presence-penalty", "1000"])[1] != "99");
    std::fs::write(folder.path().join("generation_config.json"), "{\n\"top_k\": \"many\"}").expect("a file");
    refuse(1, &[&text(folder.path()), "--prompt", "x"], "line 2");
    refuse(2, &[&artifact, "--prompt", "x", "--top-p", "2"], "--top-p is 2");
    refuse(2, &[&artifact, "--prompt", "x", "--temperature=-1"], "--temperature");
    refuse(2, &[&artifact, "--prompt", "x", "--logit-bias", "5"], "TOKEN=BIAS");
    refuse(2, &[&artifact, "--prompt", "x", "--stop", ""], "--stop is empty");
    refuse(2, &[&artifact, "--prompt", "x", "--repetition-penalty", "0"], "expected more");
    for named in [["--input-ids", "1,99999"], ["--eos", "99999"], ["--logit-bias", "99999=1"]] {
        let prompt = ["--prompt", "x"];
        let words = if named[0] == "--input-ids" { &named[..] } else { &[prompt, named].concat() };
        refuse(1, &[&[&artifact[..]], words].concat(), "token 99999, and the model has 2048");
    }
    let config = r#"{"stop_strings": [" and"], "num_beams": 4}"#;
    let (_other, stops) = compiled(&[("generation_config.json", config)], "128");
    let stopped = generate(&[&stops, "--prompt", "The king", "--max-new-tokens", "60", "--stats", "json"]);
    assert!(!stopped.out.contains(" and") && stopped.err.contains("'num_beams': 4"), "{}", stopped.err);
    assert_eq!(stopped.stats()["ending"], "stop text", "{}", stopped.out);
    refuse(1, &[&artifact, "--prompt", "x", "--logit-bias", "no such token=1"], "expected one");
}

#[test]
fn drafts_change_the_statistics_and_not_the_text() {
    let models = tests_folder().join("models");
    let (target, draft) = (text(&models.join("story-3m")), text(&models.join("story-draft")));
    let common = ["--prompt", "Once upon a time", "--max-new-tokens", "24", "--context-window", "256"];
    let write = |words: &[&str]| generate(&[&[&target[..], "--stats", "json"], &common[..], words].concat());
    let plain = write(&[]);
    assert_eq!(plain.stats()["speculation"]["drafted"], 0);
    let drafted = write(&["--draft", &draft, "--speculate-always"]);
    assert_eq!(drafted.out, plain.out);
    let speculation = &drafted.stats()["speculation"];
    assert!(speculation["accepted"].as_u64() > Some(5), "{speculation}");
    assert_eq!(write(&["--speculate", "ngram"]).out, plain.out);
    let json = std::fs::read_to_string(models.join("story-draft/tokenizer.json")).expect("a tokenizer");
    let other = model_with(&[("tokenizer.json", &json.replace("<|end|>", "<|other|>"))]);
    refuse(1, &[&target, "--prompt", "x", "--draft", &text(other.path())], "has another tokenizer: id 0");
    // One token at a time cannot check a draft.
    let alone = ["--chunk-lengths", "1", "--context-window", "64"];
    let words = [&[&target[..], "--prompt", "x", "--speculate", "ngram"], &alone[..]].concat();
    refuse(1, &words, "--chunk-lengths 1,8,32");
}

/// Sends the signal of ctrl-C.
#[cfg(unix)]
fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_text_well_and_a_waiting_program_at_once() {
    use std::os::unix::process::ExitStatusExt;
    let (_folder, artifact) = compiled(&[("chat_template.jinja", TEMPLATE)], "8192");
    let endless = ["--max-new-tokens", "8000", "--ignore-eos"];
    let mut child = start(&[&[&artifact[..], "--prompt", "Once upon a time"], &endless[..]].concat());
    let mut begun = [0u8; 40];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut begun).expect("a beginning");
    interrupt(&child);
    let output = child.wait_with_output().expect("it ends");
    let (out, err) =
        (String::from_utf8(output.stdout).expect("UTF-8"), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(out.ends_with('\n') && err.contains("interrupted"), "{err}");
    let mut child = start(&[&artifact, "--interactive", "--max-new-tokens", "4"]);
    child.stdin.as_mut().expect("a pipe").write_all(b"Hello\n").expect("it reads");
    child.stdout.as_mut().expect("a pipe").read_exact(&mut begun[..2]).expect("an answer");
    // The first may still meet the answer; then the second meets the prompt.
    let ended = loop {
        interrupt(&child);
        std::thread::sleep(std::time::Duration::from_millis(100));
        if let Some(status) = child.try_wait().expect("a status") {
            break status;
        }
    };
    assert_eq!(ended.signal(), Some(2), "{ended:?}");
}

/// Writes with a schema and reads what comes as JSON.
fn with_schema(artifact: &str, schema: &str, words: &[&str]) -> Value {
    let common = [artifact, "--prompt", "Once", "--stats", "json", "--ignore-eos", "--json-schema", schema];
    let outcome = generate(&[&common[..], words].concat());
    assert_eq!(outcome.stats()["is_whole"], true, "{}", outcome.err);
    serde_json::from_str(&outcome.out).unwrap_or_else(|error| panic!("{error}: {}", outcome.out))
}

#[test]
fn json_of_a_schema_is_whole_within_the_limit() {
    let (folder, artifact) = compiled(&[], "512");
    let schema = r#"{"type": "object", "required": ["name", "tags", "age"], "additionalProperties": false, "properties": {
        "name": {"type": "string"}, "age": {"type": ["integer", "null"]}, "sure": {"type": "boolean"},
        "tags": {"type": "array", "items": {"enum": ["king", "wolf"]}, "maxItems": 3}}}"#;
    let file = text(&folder.path().join("schema.json"));
    std::fs::write(&file, schema).expect("a file");
    for limit in ["29", "40", "200"] {
        for draw in [&["--temperature", "0"][..], &["--temperature", "1.2", "--seed", "3"]] {
            let found = with_schema(&artifact, &file, &[&["--max-new-tokens", limit][..], draw].concat());
            assert!(
                found["name"].is_string() && found["tags"].as_array().is_some_and(|tags| tags.len() <= 3)
            );
            assert!(found["age"].is_null() || found["age"].is_i64() || found["age"].is_u64(), "{found}");
            assert!(found.get("sure").is_none_or(Value::is_boolean), "{found}");
        }
    }
    // Guessing ahead keeps to the form and to the text.
    let plain = with_schema(&artifact, &file, &["--max-new-tokens", "60"]);
    let guessed = with_schema(
        &artifact,
        &file,
        &["--max-new-tokens", "60", "--speculate", "ngram", "--speculate-always"],
    );
    assert_eq!(plain, guessed);
    let any = with_schema(&artifact, "{}", &["--max-new-tokens", "30", "--temperature", "1", "--seed", "5"]);
    println!("{any}");
    let cut = generate(&[&artifact, "--prompt", "Once", "--max-new-tokens", "5", "--json-schema", &file]);
    assert!(cut.err.contains("not whole JSON"), "{}", cut.err);
    refuse(1, &[&artifact, "--prompt", "x", "--json-schema", r#"{"multipleOf": 2}"#], "'multipleOf' at #");
    let schema = r#"{"type": "object", "required": ["day", "count"], "properties": {"day": {"format": "date"},
        "count": {"type": "integer", "minimum": 10, "maximum": 12}}}"#;
    let found =
        with_schema(&artifact, schema, &["--max-new-tokens", "60", "--temperature", "1", "--seed", "5"]);
    let (day, count) = (found["day"].as_str().expect("a text"), found["count"].as_u64().expect("a count"));
    assert!(day.len() == 10 && day.is_ascii() && (10..=12).contains(&count), "{found}");
}
