//! Text generation with the story models: guessing ahead changes nothing but the speed, one pass reads each weight once, and the
//! command line with chats, samplers, statistics and ctrl-C.

use harness::recorded::tests_folder;
use tilewright::driver::CompileOptions;
use tilewright::loaded::Loaded;
use tilewright::model::Source;
use tilewright::plan::PlanOptions;
use tilewright::session::Session;
use tilewright::tokens::TokenCodec;
use tilewright_runtime::generate::generation::{Generation, Settings, Statistics};
use tilewright_runtime::generate::pace::Pace;
use tilewright_runtime::generate::sample::Sampling;
use tilewright_runtime::generate::session::{ArtifactModel, TokenModel};
use tilewright_runtime::generate::speculate::{DraftModel, Drafter, NGrams};
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

fn story(session: &Session, name: &str, chunk_lengths: &[usize]) -> ArtifactModel {
    let options = CompileOptions {
        target: TARGET.into(),
        plan: PlanOptions { chunk_lengths: chunk_lengths.to_vec(), context_window: Some(WINDOW) },
        ..CompileOptions::default()
    };
    let source = Source::open(&tests_folder().join("models").join(name)).expect("a model");
    let compilation = session.compile(&source, &options).unwrap_or_else(|problems| panic!("{problems:?}"));
    let loaded = Loaded::from_compilation(&compilation).unwrap_or_else(|problems| panic!("{problems:?}"));
    ArtifactModel::new(loaded.session).expect("a token model")
}

fn codec() -> TokenCodec {
    let bytes = std::fs::read(tests_folder().join("models/story-3m/tokenizer.json")).expect("a tokenizer");
    TokenCodec::from_bytes(&bytes).expect("a tokenizer")
}

#[test]
fn one_pass_gives_the_bits_that_single_tokens_give() {
    let session = Session::new();
    let mut model = story(&session, "story-3m", &[1, 5, 8, 32]);
    let tokens = codec().encode(PROMPTS[15]).expect("a prompt");
    assert!(tokens.len() > 16);
    model.reset();
    let single: Vec<Vec<f32>> = tokens
        .iter()
        .enumerate()
        .map(|(past, token)| model.forward(past, &[*token]).expect("it runs"))
        .collect();
    // Programs for more tokens than these may cut k into other pieces, and sums of other pieces round differently.
    for length in [2, 5, 7, 8] {
        model.reset();
        for past in (0..tokens.len()).step_by(length) {
            let run = &tokens[past..tokens.len().min(past + length)];
            let rows = model.verify(past, run).expect("it runs");
            let vocabulary = rows.len() / run.len();
            for (index, row) in rows.chunks_exact(vocabulary).enumerate() {
                let differs =
                    row.iter().zip(&single[past + index]).filter(|(a, b)| a.to_bits() != b.to_bits());
                assert_eq!(differs.count(), 0, "{length} at a time, token {}: logits differ", past + index);
            }
        }
    }
}

fn greedy(
    model: &mut ArtifactModel,
    prompt: &[u32],
    drafter: Option<&mut dyn Drafter>,
) -> (Vec<u32>, Statistics) {
    let settings = Settings { token_count_max: 32, ..Settings::default() };
    let mut generation = Generation::start(model, prompt, settings).expect("the prompt runs");
    if let Some(drafter) = drafter {
        generation.speculate(Box::new(drafter), 7, Pace::Always).expect("it can verify");
    }
    let tokens = std::iter::from_fn(|| generation.next_token().expect("it runs")).collect();
    (tokens, generation.statistics())
}

#[test]
fn speculative_greedy_is_plain_greedy_on_twenty_prompts() {
    let session = Session::new();
    let mut model = story(&session, "story-3m", &[1, 8, 32]);
    let mut draft = DraftModel::new(story(&session, "story-draft", &[1, 32]));
    let mut own = DraftModel::new(story(&session, "story-3m", &[1, 32]));
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
    let machine = (session.targets.find(TARGET).expect("the target").machine)();
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
