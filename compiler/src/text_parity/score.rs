//! Figures of two models on the same tokens, from their logits: perplexity, KL divergence, agreement of the likeliest token.
//!
//! Works on plain rows of numbers; knows no model and no file.
//!
//! ```text
//! perplexity      exp(mean of -ln P(token | the tokens before it in its window))
//! KL divergence   sum over the vocabulary of P ln(P / Q), P the original's distribution, Q the artifact's; in nats per token
//! top-1 agreement share of tokens where both hold the same id for likeliest
//! ```

use serde::Serialize;

/// What the rows of some tokens give, in the order of the tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Negative log-likelihood of each next token, in nats.
    pub losses: Vec<f64>,
    /// KL divergence from the original at each token, in nats.
    pub divergences: Vec<f64>,
    /// At how many tokens both find the same id likeliest.
    pub same_top: usize,
}

/// Why rows of logits cannot be scored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// A logit is no number, or infinitely large.
    #[error("the logits at token {row} hold {what}")]
    NotFinite {
        /// which token of the rows, from 0
        row: usize,
        /// NaN or infinity
        what: &'static str,
    },
    /// A token beyond the vocabulary.
    #[error("token id {token} is outside the vocabulary of {vocabulary}")]
    Vocabulary {
        /// the id
        token: u32,
        /// number of logits per token
        vocabulary: usize,
    },
    /// The numbers of logits do not fit.
    #[error("expected {expected} logits, found {found}")]
    Count {
        /// as many as the original has, or a whole number of rows
        expected: usize,
        /// what there is
        found: usize,
    },
}

/// A row of logits with what turns them into log-probabilities.
struct Distribution<'a> {
    logits: &'a [f32],
    /// ln of the sum of exponentials: `ln P(i) = logits[i] - log_total`.
    log_total: f64,
    /// The smallest id among the likeliest.
    top: usize,
}

impl Distribution<'_> {
    /// # Errors
    /// When a logit is NaN or infinity; minus infinity is an id that never comes.
    fn of(logits: &[f32], row: usize) -> Result<Distribution<'_>, ScoreError> {
        let mut top = 0;
        for (index, &logit) in logits.iter().enumerate() {
            if logit.is_nan() || logit == f32::INFINITY {
                let what = if logit.is_nan() { "NaN" } else { "infinity" };
                return Err(ScoreError::NotFinite { row, what });
            }
            if logit > logits[top] {
                top = index;
            }
        }
        let largest = f64::from(logits[top]);
        if largest == f64::NEG_INFINITY {
            return Err(ScoreError::NotFinite { row, what: "minus infinity only" });
        }
        let total: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
        Ok(Distribution { logits, log_total: largest + total.ln(), top })
    }

    fn log_probability(&self, id: usize) -> f64 {
        f64::from(self.logits[id]) - self.log_total
    }

    /// Divergence of `other` from this, in nats. Rounding below zero counts as zero.
    fn divergence(&self, other: &Distribution<'_>) -> f64 {
        let term = |id: usize| {
            let log_p = self.log_probability(id);
            let p = log_p.exp();
            if p == 0.0 { 0.0 } else { p * (log_p - other.log_probability(id)) }
        };
        (0..self.logits.len()).map(term).sum::<f64>().max(0.0)
    }
}

/// Scores rows of logits: `original` and each of `others` are [next.len(), vocabulary] row-major, `next` the token that follows each
/// row. Gives the original's own scores (its divergence from itself left out) and those of each of the others.
///
/// # Errors
/// When the numbers of logits do not fit, a logit is not a number, or a token is outside the vocabulary; with the index of the
/// model in question: 0 for the original, 1 for the first of the others.
pub fn score(
    original: &[f32],
    others: &[Vec<f32>],
    next: &[u32],
) -> Result<(Scores, Vec<Scores>), (usize, ScoreError)> {
    let vocabulary = original.len() / next.len().max(1);
    let expected = vocabulary * next.len();
    for (model, found) in std::iter::once(original).chain(others.iter().map(Vec::as_slice)).enumerate() {
        if found.len() != expected || vocabulary == 0 {
            return Err((model, ScoreError::Count { expected, found: found.len() }));
        }
    }
    let mut own = Scores::default();
    let mut scores = vec![Scores::default(); others.len()];
    for (row, &token) in next.iter().enumerate() {
        let id = token as usize;
        if id >= vocabulary {
            return Err((0, ScoreError::Vocabulary { token, vocabulary }));
        }
        let range = row * vocabulary..(row + 1) * vocabulary;
        let reference = Distribution::of(&original[range.clone()], row).map_err(|error| (0, error))?;
        own.losses.push(-reference.log_probability(id));
        for (model, (logits, scores)) in others.iter().zip(&mut scores).enumerate() {
            let found = Distribution::of(&logits[range.clone()], row).map_err(|error| (model + 1, error))?;
            scores.losses.push(-found.log_probability(id));
            scores.divergences.push(reference.divergence(&found));
            scores.same_top += usize::from(found.top == reference.top);
        }
    }
    Ok((own, scores))
}

/// Figures over all tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// exp of the mean loss.
    pub perplexity: f64,
    /// By how much the perplexity is above the original's, in percent.
    pub perplexity_increase_percent: f64,
    /// Mean KL divergence from the original, nats per token.
    pub kl_mean: f64,
    /// The divergence that 99 % of the tokens do not exceed.
    pub kl_p99: f64,
    /// The largest divergence.
    pub kl_max: f64,
    /// Share of tokens with the same likeliest id, in percent.
    pub top1_agreement_percent: f64,
}

impl Scores {
    /// Adds the scores of the tokens that follow.
    pub fn extend(&mut self, later: &Scores) {
        self.losses.extend(&later.losses);
        self.divergences.extend(&later.divergences);
        self.same_top += later.same_top;
    }

    /// exp of the mean loss; NaN without tokens.
    pub fn perplexity(&self) -> f64 {
        (self.losses.iter().sum::<f64>() / self.losses.len() as f64).exp()
    }

    /// The figures, against the original's perplexity.
    pub fn figures(&self, original_perplexity: f64) -> Figures {
        let mut sorted = self.divergences.clone();
        sorted.sort_by(f64::total_cmp);
        let tokens = self.divergences.len().max(1) as f64;
        // Nearest rank: the smallest value that at least 99 % do not exceed.
        let rank = (sorted.len() * 99).div_ceil(100).max(1);
        let perplexity = self.perplexity();
        Figures {
            perplexity,
            perplexity_increase_percent: (perplexity / original_perplexity - 1.0) * 100.0,
            kl_mean: self.divergences.iter().sum::<f64>() / tokens,
            kl_p99: sorted.get(rank - 1).copied().unwrap_or(0.0),
            kl_max: sorted.last().copied().unwrap_or(0.0),
            top1_agreement_percent: self.same_top as f64 / tokens * 100.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_model_has_the_perplexity_of_its_vocabulary() {
        let logits = vec![0.5f32; 3 * 17];
        let (own, others) = score(&logits, std::slice::from_ref(&logits), &[0, 16, 4]).unwrap();
        assert!((own.perplexity() - 17.0).abs() < 1e-9, "{}", own.perplexity());
        let figures = others[0].figures(own.perplexity());
        assert_eq!((figures.kl_mean, figures.kl_p99, figures.kl_max), (0.0, 0.0, 0.0));
        assert_eq!(figures.top1_agreement_percent, 100.0);
        assert!(figures.perplexity_increase_percent.abs() < 1e-9);
    }

    #[test]
    fn divergence_is_that_of_the_textbook() {
        // P = (3/4, 1/4), Q = (1/2, 1/2): KL = 3/4 ln 3/2 + 1/4 ln 1/2. A constant added to all logits changes nothing.
        let p = [3f32.ln() + 7.0, 7.0];
        let (_, others) = score(&p, &[vec![-2.0, -2.0], vec![1.0, 2.0]], &[1]).unwrap();
        let expected = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        assert!((others[0].divergences[0] - expected).abs() < 1e-7, "{:?}", others[0]);
        assert!((others[0].losses[0] - 2f64.ln()).abs() < 1e-12);
        // Among equals the smallest id is the likeliest.
        assert_eq!((others[0].same_top, others[1].same_top), (1, 0));
    }

    #[test]
    fn an_id_that_never_comes_costs_nothing() {
        let p = [0.0, f32::NEG_INFINITY];
        let (own, others) = score(&p, &[p.to_vec()], &[0]).unwrap();
        assert_eq!((own.perplexity(), others[0].divergences[0]), (1.0, 0.0));
        let (_, others) = score(&[0.0, 0.0], &[p.to_vec()], &[1]).unwrap();
        assert_eq!(others[0].divergences[0], f64::INFINITY);
    }

    #[test]
    fn the_99th_percentile_is_the_nearest_rank() {
        let divergences: Vec<f64> = (1..=200).map(f64::from).rev().collect();
        let scores = Scores { losses: vec![0.0; 200], divergences, same_top: 50 };
        let figures = scores.figures(1.0);
        assert_eq!((figures.kl_p99, figures.kl_max, figures.kl_mean), (198.0, 200.0, 100.5));
        assert_eq!(figures.top1_agreement_percent, 25.0);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let fault = |others: &[Vec<f32>], next: &[u32]| score(&[0.0, 1.0], others, next).unwrap_err();
        assert_eq!(
            fault(&[vec![0.0, 0.0], vec![0.0, f32::NAN]], &[1]),
            (2, ScoreError::NotFinite { row: 0, what: "NaN" })
        );
        assert_eq!(fault(&[], &[2]), (0, ScoreError::Vocabulary { token: 2, vocabulary: 2 }));
        assert_eq!(fault(&[vec![0.0; 3]], &[0]), (1, ScoreError::Count { expected: 2, found: 3 }));
        assert!(score(&[], &[], &[]).is_err());
    }
}
