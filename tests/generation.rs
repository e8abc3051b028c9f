//! Text generation with the story models: guessing ahead changes nothing but the speed, one pass reads each weight once, and the
//! command line with chats, samplers, statistics and ctrl-C.

use harness::recorded::{own_cases, shared_cases, tests_folder};
use std::path::{Path, PathBuf};
use tilewright::driver::CompileOptions;
use tilewright::kv_cache::KvCache;
use tilewright::loaded::Loaded;
use tilewright::model::Source;
use tilewright::plan::PlanOptions;
use tilewright::quantize::QuantizeOptions;
use tilewright::session::Session;
use tilewright::tokens::TokenCodec;
use tilewright_runtime::generate::generation::{Generation, Settings, Statistics};
use tilewright_runtime::generate::pace::{Costs, Pace};
use tilewright_runtime::generate::sample::{Sampler, Sampling};
use tilewright_runtime::generate::session::{ArtifactModel, GenerateError, TokenModel};
use tilewright_runtime::generate::speculate::{DraftModel, Drafter, NGrams, Proposal};
use tilewright_runtime::stream::Program;
use tilewright_runtime::timing::{Request, estimate};
use tilewright_runtime::view::Space;

const TARGET: &str = "npu-gen3";
const WINDOW: usize = 256;

const PROMPTS: [&str; 20] = [
    "Once upon a time",
    "The king said to his daughter",
    "Alice was beginning to",
    "There was an old woman who lived",
    "In the middle of the night",
    "\"Who are you?\" said the",
    "The wolf came to the door and",
    "Long ago, in a far country,",
    "He took the ring and the ring and the ring",
    "One fine day in spring the three brothers",
    "And so they went on, and on, and on, until",
    "A",
    "the",
    "It was a cold winter, and the snow lay deep",
    "She opened the box, and what did she see?",
    "The fisherman went down to the sea, and the fisherman went down to the sea",
    "Then the prince drew his sword.",
    "1 2 3 4 5 6 7",
    "My dear child,",
    "The end.\n\nThe story of the little tailor",
];

fn compiled(session: &Session, path: &Path, options: CompileOptions) -> ArtifactModel {
    let plan = PlanOptions { context_window: Some(WINDOW), ..options.plan };
    let options = CompileOptions { target: TARGET.into(), plan, ..options };
    let source = Source::open(path).expect("a model");
    let compilation = session.compile(&source, &options).unwrap_or_else(|problems| panic!("{problems:?}"));
    let loaded = Loaded::from_compilation(&compilation).unwrap_or_else(|problems| panic!("{problems:?}"));
    ArtifactModel::new(loaded.session).expect("a token model")
}

/// A story model with programs of these chunk lengths; of the usual ones when there are none.
fn story(session: &Session, name: &str, chunk_lengths: &[usize]) -> ArtifactModel {
    let plan =
        PlanOptions { chunk_lengths: chunk_lengths.to_vec(), context_window: None, ..PlanOptions::default() };
    let options = CompileOptions { plan, ..CompileOptions::default() };
    compiled(session, &tests_folder().join("models").join(name), options)
}

fn codec() -> TokenCodec {
    let bytes = std::fs::read(tests_folder().join("models/story-3m/tokenizer.json")).expect("a tokenizer");
    TokenCodec::from_bytes(&bytes).expect("a tokenizer")
}

/// Logits of one token after the other.
fn single_rows(model: &mut ArtifactModel, tokens: &[u32]) -> Vec<Vec<f32>> {
    model.reset();
    let one = |(past, token): (usize, &u32)| model.forward(past, &[*token]).expect("it runs");
    tokens.iter().enumerate().map(one).collect()
}

/// The first token whose logits are not those of single tokens to the bit, when `length` are run at a time.
fn first_difference(
    model: &mut ArtifactModel,
    tokens: &[u32],
    single: &[Vec<f32>],
    length: usize,
) -> Option<usize> {
    model.reset();
    let bits = |row: &[f32]| row.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
    for past in (0..tokens.len()).step_by(length) {
        let run = &tokens[past..tokens.len().min(past + length)];
        let rows = model.verify(past, run).expect("it runs");
        let vocabulary = rows.len() / run.len();
        let mut rows = rows.chunks_exact(vocabulary).zip(&single[past..]);
        if let Some(index) = rows.position(|(row, single)| bits(row) != bits(single)) {
            return Some(past + index);
        }
    }
    None
}

#[test]
fn one_pass_gives_the_bits_that_single_tokens_give() {
    let session = Session::new();
    let text = PROMPTS.join(" ");
    let tokens = &codec().encode(&text).expect("a prompt")[..100];
    let check = |name: &str, model: &mut ArtifactModel, lengths: &[usize]| {
        let single = single_rows(model, tokens);
        for &length in lengths {
            let found = first_difference(model, tokens, &single, length);
            assert_eq!(found, None, "{name}: {length} at a time, logits of this token differ");
        }
    };
    let mut usual = story(&session, "story-3m", &[]);
    check("story-3m", &mut usual, &[5, 8, 32]);
    // Programs of other lengths agree with these too.
    let single = single_rows(&mut usual, tokens);
    let mut others = story(&session, "story-3m", &[3, 8, 24]);
    for length in [1, 8, 24] {
        assert_eq!(first_difference(&mut others, tokens, &single, length), None, "{length} at a time");
    }
    // What is kept and multiplied in fewer bits depends on positions alone.
    for (kv_cache, preset) in [
        (None, "w4a8_g128"),
        (Some(KvCache::F16), "w8a8"),
        (Some(KvCache::Kv8), "int4"),
        (Some(KvCache::Kv4), "mixed"),
    ] {
        let quantize =
            QuantizeOptions { preset: preset.into(), allows_fallback: true, ..QuantizeOptions::default() };
        let options = CompileOptions { kv_cache, quantize: Some(quantize), ..CompileOptions::default() };
        let mut model = compiled(&session, &tests_folder().join("models/story-draft"), options);
        check(&format!("{kv_cache:?} {preset}"), &mut model, &[7, 32]);
    }
}

/// Exports of language models that take token ids: several families, exporters and quantisers.
fn language_models() -> Vec<PathBuf> {
    let families = ["llama", "qwen2_5", "phi3", "mistral", "gemma2", "smollm2"];
    let name =
        |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut all: Vec<PathBuf> = own_cases();
    all.extend(
        shared_cases().into_iter().filter(|path| !own_cases().iter().any(|own| name(own) == name(path))),
    );
    all.retain(|path| {
        families.iter().any(|family| name(path).contains(family)) && !name(path).contains("noembed")
    });
    all
}

/// Whose keys are rounded between the cache and its attention: the cache stays as it is, with a warning.
const ROUNDS_ITS_CACHE: &[&str] = &["-qdq-a16w8", "-qdq-i8", "-qdq-u8u8", "-qop-u8i8"];
/// Whose activations get one scale for all tokens of a run: what a token gives depends on the others.
const SCALES_BY_RUN: &[&str] = &["-dyn-i8"];

#[test]
fn every_language_model_keeps_its_cache_in_any_format_and_chunks() {
    let session = Session::new();
    let tokens: Vec<u32> = (0..90u32).map(|at| 1 + at * at * 7 % 50).collect();
    let mut faults = Vec::new();
    for path in language_models() {
        let mut plain: Option<Vec<Vec<f32>>> = None;
        for (kv_cache, tolerance) in [(None, 0.0), (Some(KvCache::Kv8), 0.05), (Some(KvCache::Kv4), 0.5)] {
            let name = format!("{} {kv_cache:?}", path.display());
            let options = CompileOptions { kv_cache, ..CompileOptions::default() };
            let mut model = compiled(&session, &path.join("model.onnx"), options);
            let states = &model.session().programs()[0].states;
            let is_kept_small = states.iter().any(|state| state.input.name.ends_with(".scale"));
            let is = |names: &[&str]| names.iter().any(|one| path.to_string_lossy().ends_with(one));
            if is_kept_small != (kv_cache.is_some() && !is(ROUNDS_ITS_CACHE)) {
                faults.push(format!("{name}: the cache is not kept so"));
            }
            let single = single_rows(&mut model, &tokens);
            let difference = first_difference(&mut model, &tokens, &single, 32);
            if let Some(at) = difference.filter(|_| !is(SCALES_BY_RUN)) {
                faults.push(format!("{name}: logits after token {at} differ in a run of 32"));
            }
            let plain = plain.get_or_insert_with(|| single.clone());
            let spread = plain.iter().flatten().fold(0f32, |most, logit| most.max(logit.abs()));
            let pairs = single.iter().flatten().zip(plain.iter().flatten());
            let most = pairs
                .fold(0f32, |most, (a, b)| if a.is_nan() { f32::INFINITY } else { most.max((a - b).abs()) });
            println!("{name}: off by {:.4} of {spread:.2}", most);
            if most > tolerance * spread {
                faults.push(format!("{name}: logits are off by {most} of {spread}"));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

fn greedy(
    model: &mut ArtifactModel,
    prompt: &[u32],
    drafter: Option<&mut dyn Drafter>,
) -> (Vec<u32>, Statistics) {
    at_pace(model, prompt, drafter, Pace::Always)
}

fn at_pace(
    model: &mut ArtifactModel,
    prompt: &[u32],
    drafter: Option<&mut dyn Drafter>,
    pace: Pace,
) -> (Vec<u32>, Statistics) {
    let settings = Settings { token_count_max: 32, ..Settings::default() };
    let mut generation = Generation::start(model, prompt, settings).expect("the prompt runs");
    if let Some(drafter) = drafter {
        generation.speculate(Box::new(drafter), 7, pace).expect("it can verify");
    }
    let tokens = std::iter::from_fn(|| generation.next_token().expect("it runs")).collect();
    (tokens, generation.statistics())
}

#[test]
fn speculative_greedy_is_plain_greedy_on_twenty_prompts() {
    let session = Session::new();
    let mut model = story(&session, "story-3m", &[]);
    let mut draft = DraftModel::new(story(&session, "story-draft", &[]));
    let mut own = DraftModel::new(story(&session, "story-3m", &[]));
    let codec = codec();
    let mut totals = [Statistics::default(); 3];
    for (index, prompt) in PROMPTS.iter().enumerate() {
        let ids = codec.encode(prompt).expect("a prompt");
        let (plain, _) = greedy(&mut model, &ids, None);
        let mut ngrams = NGrams::default();
        // The model as its own draft is expensive; it shows that nothing right is refused.
        let mut drafters: Vec<&mut dyn Drafter> = vec![&mut draft, &mut ngrams];
        if index == 0 {
            drafters.push(&mut own);
        }
        for (total, drafter) in totals.iter_mut().zip(drafters) {
            let (found, statistics) = greedy(&mut model, &ids, Some(drafter));
            assert_eq!(found, plain, "after {prompt:?}: {} / {}", codec.decode(&found), codec.decode(&plain));
            total.drafted += statistics.drafted;
            total.verified += statistics.verified;
            total.accepted += statistics.accepted;
            total.passes += statistics.passes;
        }
    }
    for (name, total) in ["story-draft", "n-grams", "the model itself"].iter().zip(&totals) {
        let acceptance = 100.0 * total.acceptance().unwrap_or(0.0);
        println!("{name}: {acceptance:.0} % of {} verified, {} passes", total.verified, total.passes);
    }
    assert!(totals[0].accepted > 100 && totals[1].accepted > 10, "{totals:?}");
    assert!(totals[0].passes < 20 * 31 * 3 / 4, "{totals:?}");
    assert_eq!((totals[2].accepted, totals[2].passes), (totals[2].drafted, 4), "{totals:?}");
}

#[test]
fn guesses_are_checked_on_quantised_caches_and_weights() {
    let session = Session::new();
    let codec = codec();
    // Long enough that blocks of keys are settled while guesses are checked.
    let text = codec.encode(&PROMPTS.join(" ")).expect("a prompt");
    let mut draft = DraftModel::new(story(&session, "story-draft", &[]));
    for (kv_cache, preset) in [(KvCache::Kv4, "int4"), (KvCache::Kv8, "w4a8_g128"), (KvCache::F16, "nf4_g64")]
    {
        let quantize =
            QuantizeOptions { preset: preset.into(), allows_fallback: true, ..QuantizeOptions::default() };
        let options = CompileOptions {
            kv_cache: Some(kv_cache),
            quantize: Some(quantize),
            ..CompileOptions::default()
        };
        let mut model = compiled(&session, &tests_folder().join("models/story-draft"), options);
        let mut total = Statistics::default();
        for prompt in [&text[..20], &text[30..110], &text[..100]] {
            let (plain, _) = greedy(&mut model, prompt, None);
            let mut ngrams = NGrams::default();
            for drafter in [&mut draft as &mut dyn Drafter, &mut ngrams] {
                let (found, statistics) = greedy(&mut model, prompt, Some(drafter));
                assert_eq!(found, plain, "{kv_cache:?} {preset}, a prompt of {} tokens", prompt.len());
                total.accepted += statistics.accepted;
                total.verified += statistics.verified;
            }
        }
        println!("{kv_cache:?} {preset}: {} of {} accepted", total.accepted, total.verified);
        assert!(total.accepted > 40 && total.accepted < total.verified, "{total:?}");
    }
}

/// Guesses one token that does not come.
struct Wrong;

impl Drafter for Wrong {
    fn propose(&mut self, _: &[u32], _: usize, _: &mut Sampler) -> Result<Vec<Proposal>, GenerateError> {
        Ok(vec![Proposal { token: 0, distribution: None }])
    }
}

#[test]
fn speculation_that_costs_more_turns_itself_off() {
    let session = Session::new();
    let mut model = story(&session, "story-draft", &[]);
    let prompt = codec().encode(PROMPTS[15]).expect("a prompt");
    let (plain, _) = greedy(&mut model, &prompt, None);
    let mut at = |verify: f64| {
        let pace = Pace::Modelled(Costs { plain: 1.0, verify, draft: 0.0 });
        let (found, statistics) = at_pace(&mut model, &prompt, Some(&mut Wrong), pace);
        assert_eq!(found, plain);
        statistics
    };
    let (cheap, dear) = (at(0.5), at(1.5));
    assert_eq!((cheap.pauses, cheap.verification_passes, cheap.accepted), (0, 30, 0), "{cheap:?}");
    // 6 passes, 16 plain steps, 6 passes, plain steps to the end.
    assert_eq!((dear.pauses, dear.verification_passes, dear.passes), (2, 12, 31), "{dear:?}");
}

#[test]
fn a_drawn_text_comes_with_its_seed() {
    let session = Session::new();
    let mut model = story(&session, "story-draft", &[1, 8, 32]);
    let ids = codec().encode(PROMPTS[0]).expect("a prompt");
    let mut drawn = |seed: u64| {
        let sampling = Sampling { temperature: 0.9, top_p: 0.95, seed, ..Sampling::default() };
        let settings = Settings { sampling, token_count_max: 24, ..Settings::default() };
        let mut generation = Generation::start(&mut model, &ids, settings).expect("the prompt runs");
        generation.speculate(Box::new(NGrams::default()), 7, Pace::Always).expect("it can verify");
        let tokens: Vec<u32> = std::iter::from_fn(|| generation.next_token().expect("it runs")).collect();
        tokens
    };
    assert_eq!(drawn(1), drawn(1));
    assert!((2..6).any(|seed| drawn(seed) != drawn(1)));
}

/// DRAM bytes of commands that read constants, after 64 tokens.
fn weight_bytes(session: &Session, program: &Program) -> u64 {
    let machine = session.targets.find(TARGET).expect("the target").machine();
    let registers: Vec<(&str, i64)> = program
        .registers
        .iter()
        .filter(|register| register.is_bound)
        .map(|register| (register.name.as_str(), 64))
        .collect();
    let request = Request { registers: &registers, ..Request::default() };
    let timing =
        estimate(program, &tilewright_targets::figures::of(&machine), &request).expect("an estimate");
    let reads_constants = |index: usize| {
        let mut reads = false;
        program.commands[index].for_each_view(|_, access, view| {
            let space = program.views[view.0 as usize].space;
            reads |= access.reads() && space == Space::Constant;
        });
        reads
    };
    let costs = timing.commands.iter().enumerate().filter(|(index, _)| reads_constants(*index));
    costs.map(|(_, cost)| cost.dram_bytes).sum()
}

#[test]
fn a_pass_over_eight_tokens_reads_each_weight_once() {
    let session = Session::new();
    let model = story(&session, "story-3m", &[1, 8]);
    let [one, eight] = model.session().programs() else { panic!("two programs") };
    assert_eq!((one.chunk_length, eight.chunk_length), (1, 8));
    let (once, for_eight) = (weight_bytes(&session, one), weight_bytes(&session, eight));
    println!("weights: {once} bytes for one token, {for_eight} bytes for eight");
    // Rows of the embedding are read one per token: 192 f32 each.
    let embedding_rows = 7 * 192 * 4;
    assert!(once > 8 << 20, "{once} bytes are not all weights");
    assert!(for_eight <= once + embedding_rows + once / 100, "{for_eight} bytes against {once}");
}
