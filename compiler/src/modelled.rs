//! What the timing model says of one pass of a language model, for statistics and for deciding whether guessing ahead pays.

use crate::session::Session;
use std::fmt;
use tilewright_runtime::stream::Program;
use tilewright_runtime::timing::{Request, estimate};

/// Tokens in the cache for which a pass is modelled, so that figures of different models compare.
const PAST_TOKENS: i64 = 128;

/// One pass on a target.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelledPass {
    /// The target's name.
    pub target: String,
    /// Tokens in the cache.
    pub past_tokens: i64,
    /// Tokens of the pass.
    pub tokens: u32,
    /// Clock cycles.
    pub cycles: u64,
    /// Bytes from and to DRAM.
    pub dram_bytes: u64,
    /// Energy.
    pub joules: f64,
}

impl fmt::Display for ModelledPass {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "modelled on {} after {} tokens: {} cycles, {:.2} MB of DRAM, {:.3} mJ per token",
            self.target,
            self.past_tokens,
            self.cycles,
            self.dram_bytes as f64 / 1e6,
            self.joules * 1e3,
        )
    }
}

/// The pass of one program after 128 other tokens, or as many as fit.
///
/// `None` for a target that this session does not know, or a program that the model cannot follow.
pub fn pass(session: &Session, target: &str, program: &Program) -> Option<ModelledPass> {
    let machine = session.targets.find(target)?.machine();
    let registers: Vec<(&str, i64)> = program
        .registers
        .iter()
        .filter(|register| register.is_bound)
        .map(|register| (register.name.as_str(), register.maximum.min(PAST_TOKENS)))
        .collect();
    let figures = tilewright_targets::figures::of(&machine);
    let request = Request { registers: &registers, ..Request::default() };
    let timing = estimate(program, &figures, &request).ok()?;
    Some(ModelledPass {
        target: target.to_string(),
        past_tokens: registers.first().map_or(0, |register| register.1),
        tokens: program.chunk_length,
        cycles: timing.cycles,
        dram_bytes: timing.total.dram_bytes,
        joules: timing.joules(&figures),
    })
}

/// The program of the shortest chunk that takes `tokens` in one pass, else the longest there is.
pub fn program_for(programs: &[Program], tokens: usize) -> Option<&Program> {
    let fits = programs.iter().filter(|program| program.chunk_length as usize >= tokens);
    let shortest = fits.min_by_key(|program| program.chunk_length);
    shortest.or_else(|| programs.iter().max_by_key(|program| program.chunk_length))
}
