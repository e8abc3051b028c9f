//! Generation over toy models: chunks, stops, and speculation that changes speed and nothing else.

use super::*;
use crate::generate::governor::{Change, Device, Governor, Limits};
use crate::generate::pace::Costs;
use crate::generate::speculate::{DraftModel, NGrams, Proposal};

const VOCABULARY: u32 = 10;

/// A model whose logits depend on the last token alone, and which records how it was asked.
struct Toy {
    logits: fn(u32) -> Vec<f32>,
    calls: Vec<(usize, usize)>,
    window: usize,
    verify_length_max: usize,
}

impl Toy {
    fn new(logits: fn(u32) -> Vec<f32>) -> Toy {
        Toy { logits, calls: Vec::new(), window: 12, verify_length_max: 4 }
    }
}

/// Says token + 1 (modulo 10).
fn counting(token: u32) -> Vec<f32> {
    (0..VOCABULARY).map(|next| if next == (token + 1) % VOCABULARY { 1.0 } else { 0.0 }).collect()
}

/// Counts too, but after 3 and 7 says 0.
fn forgetful(token: u32) -> Vec<f32> {
    counting(if token % 4 == 3 { 9 } else { token })
}

/// A different distribution after each token.
fn varied(token: u32) -> Vec<f32> {
    (0..VOCABULARY).map(|next| ((next * 7 + token * 3) % 5) as f32 * 0.6).collect()
}

/// One that is near it.
fn near(token: u32) -> Vec<f32> {
    (0..VOCABULARY).map(|next| ((next * 7 + token * 3) % 4) as f32 * 0.6).collect()
}

impl TokenModel for Toy {
    fn context_window(&self) -> usize {
        self.window
    }
    fn chunk(&self, _: usize, waiting: usize) -> usize {
        if waiting >= 4 { 4 } else { 1 }
    }
    fn forward(&mut self, past: usize, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        self.calls.push((past, tokens.len()));
        Ok((self.logits)(tokens[tokens.len() - 1]))
    }
    fn verify_length_max(&self, past: usize) -> usize {
        if past + self.verify_length_max <= self.window { self.verify_length_max } else { 1 }
    }
    fn verify(&mut self, past: usize, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        self.calls.push((past, tokens.len()));
        Ok(tokens.iter().flat_map(|&token| (self.logits)(token)).collect())
    }
    fn reset(&mut self) {
        self.calls.clear();
    }
    fn trim(&mut self, tokens: usize) -> usize {
        tokens
    }
}

fn drain<M: TokenModel>(generation: &mut Generation<'_, M>) -> Vec<u32> {
    std::iter::from_fn(|| generation.next_token().expect("cannot fail")).collect()
}

fn all(prompt: &[u32], settings: Settings) -> (Vec<u32>, StopReason, Vec<(usize, usize)>) {
    let mut model = Toy::new(counting);
    let mut generation = Generation::start(&mut model, prompt, settings).expect("fits");
    let tokens = drain(&mut generation);
    let reason = generation.stop_reason().expect("has stopped");
    drop(generation);
    (tokens, reason, model.calls)
}

#[test]
fn prompts_run_in_chunks_and_texts_end() {
    let (tokens, reason, calls) =
        all(&[9, 9, 9, 9, 9, 1], Settings { token_count_max: 3, ..Settings::default() });
    assert_eq!((tokens, reason), (vec![2, 3, 4], StopReason::Length));
    assert_eq!(calls, [(0, 4), (4, 1), (5, 1), (6, 1), (7, 1)]);
    let stop = Settings { stop_tokens: vec![5], ..Settings::default() };
    assert_eq!(all(&[3], stop).1, StopReason::StopToken);
    let (tokens, reason, _) = all(&[0; 10], Settings::default());
    assert_eq!((tokens.len(), reason), (3, StopReason::ContextFull));
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let mut model = Toy::new(counting);
    let refused = |model: &mut Toy, prompt: &[u32]| {
        Generation::start(model, prompt, Settings::default()).err().expect("refused").to_string()
    };
    assert_eq!(refused(&mut model, &[]), "the prompt has no tokens");
    assert!(refused(&mut model, &[0; 13]).starts_with("13 tokens do not fit the context window of 12"));
}

#[test]
fn what_the_model_has_run_is_not_run_again() {
    let mut model = Toy::new(counting);
    model.reset();
    let mut generation =
        Generation::resume(&mut model, 9, &[1, 2, 3], Settings { token_count_max: 1, ..Settings::default() })
            .expect("fits");
    assert_eq!(drain(&mut generation), [4]);
    assert_eq!(generation.statistics().cached_tokens, 2);
    drop(generation);
    assert_eq!(model.calls, [(2, 1)]);
}

#[test]
fn a_text_is_cancelled_between_runs() {
    let cancel = Arc::new(AtomicBool::new(false));
    let settings = Settings { cancel: Some(cancel.clone()), ..Settings::default() };
    let mut model = Toy::new(counting);
    let mut generation = Generation::start(&mut model, &[1], settings.clone()).expect("fits");
    assert_eq!(generation.next_token().expect("runs"), Some(2));
    cancel.store(true, Ordering::Relaxed);
    assert_eq!(generation.next_token().expect("runs"), None);
    assert_eq!(generation.stop_reason(), Some(StopReason::Cancelled));
    drop(generation);
    // A long prompt ends after its first chunk.
    let generation = Generation::start(&mut model, &[1; 12], settings).expect("fits");
    assert_eq!((generation.stop_reason(), generation.past()), (Some(StopReason::Cancelled), 4));
}

/// The text with a drafter, and what it took.
fn speculative(
    target: fn(u32) -> Vec<f32>,
    drafter: Box<dyn Drafter>,
    sampling: Sampling,
    pace: Pace,
    count: usize,
) -> (Vec<u32>, Statistics) {
    let mut model = Toy { window: 400, ..Toy::new(target) };
    let settings = Settings { sampling, token_count_max: count, ..Settings::default() };
    let mut generation = Generation::start(&mut model, &[1, 2], settings).expect("fits");
    generation.speculate(drafter, 3, pace).expect("can verify");
    let tokens = drain(&mut generation);
    let statistics = generation.statistics();
    assert_eq!(generation.tokens().len(), count + 2);
    (tokens, statistics)
}

fn draft(logits: fn(u32) -> Vec<f32>) -> Box<dyn Drafter> {
    Box::new(DraftModel::new(Toy { window: 400, ..Toy::new(logits) }))
}

#[test]
fn a_greedy_text_is_the_models_own_whatever_is_drafted() {
    let plain = |target: fn(u32) -> Vec<f32>, count: usize| {
        let mut model = Toy { window: 400, ..Toy::new(target) };
        let settings = Settings { token_count_max: count, ..Settings::default() };
        drain(&mut Generation::start(&mut model, &[1, 2], settings).expect("fits"))
    };
    let costs = Costs { plain: 1.0, verify: 2.0, draft: 0.5 };
    for target in [counting as fn(u32) -> Vec<f32>, forgetful, varied] {
        for count in [1, 2, 3, 50] {
            let expected = plain(target, count);
            for pace in [Pace::Always, Pace::Measured, Pace::Modelled(costs)] {
                for drafter in [draft(counting), draft(forgetful), draft(near), Box::new(NGrams::default())] {
                    let (found, statistics) = speculative(target, drafter, Sampling::default(), pace, count);
                    assert_eq!(found, expected, "{statistics:?}");
                    assert_eq!(statistics.tokens, count);
                    let Statistics { drafted, verified, accepted, .. } = statistics;
                    assert!(accepted <= verified && verified <= drafted, "{statistics:?}");
                }
            }
        }
    }
}

#[test]
fn a_perfect_draft_makes_four_tokens_a_pass() {
    let (_, statistics) = speculative(counting, draft(counting), Sampling::default(), Pace::Always, 41);
    // The prompt gives the first token; ten passes of three guesses and one more give the rest.
    let expected = Statistics {
        prompt_tokens: 2,
        tokens: 41,
        passes: 10,
        verification_passes: 10,
        drafted: 30,
        verified: 30,
        accepted: 30,
        ..Statistics::default()
    };
    assert_eq!(statistics, expected);
    assert_eq!(statistics.acceptance(), Some(1.0));
}

#[test]
fn speculation_that_is_slower_is_turned_off() {
    // Wrong guesses only: one token for the price of two.
    let costs = Costs { plain: 1.0, verify: 2.0, draft: 0.0 };
    let (_, statistics) =
        speculative(counting, draft(varied), Sampling::default(), Pace::Modelled(costs), 300);
    assert!(statistics.pauses >= 2 && statistics.verification_passes < 50, "{statistics:?}");
}

#[test]
fn stop_tokens_and_cancelling_end_speculation_too() {
    let mut model = Toy { window: 400, ..Toy::new(counting) };
    let settings = Settings { stop_tokens: vec![7], ..Settings::default() };
    let mut generation = Generation::start(&mut model, &[1], settings).expect("fits");
    generation.speculate(draft(counting), 3, Pace::Always).expect("can verify");
    assert_eq!(drain(&mut generation), [2, 3, 4, 5, 6]);
    assert_eq!(generation.stop_reason(), Some(StopReason::StopToken));
    let mut cannot = Toy { verify_length_max: 1, ..Toy::new(counting) };
    let mut generation = Generation::start(&mut cannot, &[1], Settings::default()).expect("fits");
    assert!(generation.speculate(draft(counting), 3, Pace::Always).is_err());
}

/// Drafts the same wrong or right token always, as if certain.
struct Stubborn;

impl Drafter for Stubborn {
    fn propose(&mut self, _: &[u32], count: usize, _: &mut Sampler) -> Result<Vec<Proposal>, GenerateError> {
        Ok(vec![Proposal { token: 4, distribution: None }; count])
    }
}

#[test]
fn drawn_texts_keep_the_models_distribution() {
    const SEEDS: u64 = 4000;
    let sampling = |seed| Sampling { temperature: 0.8, top_k: 8, top_p: 0.97, seed, ..Sampling::default() };
    // How likely each second and third token is, by following the model.
    let sampler = Sampler::new(sampling(0));
    let after = |token: u32| sampler.distribution(&varied(token)).expect("something to choose");
    let mut expected = [[0.0; VOCABULARY as usize]; 3];
    for &(first, p) in after(2).candidates() {
        expected[0][first as usize] += p;
        for &(second, q) in after(first).candidates() {
            expected[1][second as usize] += p * q;
            for &(third, r) in after(second).candidates() {
                expected[2][third as usize] += p * q * r;
            }
        }
    }
    let makers: [fn() -> Box<dyn Drafter>; 3] = [|| draft(near), || draft(varied), || Box::new(Stubborn)];
    for make in makers {
        let mut counts = [[0.0; VOCABULARY as usize]; 3];
        let mut accepted = 0;
        for seed in 0..SEEDS {
            let (tokens, statistics) = speculative(varied, make(), sampling(seed), Pace::Always, 3);
            accepted += statistics.accepted;
            for (counts, token) in counts.iter_mut().zip(tokens) {
                counts[token as usize] += 1.0;
            }
        }
        assert!(accepted > 0);
        for (place, (counts, expected)) in counts.iter().zip(&expected).enumerate() {
            let terms = counts.iter().zip(expected).filter(|(_, p)| **p > 0.0);
            let chi_square: f64 =
                terms.map(|(&count, &p)| (count - p * SEEDS as f64).powi(2) / (p * SEEDS as f64)).sum();
            // At most 9 degrees of freedom: 27.9 is exceeded once in a thousand.
            assert!(chi_square < 27.9, "token {place}: {counts:?}, chi-square {chi_square}");
            assert!(counts.iter().zip(expected).all(|(&count, &p)| p > 0.0 || count == 0.0));
        }
    }
}

/// Refuses every other token, from `refused` on, until 8 came.
struct EveryOther {
    refused: usize,
    last: u32,
}

impl Constraint for EveryOther {
    fn restrict(&mut self, logits: &mut [f32], _: usize, _: &[u32]) -> bool {
        logits.iter_mut().skip(self.refused).step_by(2).for_each(|logit| *logit = f32::NEG_INFINITY);
        true
    }
    fn push(&mut self, token: u32) {
        self.last = token;
    }
    fn is_whole(&self) -> bool {
        self.last == 8
    }
    fn is_ended(&self) -> bool {
        self.last == 8
    }
}

#[test]
fn constraints_hold_with_guesses_and_against_biases() {
    let write = |refused: usize, speculates: bool, sampling: Sampling| {
        let mut model = Toy { window: 400, ..Toy::new(varied) };
        let settings = Settings { sampling, ..Settings::default() };
        let mut generation = Generation::start(&mut model, &[2], settings).expect("fits");
        generation.constrain(Box::new(EveryOther { refused, last: 0 }));
        if speculates {
            generation.speculate(draft(varied), 3, Pace::Always).expect("can verify");
        }
        let tokens: Result<Vec<u32>, GenerateError> =
            std::iter::from_fn(|| generation.next_token().transpose()).collect();
        tokens.map(|tokens| (tokens, generation.is_whole()))
    };
    let warm = Sampling { temperature: 2.0, seed: 3, ..Sampling::default() };
    for speculates in [false, true] {
        let (tokens, is_whole) = write(1, speculates, warm.clone()).expect("some token");
        assert!(tokens.iter().all(|token| token % 2 == 0) && tokens.last() == Some(&8) && is_whole);
    }
    assert_eq!(
        write(1, false, Sampling::default()).expect("some token"),
        write(1, true, Sampling::default()).expect("some token")
    );
    // The even ones are refused and the odd ones forbidden.
    let forbidden = (1..VOCABULARY).step_by(2).map(|token| (token, f32::NEG_INFINITY)).collect();
    let biased = Sampling { logit_bias: forbidden, ..Sampling::default() };
    assert!(matches!(write(0, false, biased), Err(GenerateError::NothingAllowed)));
}

/// A device whose every look is half a second after the last, and which is hot from the third on, until the twentieth.
struct Hot {
    looks: std::sync::atomic::AtomicU64,
    paused: Arc<std::sync::Mutex<f64>>,
}

impl Device for Hot {
    fn celsius(&mut self) -> Option<f64> {
        Some(if (3..20).contains(&self.looks.load(Ordering::Relaxed)) { 76.0 } else { 40.0 })
    }
    fn seconds(&self) -> f64 {
        self.looks.fetch_add(1, Ordering::Relaxed) as f64 / 2.0
    }
    fn pause(&mut self, seconds: f64) {
        *self.paused.lock().expect("no test panics with it") += seconds;
    }
}

fn hot(may_draft: bool) -> (Governed, Arc<std::sync::Mutex<f64>>) {
    let paused = Arc::new(std::sync::Mutex::new(0.0));
    let device = Hot { looks: 0.into(), paused: paused.clone() };
    let limits = Limits { may_draft, ..Limits::default() };
    (Governed::by(Governor::new(Box::new(device), limits)), paused)
}

#[test]
fn a_hot_device_pauses_and_the_text_stays() {
    let (governed, paused) = hot(false);
    let settings = Settings { governed: governed.clone(), ..Settings::default() };
    assert_eq!(all(&[1, 2], settings).0, all(&[1, 2], Settings::default()).0);
    assert!(*paused.lock().expect("no test panics with it") > 0.5);
    let governor = governed.governor().expect("it is governed");
    assert_eq!(governor.decisions()[0].change, Change::Governed);
}

#[test]
fn a_hot_device_lets_the_draft_write_alone_and_the_model_catches_up() {
    let (governed, _) = hot(true);
    let mut model = Toy { window: 60, ..Toy::new(counting) };
    let draft = Toy { window: 60, ..Toy::new(forgetful) };
    let settings = Settings { token_count_max: 40, governed: governed.clone(), ..Settings::default() };
    let mut generation = Generation::start(&mut model, &[1, 2], settings).expect("fits");
    generation.speculate(Box::new(DraftModel::new(draft)), 3, Pace::Always).expect("it can");
    let text = drain(&mut generation);
    let statistics = generation.statistics();
    assert_eq!(text.len(), 40);
    assert!(statistics.drafted_alone > 3, "{statistics:?}");
    // The draft says 0 after 3, the model 4: only what the draft wrote alone may do that.
    let forgotten = text.windows(2).filter(|pair| pair[0] == 3 && pair[1] == 0).count();
    assert!(forgotten > 0, "{text:?}");
    drop(generation);
    // The model has run every token once, in order.
    let mut next = 0;
    for (past, count) in model.calls {
        assert!(past <= next, "tokens {next} to {past} were not run");
        next = past + count;
    }
    let changes: Vec<Change> =
        governed.governor().expect("it is governed").decisions().iter().map(|one| one.change).collect();
    assert!(changes.contains(&Change::Draft), "{changes:?}");
}
