//! One text: the prompt in chunks, then token by token, or several at once when a drafter guesses them.
//!
//! ```no_run
//! # use tilewright_runtime::generate::{generation::*, sample::*, session::*, speculate::*, pace::*};
//! # fn demo(session: tilewright_runtime::session::Session) -> Result<(), GenerateError> {
//! let mut model = ArtifactModel::new(session)?;
//! let settings = Settings { token_count_max: 80, ..Settings::default() };
//! let mut generation = Generation::start(&mut model, &[1, 15043], settings)?;
//! generation.speculate(Box::new(NGrams::default()), 7, Pace::Measured)?;
//! while let Some(token) = generation.next_token()? {
//!     println!("{token}");
//! }
//! println!("{:?}", generation.statistics());
//! # Ok(()) }
//! ```

use super::governor::Governed;
use super::pace::{Pace, Watch};
use super::sample::{Distribution, Sampler, Sampling};
use super::session::{GenerateError, TokenModel};
use super::speculate::{Drafter, Proposal, resolve};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Settings of one generation.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Most tokens to make.
    pub token_count_max: usize,
    /// Tokens that end the text; they are not given out.
    pub stop_tokens: Vec<u32>,
    /// Set by another thread (or a signal) to end the text after the run that is under way.
    pub cancel: Option<Arc<AtomicBool>>,
    /// Keeps the device from getting too hot.
    pub governed: Governed,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            sampling: Sampling::default(),
            token_count_max: 64,
            stop_tokens: Vec::new(),
            cancel: None,
            governed: Governed::default(),
        }
    }
}

impl Settings {
    fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }
}

/// Why there are no more tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A stop token was chosen.
    StopToken,
    /// The constraint lets nothing more follow: the text is whole.
    Complete,
    /// [`Settings::token_count_max`] was reached.
    Length,
    /// The context window is full.
    ContextFull,
    /// [`Settings::cancel`] was set.
    Cancelled,
}

/// What generation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that the model had run before.
    pub cached_tokens: usize,
    /// Tokens made, stop tokens not counted.
    pub tokens: usize,
    /// Runs of the model after the prompt.
    pub passes: usize,
    /// Runs among them that checked drafts.
    pub verification_passes: usize,
    /// Tokens that the drafter guessed.
    pub drafted: usize,
    /// Guesses that were compared with the model: those up to the first that was refused.
    pub verified: usize,
    /// Guesses that were accepted.
    pub accepted: usize,
    /// Times that speculation was turned off because it was slower.
    pub pauses: usize,
    /// Tokens that the drafter wrote alone, because of heat.
    pub drafted_alone: usize,
}

impl Statistics {
    /// Accepted guesses per guess compared; none when there was none.
    pub fn acceptance(&self) -> Option<f64> {
        (self.verified > 0).then(|| self.accepted as f64 / self.verified as f64)
    }
}

/// What a text must be, such as JSON of a schema: it leaves the tokens that may come next.
pub trait Constraint {
    /// Makes the logits of all tokens that may not come next minus infinity; whether any may. `tokens_left` are those that can still
    /// be made; `stop_tokens` may come where the text is whole.
    fn restrict(&mut self, logits: &mut [f32], tokens_left: usize, stop_tokens: &[u32]) -> bool;

    /// A token was made.
    fn push(&mut self, token: u32);

    /// Whether the text is whole as it is.
    fn is_whole(&self) -> bool;

    /// Whether nothing may follow.
    fn is_ended(&self) -> bool;
}

/// Guessing ahead, while it pays.
struct Speculation<'m> {
    drafter: Box<dyn Drafter + 'm>,
    sampler: Sampler,
    draft_tokens_max: usize,
    watch: Watch,
}

/// One text being generated.
pub struct Generation<'m, M: TokenModel> {
    model: &'m mut M,
    sampler: Sampler,
    settings: Settings,
    constraint: Option<Box<dyn Constraint + 'm>>,
    speculation: Option<Speculation<'m>>,
    /// All tokens, prompt first. The last may not have been run.
    tokens: Vec<u32>,
    past: usize,
    /// For what follows the last token that was run.
    logits: Vec<f32>,
    /// Tokens that were chosen and not yet given out.
    ready: VecDeque<u32>,
    statistics: Statistics,
    stopped: Option<StopReason>,
}

impl<'m, M: TokenModel> Generation<'m, M> {
    /// Makes the model forget everything and runs the prompt in chunks.
    ///
    /// # Errors
    /// When the prompt is empty or does not fit, or the model fails.
    pub fn start(
        model: &'m mut M,
        prompt: &[u32],
        settings: Settings,
    ) -> Result<Generation<'m, M>, GenerateError> {
        Generation::resume(model, 0, prompt, settings)
    }

    /// Runs the prompt in chunks but for its first `cached` tokens, which are the model's state already (at least the last is run).
    ///
    /// # Errors
    /// When the prompt is empty or does not fit, or the model fails.
    pub fn resume(
        model: &'m mut M,
        cached: usize,
        prompt: &[u32],
        settings: Settings,
    ) -> Result<Generation<'m, M>, GenerateError> {
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        let window = model.context_window();
        if prompt.len() > window {
            return Err(GenerateError::ContextFull { tokens: prompt.len(), window });
        }
        let cached = model.trim(cached.min(prompt.len() - 1));
        let mut past = cached;
        let (mut logits, mut stopped) = (Vec::new(), None);
        while past < prompt.len() && stopped.is_none() {
            let waiting = (prompt.len() - past).min(settings.governed.chunk_tokens_max());
            let count = model.chunk(past, waiting).clamp(1, waiting);
            logits = settings.governed.run(count, || model.forward(past, &prompt[past..past + count]))?;
            past += count;
            stopped = settings.is_cancelled().then_some(StopReason::Cancelled);
        }
        let mut sampler = Sampler::new(settings.sampling.clone());
        sampler.see_prompt(prompt);
        let statistics =
            Statistics { prompt_tokens: prompt.len(), cached_tokens: cached, ..Statistics::default() };
        Ok(Generation {
            model,
            sampler,
            settings,
            constraint: None,
            speculation: None,
            tokens: prompt.to_vec(),
            past,
            logits,
            ready: VecDeque::new(),
            statistics,
            stopped,
        })
    }

    /// Lets through only tokens that `constraint` allows.
    pub fn constrain(&mut self, constraint: Box<dyn Constraint + 'm>) {
        self.constraint = Some(constraint);
    }

    /// Guesses up to `draft_tokens_max` tokens ahead and checks them in one pass of the model.
    ///
    /// # Errors
    /// When the model cannot check several tokens in one pass.
    pub fn speculate(
        &mut self,
        drafter: Box<dyn Drafter + 'm>,
        draft_tokens_max: usize,
        pace: Pace,
    ) -> Result<(), GenerateError> {
        if self.model.verify_length_max(0) < 2 {
            return Err(GenerateError::CannotVerify);
        }
        let mut sampler = Sampler::with_stream(self.settings.sampling.clone(), 1);
        sampler.see_prompt(&self.tokens);
        self.speculation = Some(Speculation { drafter, sampler, draft_tokens_max, watch: Watch::new(pace) });
        Ok(())
    }

    /// The next token; `None` when the text has ended ([`Generation::stop_reason`] says why).
    ///
    /// # Errors
    /// When the model fails, or the constraint allows no token.
    pub fn next_token(&mut self) -> Result<Option<u32>, GenerateError> {
        if self.settings.is_cancelled() {
            // What was chosen ahead is not part of the text then.
            self.ready.clear();
            self.stopped = Some(StopReason::Cancelled);
        }
        if self.ready.is_empty() && self.stopped.is_none() {
            self.step()?;
        }
        let token = self.ready.pop_front();
        self.statistics.tokens += usize::from(token.is_some());
        Ok(token)
    }

    /// Tokens that can still be chosen.
    fn tokens_left(&self) -> usize {
        let chosen = self.tokens.len() - self.statistics.prompt_tokens;
        // The last token that is chosen need not be run.
        let window = self.model.context_window();
        self.settings
            .token_count_max
            .saturating_sub(chosen)
            .min((window + 1).saturating_sub(self.tokens.len()))
    }

    /// Chooses at least one token, or stops.
    fn step(&mut self) -> Result<(), GenerateError> {
        if self.tokens_left() == 0 {
            let is_length =
                self.tokens.len() - self.statistics.prompt_tokens >= self.settings.token_count_max;
            self.stopped = Some(if is_length { StopReason::Length } else { StopReason::ContextFull });
            return Ok(());
        }
        // The logits of a prompt are there; a token that was chosen is run first.
        if self.past == self.tokens.len() {
            let logits = std::mem::take(&mut self.logits);
            self.choose(&logits)?;
            self.logits = logits;
            return Ok(());
        }
        if self.settings.governed.drafts() && self.draft_alone()? {
            return Ok(());
        }
        self.catch_up()?;
        self.statistics.passes += 1;
        let start = Instant::now();
        let proposals = self.propose()?;
        if proposals.is_empty() {
            let run = || self.model.forward(self.past, &self.tokens[self.past..]);
            self.logits = self.settings.governed.run(1, run)?;
            self.past += 1;
            if let Some(speculation) = &mut self.speculation {
                speculation.watch.plain_step(start.elapsed().as_secs_f64());
            }
            let logits = std::mem::take(&mut self.logits);
            self.choose(&logits)?;
            self.logits = logits;
            return Ok(());
        }
        self.verify(&proposals, start)
    }

    /// Takes what the drafter guesses without asking the model; whether there was anything. A constraint needs the model.
    fn draft_alone(&mut self) -> Result<bool, GenerateError> {
        let left = self.tokens_left();
        let (Some(speculation), None) = (&mut self.speculation, &self.constraint) else { return Ok(false) };
        let count = speculation.draft_tokens_max.min(left);
        let draft = || speculation.drafter.propose(&self.tokens, count, &mut speculation.sampler);
        let proposals = self.settings.governed.run(1, draft)?;
        let known = proposals.iter().take_while(|proposal| (proposal.token as usize) < self.logits.len());
        let tokens: Vec<u32> = known.map(|proposal| proposal.token).collect();
        let before = self.tokens.len();
        for token in &tokens {
            if self.stopped.is_none() {
                self.take(*token);
            }
        }
        self.statistics.drafted_alone += self.tokens.len() - before;
        Ok(!tokens.is_empty())
    }

    /// Runs what the drafter wrote alone, but for the last token.
    fn catch_up(&mut self) -> Result<(), GenerateError> {
        while self.past + 1 < self.tokens.len() {
            let waiting = (self.tokens.len() - 1 - self.past).min(self.settings.governed.chunk_tokens_max());
            let count = self.model.chunk(self.past, waiting).clamp(1, waiting);
            let run = || self.model.forward(self.past, &self.tokens[self.past..self.past + count]);
            self.settings.governed.run(count, run)?;
            self.past += count;
        }
        Ok(())
    }

    /// Guesses, when it is worth it.
    fn propose(&mut self) -> Result<Vec<Proposal>, GenerateError> {
        let left = self.tokens_left();
        let Some(speculation) = self.speculation.as_mut().filter(|one| one.watch.speculates()) else {
            return Ok(Vec::new());
        };
        let room = self.model.verify_length_max(self.past).saturating_sub(1);
        // A pass makes one token more than it accepts.
        let count = speculation.draft_tokens_max.min(room).min(left.saturating_sub(1));
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut proposals = speculation.drafter.propose(&self.tokens, count, &mut speculation.sampler)?;
        // A drafter may know tokens that the model does not.
        let known =
            proposals.iter().take_while(|proposal| (proposal.token as usize) < self.logits.len()).count();
        proposals.truncate(known);
        self.statistics.drafted += proposals.len();
        Ok(proposals)
    }

    /// Runs the last token and all guesses in one pass, and takes guesses up to the first that is refused.
    fn verify(&mut self, proposals: &[Proposal], start: Instant) -> Result<(), GenerateError> {
        let mut run = self.tokens[self.past..].to_vec();
        run.extend(proposals.iter().map(|proposal| proposal.token));
        let rows = self.settings.governed.run(run.len(), || self.model.verify(self.past, &run))?;
        self.statistics.verification_passes += 1;
        let vocabulary = rows.len() / run.len();
        let before = self.tokens.len();
        let mut all_accepted = true;
        for (row, proposal) in rows.chunks_exact(vocabulary).zip(proposals) {
            self.past += 1;
            self.statistics.verified += 1;
            let Some(target) = self.distribution(row)? else { break };
            let (token, is_accepted) = resolve(&target, proposal, &mut self.sampler.random);
            self.take(token);
            self.statistics.accepted += usize::from(is_accepted);
            all_accepted &= is_accepted;
            if !all_accepted || self.stopped.is_some() {
                break;
            }
        }
        // All were right: the last row gives one more.
        if all_accepted && self.stopped.is_none() {
            self.past += 1;
            self.choose(&rows[proposals.len() * vocabulary..])?;
        }
        let made = self.tokens.len() - before;
        self.logits = rows[(self.past - before) * vocabulary..][..vocabulary].to_vec();
        if let Some(speculation) = &mut self.speculation {
            speculation.watch.speculative_step(start.elapsed().as_secs_f64(), proposals.len(), made);
            self.statistics.pauses = speculation.watch.pauses;
        }
        Ok(())
    }

    /// What the next token is drawn from; none when the constraint lets nothing follow.
    fn distribution(&mut self, logits: &[f32]) -> Result<Option<Distribution>, GenerateError> {
        let left = self.tokens_left();
        let Some(constraint) = &mut self.constraint else {
            return self.sampler.distribution(logits).map(Some).ok_or(GenerateError::Logits);
        };
        if constraint.is_ended() {
            self.stopped = Some(StopReason::Complete);
            return Ok(None);
        }
        let mut allowed = logits.to_vec();
        if !constraint.restrict(&mut allowed, left, &self.settings.stop_tokens) {
            return Err(GenerateError::NothingAllowed);
        }
        let found = self.sampler.distribution(&allowed).ok_or(GenerateError::Logits)?;
        // Where biases and cuts leave nothing that is allowed, the sampler falls back on what is not.
        let is_allowed = |one: &(u32, f64)| allowed[one.0 as usize] != f32::NEG_INFINITY;
        if found.candidates().iter().all(is_allowed) {
            return Ok(Some(found));
        }
        Err(GenerateError::NothingAllowed)
    }

    fn choose(&mut self, logits: &[f32]) -> Result<(), GenerateError> {
        if let Some(distribution) = self.distribution(logits)? {
            let token = distribution.draw(&mut self.sampler.random);
            self.take(token);
        }
        Ok(())
    }

    /// A token was chosen: it is given out, or ends the text.
    fn take(&mut self, token: u32) {
        if self.settings.stop_tokens.contains(&token) {
            self.stopped = Some(StopReason::StopToken);
            return;
        }
        self.tokens.push(token);
        self.ready.push_back(token);
        self.sampler.push(token);
        if let Some(speculation) = &mut self.speculation {
            speculation.sampler.push(token);
        }
        if let Some(constraint) = &mut self.constraint {
            constraint.push(token);
            if constraint.is_ended() {
                self.stopped = Some(StopReason::Complete);
            }
        }
    }

    /// Why the text has ended; `None` while it has not.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.stopped.filter(|_| self.ready.is_empty())
    }

    /// Whether the text is whole as its constraint sees it; true without one.
    pub fn is_whole(&self) -> bool {
        self.constraint.as_ref().is_none_or(|constraint| constraint.is_whole())
    }

    /// What was done so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// All tokens, prompt first.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens run so far, prompt included: the first so many of [`Generation::tokens`] are the model's state.
    pub fn past(&self) -> usize {
        self.past
    }

    /// Logits after the last token that was run.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }
}

#[cfg(test)]
mod tests;
