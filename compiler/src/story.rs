//! A text from a loaded language model: ids in, pieces of text out as they become certain, and how long it took.
//!
//! Knows no terminal: pieces go to a callback, which says whether to go on.

use crate::loaded::Loaded;
use crate::session::Session;
use crate::tokens::TokenCodec;
use std::path::Path;
use std::time::{Duration, Instant};
use tilewright_runtime::generate::session::{ArtifactModel, GenerateError, Generation, Settings, StopReason};
use tilewright_runtime::timing::{Request, estimate};

/// Tokens in the cache for which a token's cost is modelled, so that figures of different models compare.
const MODELLED_PAST_TOKENS: i64 = 128;

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model chose a token that ends texts.
    StopToken,
    /// One of the user's stop texts came.
    StopText,
    /// As many tokens as asked for.
    Length,
    /// The context window is full.
    ContextFull,
    /// Nobody listens any more.
    Closed,
}

/// What writing took.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Tokens written.
    pub tokens: usize,
    /// Their ids.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub ending: Ending,
    /// From the start to the first token.
    pub first_token: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

/// Files that keep the state of a text, so that what it begins with need not be run again.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheFiles<'a> {
    /// Begin with this state, as far as its tokens are the prompt's.
    pub load: Option<&'a Path>,
    /// Leave the state here at the end.
    pub save: Option<&'a Path>,
}

/// How to write.
pub struct Story<'a> {
    /// Sampling, length, stop tokens.
    pub settings: Settings,
    /// Texts that end it; they are not given out.
    pub stop: &'a [String],
    /// Where the state after a text is kept.
    pub cache: CacheFiles<'a>,
    /// Turns ids into text; without it ids are given out, separated by spaces.
    pub codec: Option<&'a TokenCodec>,
}

impl Story<'_> {
    /// Continues `prompt`. `say` gets each piece and answers whether to go on.
    ///
    /// # Errors
    /// When the model cannot run the prompt.
    pub fn write(
        self,
        session: tilewright_runtime::session::Session,
        prompt: &[u32],
        say: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Summary, GenerateError> {
        let mut model = ArtifactModel::new(session)?;
        let start = Instant::now();
        let held = match self.cache.load {
            Some(file) => common_prefix(&model.load(file)?, prompt),
            None => 0,
        };
        let mut generation = Generation::resume(&mut model, held, prompt, self.settings)?;
        let mut stream = self.codec.map(TokenCodec::stream);
        let mut gate = StopGate::new(self.stop);
        let mut ids = Vec::new();
        let (mut first_token, mut last) = (Duration::ZERO, start);
        let mut ending = None;
        while ending.is_none() {
            let Some(id) = generation.next_token()? else { break };
            if ids.is_empty() {
                first_token = start.elapsed();
            }
            last = Instant::now();
            ids.push(id);
            let piece = match &mut stream {
                Some(stream) => stream.push(id),
                None if ids.len() == 1 => id.to_string(),
                None => format!(" {id}"),
            };
            let (text, stopped) = gate.push(&piece);
            if !text.is_empty() && !say(&text) {
                ending = Some(Ending::Closed);
            } else if stopped {
                ending = Some(Ending::StopText);
            }
        }
        if ending != Some(Ending::StopText) {
            let rest = stream.as_mut().map(|stream| stream.finish()).unwrap_or_default();
            let (text, stopped) = gate.push(&rest);
            say(&text);
            if stopped {
                ending = Some(Ending::StopText);
            } else {
                say(&gate.finish());
            }
        }
        let ending = ending.unwrap_or(match generation.stop_reason() {
            Some(StopReason::StopToken) => Ending::StopToken,
            Some(StopReason::ContextFull) => Ending::ContextFull,
            _ => Ending::Length,
        });
        let past = generation.past();
        if let Some(file) = self.cache.save {
            let tokens: Vec<u32> = prompt.iter().chain(&ids).copied().take(past).collect();
            model.save(file, &tokens)?;
        }
        let decode = last.duration_since(start).saturating_sub(first_token);
        Ok(Summary { tokens: ids.len(), ids, ending, first_token, decode })
    }
}

/// How many tokens both begin with.
fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Holds text back while it may be the beginning of a stop text.
struct StopGate<'a> {
    stop: &'a [String],
    held: String,
}

impl<'a> StopGate<'a> {
    fn new(stop: &'a [String]) -> StopGate<'a> {
        StopGate { stop, held: String::new() }
    }

    /// Adds text; gives what may be shown, and whether a stop text came.
    fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        let found =
            self.stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| self.held.find(stop.as_str()));
        if let Some(at) = found.min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let is_beginning = |at: usize| self.stop.iter().any(|stop| stop.starts_with(&self.held[at..]));
        let keep = self
            .held
            .char_indices()
            .map(|(at, _)| at)
            .find(|at| is_beginning(*at))
            .unwrap_or(self.held.len());
        let rest = self.held.split_off(keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// What the timing model says of one more token after 128 others: cycles, DRAM bytes and energy.
///
/// `None` for a target that this session does not know, or a program that the model cannot follow.
pub fn modelled(loaded: &Loaded, session: &Session, target: &str) -> Option<String> {
    let machine = (session.targets.find(target)?.machine)();
    let program = loaded.session.programs().iter().min_by_key(|program| program.chunk_length)?;
    let half: Vec<(&str, i64)> = program
        .registers
        .iter()
        .filter(|register| register.is_bound)
        .map(|register| (register.name.as_str(), register.maximum.min(MODELLED_PAST_TOKENS)))
        .collect();
    let figures = tilewright_targets::figures::of(&machine);
    let request = Request { registers: &half, ..Request::default() };
    let timing = estimate(program, &figures, &request).ok()?;
    let past = half.first().map_or(0, |register| register.1);
    Some(format!(
        "modelled on {target} after {past} tokens: {} cycles, {:.2} MB of DRAM, {:.3} mJ per token",
        timing.cycles,
        timing.total.dram_bytes as f64 / 1e6,
        timing.joules(&figures) * 1e3,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_text_across_pieces_is_not_shown() {
        let stop = ["END".to_string()];
        let mut gate = StopGate::new(&stop);
        assert_eq!(gate.push("a story E"), ("a story ".to_string(), false));
        assert_eq!(gate.push("N"), (String::new(), false));
        assert_eq!(gate.push("emy. EN"), ("ENemy. ".to_string(), false));
        assert_eq!(gate.push("D more"), (String::new(), true));
    }
}
