//! Keeps a device below a temperature while a text is made: runs of the model are followed by pauses, prompts are cut into smaller
//! chunks, and where that is allowed the draft model writes alone for a while.
//!
//! A device that warms as a first-order system settles at a share of busy time: running exactly that share is the most that can be done
//! below the limit. A proportional-integral controller (Åström and Hägglund, "PID Controllers", 1995, section 3.3, with the integral
//! held back at the ends) finds the share; hysteresis keeps a device that is cool enough from being slowed at all. One run that is too
//! long heats past the limit before anybody looks: chunks are cut, a token is not.
//!
//! ```text
//! cool --limit - band, or soon there--> governed: pause = busy * (1 / share - 1) --below limit - 2 bands and share 1--> cool
//! ```

mod device;

pub use device::{Device, Scripted, ThermalZones};

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is to be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The temperature that is not to be passed, in degrees Celsius.
    pub limit_celsius: f64,
    /// Half of what lies between governing and letting go, in degrees.
    pub band_celsius: f64,
    /// The longest pause without a look at the temperature, in seconds.
    pub pause_seconds_max: f64,
    /// Whether the draft model may write alone when pauses would more than halve the speed.
    pub may_draft: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { limit_celsius: 75.0, band_celsius: 1.0, pause_seconds_max: 2.0, may_draft: false }
    }
}

/// Share of busy time per degree of error: a tenth of the whole range for a quarter of a band of one degree.
const PROPORTIONAL: f64 = 0.4;
/// The same per degree and second: a tenth of the proportional part, so that the integral moves slower than what it steers.
const INTEGRAL: f64 = 0.04;
/// Seconds over which the trend is smoothed, and for which it is thought to go on.
const TREND_SECONDS: f64 = 2.0;
/// The least time between two looks: thermometers tell tenths of a degree, a few times a second.
const LOOK_SECONDS: f64 = 0.1;
/// The least share: a text goes on, however slowly.
const SHARE_MIN: f64 = 0.02;
/// Share below which the draft model writes alone, and above which the model is back. Apart, so that they do not alternate.
const DRAFT_BELOW: f64 = 0.5;
const MODEL_ABOVE: f64 = 0.8;
/// Seconds for which a state is kept before it is left: both directions of a change must not follow each other at once.
const DWELL_SECONDS: f64 = 10.0;
/// The most that one run may warm the device, in bands: longer ones are cut into smaller chunks.
const RUN_BANDS: f64 = 0.5;

/// What a change was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Pauses begin.
    Governed,
    /// Pauses end.
    Released,
    /// Prompts are cut into smaller chunks.
    SmallerChunks,
    /// The draft model writes alone.
    Draft,
    /// The model is back.
    Model,
    /// The temperature cannot be read; nothing is slowed.
    Blind,
}

impl fmt::Display for Change {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Change::Governed => "pauses begin",
            Change::Released => "pauses end",
            Change::SmallerChunks => "smaller chunks",
            Change::Draft => "the draft model writes alone",
            Change::Model => "the model is back",
            Change::Blind => "the temperature cannot be read: nothing is slowed",
        })
    }
}

/// One decision, for the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// When, in seconds since the first run.
    pub seconds: f64,
    /// The temperature; not a number where it could not be read.
    pub celsius: f64,
    /// What was decided.
    pub change: Change,
    /// Share of busy time from then on.
    pub share: f64,
    /// Most tokens in one run from then on.
    pub chunk_tokens_max: usize,
}

impl fmt::Display for Decision {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decision { seconds, celsius, change, share, .. } = self;
        write!(to, "{seconds:.1} s: {celsius:.1} C: {change} (busy {:.0} % of the time", share * 100.0)?;
        match self.chunk_tokens_max {
            usize::MAX => to.write_str(")"),
            tokens => write!(to, ", at most {tokens} tokens in a run)"),
        }
    }
}

/// Decisions that are kept; a log of hours must not grow without end.
const DECISIONS_MAX: usize = 1000;

/// Governs the runs of a model.
pub struct Governor {
    device: Box<dyn Device>,
    limits: Limits,
    is_governed: bool,
    drafts: bool,
    /// When the draft model began, or the model came back.
    drafts_since: f64,
    /// Since when nothing has been slowed.
    full_since: f64,
    integral: f64,
    share: f64,
    chunk_tokens_max: usize,
    last: Option<Reading>,
    /// Degrees per second, smoothed.
    trend: f64,
    start: f64,
    run_start: f64,
    paused_seconds: f64,
    is_blind: bool,
    decisions: Vec<Decision>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    seconds: f64,
    celsius: f64,
}

impl fmt::Debug for Governor {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Governor")
            .field("limits", &self.limits)
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

impl Governor {
    /// Governs from now on.
    pub fn new(device: Box<dyn Device>, limits: Limits) -> Governor {
        let start = device.seconds();
        Governor {
            device,
            limits,
            is_governed: false,
            drafts: false,
            drafts_since: f64::NEG_INFINITY,
            full_since: start,
            integral: 1.0,
            share: 1.0,
            chunk_tokens_max: usize::MAX,
            last: None,
            trend: 0.0,
            start,
            run_start: start,
            paused_seconds: 0.0,
            is_blind: false,
            decisions: Vec::new(),
        }
    }

    /// A run begins now.
    pub fn run_begins(&mut self) {
        self.run_start = self.device.seconds();
        if self.last.is_none() {
            self.look(self.run_start);
        }
    }

    /// A run of so many tokens is over: looks at the temperature, decides, and pauses.
    pub fn run_ends(&mut self, tokens: usize) {
        let now = self.device.seconds();
        let busy = (now - self.run_start).max(0.0);
        let before = self.last;
        self.look(now);
        let warmed = match (before, self.last) {
            (Some(before), Some(after)) => after.celsius - before.celsius,
            _ => 0.0,
        };
        // A run that warms too much in one go is halved until it does not.
        if self.is_governed && tokens > 1 && warmed > RUN_BANDS * self.limits.band_celsius {
            self.chunk_tokens_max = self.chunk_tokens_max.min(tokens).div_ceil(2);
            self.decide(Change::SmallerChunks);
        }
        // Looking again between pieces ends a pause as soon as the device has cooled, however long the run was.
        let mut paused = 0.0;
        while self.is_governed {
            let left = busy * (1.0 / self.share - 1.0) - paused;
            if left <= 0.0 {
                break;
            }
            let pause = left.min(self.limits.pause_seconds_max);
            self.device.pause(pause);
            paused += pause;
            self.look(self.device.seconds());
        }
        self.paused_seconds += paused;
    }

    fn look(&mut self, now: f64) {
        if self.last.is_some_and(|last| now - last.seconds < LOOK_SECONDS) {
            return;
        }
        let Some(celsius) = self.device.celsius().filter(|celsius| celsius.is_finite()) else {
            // Without a thermometer there is nothing to hold to; a device of that kind protects itself.
            if !self.is_blind {
                self.is_blind = true;
                self.release(Change::Blind);
            }
            self.last = None;
            return;
        };
        self.is_blind = false;
        let reading = Reading { seconds: now, celsius };
        let Some(last) = self.last.replace(reading) else { return };
        let elapsed = now - last.seconds;
        let weight = (elapsed / TREND_SECONDS).min(1.0);
        self.trend += weight * ((celsius - last.celsius) / elapsed - self.trend);
        self.steer(celsius, elapsed);
    }

    /// One step of the controller, and the changes that follow from it.
    fn steer(&mut self, celsius: f64, elapsed: f64) {
        let Limits { limit_celsius, band_celsius, may_draft, .. } = self.limits;
        let goal = limit_celsius - 0.75 * band_celsius;
        let soon = celsius + self.trend.max(0.0) * TREND_SECONDS;
        if !self.is_governed {
            if soon < goal {
                return;
            }
            self.is_governed = true;
        }
        let was_share = self.share;
        let error = goal - soon;
        let wanted = self.integral + PROPORTIONAL * error;
        self.share = wanted.clamp(SHARE_MIN, 1.0);
        // At an end of the range the integral waits, or it would take as long to come back.
        if wanted == self.share || (wanted > 1.0) == (error < 0.0) {
            self.integral = (self.integral + INTEGRAL * error * elapsed).clamp(SHARE_MIN, 1.0);
        }
        if was_share == 1.0 && self.share < 1.0 && !self.has_begun() {
            self.decide(Change::Governed);
        }
        let now = self.last.map_or(self.start, |last| last.seconds);
        if self.share < 1.0 {
            self.full_since = now;
        }
        let may_change = now - self.drafts_since >= DWELL_SECONDS;
        let change = match self.drafts {
            false => (may_draft && may_change && self.share < DRAFT_BELOW).then_some(Change::Draft),
            true => (may_change && self.share > MODEL_ABOVE).then_some(Change::Model),
        };
        if let Some(change) = change {
            self.drafts = change == Change::Draft;
            self.drafts_since = now;
            self.decide(change);
        }
        if now - self.full_since >= DWELL_SECONDS && celsius < limit_celsius - 2.0 * band_celsius {
            self.release(Change::Released);
        }
    }

    /// Whether the last thing told is that pauses begin (or what followed from it).
    fn has_begun(&self) -> bool {
        let ends = [Change::Released, Change::Blind];
        self.decisions.last().is_some_and(|last| !ends.contains(&last.change))
    }

    fn release(&mut self, change: Change) {
        let told = self.has_begun() || change == Change::Blind;
        self.is_governed = false;
        self.drafts = false;
        self.share = 1.0;
        self.chunk_tokens_max = usize::MAX;
        if told {
            self.decide(change);
        }
    }

    fn decide(&mut self, change: Change) {
        if self.decisions.len() < DECISIONS_MAX {
            self.decisions.push(Decision {
                seconds: self.device.seconds() - self.start,
                celsius: self.last.map_or(f64::NAN, |last| last.celsius),
                change,
                share: self.share,
                chunk_tokens_max: self.chunk_tokens_max,
            });
        }
    }

    /// Most tokens of the next run.
    pub fn chunk_tokens_max(&self) -> usize {
        self.chunk_tokens_max
    }

    /// Whether the draft model is to write alone now.
    pub fn drafts(&self) -> bool {
        self.drafts
    }

    /// Seconds of pauses so far.
    pub fn paused_seconds(&self) -> f64 {
        self.paused_seconds
    }

    /// What was decided, in order: the first thousand.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }
}

/// A governor that the texts of one model share, or none.
#[derive(Clone, Debug, Default)]
pub struct Governed(Option<Arc<Mutex<Governor>>>);

impl Governed {
    /// Governed by this one.
    pub fn by(governor: Governor) -> Governed {
        Governed(Some(Arc::new(Mutex::new(governor))))
    }

    /// The governor, to look at its decisions.
    pub fn governor(&self) -> Option<MutexGuard<'_, Governor>> {
        // A run that panicked leaves figures that are still good.
        self.0.as_ref().map(|governor| governor.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does a run of so many tokens, and pauses behind it when it must.
    pub fn run<T>(&self, tokens: usize, run: impl FnOnce() -> T) -> T {
        if let Some(mut governor) = self.governor() {
            governor.run_begins();
        }
        let result = run();
        if let Some(mut governor) = self.governor() {
            governor.run_ends(tokens);
        }
        result
    }

    /// Most tokens of the next run.
    pub fn chunk_tokens_max(&self) -> usize {
        self.governor().map_or(usize::MAX, |governor| governor.chunk_tokens_max())
    }

    /// Whether the draft model is to write alone now.
    pub fn drafts(&self) -> bool {
        self.governor().is_some_and(|governor| governor.drafts())
    }
}

#[cfg(test)]
mod tests;
