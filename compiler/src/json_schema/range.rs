//! Numbers between bounds as grammar, digit by digit: `minimum`, `maximum` and their exclusive forms.
//!
//! A number is a sign and a magnitude: digits, and for numbers that are no integers a point and more digits. What is written is
//! exact: a bound is compared as decimal digits, never as a float.
//!
//! ```text
//! 7 <= integer <= 123   =>   [7-9] | [1-9][0-9] | 1 ([0-1][0-9] | 2 [0-3])
//! ```

use super::values::DIGITS_MAX;
use tilewright_runtime::generate::grammar::{Grammar, Node, NodeId};

/// Magnitudes that are written are below it.
const MAGNITUDE_MAX: u64 = 10u64.pow(DIGITS_MAX);

/// A bound as it is written in decimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    is_negative: bool,
    whole: u64,
    /// Digits after the point, the last one not 0.
    fraction: Vec<u8>,
    /// Whether the bound itself is out.
    is_exclusive: bool,
}

impl Bound {
    /// From a number of JSON.
    pub(super) fn new(number: &serde_json::Number, is_exclusive: bool) -> Bound {
        // Without an exponent, which serde_json writes for large and small floats.
        let text = match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), ..) => value.to_string(),
            (_, Some(value), _) => value.to_string(),
            (.., value) => value.unwrap_or(0.0).to_string(),
        };
        let (is_negative, text) = text.strip_prefix('-').map_or((false, &text[..]), |rest| (true, rest));
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole = whole.parse().unwrap_or(u64::MAX).min(MAGNITUDE_MAX);
        let fraction = fraction.trim_end_matches('0').bytes().map(|digit| digit - b'0').collect();
        Bound { is_negative, whole, fraction, is_exclusive }
    }

    fn zero(is_exclusive: bool) -> Bound {
        Bound { is_negative: false, whole: 0, fraction: Vec::new(), is_exclusive }
    }

    fn is_zero(&self) -> bool {
        self.whole == 0 && self.fraction.is_empty()
    }

    /// How it limits digits after the point that follow its own whole part.
    fn digits(&self) -> Digits<'_> {
        Digits::Bound { left: &self.fraction, is_exclusive: self.is_exclusive }
    }
}

/// Of two lower bounds of one kind (`is_lower`), or two upper ones, the one that leaves less.
pub(super) fn narrower(a: Option<Bound>, b: Option<Bound>, is_lower: bool) -> Option<Bound> {
    let (Some(a), Some(b)) = (a.clone(), b.clone()) else { return a.or(b) };
    let key = |bound: &Bound| {
        let magnitude = (bound.whole, bound.fraction.clone());
        (bound.is_negative && !bound.is_zero(), magnitude)
    };
    let ((a_negative, a_magnitude), (b_negative, b_magnitude)) = (key(&a), key(&b));
    let order = match (a_negative, b_negative) {
        (false, false) => a_magnitude.cmp(&b_magnitude),
        (true, true) => b_magnitude.cmp(&a_magnitude),
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
    };
    let order = if is_lower { order } else { order.reverse() };
    let takes_a = order.is_gt() || order.is_eq() && a.is_exclusive;
    Some(if takes_a { a } else { b })
}

/// Numbers from `minimum` to `maximum`; nothing fits the result when there are none.
pub(super) fn numbers(
    grammar: &mut Grammar,
    minimum: Option<Bound>,
    maximum: Option<Bound>,
    is_integer: bool,
) -> NodeId {
    let mut choices = Vec::new();
    // Zero and above.
    if !maximum.as_ref().is_some_and(|bound| bound.is_negative && !bound.is_zero()) {
        let from = minimum.clone().filter(|bound| !bound.is_negative).unwrap_or(Bound::zero(false));
        choices.extend(magnitudes(grammar, &from, maximum.as_ref(), is_integer));
    }
    // Below zero: the same with the bounds the other way round.
    let is_open_below = minimum.as_ref().is_none_or(|bound| bound.is_negative && !bound.is_zero());
    if is_open_below {
        let from = maximum.filter(|bound| bound.is_negative && !bound.is_zero()).unwrap_or(Bound::zero(true));
        if let Some(magnitude) = magnitudes(grammar, &from, minimum.as_ref(), is_integer) {
            let minus = grammar.literal("-");
            choices.push(grammar.add(Node::Sequence(vec![minus, magnitude])));
        }
    }
    grammar.add(Node::Choice(choices))
}

/// Magnitudes between two others, whose signs do not count.
fn magnitudes(grammar: &mut Grammar, from: &Bound, to: Option<&Bound>, is_integer: bool) -> Option<NodeId> {
    let last = to.map_or(MAGNITUDE_MAX - 1, |to| to.whole.min(MAGNITUDE_MAX - 1));
    if is_integer {
        let first = from.whole + u64::from(!from.fraction.is_empty() || from.is_exclusive);
        let is_out = to.is_some_and(|to| to.whole == last && to.fraction.is_empty() && to.is_exclusive);
        return if is_out {
            whole(grammar, first, last.checked_sub(1)?)
        } else {
            whole(grammar, first, last)
        };
    }
    let to_digits = to.filter(|to| to.whole == last).map_or(Digits::Any, Bound::digits);
    let mut parts = Vec::new();
    if from.whole == last {
        parts.push((whole(grammar, last, last), [from.digits(), to_digits]));
    } else if from.whole < last {
        parts.push((whole(grammar, from.whole, from.whole), [from.digits(), Digits::Any]));
        parts.push((whole(grammar, from.whole + 1, last - 1), [Digits::Any, Digits::Any]));
        parts.push((whole(grammar, last, last), [Digits::Any, to_digits]));
    }
    let mut choices = Vec::new();
    for (whole, limits) in parts {
        if let (Some(whole), Some(fraction)) = (whole, fraction(grammar, limits)) {
            choices.push(grammar.add(Node::Sequence(vec![whole, fraction])));
        }
    }
    (!choices.is_empty()).then(|| grammar.add(Node::Choice(choices)))
}

/// Whole numbers from `first` to `last`, without leading zeros.
fn whole(grammar: &mut Grammar, first: u64, last: u64) -> Option<NodeId> {
    if first > last {
        return None;
    }
    let mut choices = Vec::new();
    for length in first.to_string().len()..=last.to_string().len() {
        let least = if length == 1 { 0 } else { 10u64.pow(length as u32 - 1) };
        let (from, to) = (first.max(least), last.min(10u64.pow(length as u32) - 1));
        choices.push(same_length(grammar, from.to_string().as_bytes(), to.to_string().as_bytes()));
    }
    Some(grammar.add(Node::Choice(choices)))
}

/// Strings of digits between two of the same length.
fn same_length(grammar: &mut Grammar, from: &[u8], to: &[u8]) -> NodeId {
    let count = from.len() as u32;
    if from.iter().all(|digit| *digit == b'0') && to.iter().all(|digit| *digit == b'9') {
        return any_digits(grammar, count, count);
    }
    let (nines, zeros) = (vec![b'9'; from.len() - 1], vec![b'0'; from.len() - 1]);
    let mut branch = |first: u8, last: u8, from: &[u8], to: &[u8]| {
        let digit = grammar.add(Node::range(first, last));
        let rest = same_length(grammar, from, to);
        grammar.add(Node::Sequence(vec![digit, rest]))
    };
    let (low, high) = (from[0], to[0]);
    if low == high {
        return branch(low, low, &from[1..], &to[1..]);
    }
    let mut choices = vec![branch(low, low, &from[1..], &nines), branch(high, high, &zeros, &to[1..])];
    if low + 1 < high {
        choices.push(branch(low + 1, high - 1, &zeros, &nines));
    }
    grammar.add(Node::Choice(choices))
}

fn any_digits(grammar: &mut Grammar, minimum: u32, maximum: u32) -> NodeId {
    let digit = grammar.add(Node::class(b"0-9"));
    grammar.add(Node::Repeat { node: digit, minimum, maximum: Some(maximum) })
}

/// What limits the digits that are still to come.
#[derive(Clone, Copy)]
enum Digits<'b> {
    /// Nothing.
    Any,
    /// So far all digits were those of a bound; these are left of it.
    Bound { left: &'b [u8], is_exclusive: bool },
}

impl<'b> Digits<'b> {
    /// Whether the number may end here.
    fn may_end(self, is_lower: bool) -> bool {
        match self {
            Digits::Any => true,
            Digits::Bound { left: [], is_exclusive } => !is_exclusive,
            Digits::Bound { .. } => !is_lower,
        }
    }

    /// After one more digit; none when that is out of bounds.
    fn after(self, digit: u8, is_lower: bool) -> Option<Digits<'b>> {
        let Digits::Bound { left, is_exclusive } = self else { return Some(Digits::Any) };
        let (own, rest) = left.split_first().map_or((0, left), |(own, rest)| (*own, rest));
        match digit.cmp(&own) {
            std::cmp::Ordering::Equal => Some(Digits::Bound { left: rest, is_exclusive }),
            std::cmp::Ordering::Greater => is_lower.then_some(Digits::Any),
            std::cmp::Ordering::Less => (!is_lower).then_some(Digits::Any),
        }
    }
}

/// A point and digits, or nothing where that is within the limits (from below, from above).
fn fraction(grammar: &mut Grammar, limits: [Digits<'_>; 2]) -> Option<NodeId> {
    let mut choices = Vec::new();
    if limits[0].may_end(true) && limits[1].may_end(false) {
        choices.push(grammar.literal(""));
    }
    if let Some(digits) = further(grammar, limits, DIGITS_MAX) {
        let point = grammar.literal(".");
        choices.push(grammar.add(Node::Sequence(vec![point, digits])));
    }
    (!choices.is_empty()).then(|| grammar.add(Node::Choice(choices)))
}

/// One to `count` more digits within the limits.
fn further(grammar: &mut Grammar, limits: [Digits<'_>; 2], count: u32) -> Option<NodeId> {
    if count == 0 {
        return None;
    }
    if let [Digits::Any, Digits::Any] = limits {
        return Some(any_digits(grammar, 1, count));
    }
    let mut choices = Vec::new();
    for digit in 0..10u8 {
        let (Some(low), Some(high)) = (limits[0].after(digit, true), limits[1].after(digit, false)) else {
            continue;
        };
        let mut ends = Vec::new();
        if low.may_end(true) && high.may_end(false) {
            ends.push(grammar.literal(""));
        }
        ends.extend(further(grammar, [low, high], count - 1));
        if !ends.is_empty() {
            let (digit, rest) = (grammar.literal([b'0' + digit]), grammar.add(Node::Choice(ends)));
            choices.push(grammar.add(Node::Sequence(vec![digit, rest])));
        }
    }
    (!choices.is_empty()).then(|| grammar.add(Node::Choice(choices)))
}
