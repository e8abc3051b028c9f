//! Weights of few bits through the whole chain: models that arrive quantised keep their stored bits on `npu-gen3`, each preset compiles
//! the story model with its storage elements and stays near the float model, and what cannot be is refused before anything is written.

use harness::recorded::{own_cases, shared_cases, tests_folder};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tilewright::calibrate::plan_file::Writer;
use tilewright::calibrate::scaling::Scaling;
use tilewright::calibrate::{ActivationScales, Method, Prepared};
use tilewright::cases;
use tilewright::driver::{Compilation, CompileOptions};
use tilewright::execute::bind;
use tilewright::import::Activations;
use tilewright::loaded::Loaded;
use tilewright::model::Source;
use tilewright::plan::PlanOptions;
use tilewright::quantize::{Calibration, QuantizeOptions, prepare};
use tilewright::session::Session;
use tilewright::signature::Signature;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::dialects::core;
use tilewright_ir::element::Element;
use tilewright_ir::module::{Module, ValueId};
use tilewright_ir::weight_format::Role;
use tilewright_passes::quantize_weights::roles;
use tilewright_runtime::disassemble::{Options, disassemble};
use tilewright_targets::emit::runtime_element;

const TARGET: &str = "npu-gen3";

fn quantized(preset: &str, overrides: &[&str]) -> CompileOptions {
    CompileOptions {
        target: TARGET.into(),
        plan: PlanOptions { chunk_lengths: vec![16], context_window: Some(32), ..PlanOptions::default() },
        quantize: Some(QuantizeOptions {
            preset: preset.into(),
            overrides: overrides.iter().map(ToString::to_string).collect(),
            ..QuantizeOptions::default()
        }),
        ..CompileOptions::default()
    }
}

fn story(options: &CompileOptions) -> Result<Compilation, Diagnostics> {
    let source = Source::open(&tests_folder().join("models/story-3m")).expect("the story model");
    Session::new().compile(&source, options)
}

/// The stored side of every dequantisation and integer product: constants of at most 8 bits, by their bytes.
fn stored_weights(module: &Module) -> BTreeSet<(Element, String)> {
    let mut found = BTreeSet::new();
    let mut add = |value: ValueId| {
        let Some(op) = module.producer_of(value, &core::CONSTANT) else { return };
        let Some(elements) = module.op(op).attributes.get("value").and_then(Attribute::as_elements) else {
            return;
        };
        // What is small may be folded or taken by value.
        if elements.ty().element.bits() <= 8 && elements.bytes().len() > 64 {
            found.insert((elements.ty().element, blake3::hash(elements.bytes()).to_string()));
        }
    };
    for op in module.all_ops() {
        let operation = module.op(op);
        let slot = [(&core::DEQUANTIZE, 0), (&core::LINEAR, 1), (&core::MATMUL_INTEGER, 1)];
        if let Some((_, slot)) = slot.iter().find(|row| operation.def == row.0) {
            add(operation.operands[*slot]);
        }
    }
    found
}

/// Elements that the program's commands read from constants.
fn disassembled(compilation: &Compilation) -> String {
    let programs = compilation.programs.iter().filter_map(|report| report.program.as_ref());
    programs
        .map(|program| disassemble(program, Options { without_locations: true, ..Options::default() }))
        .collect()
}

/// What of a case's stored weights is not in the artifact as it is; `None` when it holds no quantised weight.
fn lost_bits(session: &Session, path: &Path) -> Option<Vec<String>> {
    let source = Source::open(path).ok()?;
    let mut options = CompileOptions { target: TARGET.into(), ..CompileOptions::default() };
    let imported = session.import_with(&source, &options.import_options()).ok()?;
    let wanted = stored_weights(&imported.module);
    if wanted.is_empty() {
        return None;
    }
    let signature = Signature::of(&imported.module, imported.module.functions()[0]);
    let bindings = [path.to_path_buf()].into_iter().chain(cases::find(path).ok()?).find_map(|folder| {
        let case = cases::read(&folder).ok()?;
        bind(&signature.inputs, &case.inputs).ok()
    })?;
    options.bindings.extend(bindings.iter().map(|(name, value)| (name.to_string(), *value)));
    let compilation = match session.compile(&source, &options) {
        Ok(compilation) => compilation,
        Err(problems) => return Some(vec![format!("does not compile: {}", problems[0])]),
    };
    let mut kept = BTreeSet::new();
    let mut maker = compilation.constants.maker();
    for (index, constant) in compilation.constants.constants().iter().enumerate() {
        let bytes = maker.bytes(index).expect("constants can be made");
        kept.insert((constant.info.element, blake3::hash(&bytes).to_string()));
    }
    let text = disassembled(&compilation);
    let lost = wanted.iter().filter(|(element, hash)| {
        let element = runtime_element(*element).expect("the command set has it");
        !kept.contains(&(element, hash.clone())) || !text.contains(&format!(" {}<", element.name()))
    });
    Some(lost.map(|(element, hash)| format!("{element} {hash}")).collect())
}

#[test]
fn models_that_arrive_quantised_keep_their_bits() {
    let session = Session::new();
    let cases: Vec<_> = own_cases().into_iter().chain(shared_cases()).collect();
    let mut faults = Vec::new();
    let mut count = 0;
    for path in cases {
        let Some(lost) = lost_bits(&session, &path) else { continue };
        count += 1;
        if !lost.is_empty() {
            faults.push(format!(
                "{}: {} lost: {}",
                path.display(),
                lost.len(),
                lost[..lost.len().min(3)].join("; ")
            ));
        }
    }
    assert!(count >= 3, "only {count} cases hold quantised weights");
    assert!(faults.is_empty(), "{} of {count} cases lose stored bits:\n{}", faults.len(), faults.join("\n"));
}

/// Runs the first 16 tokens of a text; gives the logits.
fn logits(compilation: &Compilation, ids: &[i64]) -> Vec<f32> {
    use tilewright_ir::tensor::Tensor;
    let mut loaded =
        Loaded::from_compilation(compilation).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let count = ids.len() as i64;
    let row = |values: Vec<i64>| Tensor::from_ints(Element::I64, &[1, values.len() as i64], values);
    loaded.set("input_ids", &row(ids.to_vec())).expect("token ids");
    for (name, values) in [("attention_mask", vec![1; ids.len()]), ("position_ids", (0..count).collect())] {
        if loaded.session.has_input(name) {
            loaded.set(name, &row(values)).expect("an input");
        }
    }
    loaded.session.run().expect("it runs");
    loaded.get("logits").expect("logits").floats().into_iter().map(|value| value as f32).collect()
}

#[test]
fn every_preset_compiles_the_story_model_and_stays_near_it() {
    let ids: Vec<i64> = (0..16).map(|at| (at * 37 + 5) % 2000).collect();
    let plain = CompileOptions { quantize: None, ..quantized("mixed", &[]) };
    let float = story(&plain).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let expected = logits(&float, &ids);
    let energy: f64 = expected.iter().map(|value| f64::from(*value).powi(2)).sum();
    // The largest relative squared error of the logits, and of f32's bytes; both measured with a margin.
    for (preset, element, error_max, size_max) in [
        ("w8a16", "i8", 3e-4, 0.26),
        ("w4a16_g32_sym", "i4", 2e-2, 0.16),
        ("w4a16_g32_asym", "u4", 2e-2, 0.165),
        ("int4_weighted", "i4", 2e-2, 0.16),
        ("nf4_g64", "nf4", 3e-2, 0.16),
        ("fp8_e4m3", "f8e4m3fn", 5e-3, 0.26),
        ("mxfp4", "f4e2m1", 6e-2, 0.16),
        ("mxfp8", "f8e4m3fn", 1e-2, 0.27),
        ("mixed", "i4", 1e-2, 0.22),
    ] {
        let compilation =
            story(&quantized(preset, &[])).unwrap_or_else(|problems| panic!("{preset}: {}", problems[0]));
        let found = logits(&compilation, &ids);
        let noise: f64 = expected.iter().zip(&found).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        assert!(noise > 0.0 && noise / energy < error_max, "{preset}: relative error {:e}", noise / energy);
        let share = compilation.constants.bytes() as f64 / float.constants.bytes() as f64;
        assert!(share <= size_max, "{preset}: {share} of the float weights");
        // The matrix engine takes the weights as they are stored.
        let text = disassembled(&compilation);
        let products = text.lines().filter(|line| line.contains("matmul matrix"));
        let packed = products.filter(|line| line.contains(&format!(" {element}<")));
        assert!(packed.count() >= 6, "{preset}: products take {element}");
        let on_host = compilation.programs.iter().flat_map(|report| report.placement.fallbacks());
        let products = on_host.filter(|row| {
            row.op.contains("linear") || row.op.contains("matmul") || row.op.contains("kernel")
        });
        assert_eq!(products.count(), 0, "{preset}: products on the host");
    }
}

#[test]
fn a_budget_is_met_and_used() {
    let mut options = quantized("mixed", &["role:last=int8"]);
    let floor = 1_600_000;
    for bytes_max in [2_000_000usize, 3_000_000] {
        options.quantize.as_mut().expect("wanted").bytes_max = Some(bytes_max);
        let compilation = story(&options).unwrap_or_else(|problems| panic!("{}", problems[0]));
        let bytes = compilation.constants.bytes() as usize;
        // Constants are aligned: a little more than their sum.
        assert!(bytes <= bytes_max + 64 * compilation.constants.constants().len(), "{bytes} of {bytes_max}");
        assert!(bytes > bytes_max * 9 / 10, "{bytes} of {bytes_max} are used");
        let last = compilation.weights.iter().find(|row| row.role.name() == "last").expect("a last product");
        assert_eq!(last.format, "int8", "the user's exception stays");
    }
    options.quantize.as_mut().expect("wanted").bytes_max = Some(floor / 2);
    let problems = story(&options).err().expect("too small");
    assert!(problems[0].what.contains("is too small"), "{}", problems[0]);
}

/// The story model's folder with another tokenizer.
fn with_tokenizer(tokenizer: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let from = tests_folder().join("models/story-draft");
    std::fs::copy(from.join("model.onnx"), folder.path().join("model.onnx")).expect("a copy");
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer).expect("written");
    folder
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let options = CompileOptions { quantize: None, ..quantized("mixed", &[]) };
    let compile = |tokenizer: &str| {
        let folder = with_tokenizer(tokenizer);
        let source = Source::open(folder.path()).expect("a model");
        Session::new().compile(&source, &options).map(|_| ())
    };
    let fitting = r#"{"model": {"vocab": {"a": 0, "b": 5}}, "added_tokens": [{"content": "<s>", "id": 7}]}"#;
    assert!(compile(fitting).is_ok(), "fewer tokens than the model has are fine");
    for foreign in [
        r#"{"model": {"vocab": {"a": 0, "zebra": 31999}}, "added_tokens": []}"#,
        r#"{"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "zebra", "id": 31999}]}"#,
    ] {
        let problems = compile(foreign).expect_err("another model's");
        assert!(problems[0].what.contains("'zebra' has id 31999"), "{}", problems[0]);
        assert!(problems[0].what.contains("2048"), "{}", problems[0]);
    }
    assert!(compile("{").expect_err("no JSON")[0].what.contains("cannot read tokenizer.json"));
}

#[test]
fn weights_that_no_format_holds_are_refused_before_anything_is_written() {
    let session = Session::new();
    let folder = with_tokenizer(r#"{"model": {"vocab": {"a": 0}}}"#);
    let model = folder.path().join("model.onnx");
    let imported =
        session.import(&Source::open(&model).expect("a model"), &BTreeMap::new(), Activations::Exact);
    let module = imported.expect("it is read").module;
    let weights = roles::weights(&module, module.functions()[0]);
    let victim = weights.iter().find(|weight| weight.role == Role::FeedForwardDown).expect("a product");
    let mut bytes = std::fs::read(&model).expect("the model");
    let needle = &victim.elements(&module).bytes()[..256];
    let at =
        bytes.windows(needle.len()).position(|window| window == needle).expect("its bytes are in the file");
    let options = quantized("int4", &[]);
    for (value, told) in [
        (f32::INFINITY, "the first inf at index 0"),
        (f32::NAN, "the first NaN at index 0"),
        (1e7, "needs a scale of 1.4285714e6 for int4_g32, the scales of groups hold at most 6.5504e4 (f16)"),
    ] {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        std::fs::write(&model, &bytes).expect("written");
        let problems =
            session.compile(&Source::open(&model).expect("a model"), &options).err().expect("refused");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].what.contains(&victim.name) && problems[0].what.contains(told),
            "{}",
            problems[0]
        );
        assert!(problems[0].help.contains("--quantize-override"), "{}", problems[0]);
    }
    // 64 weights per channel: groups of 128 do not divide them.
    let problems = story(&quantized("w4a16_g128_sym", &[])).err().expect("refused");
    assert!(
        problems.len() > 6 && problems.iter().all(|one| one.what.contains("do not divide")),
        "{problems:?}"
    );
}

#[test]
fn static_activation_scales_are_constants_of_the_artifact() {
    let mut options = calibrated("w8a8");
    let calibration =
        options.quantize.as_mut().and_then(|quantize| quantize.calibration.as_mut()).expect("wanted");
    calibration.activation_scales = ActivationScales::Static;
    let compilation = story(&options).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let text = disassembled(&compilation);
    let products: Vec<&str> = text.lines().filter(|line| line.contains("matmul matrix")).collect();
    let of_integers = products.iter().filter(|line| {
        line.contains("] i8<") && !line.contains("] f32<") || line.matches(" i8<").count() == 2
    });
    assert!(of_integers.count() >= 42, "every product with a weight multiplies integers");
    assert!(
        !text.contains("function=max_abs") && !text.contains("reduce vector function=max"),
        "no row is searched for its largest"
    );
    let ids: Vec<i64> = (0..16).map(|at| (at * 37 + 5) % 2000).collect();
    let float = story(&CompileOptions { quantize: None, ..quantized("mixed", &[]) }).expect("compiles");
    let (expected, found) = (logits(&float, &ids), logits(&compilation, &ids));
    let noise: f64 = expected.iter().zip(&found).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let energy: f64 = expected.iter().map(|value| f64::from(*value).powi(2)).sum();
    assert!(noise > 0.0 && noise / energy < 2e-2, "{}", noise / energy);
}

fn calibrated(preset: &str) -> CompileOptions {
    let mut options = quantized(preset, &[]);
    if let Some(quantize) = &mut options.quantize {
        quantize.calibration = Some(Calibration {
            text: Some(tests_folder().join("models/calibration.txt")),
            samples: Vec::new(),
            window: 64,
            tokens: 256,
            method: Method::Gptq,
            scaling: Scaling::Auto,
            activation_scales: ActivationScales::Rows,
            sensitivity: false,
        });
    }
    options
}

fn bytes_of(compilation: &Compilation, path: &Path) -> Vec<u8> {
    compilation.write(path).unwrap_or_else(|problem| panic!("{problem}"));
    std::fs::read(path).expect("the artifact is there")
}

#[test]
fn a_calibration_and_its_plan_give_the_same_artifact() {
    let folder = tempfile::tempdir().expect("a folder");
    let (session, model) = (Session::new(), tests_folder().join("models/story-3m"));
    let source = Source::open(&model).expect("the story model");
    let options = calibrated("w4a8_g128");
    // 512 and 192 weights per channel: groups of 128 do not divide the latter.
    let options = CompileOptions {
        quantize: options.quantize.map(|quantize| QuantizeOptions { allows_fallback: true, ..quantize }),
        ..options
    };
    let plan = folder.path().join("story.plan.json");
    let mut writer = Writer::create(&plan).expect("a plan");
    let keep = |weight: Prepared| writer.add(&weight).map_err(|problem| vec![problem]);
    let (found, _) = prepare(&session, &source, &options, &|_| {}, keep).expect("a calibration");
    assert!(found.report.rows.iter().all(|row| row.method.ends_with("gptq") && row.output_error < 0.1));
    assert!(
        found.report.rows.iter().any(|row| row.method.starts_with("smoothquant ")),
        "no input was divided"
    );
    let share: f64 = found.report.rows.iter().map(|row| row.loss_share).sum();
    assert!((share - 1.0).abs() < 1e-9, "{share}");
    writer.finish(&found.module, &found.decisions, &found.report.rows, found.activations).expect("written");
    let by_plan = CompileOptions {
        quantize: Some(QuantizeOptions { plan: Some(plan.clone()), ..QuantizeOptions::default() }),
        ..options.clone()
    };
    let at_once = story(&CompileOptions { threads: Some(1), ..options }).expect("compiles");
    let in_two = story(&by_plan).expect("compiles");
    let text = disassembled(&in_two);
    let is_integer = |line: &&str| {
        let a = line.split(" a=").nth(1).and_then(|rest| rest.split(']').nth(1));
        line.contains("matmul matrix") && a.is_some_and(|element| element.starts_with(" i8<"))
    };
    assert!(text.lines().any(|line| is_integer(&line)), "no product takes int8 rows");
    let (one, two) = (folder.path().join("one.npu"), folder.path().join("two.npu"));
    assert!(bytes_of(&at_once, &one) == bytes_of(&in_two, &two), "the artifacts differ");
    // A plan of another model is refused, each weight named.
    let draft = Source::open(&tests_folder().join("models/story-draft")).expect("the draft model");
    let problems = session.compile(&draft, &by_plan).err().expect("another model's plan");
    assert!(problems.iter().all(|one| one.what.contains("story.plan.json")), "{problems:?}");
}
