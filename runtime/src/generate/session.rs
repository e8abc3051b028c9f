//! What generation asks of a model, and the model that an artifact's programs are: tokens in, logits out, in the chunk lengths
//! that were compiled.
//!
//! Knows how inputs and states of a program are called; must not know how tokens are chosen.

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
    /// Speculation needs a pass over several tokens, and a state that can go back.
    #[error(
        "the model cannot check several tokens in one pass; compile it with a chunk length over 1 that gives all logits, such as --chunk-lengths 1,8,32, and a state that can be trimmed"
    )]
    CannotVerify,
    /// A constraint leaves no token of the vocabulary.
    #[error("no token of the vocabulary continues the text as the grammar asks")]
    NothingAllowed,
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

    /// Most tokens of one [`TokenModel::verify`] after `past` others; 1 when one pass gives no more than the last row of logits, or
    /// tokens cannot be taken back.
    fn verify_length_max(&self, past: usize) -> usize {
        let _ = past;
        1
    }

    /// Runs `tokens` after `past` others in one pass; logits for what follows each of them, [tokens, vocabulary] row-major. The next
    /// call may begin after any of them, and takes those behind it back.
    ///
    /// # Errors
    /// When the model fails, or cannot give all rows.
    fn verify(&mut self, past: usize, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        match tokens {
            [_] => self.forward(past, tokens),
            _ => Err(GenerateError::CannotVerify),
        }
    }

    /// Forgets all tokens.
    fn reset(&mut self);

    /// Forgets all but the first `tokens` tokens, as if the others had never been run. Gives how many are kept: `tokens`, or 0 when the
    /// model cannot return there; what is missing must be run again.
    fn trim(&mut self, tokens: usize) -> usize;
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

    /// Tokens that the model knows: the logits of one token; none when no program says it.
    pub fn vocabulary(&self) -> Option<usize> {
        let program = &self.session.programs()[self.buckets[0].1];
        let logits =
            program.outputs.iter().find(|output| output.name == "logits").or(program.outputs.first())?;
        logits.view.dims.last().map(|dim| dim.cap as usize)
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

    /// The session, to read outputs beside the logits.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
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

    /// The shortest program that takes all of `count` tokens, padded if it must be.
    fn padded(&self, past: usize, count: usize) -> Option<(usize, usize)> {
        let fits = |bucket: &&(usize, usize)| bucket.0 >= count && past + bucket.0 <= self.window;
        self.buckets.iter().rev().find(fits).filter(|bucket| self.may_pad || bucket.0 == count).copied()
    }

    fn gives_all_rows(&self, program: usize) -> bool {
        let program = &self.session.programs()[program];
        let logits =
            program.outputs.iter().find(|output| output.name == "logits").or(program.outputs.first());
        logits.is_some_and(|binding| {
            let dims = &binding.view.dims;
            dims.get(dims.len().wrapping_sub(2)).is_some_and(|dim| dim.cap >= program.chunk_length)
        })
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
        let bucket = self.bucket(past, tokens.len()).filter(|bucket| bucket.0 >= tokens.len());
        let (length, program) = bucket.or_else(|| self.padded(past, tokens.len())).ok_or(too_many)?;
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

    fn verify_length_max(&self, past: usize) -> usize {
        let fits = |bucket: &&(usize, usize)| past + bucket.0 <= self.window && self.gives_all_rows(bucket.1);
        let longest = self.buckets.iter().find(fits).map_or(1, |bucket| bucket.0);
        if self.may_pad && !self.is_stateless { longest } else { 1 }
    }

    fn verify(&mut self, past: usize, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        self.forward_rows(past, tokens)
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
