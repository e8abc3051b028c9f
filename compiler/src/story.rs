//! A text from a loaded language model: ids in, pieces of text out as they become certain, and how long it took.
//!
//! ```no_run
//! # use tilewright::{story::Story, tokens::TokenCodec};
//! # use tilewright_runtime::generate::{generation::Settings, session::ArtifactModel};
//! # fn demo(mut model: ArtifactModel, codec: TokenCodec) -> Result<(), Box<dyn std::error::Error>> {
//! let story = Story { codec: Some(&codec), ..Story::new(Settings::default()) };
//! // Whole characters only; `false` ends the story. `Settings::cancel` ends it from another thread.
//! let mut say = |piece: &str| { print!("{piece}"); true };
//! let summary = story.write(&mut model, 0, &[1, 15043], &mut say)?;
//! println!("{:?} after {} tokens", summary.ending, summary.statistics.tokens);
//! # Ok(()) }
//! ```
//!
//! Knows no terminal: pieces go to a callback, which says whether to go on.

use crate::stop_text::StopGate;
use crate::tokens::{TextStream, TokenCodec};
use std::time::{Duration, Instant};
use tilewright_runtime::generate::generation::{Constraint, Generation, Settings, Statistics, StopReason};
use tilewright_runtime::generate::pace::Pace;
use tilewright_runtime::generate::session::{GenerateError, TokenModel};
use tilewright_runtime::generate::speculate::Drafter;

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model chose a token that ends texts.
    StopToken,
    /// One of the user's stop texts came.
    StopText,
    /// The grammar lets nothing more follow.
    Complete,
    /// As many tokens as asked for.
    Length,
    /// The context window is full.
    ContextFull,
    /// Cancelled from outside.
    Cancelled,
    /// Nobody listens any more.
    Closed,
}

impl Ending {
    /// In words, for a line of statistics.
    pub fn text(self) -> &'static str {
        match self {
            Ending::StopToken => "end of text",
            Ending::StopText => "stop text",
            Ending::Complete => "complete",
            Ending::Length => "length",
            Ending::ContextFull => "context window full",
            Ending::Cancelled => "interrupted",
            Ending::Closed => "output closed",
        }
    }
}

/// What writing took.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Ids of the tokens written.
    pub ids: Vec<u32>,
    /// The text that was given out.
    pub text: String,
    /// Why it ended.
    pub ending: Ending,
    /// Whether the text is whole by its grammar; true without one.
    pub is_whole: bool,
    /// What the model and the drafter did.
    pub statistics: Statistics,
    /// All tokens that are the model's state now, prompt first.
    pub state: Vec<u32>,
    /// From the start until the prompt had run.
    pub prompt: Duration,
    /// From the start to the first token.
    pub first_token: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

/// Guessing ahead.
pub struct Speculation<'a> {
    /// Who guesses.
    pub drafter: Box<dyn Drafter + 'a>,
    /// Most guesses at a time.
    pub draft_tokens_max: usize,
    /// When to.
    pub pace: Pace,
}

/// How to write.
pub struct Story<'a> {
    /// Sampling, length, stop tokens.
    pub settings: Settings,
    /// Texts that end it; they are not given out.
    pub stop: &'a [String],
    /// Turns ids into text; without it ids are given out, separated by spaces.
    pub codec: Option<&'a TokenCodec>,
    /// What the text must be.
    pub constraint: Option<Box<dyn Constraint + 'a>>,
    /// Guessing ahead.
    pub speculation: Option<Speculation<'a>>,
}

impl<'a> Story<'a> {
    /// Ids in, ids out, nothing else.
    pub fn new(settings: Settings) -> Story<'a> {
        Story { settings, stop: &[], codec: None, constraint: None, speculation: None }
    }

    /// Continues `prompt`, whose first `cached` tokens are the model's state already. `say` gets each piece and answers whether to go on.
    ///
    /// # Errors
    /// When the model cannot run the prompt, cannot check drafts, or the constraint leaves no token.
    pub fn write<M: TokenModel>(
        self,
        model: &'a mut M,
        cached: usize,
        prompt: &[u32],
        say: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Summary, GenerateError> {
        let start = Instant::now();
        let mut generation = Generation::resume(model, cached, prompt, self.settings)?;
        let prompt = start.elapsed();
        if let Some(constraint) = self.constraint {
            generation.constrain(constraint);
        }
        if let Some(Speculation { drafter, draft_tokens_max, pace }) = self.speculation {
            generation.speculate(drafter, draft_tokens_max, pace)?;
        }
        let mut telling = Telling {
            stream: self.codec.map(TokenCodec::stream),
            gate: StopGate::new(self.stop),
            text: String::new(),
            say,
        };
        let mut ids = Vec::new();
        let (mut first_token, mut last) = (prompt, start + prompt);
        let mut ending = None;
        while ending.is_none() {
            let Some(id) = generation.next_token()? else { break };
            last = Instant::now();
            if ids.is_empty() {
                first_token = last.duration_since(start);
            }
            ids.push(id);
            ending = telling.token(id, ids.len() == 1);
        }
        if ending.is_none() {
            ending = telling.finish();
        }
        let ending = ending.unwrap_or(match generation.stop_reason() {
            Some(StopReason::StopToken) => Ending::StopToken,
            Some(StopReason::Complete) => Ending::Complete,
            Some(StopReason::ContextFull) => Ending::ContextFull,
            Some(StopReason::Cancelled) => Ending::Cancelled,
            Some(StopReason::Length) | None => Ending::Length,
        });
        let decode = last.duration_since(start).saturating_sub(first_token);
        Ok(Summary {
            ids,
            text: telling.text,
            ending,
            is_whole: generation.is_whole(),
            statistics: generation.statistics(),
            state: generation.tokens()[..generation.past()].to_vec(),
            prompt,
            first_token,
            decode,
        })
    }
}

/// Ids become text, pass the gate, and are said.
struct Telling<'a> {
    stream: Option<TextStream<'a>>,
    gate: StopGate<'a>,
    text: String,
    say: &'a mut dyn FnMut(&str) -> bool,
}

impl Telling<'_> {
    fn token(&mut self, id: u32, is_first: bool) -> Option<Ending> {
        let piece = match &mut self.stream {
            Some(stream) => stream.push(id),
            None if is_first => id.to_string(),
            None => format!(" {id}"),
        };
        self.piece(&piece)
    }

    fn piece(&mut self, piece: &str) -> Option<Ending> {
        let (text, is_stopped) = self.gate.push(piece);
        let is_heard = self.tell(&text);
        match (is_heard, is_stopped) {
            (false, _) => Some(Ending::Closed),
            (true, true) => Some(Ending::StopText),
            (true, false) => None,
        }
    }

    /// Characters and beginnings of stop texts that were held back.
    fn finish(&mut self) -> Option<Ending> {
        let rest = self.stream.as_mut().map(TextStream::finish).unwrap_or_default();
        let ending = self.piece(&rest);
        if ending.is_none() {
            let held = self.gate.finish();
            self.tell(&held);
        }
        ending
    }

    fn tell(&mut self, text: &str) -> bool {
        self.text += text;
        text.is_empty() || (self.say)(text)
    }
}
