//! A size budget: the formats with the least estimated loss that fit it.
//!
//! A knapsack with one choice per weight. Each weight's choices are reduced to those on the lower hull of bytes against loss; all start
//! at their smallest, and the step with the most loss saved per byte is taken while it fits. What is left of the budget then goes to
//! the best single steps that still fit, and to exchanges: one weight larger, another smaller, less loss in all. The loss is within one
//! step of the least possible. Ties go to the earlier weight, so that the result depends on the input alone.
//!
//! ```text
//! weights 40 MB in f32, at most 8 MB   ->   feed-forward int4_g128, attention int8, last nf4_g64
//! ```

use std::collections::BTreeMap;
use tilewright_ir::weight_format::WeightFormat;

/// A way to store a weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The format; none for float.
    pub format: Option<WeightFormat>,
    /// Bytes that it takes.
    pub bytes: usize,
    /// Estimated loss.
    pub loss: f64,
}

/// Loss by weight name and format, as a sensitivity report measures it; [`Losses::find`] asks it before any estimate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    rows: BTreeMap<(String, WeightFormat), f64>,
}

impl Losses {
    /// Adds a measurement. All losses of one model must be in one unit.
    pub fn insert(&mut self, weight: &str, format: WeightFormat, loss: f64) {
        self.rows.insert((weight.to_string(), format), loss);
    }

    /// True without measurements.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What was measured.
    pub fn find(&self, weight: &str, format: WeightFormat) -> Option<f64> {
        self.rows.get(&(weight.to_string(), format)).copied()
    }
}

/// The index of the choice of each weight, so that all take at most `bytes_max`.
///
/// # Errors
/// The bytes of the smallest choices, when those are too many.
pub fn solve(weights: &[Vec<Choice>], bytes_max: usize) -> Result<Vec<usize>, usize> {
    let hulls: Vec<Vec<usize>> = weights.iter().map(|choices| hull(choices)).collect();
    // Positions on the hulls.
    let mut at = vec![0usize; weights.len()];
    let chosen = |at: &[usize], weight: usize| weights[weight][hulls[weight][at[weight]]];
    let mut bytes: usize = (0..weights.len()).map(|weight| chosen(&at, weight).bytes).sum();
    if bytes > bytes_max {
        return Err(bytes);
    }
    loop {
        let step = |weight: usize| {
            let next = *hulls[weight].get(at[weight] + 1)?;
            let (old, new) = (chosen(&at, weight), weights[weight][next]);
            (bytes - old.bytes + new.bytes <= bytes_max)
                .then(|| (weight, (old.loss - new.loss) / (new.bytes - old.bytes) as f64))
        };
        let best = (0..weights.len()).filter_map(step).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        let Some((weight, _)) = best else { break };
        bytes -= chosen(&at, weight).bytes;
        at[weight] += 1;
        bytes += chosen(&at, weight).bytes;
    }
    let mut picks: Vec<usize> = (0..weights.len()).map(|weight| hulls[weight][at[weight]]).collect();
    exchange(weights, bytes_max, &mut picks, bytes);
    Ok(picks)
}

/// Indices of the choices on the lower hull, ascending by bytes, loss falling.
fn hull(choices: &[Choice]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&choices[*a], &choices[*b]);
        a.bytes.cmp(&b.bytes).then(a.loss.total_cmp(&b.loss))
    });
    let mut hull: Vec<usize> = Vec::new();
    let slope = |from: usize, to: usize| {
        (choices[from].loss - choices[to].loss) / (choices[to].bytes - choices[from].bytes) as f64
    };
    for next in order {
        if hull.last().is_some_and(|last| {
            choices[next].loss >= choices[*last].loss || choices[next].bytes == choices[*last].bytes
        }) {
            continue;
        }
        while let [.., before, last] = hull[..]
            && slope(before, last) <= slope(last, next)
        {
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

/// Rounds of exchanges at most: each lowers the loss, and a few suffice.
const EXCHANGES_MAX: usize = 1000;

/// Takes the best change of one weight, or of one up and one down, while there is one that lowers the loss.
fn exchange(weights: &[Vec<Choice>], bytes_max: usize, picks: &mut [usize], mut bytes: usize) {
    for _ in 0..EXCHANGES_MAX {
        let mut best: Option<(f64, Vec<(usize, usize)>)> = None;
        let mut offer = |saved: f64, change: Vec<(usize, usize)>| {
            if saved > 0.0 && best.as_ref().is_none_or(|known| saved > known.0) {
                best = Some((saved, change));
            }
        };
        // The cheapest ways down of all weights: how many bytes they free for how much loss.
        let mut downs: Vec<(usize, usize, usize, f64)> = Vec::new();
        for (weight, choices) in weights.iter().enumerate() {
            let now = choices[picks[weight]];
            let smaller = choices.iter().enumerate().filter(|(_, choice)| choice.bytes < now.bytes);
            downs.extend(
                smaller.map(|(at, choice)| (weight, at, now.bytes - choice.bytes, choice.loss - now.loss)),
            );
        }
        downs.sort_by(|a, b| a.3.total_cmp(&b.3).then(a.0.cmp(&b.0)).then(a.1.cmp(&b.1)));
        for (weight, choices) in weights.iter().enumerate() {
            let now = choices[picks[weight]];
            for (at, choice) in choices.iter().enumerate().filter(|(_, choice)| choice.loss < now.loss) {
                let saved = now.loss - choice.loss;
                let over = (bytes - now.bytes + choice.bytes).saturating_sub(bytes_max);
                if over == 0 {
                    offer(saved, vec![(weight, at)]);
                } else if let Some(down) = downs.iter().find(|down| down.0 != weight && down.2 >= over) {
                    offer(saved - down.3, vec![(weight, at), (down.0, down.1)]);
                }
            }
        }
        let Some((_, change)) = best else { return };
        for (weight, to) in change {
            bytes = bytes - weights[weight][picks[weight]].bytes + weights[weight][to].bytes;
            picks[weight] = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(bytes: usize, loss: f64) -> Choice {
        Choice { format: None, bytes, loss }
    }

    /// All combinations.
    fn exhaustive(weights: &[Vec<Choice>], bytes_max: usize) -> Option<f64> {
        let Some((first, rest)) = weights.split_first() else { return Some(0.0) };
        let with = |one: &Choice| {
            let left = bytes_max.checked_sub(one.bytes)?;
            Some(one.loss + exhaustive(rest, left)?)
        };
        first.iter().filter_map(with).min_by(f64::total_cmp)
    }

    #[test]
    fn within_one_step_of_the_optimum_and_within_the_budget() {
        let mut state = 7u64;
        let mut next = |range: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % range
        };
        for _ in 0..200 {
            let weights: Vec<Vec<Choice>> = (0..5)
                .map(|_| {
                    let size = 10 + next(200) as usize;
                    let loss = 1.0 + next(100) as f64;
                    (1..=4).map(|bits| choice(size * bits, loss / f64::from(1u32 << (2 * bits)))).collect()
                })
                .collect();
            let smallest: usize = weights.iter().map(|choices| choices[0].bytes).sum();
            let budget = smallest + next(2 * smallest as u64) as usize;
            let picks = solve(&weights, budget).unwrap();
            let sum = |of: fn(&Choice) -> f64| -> f64 {
                picks.iter().zip(&weights).map(|(pick, choices)| of(&choices[*pick])).sum()
            };
            assert!(sum(|one| one.bytes as f64) <= budget as f64);
            let (found, best) = (sum(|one| one.loss), exhaustive(&weights, budget).unwrap());
            // What the relaxed problem would still take is a part of one step.
            let steps = weights.iter().map(|choices| choices[0].loss - choices[1].loss);
            let step = steps.fold(0.0, f64::max);
            assert!(found <= best + step, "{found} against {best}, a step is {step}");
        }
    }

    #[test]
    fn what_is_too_small_is_said_and_plenty_is_used() {
        let weights = vec![vec![choice(10, 5.0), choice(20, 0.0)], vec![choice(30, 1.0)]];
        assert_eq!(solve(&weights, 39), Err(40));
        assert_eq!(solve(&weights, 50), Ok(vec![1, 0]));
        assert_eq!(solve(&weights, 49), Ok(vec![0, 0]));
    }

    #[test]
    fn dominated_choices_are_on_no_hull() {
        let choices = [choice(10, 8.0), choice(12, 9.0), choice(20, 7.5), choice(30, 1.0)];
        assert_eq!(hull(&choices), [0, 3]);
    }
}
