//! Whether speculation pays: tokens per unit of time with it and without it, over the last few steps.
//!
//! It is watched in windows. When a window of speculation was slower than plain steps are, plain steps follow for a pause, then
//! speculation gets another window; each failure doubles the pause. Knows no tokens and no clock: durations are given to it, measured or
//! from a machine's timing model.

/// Speculative steps of one window.
const WINDOW_STEPS: usize = 6;
/// Plain steps before the first window, to know what they cost.
const WARM_UP_STEPS: usize = 2;
/// Plain steps after the first window that was slower.
const PAUSE_STEPS: usize = 16;
/// Longest pause.
const PAUSE_STEPS_MAX: usize = 512;
/// Weight of the newest plain step in the running mean.
const NEWEST_WEIGHT: f64 = 0.25;

/// How it is decided whether to speculate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Always.
    Always,
    /// By the clock. The text of greedy generation does not depend on it; a drawn text keeps its distribution, but not its draws.
    Measured,
    /// By costs that are known beforehand, such as modelled cycles: the same decisions on every machine.
    Modelled(Costs),
}

/// What steps cost, in any one unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Costs {
    /// One token by the model.
    pub plain: f64,
    /// One pass over the draft by the model.
    pub verify: f64,
    /// One drafted token.
    pub draft: f64,
}

/// The state of the decision.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pace: Pace,
    plain: Option<f64>,
    /// Plain steps to take before speculation gets its next window.
    plain_left: usize,
    pause: usize,
    steps: usize,
    tokens: usize,
    duration: f64,
    pub(super) pauses: usize,
}

impl Watch {
    pub(super) fn new(pace: Pace) -> Watch {
        let (plain, plain_left) = match pace {
            Pace::Always => (None, 0),
            Pace::Measured => (None, WARM_UP_STEPS),
            Pace::Modelled(costs) => (Some(costs.plain), 0),
        };
        Watch { pace, plain, plain_left, pause: PAUSE_STEPS, steps: 0, tokens: 0, duration: 0.0, pauses: 0 }
    }

    /// Whether the next step should speculate.
    pub(super) fn speculates(&self) -> bool {
        self.plain_left == 0
    }

    /// A plain step ended; `seconds` is what it took by the clock.
    pub(super) fn plain_step(&mut self, seconds: f64) {
        self.plain_left = self.plain_left.saturating_sub(1);
        if self.pace == Pace::Measured {
            let old = self.plain.unwrap_or(seconds);
            self.plain = Some(old + NEWEST_WEIGHT * (seconds - old));
        }
    }

    /// A step drafted, checked its drafts, and made `tokens`.
    pub(super) fn speculative_step(&mut self, seconds: f64, drafted: usize, tokens: usize) {
        self.duration += match self.pace {
            Pace::Always => return,
            Pace::Measured => seconds,
            Pace::Modelled(costs) => costs.verify + costs.draft * drafted as f64,
        };
        self.steps += 1;
        self.tokens += tokens;
        if self.steps < WINDOW_STEPS {
            return;
        }
        let is_slower = self.plain.is_some_and(|plain| self.duration > plain * self.tokens as f64);
        if is_slower {
            self.pauses += 1;
            self.plain_left = self.pause;
            self.pause = (2 * self.pause).min(PAUSE_STEPS_MAX);
        } else {
            self.pause = PAUSE_STEPS;
        }
        (self.steps, self.tokens, self.duration) = (0, 0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes steps of 1 plain and `cost` speculative, which make `tokens`; the share of steps that speculated.
    fn share(pace: Pace, cost: f64, tokens: usize) -> f64 {
        let mut watch = Watch::new(pace);
        let mut speculative = 0;
        for _ in 0..1000 {
            if watch.speculates() {
                speculative += 1;
                watch.speculative_step(cost, 4, tokens);
            } else {
                watch.plain_step(1.0);
            }
        }
        f64::from(speculative) / 1000.0
    }

    #[test]
    fn what_pays_goes_on_and_what_does_not_stops() {
        assert!(share(Pace::Measured, 2.0, 3) > 0.99);
        assert!(share(Pace::Measured, 2.0, 1) < 0.05);
        assert_eq!(share(Pace::Always, 9.0, 1), 1.0);
        let costs = Costs { plain: 1.0, verify: 1.0, draft: 0.2 };
        assert!(share(Pace::Modelled(costs), 0.0, 2) > 0.99);
        assert!(share(Pace::Modelled(costs), 0.0, 1) < 0.05);
    }

    #[test]
    fn it_comes_back_when_it_pays_again() {
        let mut watch = Watch::new(Pace::Measured);
        (0..WARM_UP_STEPS).for_each(|_| watch.plain_step(1.0));
        (0..WINDOW_STEPS).for_each(|_| watch.speculative_step(2.0, 4, 1));
        assert!(!watch.speculates() && watch.pauses == 1);
        (0..PAUSE_STEPS).for_each(|_| watch.plain_step(1.0));
        assert!(watch.speculates());
        (0..9 * WINDOW_STEPS).for_each(|_| watch.speculative_step(2.0, 4, 4));
        assert!(watch.speculates() && watch.pauses == 1);
    }
}
