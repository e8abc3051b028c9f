//! Whole models through the whole chain: the recorded text of the story models, the recorded outputs of exported models on the
//! reference evaluator and on `npu-gen3`, what runs where, how many kernels a layer takes, and that the same input gives the same bytes.
//!
//! The recorded cases beside the repository are run when they are there. `TILEWRIGHT_CASE=word` runs only the cases whose name holds
//! the word.

mod end_to_end_cascades;
mod end_to_end_host_cpu;
mod end_to_end_machines;
mod roofline;
mod waits;

use harness::recorded::{own_cases, shared_cases, tests_folder};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tilewright::cases::{self, Case};
use tilewright::driver::{Compilation, CompileOptions, Level};
use tilewright::execute::{On, bind, execute};
use tilewright::import::Activations;
use tilewright::loaded::Loaded;
use tilewright::metrics::compare;
use tilewright::model::Source;
use tilewright::plan::PlanOptions;
use tilewright::session::Session;
use tilewright::tokens::TokenCodec;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::element::Element;
use tilewright_ir::tensor::Tensor;
use tilewright_runtime::generate::generation::{Generation, Settings};
use tilewright_runtime::generate::session::{ArtifactModel, TokenModel};
use tilewright_targets::memory_plan::Proof;

const TARGET: &str = "npu-gen3";
/// SRAM sizes that one model must agree on.
const SRAM_BYTES: [u64; 4] = [256 << 10, 512 << 10, 1 << 20, 4 << 20];

/// Recorded outputs that are not what the operators define, or not within the tolerance: the case, where ("" is everywhere), why. One that agrees is a failure, so that the list stays short.
const PARITY_EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("llama-torch18-qdq-a16w8", "reference", NEIGHBOURING_STEP),
    ("llama-torch18-qdq-a16w8", "host-cpu", NEIGHBOURING_STEP),
];
const NEIGHBOURING_STEP: &str = "sums in f32 fall on the neighbouring one of 65536 steps in 3 of 1024";

/// What a node that is not on the target may be called: everything else is a fallback that counts as a fault.
const HEAVY_OPS: &[&str] = &[
    "core.matmul",
    "core.matmul_integer",
    "core.linear",
    "core.attention",
    "core.rms_norm",
    "core.layer_norm",
    "core.softmax",
    "core.log_softmax",
    "core.convolution",
    "core.conv_transpose",
    "core.pool",
    "core.rope",
    "core.glu",
    "kernel ",
];

fn list(problems: &[Diagnostic]) -> String {
    problems.iter().take(3).map(|problem| format!("{problem}; ")).collect()
}

fn npu(window: usize, chunk_lengths: &[usize]) -> CompileOptions {
    CompileOptions {
        target: TARGET.into(),
        plan: PlanOptions {
            chunk_lengths: chunk_lengths.to_vec(),
            context_window: Some(window),
            ..PlanOptions::default()
        },
        ..CompileOptions::default()
    }
}

fn compiled(session: &Session, model: &Path, options: &CompileOptions) -> Compilation {
    let source = Source::open(model).unwrap_or_else(|problem| panic!("{problem}"));
    session
        .compile(&source, options)
        .unwrap_or_else(|problems| panic!("{}: {}", model.display(), list(&problems)))
}

/// Compiles, writes the artifact, and gives its bytes.
fn artifact_bytes(session: &Session, model: &Path, options: &CompileOptions) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.npu");
    compiled(session, model, options).write(&path).unwrap_or_else(|problem| panic!("{problem}"));
    std::fs::read(path).expect("the artifact")
}

/// A token model over an artifact file, as `generate` makes it.
fn story(session: &Session, name: &str, options: &CompileOptions) -> (tempfile::TempDir, ArtifactModel) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.npu");
    let model = tests_folder().join("models").join(name);
    compiled(session, &model, options).write(&path).unwrap_or_else(|problem| panic!("{problem}"));
    let loaded = Loaded::open(&path).unwrap_or_else(|problems| panic!("{name}: {}", list(&problems)));
    (folder, ArtifactModel::new(loaded.session).expect("a token model"))
}

fn greedy(model: &mut ArtifactModel, prompt: &[u32], count: usize) -> Vec<u32> {
    let settings = Settings { token_count_max: count, ..Settings::default() };
    let mut generation = Generation::start(model, prompt, settings).expect("the prompt runs");
    std::iter::from_fn(|| generation.next_token().expect("the model runs")).collect()
}

/// One recorded text of ONNX Runtime.
struct Recorded {
    prompt: String,
    prompt_ids: Vec<u32>,
    ids: Vec<u32>,
    text: String,
}

fn recorded(name: &str) -> Vec<Recorded> {
    let path = tests_folder().join("models").join(name).join("greedy.json");
    let text = std::fs::read_to_string(&path).expect("greedy.json");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let ids = |value: &serde_json::Value| -> Vec<u32> {
        value.as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
    };
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_string();
    let cases = json["cases"].as_array().expect("cases").iter();
    cases
        .map(|case| Recorded {
            prompt: text(&case["prompt"]),
            prompt_ids: ids(&case["prompt_ids"]),
            ids: ids(&case["ids"]),
            text: text(&case["text"]),
        })
        .collect()
}

#[test]
fn stories_are_those_of_onnx_runtime_token_for_token() {
    let session = Session::new();
    for name in ["story-3m", "story-draft"] {
        let (_folder, mut model) = story(&session, name, &npu(256, &[1, 32]));
        let tokenizer = std::fs::read(tests_folder().join("models").join(name).join("tokenizer.json"));
        let codec = TokenCodec::from_bytes(&tokenizer.expect("a tokenizer")).expect("a tokenizer");
        let texts = recorded(name);
        assert!(texts.len() >= if name == "story-3m" { 5 } else { 1 }, "{name}: {} prompts", texts.len());
        for one in texts {
            assert_eq!(one.ids.len(), 64, "{name}: 64 tokens are recorded for {:?}", one.prompt);
            assert_eq!(
                codec.encode(&one.prompt).expect("a prompt"),
                one.prompt_ids,
                "{name}: {:?}",
                one.prompt
            );
            let found = greedy(&mut model, &one.prompt_ids, one.ids.len());
            assert_eq!(found, one.ids, "{name}: after {:?}: {}", one.prompt, codec.decode(&found));
            assert_eq!(codec.decode(&found), one.text, "{name}: {:?}", one.prompt);
        }
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_with_any_number_of_threads() {
    let session = Session::new();
    let models = tests_folder().join("models");
    for name in ["story-3m", "cases/opt-llama", "cases/mobilenetv2-tiny-torch18-qdq-i8"] {
        let bytes = |threads: usize| {
            let bindings = BTreeMap::from([("batch".to_string(), 1)]);
            let options = CompileOptions { threads: Some(threads), bindings, ..npu(256, &[1, 8]) };
            artifact_bytes(&session, &models.join(name), &options)
        };
        let first = bytes(1);
        for threads in [2, 1] {
            let again = bytes(threads);
            let differs = first.iter().zip(&again).position(|(a, b)| a != b);
            assert!(
                first.len() == again.len() && differs.is_none(),
                "{name}: {} bytes with 1 thread, {} with {threads}; first difference at {differs:?}",
                first.len(),
                again.len()
            );
        }
    }
}

/// All recorded cases, those of the repository first; `(name, folder)`.
fn all_cases() -> Vec<(String, PathBuf)> {
    let only = std::env::var("TILEWRIGHT_CASE").unwrap_or_default();
    let mut found = BTreeMap::new();
    for folder in shared_cases().into_iter().chain(own_cases()) {
        let root = folder.parent().expect("a parent").to_path_buf();
        for case in cases::find(&folder).unwrap_or_else(|problem| panic!("{problem}")) {
            let name = case.strip_prefix(&root).expect("below its root").display().to_string();
            found.insert(name, case);
        }
    }
    found.into_iter().filter(|(name, _)| name.contains(&only)).collect()
}

/// Sets recorded with DequantizeLinear and MatMul fused: ONNX Runtime rounded activations to int8 there too.
const RECORDED_FUSED: &[&str] = &["std-llama-opset24-int4/decode_s1", "std-llama-opset24-int4/prefill_p0"];

/// How the recorded outputs were made: ONNX Runtime rounds activations where a node permits it.
fn recorded_activations(name: &str) -> Activations {
    if RECORDED_FUSED.contains(&name) { Activations::Int8Fused } else { Activations::Int8 }
}

fn as_recorded(name: &str) -> CompileOptions {
    let activations = recorded_activations(name);
    CompileOptions { target: TARGET.into(), activations, ..CompileOptions::default() }
}

/// The outputs of a case that are over the tolerance; empty when it agrees.
fn disagreements(case: &Case, found: &[Tensor]) -> Vec<String> {
    if found.len() != case.outputs.len() {
        return vec![format!("{} outputs, expected {}", found.len(), case.outputs.len())];
    }
    let mut over = Vec::new();
    for (index, (found, expected)) in found.iter().zip(&case.outputs).enumerate() {
        let coarse = matches!(expected.element, Element::F16 | Element::BF16);
        let (rtol, atol) = if coarse { (1e-2, 1e-2) } else { (1e-3, 1e-4) };
        match compare(found, expected, rtol, atol) {
            Ok(distance) if distance.mismatches == 0 => {}
            Ok(distance) => over.push(format!(
                "output {index}: {} of {} over, at most {:.2e}",
                distance.mismatches, distance.elements, distance.max_absolute_error
            )),
            Err(problem) => over.push(format!("output {index}: {problem}")),
        }
    }
    over
}

/// Sorts verdicts into faults and exceptions; an exception that agrees is a fault too.
#[derive(Default)]
struct Verdicts {
    agreed: usize,
    excepted: usize,
    faults: Vec<String>,
}

impl Verdicts {
    fn add(&mut self, name: &str, on: &str, found: Result<Vec<String>, Vec<Diagnostic>>) {
        let exception = PARITY_EXCEPTIONS
            .iter()
            .find(|(part, place, _)| name == *part && (place.is_empty() || *place == on));
        match (found, exception) {
            (Ok(over), None) if over.is_empty() => self.agreed += 1,
            (Ok(over), Some(_)) if over.is_empty() => {
                self.faults.push(format!("{name} on {on}: agrees now, remove its exception"));
            }
            (Ok(_), Some(_)) => self.excepted += 1,
            (Ok(over), None) => self.faults.push(format!("{name} on {on}: {}", over.join("; "))),
            (Err(_), Some(_)) => self.excepted += 1,
            (Err(problems), None) => self.faults.push(format!("{name} on {on}: {}", list(&problems))),
        }
    }

    fn finish(self) {
        println!("{} agree, {} are excepted, {} are at fault", self.agreed, self.excepted, self.faults.len());
        assert!(self.faults.is_empty(), "{} faults:\n  {}", self.faults.len(), self.faults.join("\n  "));
    }
}

fn read(folder: &Path) -> Case {
    cases::read(folder).unwrap_or_else(|problems| panic!("{}: {}", folder.display(), list(&problems)))
}

#[test]
fn recorded_cases_agree_on_the_reference() {
    let session = Session::new();
    let mut verdicts = Verdicts::default();
    for (name, folder) in all_cases() {
        let case = read(&folder);
        if case.inputs.is_empty() {
            println!("{name}: nobody could record values for it");
            continue;
        }
        let source = Source::Onnx(case.model.clone());
        let found = execute(&session, &source, &case.inputs, &On::Reference(&as_recorded(&name)));
        let found = found.map(|found| disagreements(&case, &found));
        verdicts.add(&name, "reference", found);
    }
    verdicts.finish();
}

/// Compiles a case with its symbols bound from its inputs.
fn compile_case(
    session: &Session,
    case: &Case,
    options: &CompileOptions,
) -> Result<Compilation, Vec<Diagnostic>> {
    let source = Source::Onnx(case.model.clone());
    let imported = session.import(&source, &BTreeMap::new(), options.activations)?;
    let function = imported.module.functions()[0];
    let signature = tilewright::signature::Signature::of(&imported.module, function);
    let mut options = options.clone();
    let bindings = bind(&signature.inputs, &case.inputs)?;
    options.bindings.extend(bindings.iter().map(|(name, value)| (name.to_string(), *value)));
    session.compile(&source, &options)
}

/// Compiled for the target and run; `compilation` shows what ran where.
fn run_case(
    session: &Session,
    case: &Case,
    options: &CompileOptions,
) -> Result<(Vec<Tensor>, Compilation), Vec<Diagnostic>> {
    let compilation = compile_case(session, case, options)?;
    let mut loaded = Loaded::from_compilation(&compilation)?;
    let found = loaded.run_once(&compilation.signature, &case.inputs)?;
    Ok((found, compilation))
}

/// How good the memory plans are: each must be as low as what is alive at once, or proved to be the lowest there is.
#[derive(Default)]
struct MemoryPlans {
    at_bound: usize,
    optimal: usize,
}

impl MemoryPlans {
    fn add(&mut self, name: &str, compilation: &Compilation, faults: &mut Vec<String>) {
        for report in &compilation.programs {
            for plan in &report.memory {
                match plan.proof {
                    Proof::AtLowerBound => self.at_bound += 1,
                    Proof::Optimal => self.optimal += 1,
                    _ => faults.push(format!("{name}: {}: nothing is known about {plan}", report.name)),
                }
            }
        }
    }
}

impl std::fmt::Display for MemoryPlans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let MemoryPlans { at_bound, optimal } = self;
        write!(
            f,
            "memory plans: {at_bound} at the lower bound, {optimal} above it and proved to be the lowest"
        )
    }
}

#[test]
fn recorded_cases_agree_on_the_target_and_run_there() {
    let session = Session::new();
    let mut verdicts = Verdicts::default();
    let mut fallbacks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut plans = MemoryPlans::default();
    for (name, folder) in all_cases() {
        let case = read(&folder);
        if case.inputs.is_empty() {
            continue;
        }
        let found = run_case(&session, &case, &as_recorded(&name)).map(|(found, compilation)| {
            plans.add(&name, &compilation, &mut verdicts.faults);
            for row in compilation.programs.iter().flat_map(|report| report.placement.fallbacks()) {
                if HEAVY_OPS.iter().any(|heavy| row.op.starts_with(heavy)) {
                    let what = format!("{} ({}) runs on the host: {}", row.op, row.location, row.reason);
                    verdicts.faults.push(format!("{name}: {what}"));
                }
                let seen = fallbacks.entry(format!("{}: {}", row.op, row.reason)).or_default();
                if !seen.contains(&name) {
                    seen.push(name.clone());
                }
            }
            disagreements(&case, &found)
        });
        verdicts.add(&name, TARGET, found);
    }
    for (what, names) in fallbacks {
        println!("on the host in {} cases: {what}", names.len());
    }
    println!("{plans}");
    verdicts.finish();
}

#[test]
fn one_model_agrees_for_every_size_of_sram() {
    let session = Session::new();
    let mut verdicts = Verdicts::default();
    for folder in own_cases() {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let case = read(&folder);
        for bytes in SRAM_BYTES {
            let options = CompileOptions { sram_bytes: Some(bytes), ..as_recorded(&name) };
            let found = run_case(&session, &case, &options);
            verdicts.add(&name, TARGET, found.map(|(found, _)| disagreements(&case, &found)));
        }
    }
    verdicts.finish();
    let texts = recorded("story-3m");
    for bytes in SRAM_BYTES {
        let options = CompileOptions { sram_bytes: Some(bytes), ..npu(128, &[1, 16]) };
        let (_folder, mut model) = story(&session, "story-3m", &options);
        let found = greedy(&mut model, &texts[0].prompt_ids, 12);
        assert_eq!(found, texts[0].ids[..12], "story-3m with {bytes} bytes of SRAM");
    }
}

#[test]
fn a_window_of_8192_takes_prompts_in_chunks_and_goes_on_from_them() {
    let session = Session::new();
    let (_folder, mut model) = story(&session, "story-3m", &npu(8192, &[1, 8, 32]));
    assert_eq!(model.context_window(), 8192);
    // A prompt of more than three of the longest chunk, that ends within one.
    let one = &recorded("story-3m")[0];
    let prompt: Vec<u32> = one.prompt_ids.iter().chain(&one.ids).copied().cycle().take(107).collect();
    let whole = greedy(&mut model, &prompt, 48);
    // Token by token, past two more boundaries of chunks: what was made so far as the prompt must go on in the same way.
    let longer: Vec<u32> = prompt.iter().chain(&whole[..29]).copied().collect();
    assert_eq!(greedy(&mut model, &longer, 19), whole[29..], "a fresh run from the middle");
    let (_folder, mut single) = story(&session, "story-3m", &npu(256, &[1]));
    assert_eq!(greedy(&mut single, &prompt, 48), whole, "a run without chunks");
    let full: Vec<u32> = prompt.iter().copied().cycle().take(8193).collect();
    let error = Generation::start(&mut model, &full, Settings::default()).err().expect("too long");
    assert!(error.to_string().contains("8192"), "{error}");
}

/// Language models by family.
const FAMILIES: &[&str] = &["llama", "qwen2_5", "phi3", "mistral", "gemma2", "smollm2"];
const KERNELS_PER_LAYER: usize = 8;
/// Exports whose layers take more than [`KERNELS_PER_LAYER`] kernels: how many at most, and why. Lower a number when it has sunk.
const KERNEL_EXCEPTIONS: &[(&str, usize, &str)] = &[
    ("llama-torch18-dyn-i8", 26, QUANTIZED),
    ("llama-torch18-qdq-a16w8", 136, QUANTIZED),
    ("llama-torch18-qdq-i8", 136, QUANTIZED),
    ("llama-torch18-qdq-u8u8", 136, QUANTIZED),
    ("llama-torch18-qop-u8i8", 132, QUANTIZED),
];
const QUANTIZED: &str = "every op stands between quantise and dequantise, which a bit-true result keeps";

/// What a layer repeats: kernels that occur at least once per layer, by kind, ops and types. Those before the first and after the last
/// layer occur once in all.
fn kernels_per_layer(text: &str, layers: usize) -> usize {
    let session = Session::new();
    let options = tilewright_ir::parse::ParseOptions { stand_in_seed: Some(1), ..Default::default() };
    let module = tilewright_ir::parse::parse(text, &session.registry, &options)
        .unwrap_or_else(|problems| panic!("{}", list(&problems)));
    let function = module.functions()[0];
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for op in &module.block(module.entry(function, 0)).ops {
        if !tilewright_passes::form_kernels::is_compute(module.op(*op).def) {
            continue;
        }
        let mut signature = String::new();
        module.walk(*op, &mut |inner| {
            if !module.op(inner).def.is(tilewright_ir::op_def::Traits::CONSTANT) {
                signature += module.op(inner).def.name;
                // Sine and cosine are two kernels, not one of each of two layers.
                let function = module.op(inner).attributes.get("function").and_then(|one| one.as_str());
                signature += function.unwrap_or_default();
                for result in &module.op(inner).results {
                    signature += &format!(" {}", module.value(*result).ty);
                }
                signature.push('\n');
            }
        });
        *counts.entry(signature).or_default() += 1;
    }
    counts.values().map(|count| count / layers).sum()
}

/// Language models among the cases; `(name, model)`.
fn language_models() -> Vec<(String, PathBuf)> {
    let is_one = |name: &str| FAMILIES.iter().any(|family| name.contains(family));
    let models = all_cases().into_iter().map(|(name, folder)| (name, folder.join("model.onnx")));
    models.filter(|(name, model)| model.is_file() && is_one(name)).collect()
}

/// Every language model must write in chunks as it does token by token, compiled as `of` says for some chunk lengths.
fn assert_chunks_write_alike(of: impl Fn(&[usize]) -> CompileOptions) {
    let session = Session::new();
    let mut faults = Vec::new();
    // An export without its embedding takes vectors, which no text gives.
    for (name, path) in language_models().into_iter().filter(|(name, _)| !name.contains("noembed")) {
        let written = |chunk_lengths: &[usize]| -> Result<Vec<u32>, String> {
            let compilation = session
                .compile(&Source::Onnx(path.clone()), &of(chunk_lengths))
                .map_err(|problems| list(&problems))?;
            let loaded = Loaded::from_compilation(&compilation).map_err(|problems| list(&problems))?;
            let mut model = ArtifactModel::new(loaded.session).map_err(|error| error.to_string())?;
            Ok(greedy(&mut model, &[1, 5, 9, 2, 7, 11, 3, 8, 6, 4], 6))
        };
        match (written(&[1]), written(&[1, 4])) {
            (Ok(single), Ok(chunks)) if single == chunks && single.len() == 6 => {}
            (Ok(single), Ok(chunks)) => {
                faults.push(format!("{name}: {single:?} one by one, {chunks:?} in chunks"))
            }
            (Err(problem), _) | (_, Err(problem)) => faults.push(format!("{name}: {problem}")),
        }
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[test]
fn every_language_model_writes_in_chunks_as_it_does_token_by_token() {
    assert_chunks_write_alike(|chunk_lengths| npu(64, chunk_lengths));
}

#[test]
fn a_layer_takes_few_kernels() {
    let session = Session::new();
    let mut table = String::new();
    // The models of the repository are there on every machine: their counts are a snapshot.
    let own: Vec<PathBuf> = own_cases();
    let mut own_table = String::new();
    let mut faults = Vec::new();
    for (name, model) in language_models() {
        let options = CompileOptions { compile_to: Level::Kernels, ..npu(256, &[1]) };
        let compilation = match session.compile(&Source::Onnx(model), &options) {
            Ok(compilation) => compilation,
            Err(problems) => {
                faults.push(format!("{name}: {}", list(&problems)));
                continue;
            }
        };
        let layers = compilation.signature.states().count() / 2;
        let report = &compilation.programs[0];
        let count = kernels_per_layer(&report.text, layers.max(1));
        let line = format!(
            "{name:<32} {layers} layers  {count:>3} kernels each  {:>3} in all\n",
            report.kernel_count
        );
        table += &line;
        if own.iter().any(|folder| folder.ends_with(&name)) {
            own_table += &line;
        }
        let exception = KERNEL_EXCEPTIONS.iter().find(|(known, _, _)| *known == name);
        let most = exception.map_or(KERNELS_PER_LAYER, |(_, most, _)| *most);
        if count > most || count == 0 {
            faults.push(format!("{name}: {count} kernels per layer, at most {most} are allowed"));
        }
    }
    println!("{table}");
    assert!(faults.is_empty(), "{table}\n{}", faults.join("\n"));
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "." }, {
        insta::assert_snapshot!("kernels_per_layer", own_table);
    });
}
