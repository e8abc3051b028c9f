//! How faithful compiled language models are to the model they came from, measured on a text.
//!
//! [`windows`] cuts the text, [`subject`] runs a model on a window, [`score`] turns logits into figures; here they meet. Windows run in
//! parallel; figures do not depend on the number of threads. [`layers`] looks inside, at the values that [`taps`] give out. Knows no
//! terminal.
//!
//! ```text
//! text -> token ids -> windows of 256 + 1 -> logits of the original and of each artifact -> perplexity, KL divergence, agreement
//! ```

pub mod layers;
pub mod score;
pub mod subject;
pub mod taps;
pub mod windows;

use rayon::prelude::*;
use score::Scores;
use std::sync::Mutex;
use subject::{Runner, Subject};
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use windows::Windows;

/// Scores over all windows.
pub struct Measurement {
    /// The original's losses.
    pub original: Scores,
    /// Scores of each of the others, in their order.
    pub others: Vec<Scores>,
}

/// Runs every window on the original and on the others. `progress` is called after each window, from any thread.
///
/// # Errors
/// The first window that a model cannot run, or whose logits are not numbers.
pub fn measure(
    original: &Subject,
    others: &[Subject],
    windows: &Windows,
    progress: &(dyn Fn() + Sync),
) -> Result<Measurement, Diagnostics> {
    // A session is costly to make and cannot be shared: a thread borrows a set and gives it back.
    let idle: Mutex<Vec<Vec<Runner<'_>>>> = Mutex::new(Vec::new());
    let take = || idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
    let give = |set| idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(set);
    let subjects: Vec<&Subject> = std::iter::once(original).chain(others).collect();
    let scored: Vec<Result<(Scores, Vec<Scores>), Diagnostics>> = (0..windows.count())
        .into_par_iter()
        .map(|index| {
            let mut set = match take() {
                Some(set) => set,
                None => subjects.iter().map(|subject| subject.runner()).collect::<Result<_, _>>()?,
            };
            let scored = score_window(&subjects, &mut set, windows, index);
            give(set);
            progress();
            scored
        })
        .collect();
    let mut total =
        Measurement { original: Scores::default(), others: vec![Scores::default(); others.len()] };
    for window in scored {
        let (own, found) = window?;
        total.original.extend(&own);
        total.others.iter_mut().zip(&found).for_each(|(total, found)| total.extend(found));
    }
    Ok(total)
}

fn score_window(
    subjects: &[&Subject],
    runners: &mut [Runner<'_>],
    windows: &Windows,
    index: usize,
) -> Result<(Scores, Vec<Scores>), Diagnostics> {
    let (tokens, next) = windows.get(index);
    let at = |model: usize, what: String| {
        let what = format!("'{}', window {index}: {what}", subjects[model].name);
        vec![Diagnostic::error(Location::Unknown, what)]
    };
    let mut logits = Vec::with_capacity(runners.len());
    for (model, runner) in runners.iter_mut().enumerate() {
        logits.push(runner.logits(tokens).map_err(|what| at(model, what))?);
    }
    let original = logits.remove(0);
    score::score(&original, &logits, next).map_err(|(model, error)| at(model, error.to_string()))
}
