//! From logits to a token: penalties and biases, then cuts, then a draw; reproducible by seed.
//!
//! The order is that of the transformers library:
//!
//! 1. logit bias, repetition penalty, frequency and presence penalty (on logits);
//! 2. temperature and softmax;
//! 3. top-k, top-p, min-p, typical-p, each on what the one before left, scaled to sum to 1 again;
//! 4. a draw.
//!
//! Temperature 0 (or top-k 1) is greedy: after step 1 the largest logit is taken. Of equal logits the lowest id is first.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::collections::BTreeMap;

/// How to choose.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the most likely token; 1 draws from the model's distribution.
    pub temperature: f32,
    /// Keep this many tokens; 0 for all.
    pub top_k: usize,
    /// Keep the most likely tokens until their probability reaches this; 1 for all (Holtzman et al. 2019, arXiv:1904.09751).
    pub top_p: f32,
    /// Keep tokens at least this many times as likely as the most likely one; 0 for all (Nguyen et al. 2024, arXiv:2407.01082).
    pub min_p: f32,
    /// Keep the tokens whose surprise is nearest to the entropy until their probability reaches this; 1 for all
    /// (Meister et al. 2022, arXiv:2202.00666).
    pub typical_p: f32,
    /// Logits of tokens that were seen, prompt included, are divided (positive ones) or multiplied (negative ones) by this; 1 for
    /// none (Keskar et al. 2019, arXiv:1909.05858).
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit once for each time it was made.
    pub frequency_penalty: f32,
    /// Subtracted from a token's logit when it was made at all.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens; minus infinity forbids one.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of the generator (ChaCha8); the same seed and logits give the same tokens.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Sampling {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// Whether the most likely token is taken, without a draw.
    pub fn is_greedy(&self) -> bool {
        self.temperature <= 0.0 || self.top_k == 1
    }
}

/// The tokens that may come next, and how likely each is; probabilities sum to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    candidates: Vec<(u32, f64)>,
}

impl Distribution {
    /// All probability on one token.
    pub fn certain(token: u32) -> Distribution {
        Distribution { candidates: vec![(token, 1.0)] }
    }

    /// From non-negative weights, at least one of them positive; others are dropped.
    pub fn from_weights(weights: impl IntoIterator<Item = (u32, f64)>) -> Option<Distribution> {
        let mut candidates: Vec<(u32, f64)> = weights.into_iter().filter(|one| one.1 > 0.0).collect();
        let total: f64 = candidates.iter().map(|one| one.1).sum();
        candidates.iter_mut().for_each(|one| one.1 /= total);
        (total > 0.0).then_some(Distribution { candidates })
    }

    /// Tokens with their probabilities.
    pub fn candidates(&self) -> &[(u32, f64)] {
        &self.candidates
    }

    /// How likely a token is; 0 when it was cut.
    pub fn probability(&self, token: u32) -> f64 {
        self.candidates.iter().find(|one| one.0 == token).map_or(0.0, |one| one.1)
    }

    /// Draws a token. One that is certain takes nothing from the generator.
    pub fn draw(&self, random: &mut ChaCha8Rng) -> u32 {
        if let [(token, _)] = self.candidates[..] {
            return token;
        }
        let mut point = uniform(random);
        for &(token, probability) in &self.candidates {
            point -= probability;
            if point < 0.0 {
                return token;
            }
        }
        // Rounding left a little over: it belongs to the last.
        self.candidates.last().map_or(0, |one| one.0)
    }

    fn sort(&mut self) {
        self.candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }

    fn truncate(&mut self, count: usize) {
        self.candidates.truncate(count.max(1));
        let total: f64 = self.candidates.iter().map(|one| one.1).sum();
        self.candidates.iter_mut().for_each(|one| one.1 /= total);
    }

    /// The number of first candidates whose probability reaches `share`.
    fn reaching(&self, share: f32) -> usize {
        let mut total = 0.0;
        let reached = self.candidates.iter().position(|one| {
            total += one.1;
            total >= f64::from(share)
        });
        reached.map_or(self.candidates.len(), |index| index + 1)
    }

    fn cut(&mut self, settings: &Sampling) {
        let Sampling { top_p, min_p, typical_p, .. } = *settings;
        if top_p < 1.0 || min_p > 0.0 {
            self.sort();
        }
        if top_p < 1.0 {
            self.truncate(self.reaching(top_p));
        }
        if min_p > 0.0 {
            let least = self.candidates[0].1 * f64::from(min_p);
            self.truncate(self.candidates.iter().take_while(|one| one.1 >= least).count());
        }
        if typical_p < 1.0 {
            let entropy: f64 = self.candidates.iter().map(|one| -one.1 * one.1.ln()).sum();
            let distance = |one: &(u32, f64)| (-one.1.ln() - entropy).abs();
            self.candidates.sort_unstable_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.0.cmp(&b.0)));
            self.truncate(self.reaching(typical_p));
        }
    }
}

/// Uniform in [0, 1), 53 bits.
pub(super) fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// How often a token was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    in_prompt: u32,
    made: u32,
}

/// Draws tokens, and remembers those that were seen for the penalties.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: Sampling,
    seen: BTreeMap<u32, Seen>,
    pub(super) random: ChaCha8Rng,
}

impl Sampler {
    /// Starts from the settings' seed.
    pub fn new(settings: Sampling) -> Sampler {
        Sampler::with_stream(settings, 0)
    }

    /// A sampler whose draws are independent of those of other streams of the same seed.
    pub fn with_stream(settings: Sampling, stream: u64) -> Sampler {
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        random.set_stream(stream);
        Sampler { random, seen: BTreeMap::new(), settings }
    }

    /// How it chooses.
    pub fn settings(&self) -> &Sampling {
        &self.settings
    }

    /// Remembers a prompt.
    pub fn see_prompt(&mut self, tokens: &[u32]) {
        for &token in tokens {
            self.seen.entry(token).or_default().in_prompt += 1;
        }
    }

    /// Remembers a token that was made.
    pub fn push(&mut self, token: u32) {
        self.seen.entry(token).or_default().made += 1;
    }

    /// Forgets one [`Sampler::push`] of a token.
    pub fn pop(&mut self, token: u32) {
        if let Some(seen) = self.seen.get_mut(&token) {
            seen.made = seen.made.saturating_sub(1);
        }
    }

    /// Biases and penalties, in place.
    fn adjust(&self, logits: &mut [f32]) {
        let Sampling { repetition_penalty, frequency_penalty, presence_penalty, .. } = self.settings;
        for &(token, bias) in &self.settings.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        for (&token, seen) in &self.seen {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            if seen.in_prompt + seen.made > 0 && repetition_penalty != 1.0 {
                let is_positive = *logit > 0.0;
                *logit = if is_positive { *logit / repetition_penalty } else { *logit * repetition_penalty };
            }
            if seen.made > 0 {
                *logit -= frequency_penalty * seen.made as f32 + presence_penalty;
            }
        }
    }

    fn adjusts(&self) -> bool {
        let Sampling { repetition_penalty, frequency_penalty, presence_penalty, logit_bias, .. } =
            &self.settings;
        *repetition_penalty != 1.0
            || *frequency_penalty != 0.0
            || *presence_penalty != 0.0
            || !logit_bias.is_empty()
    }

    /// What is drawn from after these logits; `None` when there is nothing to choose (no logits, or all NaN).
    pub fn distribution(&self, logits: &[f32]) -> Option<Distribution> {
        if !self.adjusts() {
            return self.cut(logits);
        }
        let mut adjusted = logits.to_vec();
        self.adjust(&mut adjusted);
        self.cut(&adjusted)
    }

    fn cut(&self, logits: &[f32]) -> Option<Distribution> {
        if self.settings.is_greedy() {
            return most_likely(logits).map(Distribution::certain);
        }
        let numbered = logits.iter().zip(0..).map(|(&logit, id)| (id, logit));
        let mut candidates: Vec<(u32, f32)> = numbered.filter(|one| !one.1.is_nan()).collect();
        let k = self.settings.top_k;
        if k > 0 && k < candidates.len() {
            candidates.select_nth_unstable_by(k - 1, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            candidates.truncate(k);
            candidates.sort_unstable_by_key(|one| one.0);
        }
        let largest = candidates.iter().map(|one| one.1).max_by(f32::total_cmp)?;
        // A row of infinities has no differences: each is as good as any.
        let weight = |logit: f32| {
            if logit == largest {
                1.0
            } else {
                f64::from((logit - largest) / self.settings.temperature).exp()
            }
        };
        let mut found =
            Distribution::from_weights(candidates.iter().map(|&(id, logit)| (id, weight(logit))))?;
        found.cut(&self.settings);
        Some(found)
    }

    /// A token for these logits; `None` when there is none to choose (no logits, or all NaN).
    pub fn sample(&mut self, logits: &[f32]) -> Option<u32> {
        self.distribution(logits).map(|distribution| distribution.draw(&mut self.random))
    }
}

/// The lowest id of the largest logit; NaN is never largest.
pub fn most_likely(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(f32, u32)> = None;
    for (&logit, id) in logits.iter().zip(0..) {
        if !logit.is_nan() && best.is_none_or(|best| logit > best.0) {
            best = Some((logit, id));
        }
    }
    best.map(|best| best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(settings: Sampling, logits: &[f32]) -> Vec<f64> {
        let mut sampler = Sampler::new(settings);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.sample(logits).expect("something to choose") as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    /// Draws from the model's own distribution.
    fn warm() -> Sampling {
        Sampling { temperature: 1.0, seed: 7, ..Sampling::default() }
    }

    fn kept(settings: Sampling, logits: &[f32]) -> Vec<u32> {
        let found = Sampler::new(settings).distribution(logits).expect("something to choose");
        let mut ids: Vec<u32> = found.candidates().iter().map(|one| one.0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn greedy_takes_the_first_largest() {
        let mut sampler = Sampler::new(Sampling::default());
        assert_eq!(sampler.sample(&[1.0, f32::NAN, 3.0, 3.0]), Some(2));
        assert_eq!(sampler.sample(&[]), None);
        assert_eq!(sampler.sample(&[f32::NAN]), None);
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY; 2]), Some(0));
        assert!(Sampler::new(warm()).sample(&[f32::NEG_INFINITY; 2]).is_some());
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits = [0.0f32, 1.0, 2.0, -1.0];
        let settings = Sampling { temperature: 0.5, ..warm() };
        let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit / 0.5).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (found, weight) in frequencies(settings.clone(), &logits).iter().zip(&weights) {
            assert!((found - weight / total).abs() < 0.015, "{found} against {}", weight / total);
        }
        assert_eq!(frequencies(settings.clone(), &logits), frequencies(settings, &logits));
    }

    #[test]
    fn cuts_remove_the_unlikely() {
        // Probabilities 0.09, 0.24, 0.64, 0.03.
        let logits = [0.0f32, 1.0, 2.0, -1.0];
        assert_eq!(kept(Sampling { top_k: 2, ..warm() }, &logits), [1, 2]);
        assert_eq!(kept(Sampling { top_p: 0.65, ..warm() }, &logits), [1, 2]);
        assert_eq!(kept(Sampling { top_p: 0.0, ..warm() }, &logits), [2]);
        assert_eq!(kept(Sampling { min_p: 0.1, ..warm() }, &logits), [0, 1, 2]);
        assert_eq!(kept(Sampling { min_p: 1.0, ..warm() }, &logits), [2]);
        // The entropy is 0.95 nats; surprises are 2.44, 1.44, 0.44, 3.44: 1 is nearest, then 2.
        assert_eq!(kept(Sampling { typical_p: 0.2, ..warm() }, &logits), [1]);
        assert_eq!(kept(Sampling { typical_p: 0.5, ..warm() }, &logits), [1, 2]);
        // Cuts come after one another: of the two that top-k leaves, one has 0.73.
        assert_eq!(kept(Sampling { top_k: 2, top_p: 0.7, ..warm() }, &logits), [2]);
        // Temperature comes first: a high one makes the nucleus larger.
        assert_eq!(kept(Sampling { temperature: 9.0, top_p: 0.65, ..warm() }, &logits), [0, 1, 2]);
    }

    #[test]
    fn penalties_and_biases_change_logits() {
        let logits = [2.0f32, 1.9, -1.0, -1.1];
        let greedy = |settings: Sampling, prompt: &[u32], made: &[u32]| {
            let mut sampler = Sampler::new(settings);
            sampler.see_prompt(prompt);
            made.iter().for_each(|&token| sampler.push(token));
            sampler.sample(&logits)
        };
        let repetition = Sampling { repetition_penalty: 1.2, ..Sampling::default() };
        assert_eq!(greedy(repetition.clone(), &[], &[]), Some(0));
        assert_eq!(greedy(repetition.clone(), &[0], &[]), Some(1));
        // Negative logits get more negative.
        let biased = Sampling { logit_bias: vec![(0, f32::NEG_INFINITY), (1, -9.0)], ..repetition };
        assert_eq!(greedy(biased.clone(), &[], &[]), Some(2));
        assert_eq!(greedy(biased, &[], &[2]), Some(3));
        // The prompt counts for the repetition penalty alone.
        let frequency = Sampling { frequency_penalty: 0.06, ..Sampling::default() };
        assert_eq!(greedy(frequency.clone(), &[0, 0], &[0]), Some(0));
        assert_eq!(greedy(frequency, &[], &[0, 0]), Some(1));
        let presence = Sampling { presence_penalty: 0.2, ..Sampling::default() };
        assert_eq!(greedy(presence.clone(), &[], &[0]), Some(1));
        assert_eq!(greedy(presence, &[], &[0, 0, 1]), Some(0));
    }
}
