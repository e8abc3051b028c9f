//! The same models on `host-cpu`: recorded outputs and texts, and that weights which are packed once serve programs of all lengths alike.

use super::{
    Verdicts, all_cases, as_recorded, assert_chunks_write_alike, compiled, disagreements, greedy, npu, read,
    recorded, run_case, story,
};
use harness::recorded::tests_folder;
use tilewright::driver::CompileOptions;
use tilewright::quantize::QuantizeOptions;
use tilewright::session::Session;

const TARGET: &str = "host-cpu";
/// Formats of weights that the packed product takes, activations in floats and in int8.
const PRESETS: &[&str] = &["int4", "w4a8_g128", "w8a8", "nf4_g64"];

fn host_cpu(options: CompileOptions) -> CompileOptions {
    CompileOptions { target: TARGET.into(), ..options }
}

#[test]
fn recorded_cases_agree_on_the_processor() {
    let session = Session::new();
    let mut verdicts = Verdicts::default();
    for (name, folder) in all_cases() {
        let case = read(&folder);
        if case.inputs.is_empty() {
            continue;
        }
        let found = run_case(&session, &case, &host_cpu(as_recorded(&name))).map(|(found, compilation)| {
            // Everything is at home there.
            let rows = compilation.programs.iter().flat_map(|report| &report.placement.rows);
            verdicts.faults.extend(
                rows.filter(|row| row.target != TARGET)
                    .map(|row| format!("{name}: {} runs on {}", row.op, row.target)),
            );
            disagreements(&case, &found)
        });
        verdicts.add(&name, TARGET, found);
    }
    verdicts.finish();
}

#[test]
fn stories_on_the_processor_are_those_of_onnx_runtime() {
    let session = Session::new();
    for name in ["story-3m", "story-draft"] {
        let (_folder, mut model) = story(&session, name, &host_cpu(npu(256, &[1, 32])));
        for one in recorded(name) {
            assert_eq!(
                greedy(&mut model, &one.prompt_ids, one.ids.len()),
                one.ids,
                "{name}: {:?}",
                one.prompt
            );
        }
    }
}

#[test]
fn packed_weights_serve_all_lengths_alike() {
    let session = Session::new();
    let prompt: Vec<u32> = (0..13).map(|at| at * 37 % 500 + 1).collect();
    for preset in PRESETS {
        let written = |chunk_lengths: &[usize]| {
            let quantize =
                QuantizeOptions { preset: (*preset).into(), allows_fallback: true, ..Default::default() };
            let options = CompileOptions { quantize: Some(quantize), ..npu(64, chunk_lengths) };
            let (_folder, mut model) = story(&session, "story-3m", &host_cpu(options));
            greedy(&mut model, &prompt, 12)
        };
        assert_eq!(written(&[1]), written(&[1, 4, 32]), "{preset}");
    }
    // The one table of a tied model is both rows to look up and packed columns of a product: its bytes are there once.
    let model = tests_folder().join("models/story-3m");
    let weights = |chunk_lengths: &[usize]| {
        let compilation = compiled(&session, &model, &host_cpu(npu(64, chunk_lengths)));
        compilation.constants.bytes()
    };
    // A few numbers differ from length to length.
    assert!(weights(&[1, 4, 32]) < weights(&[1]) + 4096, "weights are stored for each length");
    let plain = compiled(&session, &model, &CompileOptions { target: "host".into(), ..npu(64, &[1]) });
    assert!(weights(&[1]) < plain.constants.bytes() * 101 / 100, "weights are stored twice");
}

#[test]
fn language_models_on_the_processor_write_in_chunks_as_token_by_token() {
    assert_chunks_write_alike(|chunk_lengths| host_cpu(npu(64, chunk_lengths)));
}
