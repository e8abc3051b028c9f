//! Drives a token model: the prompt in the chunk lengths the artifact has, then one token at a time.
//!
//! ```no_run
//! # use tilewright_runtime::generate::{sample::*, session::*};
//! # fn demo(session: tilewright_runtime::session::Session) -> Result<(), GenerateError> {
//! let mut model = ArtifactModel::new(session)?;
//! let settings = Settings { token_count_max: 80, ..Settings::default() };
//! let mut generation = Generation::start(&mut model, &[1, 15043], settings)?;
//! while let Some(token) = generation.next_token()? {
//!     println!("{token}");
//! }
//! # Ok(()) }
//! ```

use super::sample::{Sampler, Sampling};
use crate::kv_cache::{context_window, past_register};
use crate::session::{Session, SessionError, SnapshotError, Tensor};

/// Why generation stopped with an error.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The session refused a tensor or failed to run.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A saved state cannot be used, or not be saved.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// No program of the artifact is about tokens.
    #[error("the artifact has no program that takes tokens; compile it for generation")]
    NotGenerative,
    /// A program takes an input that generation does not know how to fill.
    #[error("the program takes an input {name:?}, which generation cannot fill")]
    UnknownInput {
        /// its name
        name: String,
    },
    /// The prompt is empty.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// The prompt does not fit.
    #[error(
        "{tokens} tokens do not fit the context window of {window}; compile with a larger window, or shorten the prompt"
    )]
    ContextFull {
        /// how many there would be
        tokens: usize,
        /// how many fit
        window: usize,
    },
    /// No logit is a number.
    #[error("the model's logits are not numbers")]
    Logits,
    /// The model gives logits for fewer tokens than it takes.
    #[error(
        "the model gives logits for {found} of {expected} tokens; compile it with --chunk-lengths {found}"
    )]
    LogitsRows {
        /// tokens of the run
        expected: usize,
        /// rows of logits
        found: usize,
    },
}

/// Something that takes tokens after the ones it has seen, and gives logits for the next.
pub trait TokenModel {
    /// Most tokens it can hold.
    fn context_window(&self) -> usize;

    /// How many of `waiting` (at least 1) tokens to run next, after `past` others: at least 1.
    fn chunk(&self, past: usize, waiting: usize) -> usize;

    /// Runs `tokens`, whose number [`TokenModel::chunk`] gave, after `past` others; logits for what follows the last.
    ///
    /// # Errors
    /// When the model fails.
    fn forward(&mut self, past: usize, tokens: &[u32]) -> Result<Vec<f32>, GenerateError>;

    /// Forgets all tokens.
    fn reset(&mut self);

    /// Forgets all but the first `tokens` tokens, as if the others had never been run. Gives how many are kept: `tokens`, or 0 when the
    /// model cannot return there; what is missing must be run again.
    fn trim(&mut self, tokens: usize) -> usize;
}

/// Settings of one generation.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Most tokens to make.
    pub token_count_max: usize,
    /// Tokens that end the text; they are not given out.
    pub stop_tokens: Vec<u32>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { sampling: Sampling::default(), token_count_max: 64, stop_tokens: Vec::new() }
    }
}

/// Why there are no more tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A stop token was chosen.
    StopToken,
    /// [`Settings::token_count_max`] was reached.
    Length,
    /// The context window is full.
    ContextFull,
}

/// One text being generated.
pub struct Generation<'m, M: TokenModel> {
    model: &'m mut M,
    sampler: Sampler,
    settings: Settings,
    past: usize,
    logits: Vec<f32>,
    /// A token that was given out and not yet run.
    pending: Option<u32>,
    made: usize,
    stopped: Option<StopReason>,
}

impl<'m, M: TokenModel> Generation<'m, M> {
    /// Resets the model and runs the prompt in chunks.
    ///
    /// # Errors
    /// When the prompt is empty or does not fit, or the model fails.
    pub fn start(
        model: &'m mut M,
        prompt: &[u32],
        settings: Settings,
    ) -> Result<Generation<'m, M>, GenerateError> {
        model.reset();
        Generation::resume(model, 0, prompt, settings)
    }

    /// Runs what follows the first `held` tokens of the prompt, which the model holds already. At least the last token is run
    /// again, for its logits.
    ///
    /// # Errors
    /// As [`Generation::start`].
    pub fn resume(
        model: &'m mut M,
        held: usize,
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
        let mut past = model.trim(held.min(prompt.len() - 1));
        let mut logits = Vec::new();
        while past < prompt.len() {
            let count = model.chunk(past, prompt.len() - past).clamp(1, prompt.len() - past);
            logits = model.forward(past, &prompt[past..past + count])?;
            past += count;
        }
        let sampler = Sampler::new(settings.sampling.clone());
        Ok(Generation { model, sampler, settings, past, logits, pending: None, made: 0, stopped: None })
    }

    /// The next token; `None` when the text has ended ([`Generation::stop_reason`] says why).
    ///
    /// # Errors
    /// When the model fails.
    pub fn next_token(&mut self) -> Result<Option<u32>, GenerateError> {
        if self.stopped.is_some() {
            return Ok(None);
        }
        if self.made >= self.settings.token_count_max {
            self.stopped = Some(StopReason::Length);
            return Ok(None);
        }
        if let Some(token) = self.pending.take() {
            if self.past >= self.model.context_window() {
                self.stopped = Some(StopReason::ContextFull);
                return Ok(None);
            }
            self.logits = self.model.forward(self.past, &[token])?;
            self.past += 1;
        }
        let token = self.sampler.sample(&self.logits).ok_or(GenerateError::Logits)?;
        if self.settings.stop_tokens.contains(&token) {
            self.stopped = Some(StopReason::StopToken);
            return Ok(None);
        }
        self.made += 1;
        self.pending = Some(token);
        Ok(Some(token))
    }

    /// Why the text has ended; `None` while it has not.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.stopped
    }

    /// Tokens run so far, prompt included.
    pub fn past(&self) -> usize {
        self.past
    }

    /// Logits after the last token that was run.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }
}

/// A token model over the programs of an artifact.
///
/// Inputs are filled by name where a program declares them: `input_ids`, `attention_mask`, `position_ids`. The register that the
/// growing states follow is bound to the number of tokens seen.
pub struct ArtifactModel {
    session: Session,
    /// (tokens per run, index of the program), longest first.
    buckets: Vec<(usize, usize)>,
    window: usize,
    may_pad: bool,
    /// All tokens, when the programs keep no state and everything is run again.
    history: Vec<u32>,
    is_stateless: bool,
}

impl ArtifactModel {
    /// Looks through the programs of a session.
    ///
    /// # Errors
    /// When none takes tokens, or one takes an input that is not known.
    pub fn new(session: Session) -> Result<ArtifactModel, GenerateError> {
        let mut buckets = Vec::new();
        let mut window = usize::MAX;
        for (index, program) in session.programs().iter().enumerate() {
            if program.chunk_length == 0 || !program.inputs.iter().any(|input| input.name == "input_ids") {
                continue;
            }
            let unknown = program.inputs.iter().find(|input| {
                !matches!(input.name.as_str(), "input_ids" | "attention_mask" | "position_ids")
            });
            if let Some(input) = unknown {
                return Err(GenerateError::UnknownInput { name: input.name.clone() });
            }
            buckets.push((program.chunk_length as usize, index));
            window = window.min(context_window(program).map_or(usize::MAX, |window| window as usize));
        }
        buckets.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&(longest, _)) = buckets.first() else { return Err(GenerateError::NotGenerative) };
        let is_stateless = session.programs().iter().all(|program| program.states.is_empty());
        let may_pad = session.can_trim_state();
        let window = if window == usize::MAX { longest } else { window };
        Ok(ArtifactModel { session, buckets, window, may_pad, history: Vec::new(), is_stateless })
    }

    /// The session, to look at registers and programs.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Saves the state after `tokens`, the first tokens that were run, to a file.
    ///
    /// # Errors
    /// As [`Session::save_snapshot`].
    pub fn save(&mut self, path: &std::path::Path, tokens: &[u32]) -> Result<(), SnapshotError> {
        self.session.save_snapshot(path, tokens)
    }

    /// Takes over what [`ArtifactModel::save`] wrote; gives its tokens.
    ///
    /// # Errors
    /// As [`Session::load_snapshot`].
    pub fn load(&mut self, path: &std::path::Path) -> Result<Vec<u32>, SnapshotError> {
        self.session.load_snapshot(path)
    }

    /// The program that runs `count` tokens after `past` others: of those that fit the window, the shortest that takes all, padded if
    /// it must be, unless most of it would be padding; else the longest that is filled.
    fn bucket(&self, past: usize, count: usize) -> Option<(usize, usize)> {
        let fits = |&&(length, _): &&(usize, usize)| past + length <= self.window;
        let padded = self.buckets.iter().rev().filter(fits).find(|bucket| bucket.0 >= count);
        let filled = self.buckets.iter().filter(fits).find(|bucket| bucket.0 <= count);
        match (padded, filled) {
            (Some(padded), _) if padded.0 == count => Some(*padded),
            // A chunk costs about as much as a quarter of its tokens run alone: weights are read once per run.
            (Some(padded), None) if self.may_pad => Some(*padded),
            (Some(padded), Some(filled)) if self.may_pad && filled.0 < count.min(padded.0 / 4) => {
                Some(*padded)
            }
            (_, Some(filled)) => Some(*filled),
            _ => None,
        }
    }

    fn feed(&mut self, name: &str, values: &[i64]) -> Result<(), GenerateError> {
        if let Some((element, shape)) = self.session.input_shape(name) {
            let tensor = Tensor::from_i64(element, &shape, values);
            self.session.set_input(name, &shape, &tensor.bytes)?;
        }
        Ok(())
    }

    /// Runs `tokens` after `past` others, as [`TokenModel::forward`] does; logits for what follows each of them,
    /// [tokens, vocabulary] row-major.
    ///
    /// # Errors
    /// When the model fails, or gives logits for its last token only.
    pub fn forward_rows(&mut self, past: usize, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        let (real, name, _, rows) = self.run(past, tokens)?;
        if rows < real {
            return Err(GenerateError::LogitsRows { expected: real, found: rows });
        }
        let mut logits = self.session.output(&name)?.to_f32();
        let vocabulary = logits.len() / rows;
        logits.truncate(real * vocabulary);
        logits.drain(..(real - tokens.len()) * vocabulary);
        Ok(logits)
    }

    /// Runs the program that fits. Gives the number of real tokens that ran, and of the logits their name, rank and rows.
    fn run(&mut self, past: usize, tokens: &[u32]) -> Result<(usize, String, usize, usize), GenerateError> {
        let too_many = GenerateError::ContextFull { tokens: past + tokens.len(), window: self.window };
        let (past, tokens) = if self.is_stateless {
            self.history.truncate(past);
            self.history.extend(tokens);
            (0, self.history.clone())
        } else {
            (past, tokens.to_vec())
        };
        let (length, program) =
            self.bucket(past, tokens.len()).filter(|bucket| bucket.0 >= tokens.len()).ok_or(too_many)?;
        self.session.select(program);
        if let Some(register) = past_register(self.session.program()) {
            let name = self.session.program().registers[usize::from(register.0)].name.clone();
            self.session.bind(&name, past as i64)?;
        }
        let real = tokens.len();
        let ids: Vec<i64> =
            tokens.iter().map(|&token| i64::from(token)).chain(std::iter::repeat(0)).take(length).collect();
        self.feed("input_ids", &ids)?;
        let seen =
            |total: usize| (0..total).map(|position| i64::from(position < past + real)).collect::<Vec<_>>();
        if let Some((_, shape)) = self.session.input_shape("attention_mask") {
            self.feed("attention_mask", &seen(shape.iter().product()))?;
        }
        let positions: Vec<i64> = (past..past + length).map(|position| position as i64).collect();
        self.feed("position_ids", &positions)?;
        self.session.run()?;
        let logits = &self.session.program().outputs;
        let name = logits.iter().find(|output| output.name == "logits").or(logits.first());
        let binding = name.ok_or(GenerateError::Logits)?;
        let (name, rank) = (binding.name.clone(), binding.view.rank());
        let rows = binding.view.dims.get(rank.wrapping_sub(2)).map_or(1, |dim| dim.cap as usize);
        Ok((real, name, rank, rows))
    }
}

impl TokenModel for ArtifactModel {
    fn context_window(&self) -> usize {
        self.window
    }

    fn chunk(&self, past: usize, waiting: usize) -> usize {
        if self.is_stateless {
            return waiting;
        }
        self.bucket(past, waiting).map_or(1, |bucket| bucket.0.min(waiting))
    }

    fn forward(&mut self, past: usize, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        let (real, name, rank, rows) = self.run(past, tokens)?;
        let row = (real - 1).min(rows.max(1) - 1);
        let mut indices = vec![0; rank.saturating_sub(1)];
        if let Some(last) = indices.last_mut() {
            *last = row;
        }
        Ok(self.session.output_at(&name, &indices)?.to_f32())
    }

    fn reset(&mut self) {
        self.session.reset_state();
        self.history.clear();
    }

    fn trim(&mut self, tokens: usize) -> usize {
        if self.is_stateless {
            self.history.truncate(tokens);
            return self.history.len();
        }
        self.session.trim_state(tokens as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says token + 1 (modulo 10) and records how it was asked.
    struct Counting {
        calls: Vec<(usize, usize)>,
    }

    impl TokenModel for Counting {
        fn context_window(&self) -> usize {
            12
        }
        fn chunk(&self, _: usize, waiting: usize) -> usize {
            if waiting >= 4 { 4 } else { 1 }
        }
        fn forward(&mut self, past: usize, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
            self.calls.push((past, tokens.len()));
            let next = (tokens[tokens.len() - 1] + 1) % 10;
            Ok((0..10).map(|token| if token == next { 1.0 } else { 0.0 }).collect())
        }
        fn reset(&mut self) {
            self.calls.clear();
        }
        fn trim(&mut self, tokens: usize) -> usize {
            tokens
        }
    }

    fn all(prompt: &[u32], settings: Settings) -> (Vec<u32>, StopReason, Vec<(usize, usize)>) {
        let mut model = Counting { calls: Vec::new() };
        let mut generation = Generation::start(&mut model, prompt, settings).expect("fits");
        let mut tokens = Vec::new();
        while let Some(token) = generation.next_token().expect("cannot fail") {
            tokens.push(token);
        }
        let reason = generation.stop_reason().expect("has stopped");
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
        let mut model = Counting { calls: Vec::new() };
        let refused = |model: &mut Counting, prompt: &[u32]| {
            Generation::start(model, prompt, Settings::default()).err().expect("refused").to_string()
        };
        assert_eq!(refused(&mut model, &[]), "the prompt has no tokens");
        assert!(refused(&mut model, &[0; 13]).starts_with("13 tokens do not fit the context window of 12"));
    }
}
