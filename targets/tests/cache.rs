//! Caches in f16, 8 and 4 bits: programs against the evaluator at many lengths and cuts of the tokens into runs; trimming, snapshots.

mod common;

use common::module_of;
use tilewright_ir::dim::Bindings;
use tilewright_ir::evaluate;
use tilewright_ir::module::Module;
use tilewright_ir::registry::Registry;
use tilewright_ir::sample::Sampler;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;
use tilewright_passes::pass::{PassContext, Passes};
use tilewright_passes::pipeline::PassManager;
use tilewright_runtime::interpreter::TransferMode;
use tilewright_runtime::kv_cache;
use tilewright_runtime::session::{Options as RunOptions, Session};
use tilewright_runtime::timing::{Request, estimate};
use tilewright_targets::emit::constants::ConstantPool;
use tilewright_targets::lower::{Options, compile_function};
use tilewright_targets::npu_gen3::NPU_GEN3;
use tilewright_targets::npu_gen3::check::check as check_rules;
use tilewright_targets::target::{HOST, Target};

/// Longest context, tokens of a run by program, and widths: two key heads for four query heads.
const WINDOW: usize = 200;
const CHUNKS: [usize; 4] = [1, 7, 32, 96];
const HEADS: usize = 4;
const GROUPS: usize = 2;
const WIDTH: usize = 32;

/// One attention over caches, as an exporter writes it, in runs of `count` tokens.
fn source(count: usize, attributes: &str) -> String {
    let new = format!("tensor<1x{GROUPS}x{count}x{WIDTH}xf32>");
    let q = format!("tensor<1x{HEADS}x{count}x{WIDTH}xf32>");
    let past = format!("tensor<1x{GROUPS}x?x{WIDTH}xf32, [\"p\"]>");
    let all = format!("tensor<1x{GROUPS}x?x{WIDTH}xf32, [\"p + {count}\"]>");
    format!(
        r#""func.func"() <{{arg_attrs = [{{tw.name = "q"}}, {{tw.name = "k"}}, {{tw.name = "v"}}, {{tw.name = "past.0.key", tw.state = "present.0.key"}}, {{tw.name = "past.0.value", tw.state = "present.0.value"}}], function_type = ({q}, {new}, {new}, {past}, {past}) -> ({q}, {all}, {all}), res_attrs = [{{tw.name = "y"}}, {{tw.name = "present.0.key"}}, {{tw.name = "present.0.value"}}], sym_name = "main"}}> ({{
        ^bb0(%q: {q}, %k: {new}, %v: {new}, %pk: {past}, %pv: {past}):
          %ck = "core.concat"(%pk, %k) <{{axis = 2 : i64}}> : ({past}, {new}) -> {all}
          %cv = "core.concat"(%pv, %v) <{{axis = 2 : i64}}> : ({past}, {new}) -> {all}
          %y = "core.attention"(%q, %ck, %cv) <{{{attributes}operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, scale = 0.3}}> : ({q}, {all}, {all}) -> {q}
          "func.return"(%y, %ck, %cv) : ({q}, {all}, {all}) -> ()
        }}) : () -> ()"#
    )
}

/// The modules for every chunk length, after the pass.
fn modules(format: &str, attributes: &str) -> Vec<Module> {
    modules_for(format, attributes, WINDOW)
}

fn modules_for(format: &str, attributes: &str, window: usize) -> Vec<Module> {
    let longest = CHUNKS[CHUNKS.len() - 1];
    let pipeline = format!("quantize-kv-cache{{format={format} tokens={window} chunk={longest}}}");
    let manager = PassManager::parse(&pipeline, &Passes::default()).expect("a pipeline");
    let make = |count: usize| {
        let mut module = module_of(&source(count, attributes));
        let mut context = PassContext::new(Registry::builtin());
        manager.run(&mut module, &mut context, &mut []).expect("the pass runs");
        assert_eq!(context.diagnostics, []);
        let problems = tilewright_ir::verify::verify(&module);
        assert!(problems.is_empty(), "{}", problems[0]);
        module
    };
    CHUNKS.into_iter().map(make).collect()
}

/// A session over the programs of all chunk lengths; late transfers show a wait that is missing.
fn session(modules: &[Module], target: &'static Target) -> Session {
    session_for(modules, target, WINDOW)
}

fn session_for(modules: &[Module], target: &'static Target, window: usize) -> Session {
    let mut constants = ConstantPool::new();
    let mut programs = Vec::new();
    for (module, count) in modules.iter().zip(CHUNKS) {
        let options = Options {
            name: format!("chunk_{count}"),
            chunk_length: count as u32,
            context_window: Some(window as i64),
            ..Options::default()
        };
        let machine = target.machine();
        let compiled = compile_function(module, "main", target, &machine, &options, &mut constants)
            .unwrap_or_else(|errors| panic!("{}", errors[0]));
        if target.name == NPU_GEN3.name {
            compiled.placement.require_target(target.name).unwrap_or_else(|problem| panic!("{problem}"));
            assert_eq!(check_rules(&compiled.program, &machine), []);
        }
        programs.push(compiled.program);
    }
    let image = constants.image().expect("constants");
    let options = RunOptions { transfer_mode: TransferMode::AtWait, ..RunOptions::default() };
    Session::from_programs(programs, image, options).unwrap_or_else(|error| panic!("{error}"))
}

/// What a text brings: q, k, v of every token. Some channels of k are large, as in trained models.
struct Tokens([Tensor; 3]);

impl Tokens {
    fn new(count: usize, seed: u64) -> Tokens {
        let mut sampler = Sampler::new(seed);
        let mut make = |heads: usize| {
            let ty = TensorType::of(
                tilewright_ir::element::Element::F32,
                &[1, heads as i64, count as i64, WIDTH as i64],
            );
            sampler.tensor(&ty, &Bindings::new()).expect("a tensor")
        };
        let (q, k, v) = (make(HEADS), make(GROUPS), make(GROUPS));
        let large =
            k.floats().iter().enumerate().map(|(at, x)| if at % WIDTH == 3 { 8.0 + x } else { *x }).collect();
        Tokens([q, Tensor::from_floats(k.element, &k.shape, large), v])
    }

    /// Tokens `start .. start + count`, zeros past the end.
    fn part(&self, start: usize, count: usize) -> [Tensor; 3] {
        let cut = |x: &Tensor| {
            let (heads, all) = (x.shape[1], x.shape[2]);
            let values = x.floats();
            let pick = |head: usize, token: usize, at: usize| match token < all {
                true => values[(head * all + token) * WIDTH + at],
                false => 77.0,
            };
            let values = (0..heads)
                .flat_map(|head| (start..start + count).map(move |token| (head, token)))
                .flat_map(|(head, token)| (0..WIDTH).map(move |at| (head, token, at)))
                .map(|(head, token, at)| pick(head, token, at))
                .collect();
            Tensor::from_floats(x.element, &[1, heads, count, WIDTH], values)
        };
        [cut(&self.0[0]), cut(&self.0[1]), cut(&self.0[2])]
    }
}

/// Rows [heads, count, width] to count rows of [heads * width].
fn by_token(values: &[f64], count: usize) -> Vec<Vec<f64>> {
    let row = |token: usize| {
        (0..HEADS).flat_map(|head| &values[(head * count + token) * WIDTH..][..WIDTH]).copied().collect()
    };
    (0..count).map(row).collect()
}

/// Runs one chunk; a row of results per real token.
fn step(session: &mut Session, tokens: &Tokens, past: usize, count: usize) -> Vec<Vec<f64>> {
    session.select(CHUNKS.iter().position(|chunk| *chunk == count).expect("a program of that length"));
    session.bind("p", past as i64).expect("in the window");
    for (name, tensor) in ["q", "k", "v"].into_iter().zip(tokens.part(past, count)) {
        session.set_input(name, &tensor.shape, &tensor.to_bytes()).expect("fits");
    }
    session.run().unwrap_or_else(|error| panic!("after {past}: {error}"));
    let found: Vec<f64> = session.output("y").expect("y").to_f32().into_iter().map(f64::from).collect();
    by_token(&found, count)
}

/// Runs chunks one after another, from the first token on.
fn run(session: &mut Session, tokens: &Tokens, chunks: &[usize]) -> Vec<Vec<f64>> {
    session.reset_state();
    let mut past = 0;
    let mut rows = Vec::new();
    for count in chunks {
        rows.extend(step(session, tokens, past, *count));
        past += count;
    }
    rows
}

/// The same on the evaluator, states handed on from run to run.
fn evaluated(modules: &[Module], tokens: &Tokens, chunks: &[usize]) -> Vec<Vec<f64>> {
    let function = modules[0].function("main").expect("main");
    let arguments = modules[0].block(modules[0].entry(function, 0)).arguments[3..].to_vec();
    let empty = Bindings::from([("p".into(), 0)]);
    let mut states: Vec<Tensor> = arguments
        .iter()
        .map(|argument| {
            let ty = modules[0].tensor(*argument).expect("a tensor");
            let shape: Vec<usize> =
                ty.shape.iter().map(|dim| dim.evaluate(&empty).expect("known") as usize).collect();
            Tensor::splat(ty.element, &shape, 0.0)
        })
        .collect();
    let mut past = 0;
    let mut rows = Vec::new();
    for count in chunks {
        let at = CHUNKS.iter().position(|chunk| chunk == count).expect("a module of that length");
        let mut inputs = tokens.part(past, *count).to_vec();
        inputs.append(&mut states);
        let bindings = Bindings::from([("p".into(), past as i64)]);
        let mut outputs = evaluate::run_with(&modules[at], "main", &inputs, &bindings)
            .unwrap_or_else(|error| panic!("after {past}: {error}"));
        rows.extend(by_token(&outputs.remove(0).floats(), *count));
        states = outputs;
        past += count;
    }
    rows
}

fn assert_near(found: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (token, (found, expected)) in found.iter().zip(expected).enumerate() {
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= tolerance, "{what}: token {token}: {a}, expected {b}");
        }
    }
}

const CAUSAL: &str = "causal = true, ";
const FORMATS: [&str; 3] = ["f16", "kv8", "kv4"];

/// 150 tokens, cut in many ways.
const CUTS: [&[usize]; 4] = [
    &[96, 32, 7, 7, 7, 1],
    &[32, 32, 32, 32, 7, 7, 7, 1],
    &[7, 96, 32, 1, 7, 7],
    &[1, 1, 32, 7, 1, 96, 7, 1, 1, 1, 1, 1],
];

#[test]
fn programs_agree_with_the_evaluator_however_tokens_are_cut() {
    let tokens = Tokens::new(150, 5);
    for (format, attributes) in FORMATS
        .into_iter()
        .map(|format| (format, CAUSAL))
        .chain([("kv4", "causal = true, window = 50 : i64, ")])
    {
        let modules = modules(format, attributes);
        let expected = evaluated(&modules, &tokens, CUTS[0]);
        let other = evaluated(&modules, &tokens, CUTS[3]);
        assert_near(&other, &expected, 1e-9, &format!("{format}: the evaluator, cut in another way"));
        for target in [&HOST, &NPU_GEN3] {
            let mut session = session(&modules, target);
            for cut in CUTS {
                let found = run(&mut session, &tokens, cut);
                assert_near(&found, &expected, 1e-4, &format!("{format} on {} in {cut:?}", target.name));
            }
        }
    }
}

#[test]
fn blocks_need_no_causal_limit() {
    // What a query sees of the keys after it depends on the cut, so each cut has its own expectation.
    let (tokens, modules) = (Tokens::new(150, 5), modules("kv4", ""));
    let mut session = session(&modules, &NPU_GEN3);
    for cut in CUTS {
        let expected = evaluated(&modules, &tokens, cut);
        assert_near(&run(&mut session, &tokens, cut), &expected, 1e-4, &format!("{cut:?}"));
    }
}

#[test]
fn less_than_f16_changes_results_a_little() {
    let tokens = Tokens::new(150, 5);
    let plain = evaluated(&modules("f32", CAUSAL), &tokens, CUTS[1]);
    let error = |format: &str| {
        let found = evaluated(&modules(format, CAUSAL), &tokens, CUTS[1]);
        let pairs = found.iter().flatten().zip(plain.iter().flatten());
        let (mut wrong, mut whole) = (0.0, 0.0);
        pairs.for_each(|(a, b)| {
            wrong += (a - b).powi(2);
            whole += b * b;
        });
        (wrong / whole).sqrt()
    };
    let errors = FORMATS.map(error);
    assert!(errors[0] > 0.0 && errors[0] < 2e-3, "{errors:?}");
    assert!(errors[1] > errors[0] && errors[1] < 3e-2, "{errors:?}");
    assert!(errors[2] > errors[1] && errors[2] < 0.2, "{errors:?}");
}

#[test]
fn trimmed_tokens_were_never_seen_by_any_format() {
    let (tokens, others) = (Tokens::new(150, 5), Tokens::new(150, 6));
    for format in FORMATS {
        let modules = modules(format, CAUSAL);
        let mut session = session(&modules, &NPU_GEN3);
        let straight = run(&mut session, &tokens, &[96, 32, 1, 1, 1, 1]);
        // A detour of other tokens, and padding, taken back each time.
        session.reset_state();
        step(&mut session, &tokens, 0, 96);
        step(&mut session, &others, 96, 32);
        assert_eq!(session.trim_state(96), 96, "{format}");
        step(&mut session, &tokens, 96, 32);
        for _ in 0..3 {
            step(&mut session, &others, 128, 7);
            assert_eq!(session.trim_state(128), 128);
        }
        step(&mut session, &others, 128, 32);
        assert_eq!(session.trim_state(129), 129);
        assert_eq!(session.trim_state(128), 128);
        let rows: Vec<Vec<f64>> = (128..132).flat_map(|past| step(&mut session, &tokens, past, 1)).collect();
        assert_near(&rows, &straight[128..132], 0.0, format);
        // A snapshot goes on where it was taken.
        let ids: Vec<u32> = (0..132).collect();
        let snapshot = session.snapshot(&ids).expect("132 are held");
        let next = step(&mut session, &tokens, 132, 7);
        let mut other = self::session(&modules, &NPU_GEN3);
        assert_eq!(other.restore(&snapshot).expect("the same programs"), ids);
        assert_near(&step(&mut other, &tokens, 132, 7), &next, 0.0, format);
    }
}

#[test]
fn a_cache_in_blocks_returns_as_far_as_its_ring_reaches() {
    let tokens = Tokens::new(200, 5);
    let modules = modules("kv4", CAUSAL);
    let mut session = session(&modules, &NPU_GEN3);
    let straight = run(&mut session, &tokens, &[96, 96, 1]);
    // The ring holds 192 tokens; after 193, 64 would leave tokens from 32 on unsettled and 63 those from 0 on.
    assert!(
        session.program().states.iter().any(|state| state.recent.is_some_and(|recent| recent.ring == 192))
    );
    assert_eq!(session.trim_state(64), 64);
    assert_near(&step(&mut session, &tokens, 64, 96), &straight[64..160], 1e-4, "again");
    let mut far = self::session(&modules, &NPU_GEN3);
    run(&mut far, &tokens, &[96, 96, 7]);
    let message = {
        far.select(0);
        far.bind("p", 20).expect("in the window");
        far.run().expect_err("tokens 0.. were overwritten").to_string()
    };
    assert!(message.contains("begins after 20 tokens, the cache holds 199"), "{message}");
    assert_eq!(far.trim_state(20), 0, "everything is forgotten");
    assert_near(&step(&mut far, &tokens, 0, 32), &straight[..32], 1e-4, "from the start");
}

#[test]
fn states_shrink() {
    let bytes = |format: &str| {
        let session = session(&modules(format, CAUSAL), &NPU_GEN3);
        let program = &session.programs()[0];
        (kv_cache::bytes_per_token(program), kv_cache::fixed_bytes(program))
    };
    let values = GROUPS * WIDTH;
    assert_eq!(bytes("f32"), (8 * values as u64, 0));
    assert_eq!(bytes("f16"), (4 * values as u64, 0));
    // A byte an element and two f16 per token and head.
    assert_eq!(bytes("kv8"), ((2 * values + 2 * GROUPS * 4) as u64, 0));
    // Half a byte; values have two f16 per 32, keys two per channel and block, and a ring of 192 tokens.
    let rows = WINDOW.div_ceil(32);
    assert_eq!(bytes("kv4"), ((values + GROUPS * 4) as u64, (values * (4 * rows + 2 * 192)) as u64));
}

#[test]
fn a_window_of_8192_fits_and_moves_as_many_bytes_as_are_kept() {
    let bytes = |format: &str| {
        let session = session_for(&modules_for(format, CAUSAL, 8192), &NPU_GEN3, 8192);
        assert_eq!(kv_cache::context_window(&session.programs()[0]), Some(8192));
        let figures = tilewright_targets::figures::of(&NPU_GEN3.machine());
        let request = Request { registers: &[("p", 8000)], ..Request::default() };
        let moved =
            |program| estimate(program, &figures, &request).expect("can be followed").total.dram_bytes;
        [moved(&session.programs()[0]), moved(&session.programs()[2])]
    };
    let [plain, f16, kv8, kv4] = ["f32", "f16", "kv8", "kv4"].map(bytes);
    // One query tile reads the keys and values of 8000 tokens once.
    assert!(plain[0] > 8000 * 2 * (GROUPS * WIDTH * 4) as u64, "{plain:?}");
    for run in [0, 1] {
        assert!(f16[run] * 19 < plain[run] * 10, "{f16:?} {plain:?}");
        assert!(kv8[run] * 33 < plain[run] * 10, "{kv8:?} {plain:?}");
        assert!(kv4[run] * 50 < plain[run] * 10, "{kv4:?} {plain:?}");
    }
}
