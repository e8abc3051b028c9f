//! Weights that are stored compressed: 2:4 sparse, as codes of a palette, pruned by magnitude, and equal ones once. The whole chain on the
//! story model.

use harness::recorded::tests_folder;
use std::collections::BTreeSet;
use tilewright::driver::{Compilation, CompileOptions};
use tilewright::loaded::Loaded;
use tilewright::model::Source;
use tilewright::plan::PlanOptions;
use tilewright::quantize::QuantizeOptions;
use tilewright::session::Session;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::element::Element;
use tilewright_ir::tensor::Tensor;
use tilewright_runtime::disassemble::{Options, disassemble};

fn quantized(preset: &str) -> CompileOptions {
    CompileOptions {
        target: "npu-gen3".into(),
        plan: PlanOptions { chunk_lengths: vec![16], context_window: Some(32), ..PlanOptions::default() },
        quantize: Some(QuantizeOptions { preset: preset.into(), ..QuantizeOptions::default() }),
        ..CompileOptions::default()
    }
}

fn story(options: &CompileOptions) -> Result<Compilation, Diagnostics> {
    compiled("story-3m", options)
}

fn compiled(model: &str, options: &CompileOptions) -> Result<Compilation, Diagnostics> {
    let source = Source::open(&tests_folder().join("models").join(model)).expect("a story model");
    Session::new().compile(&source, options)
}

fn disassembled(compilation: &Compilation) -> String {
    let programs = compilation.programs.iter().filter_map(|report| report.program.as_ref());
    programs
        .map(|program| disassemble(program, Options { without_locations: true, ..Options::default() }))
        .collect()
}

/// Runs 16 tokens; gives the logits.
fn logits(compilation: &Compilation) -> Vec<f64> {
    run(Loaded::from_compilation(compilation).unwrap_or_else(|problems| panic!("{}", problems[0])))
}

fn run(mut loaded: Loaded) -> Vec<f64> {
    let row = |values: Vec<i64>| Tensor::from_ints(Element::I64, &[1, values.len() as i64], values);
    loaded.set("input_ids", &row((0..16).map(|at| (at * 37 + 5) % 2000).collect())).expect("token ids");
    for (name, values) in [("attention_mask", vec![1; 16]), ("position_ids", (0..16).collect())] {
        if loaded.session.has_input(name) {
            loaded.set(name, &row(values)).expect("an input");
        }
    }
    loaded.session.run().expect("it runs");
    loaded.get("logits").expect("logits").floats()
}

#[test]
fn compressed_weights_stay_so_and_count() {
    let plain = story(&CompileOptions { quantize: None, ..quantized("float") });
    let plain = plain.unwrap_or_else(|problems| panic!("{}", problems[0]));
    // What products read, and the largest share of the float bytes: 2:4 halves what it thins and adds 2 bits per kept weight.
    for (preset, prune, parts, size_max) in [
        ("float", "2:4", &[" indices=sram"][..], 0.64),
        ("int4", "2:4", &[" indices=sram", " i4<"], 0.14),
        ("palette4", "", &[" codebook=sram", " u4<"], 0.165),
        ("palette4", "2:4", &[" codebook=sram", " indices=sram"], 0.145),
        ("float", "magnitude:0.5", &[], 1.01),
    ] {
        let mut options = quantized(preset);
        options.quantize.as_mut().expect("wanted").prune = prune.into();
        let what = format!("{preset} {prune}");
        let compile = |options: &CompileOptions| {
            story(options).unwrap_or_else(|problems| panic!("{what}: {}", problems[0]))
        };
        let npu = compile(&options);
        let share = npu.constants.bytes() as f64 / plain.constants.bytes() as f64;
        assert!(share <= size_max, "{what}: {share} of the float weights");
        let text = disassembled(&npu);
        let products = text.lines().filter(|line| line.contains("matmul matrix"));
        let fitting = products.filter(|line| parts.iter().all(|part| line.contains(part)));
        assert!(fitting.count() >= 42, "{what}: all 6 layers' 7 products read {parts:?}");
        // The host stores sparse weights dense: another way to the same numbers.
        options.target = "host".into();
        let (found, expected) = (logits(&npu), logits(&compile(&options)));
        let noise: f64 = expected.iter().zip(&found).map(|(a, b)| (a - b).powi(2)).sum();
        let energy: f64 = expected.iter().map(|value| value.powi(2)).sum();
        assert!(energy > 0.0 && noise / energy < 1e-9, "{what}: relative error {:e}", noise / energy);
    }
}

#[test]
fn what_cannot_be_pruned_is_named() {
    let refused = |preset: &str, prune: &str, overrides: &[&str]| {
        let mut options = quantized(preset);
        let wanted = options.quantize.as_mut().expect("wanted");
        wanted.prune = prune.into();
        wanted.prune_overrides = overrides.iter().map(ToString::to_string).collect();
        story(&options).map(|_| ()).expect_err("refused")
    };
    let zeros = refused("w4a16_g32_asym", "2:4", &[]);
    assert_eq!(zeros.len(), 42, "every weight of 6 layers is named");
    assert!(zeros[0].what.contains("zero points, and what is left out must be 0"), "{}", zeros[0]);
    assert!(zeros[0].help.contains("--prune-override"), "{}", zeros[0]);
    let table = refused("float", "none", &["role:last=2:4"]);
    assert!(table[0].what.contains("rows of it are looked up"), "{}", table[0]);
    assert!(refused("float", "3:4", &[])[0].what.contains("expected 2:4"));
}

#[test]
fn equal_weights_are_stored_once() {
    // Tied: the last layer and the embedding are one constant, as floats, as integers and as codes.
    for (preset, rows) in [("float", 2048 * 192 * 4), ("int8", 2048 * 192), ("palette4", 2048 * 192)] {
        let compilation = story(&quantized(preset)).unwrap_or_else(|problems| panic!("{}", problems[0]));
        let constants = compilation.constants.constants();
        let tables = constants.iter().filter(|constant| constant.info.bytes == rows).count();
        assert_eq!(tables, 1, "{preset}: one table of token vectors");
        // No two constants of any size have the same bytes.
        let mut maker = compilation.constants.maker();
        let mut seen = BTreeSet::new();
        for (index, constant) in constants.iter().enumerate() {
            let bytes = maker.bytes(index).expect("constants can be made");
            let is_new = seen.insert((constant.info.element, *blake3::hash(&bytes).as_bytes()));
            assert!(is_new || bytes.len() < 1024, "{preset}: '{}' is stored twice", constant.info.name);
        }
    }
}

#[test]
fn programs_of_two_models_share_a_file_of_compressed_weights() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let weights = folder.path().join("shared.weights.npu");
    let write = |model: &str, options: &CompileOptions, name: &str| {
        let compilation = compiled(model, options).unwrap_or_else(|problems| panic!("{}", problems[0]));
        let path = folder.path().join(name);
        let written = compilation.write_stripped(&path, &weights);
        let (bytes, summary) = written.unwrap_or_else(|problem| panic!("{problem}"));
        assert!(bytes < 400_000, "{name} holds programs and a tokenizer: {bytes} bytes");
        (compilation, path, summary)
    };
    let mut options = quantized("int4");
    options.quantize.as_mut().expect("wanted").prune = "2:4".into();
    let (target, path, first) = write("story-3m", &options, "target.npu");
    let (draft, draft_path, of_draft) = write("story-draft", &options, "draft.npu");
    assert!(first.added > 42 * 3 && of_draft.added > 0, "values, places and scales of every product");
    // Another length of prompts: a table of its own at most.
    options.plan.chunk_lengths = vec![8];
    let (.., second) = write("story-3m", &options, "short.npu");
    assert!(second.added <= 1 && second.shared + 1 >= first.added, "{second:?}");
    for (compilation, path) in [(target, path), (draft, draft_path)] {
        let loaded = Loaded::open(&path).unwrap_or_else(|problems| panic!("{}", problems[0]));
        assert_eq!(run(loaded), logits(&compilation), "{}", path.display());
    }
}
