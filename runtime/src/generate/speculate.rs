//! Speculative decoding: cheap guesses at the next tokens, and the rule that keeps the model's own distribution.
//!
//! A [`Drafter`] proposes tokens; the model runs them all in one pass; [`resolve`] accepts each with probability min(1, p / q) and
//! draws the first that is refused from what is left, max(0, p - q) (Leviathan et al. 2022, arXiv:2211.17192; Chen et al. 2023,
//! arXiv:2302.01318). Whatever the drafter says, the result has the model's distribution; greedy, it is the model's text.
//! Must not know how the model is run.

use super::sample::{Distribution, Sampler, uniform};
use super::session::{GenerateError, TokenModel};
use rand_chacha::ChaCha8Rng;

/// A guess at a token.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The token.
    pub token: u32,
    /// What it was drawn from; `None` when it was not drawn but certain.
    pub distribution: Option<Distribution>,
}

/// Guesses what comes next.
pub trait Drafter {
    /// At most `count` guesses at what follows `tokens` (the whole text so far, prompt first). Draws come from `sampler`, which has
    /// seen `tokens` and must be left as if it had seen nothing more.
    ///
    /// # Errors
    /// When a draft model fails.
    fn propose(
        &mut self,
        tokens: &[u32],
        count: usize,
        sampler: &mut Sampler,
    ) -> Result<Vec<Proposal>, GenerateError>;
}

impl<D: Drafter + ?Sized> Drafter for &mut D {
    fn propose(
        &mut self,
        tokens: &[u32],
        count: usize,
        sampler: &mut Sampler,
    ) -> Result<Vec<Proposal>, GenerateError> {
        (**self).propose(tokens, count, sampler)
    }
}

/// Prompt lookup: what followed the last few tokens when they came before (Saxena 2023, "Prompt Lookup Decoding").
#[derive(Clone, Copy, Debug)]
pub struct NGrams {
    /// Most tokens that are looked up.
    pub length_max: usize,
    /// Fewest tokens that are looked up.
    pub length_min: usize,
}

impl Default for NGrams {
    fn default() -> NGrams {
        NGrams { length_max: 4, length_min: 2 }
    }
}

impl Drafter for NGrams {
    fn propose(
        &mut self,
        tokens: &[u32],
        count: usize,
        _: &mut Sampler,
    ) -> Result<Vec<Proposal>, GenerateError> {
        for length in (self.length_min.max(1)..=self.length_max).rev() {
            let Some(start) = tokens.len().checked_sub(length) else { continue };
            let key = &tokens[start..];
            // The latest place counts: a text tends to go on as it did last. What follows it must be something.
            let found = (0..start).rev().find(|&at| &tokens[at..at + length] == key);
            if let Some(at) = found {
                let follows = tokens[at + length..].iter().take(count);
                return Ok(follows.map(|&token| Proposal { token, distribution: None }).collect());
            }
        }
        Ok(Vec::new())
    }
}

/// A smaller model with the same tokens.
pub struct DraftModel<M> {
    model: M,
    /// What the model has run.
    seen: Vec<u32>,
}

impl<M: TokenModel> DraftModel<M> {
    /// Starts with an empty state.
    pub fn new(mut model: M) -> DraftModel<M> {
        model.reset();
        DraftModel { model, seen: Vec::new() }
    }

    /// Runs what it has not seen of `tokens`; logits for what follows.
    fn follow(&mut self, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        let same = self.seen.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        // The last token is run again when all were seen: its logits are gone.
        let same = same.min(tokens.len().saturating_sub(1));
        if same < self.seen.len() {
            let kept = self.model.trim(same);
            self.seen.truncate(kept);
        }
        let mut logits = Vec::new();
        while self.seen.len() < tokens.len() {
            let (past, waiting) = (self.seen.len(), tokens.len() - self.seen.len());
            let count = self.model.chunk(past, waiting).clamp(1, waiting);
            logits = self.model.forward(past, &tokens[past..past + count])?;
            self.seen.extend(&tokens[past..past + count]);
        }
        Ok(logits)
    }
}

impl<M: TokenModel> Drafter for DraftModel<M> {
    fn propose(
        &mut self,
        tokens: &[u32],
        count: usize,
        sampler: &mut Sampler,
    ) -> Result<Vec<Proposal>, GenerateError> {
        let room = self.model.context_window().saturating_sub(tokens.len());
        let mut text = tokens.to_vec();
        let mut proposals = Vec::new();
        for _ in 0..count.min(room) {
            let logits = self.follow(&text)?;
            let distribution = sampler.distribution(&logits).ok_or(GenerateError::Logits)?;
            let token = distribution.draw(&mut sampler.random);
            sampler.push(token);
            text.push(token);
            proposals.push(Proposal { token, distribution: Some(distribution) });
        }
        proposals.iter().for_each(|proposal| sampler.pop(proposal.token));
        Ok(proposals)
    }
}

/// The token that takes a proposal's place, and whether it is the proposal: drawn from `target` whatever was proposed.
pub fn resolve(target: &Distribution, proposal: &Proposal, random: &mut ChaCha8Rng) -> (u32, bool) {
    let token = proposal.token;
    if let [(certain, _)] = target.candidates() {
        return (*certain, *certain == token);
    }
    let certain = Distribution::certain(token);
    let proposed = proposal.distribution.as_ref().unwrap_or(&certain);
    let (p, q) = (target.probability(token), proposed.probability(token));
    if uniform(random) * q < p {
        return (token, true);
    }
    let longest = proposed.candidates().iter().map(|one| one.0 as usize + 1).max().unwrap_or(0);
    let mut by_token = vec![0.0; longest];
    proposed.candidates().iter().for_each(|&(token, probability)| by_token[token as usize] = probability);
    let left = target.candidates().iter().map(|&(token, probability)| {
        (token, probability - by_token.get(token as usize).copied().unwrap_or(0.0))
    });
    // Nothing is left only when both are the same but for rounding.
    let rest = Distribution::from_weights(left);
    (rest.as_ref().unwrap_or(target).draw(random), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::sample::Sampling;
    use rand_chacha::rand_core::SeedableRng;

    fn distribution(weights: &[f64]) -> Distribution {
        Distribution::from_weights((0..).zip(weights.iter().copied())).expect("some weight")
    }

    #[test]
    fn the_rule_keeps_the_target_and_accepts_what_they_share() {
        let target = distribution(&[0.5, 0.3, 0.2, 0.0]);
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for draft in [
            distribution(&[0.1, 0.2, 0.3, 0.4]),
            distribution(&[0.5, 0.3, 0.2]),
            distribution(&[0.0, 0.0, 0.0, 1.0]),
            distribution(&[0.9, 0.1]),
        ] {
            let (count, mut accepted, mut counts) = (40_000, 0.0, [0.0; 4]);
            for _ in 0..count {
                let token = draft.draw(&mut random);
                let proposal = Proposal { token, distribution: Some(draft.clone()) };
                let (token, is_proposal) = resolve(&target, &proposal, &mut random);
                counts[token as usize] += 1.0;
                accepted += f64::from(u8::from(is_proposal));
            }
            let expected = |token: usize| target.probability(token as u32) * f64::from(count);
            let chi_square: f64 =
                (0..3).map(|token| (counts[token] - expected(token)).powi(2) / expected(token)).sum();
            // 2 degrees of freedom: 13.8 is exceeded once in a thousand.
            assert!(chi_square < 13.8 && counts[3] == 0.0, "{draft:?}: {counts:?}, {chi_square}");
            // Acceptance is the probability that both share.
            let shared: f64 = (0..4).map(|t| target.probability(t).min(draft.probability(t))).sum();
            assert!((accepted / f64::from(count) - shared).abs() < 0.01, "{draft:?}: {accepted} of {count}");
        }
    }

    #[test]
    fn n_grams_are_looked_up_longest_and_latest_first() {
        let mut sampler = Sampler::new(Sampling::default());
        let mut guess = |tokens: &[u32], count: usize| -> Vec<u32> {
            let proposals = NGrams::default().propose(tokens, count, &mut sampler).expect("cannot fail");
            proposals.iter().map(|proposal| proposal.token).collect()
        };
        assert_eq!(guess(&[1, 2, 3, 4, 1, 2, 3], 3), [4, 1, 2]);
        assert_eq!(guess(&[1, 2, 8, 1, 2, 9, 1, 2], 1), [9]);
        assert_eq!(guess(&[7, 1, 2, 8, 5, 1, 2, 9, 7, 1, 2], 1), [8]);
        assert_eq!(guess(&[5, 5, 5], 4), [5]);
        assert!(guess(&[1, 2, 3], 4).is_empty() && guess(&[1], 4).is_empty());
    }
}
