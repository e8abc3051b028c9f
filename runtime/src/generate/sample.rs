//! From logits to a token: greedy, temperature, top-k, top-p; reproducible by seed.
//!
//! The order is the usual one: keep the k most likely, divide by the temperature, softmax, keep the smallest set whose
//! probability reaches p, draw. Temperature 0 is greedy. Of equal logits the lowest id is first.

use crate::random::Random;

/// How to choose.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the most likely token; 1 draws from the model's distribution.
    pub temperature: f32,
    /// Keep this many tokens; 0 for all.
    pub top_k: usize,
    /// Keep the most likely tokens until their probability reaches this; 1 for all (Holtzman et al. 2019, arXiv:1904.09751).
    pub top_p: f32,
    /// Seed of the generator; the same seed and logits give the same tokens.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Sampling {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

/// Draws tokens.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: Sampling,
    random: Random,
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// Starts from the settings' seed.
    pub fn new(settings: Sampling) -> Sampler {
        Sampler { random: Random::new(settings.seed), settings, candidates: Vec::new() }
    }

    /// A token for these logits; `None` when there is none to choose (no logits, or all NaN).
    pub fn sample(&mut self, logits: &[f32]) -> Option<u32> {
        if self.settings.temperature <= 0.0 || self.settings.top_k == 1 {
            return most_likely(logits);
        }
        self.candidates.clear();
        let numbered = logits.iter().zip(0..).map(|(&logit, id)| (logit, id));
        self.candidates.extend(numbered.filter(|(logit, _)| !logit.is_nan()));
        let by_logit = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let k = self.settings.top_k;
        if k > 0 && k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, by_logit);
            self.candidates.truncate(k);
        }
        self.candidates.sort_unstable_by(by_logit);
        let largest = self.candidates.first()?.0;
        let temperature = self.settings.temperature;
        // A row of infinities has no differences: the first is as good as any.
        let weight = |logit: f32| {
            if logit == largest { 1.0 } else { f64::from((logit - largest) / temperature).exp() }
        };
        let total: f64 = self.candidates.iter().map(|candidate| weight(candidate.0)).sum();
        let mut kept = 0.0;
        let mut count = 0;
        for candidate in &self.candidates {
            kept += weight(candidate.0);
            count += 1;
            if kept >= f64::from(self.settings.top_p) * total {
                break;
            }
        }
        let mut point = self.random.next_f64() * kept;
        for candidate in &self.candidates[..count] {
            point -= weight(candidate.0);
            if point < 0.0 {
                return Some(candidate.1);
            }
        }
        self.candidates.get(count.checked_sub(1)?).map(|candidate| candidate.1)
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

    #[test]
    fn greedy_takes_the_first_largest() {
        let mut sampler = Sampler::new(Sampling::default());
        assert_eq!(sampler.sample(&[1.0, f32::NAN, 3.0, 3.0]), Some(2));
        assert_eq!(sampler.sample(&[]), None);
        assert_eq!(sampler.sample(&[f32::NAN]), None);
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY; 2]), Some(0));
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits = [0.0f32, 1.0, 2.0, -1.0];
        let settings = Sampling { temperature: 0.5, seed: 7, ..Sampling::default() };
        let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit / 0.5).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (found, weight) in frequencies(settings.clone(), &logits).iter().zip(&weights) {
            assert!((found - weight / total).abs() < 0.015, "{found} against {}", weight / total);
        }
        assert_eq!(frequencies(settings.clone(), &logits), frequencies(settings, &logits));
    }

    #[test]
    fn cuts_remove_the_unlikely() {
        let logits = [0.0f32, 1.0, 2.0, -1.0];
        let top_two = frequencies(Sampling { temperature: 1.0, top_k: 2, ..Sampling::default() }, &logits);
        assert!(top_two[0] == 0.0 && top_two[3] == 0.0 && top_two[1] > 0.2);
        // Probabilities 0.64, 0.24, 0.09, 0.03: 0.65 needs two tokens.
        let nucleus = frequencies(Sampling { temperature: 1.0, top_p: 0.65, ..Sampling::default() }, &logits);
        assert!(nucleus[0] == 0.0 && nucleus[3] == 0.0 && nucleus[1] > 0.2);
    }
}
