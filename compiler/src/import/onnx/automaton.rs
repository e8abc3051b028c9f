//! A regular expression as a deterministic automaton over code points, for operators that say whether a whole string matches.
//!
//! The syntax and meaning are RE2's: `\w`, `\d`, `\s` and `\b` are of ASCII, `.` is any character but a newline. What RE2 has and this
//! has not is refused by name. Thompson's construction, then sets of states (Aho, Sethi, Ullman 1986, algorithm 3.2), each with
//! what stands before it, so that `\b` and line ends can be told. Knows nothing of ops.
//!
//! ```text
//! next state = table[state * classes + class of the code point];   matches when accepts[state] at the end
//! ```

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};
use std::collections::{BTreeMap, BTreeSet};

/// The most states of the automaton before it is made deterministic: repetitions are written out.
const STATES_MAX: usize = 1 << 13;
/// The most entries of the table.
const ENTRIES_MAX: usize = 1 << 18;

/// A deterministic automaton.
#[derive(Debug)]
pub(crate) struct Automaton {
    /// The first code point of each interval but the first, which begins at 0: ascending.
    pub(crate) borders: Vec<i64>,
    /// The class of each interval.
    pub(crate) class_of: Vec<i64>,
    /// Number of classes. The last one is that of U+0000, which fills strings up: it changes nothing.
    pub(crate) classes: usize,
    /// The next state, by state and class. It begins in state 0.
    pub(crate) table: Vec<i64>,
    /// Whether the text may end in a state: 0 or 1.
    pub(crate) accepts: Vec<i64>,
}

/// What stands before a place of the text, or behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Beside {
    Border,
    Word,
    Newline,
    Other,
}

impl Beside {
    fn of(code: u32) -> Beside {
        match char::from_u32(code) {
            Some('\n') => Beside::Newline,
            Some('0'..='9' | 'A'..='Z' | 'a'..='z' | '_') => Beside::Word,
            _ => Beside::Other,
        }
    }
}

/// A step of the automaton that is not deterministic yet.
#[derive(Debug)]
enum Step {
    /// One code point of these ranges, then the next.
    Take(Vec<[u32; 2]>, usize),
    /// All of these at once.
    Fork(Vec<usize>),
    /// On where this holds.
    Look(Look, usize),
    Done,
}

struct Builder {
    steps: Vec<Step>,
}

impl Builder {
    fn add(&mut self, step: Step) -> Result<usize, String> {
        if self.steps.len() == STATES_MAX {
            return Err(format!("it has more than {STATES_MAX} states"));
        }
        self.steps.push(step);
        Ok(self.steps.len() - 1)
    }

    /// The start of an expression that goes on at `next`.
    fn build(&mut self, hir: &Hir, next: usize) -> Result<usize, String> {
        match hir.kind() {
            HirKind::Empty => Ok(next),
            HirKind::Literal(literal) => {
                let text =
                    std::str::from_utf8(&literal.0).map_err(|_| "it holds bytes that are no characters")?;
                text.chars()
                    .rev()
                    .try_fold(next, |next, one| self.add(Step::Take(vec![[u32::from(one); 2]], next)))
            }
            HirKind::Class(class) => {
                let ranges = ranges_of(class)?;
                self.add(Step::Take(ranges, next))
            }
            HirKind::Look(look) => {
                if !matches!(
                    look,
                    Look::Start
                        | Look::End
                        | Look::StartLF
                        | Look::EndLF
                        | Look::WordAscii
                        | Look::WordAsciiNegate
                ) {
                    return Err(format!("{look:?} is not known"));
                }
                self.add(Step::Look(*look, next))
            }
            HirKind::Capture(capture) => self.build(&capture.sub, next),
            HirKind::Concat(parts) => parts.iter().rev().try_fold(next, |next, part| self.build(part, next)),
            HirKind::Alternation(parts) => {
                let starts = parts.iter().map(|part| self.build(part, next)).collect::<Result<_, _>>()?;
                self.add(Step::Fork(starts))
            }
            HirKind::Repetition(repeated) => {
                let mut start = match repeated.max {
                    None => {
                        let again = self.add(Step::Fork(vec![next]))?;
                        let body = self.build(&repeated.sub, again)?;
                        self.steps[again] = Step::Fork(vec![body, next]);
                        again
                    }
                    Some(most) => {
                        let mut start = next;
                        for _ in repeated.min..most {
                            let body = self.build(&repeated.sub, start)?;
                            start = self.add(Step::Fork(vec![body, next]))?;
                        }
                        start
                    }
                };
                for _ in 0..repeated.min {
                    start = self.build(&repeated.sub, start)?;
                }
                Ok(start)
            }
        }
    }
}

/// The code points of a class. One of bytes has all beyond ASCII or none.
fn ranges_of(class: &Class) -> Result<Vec<[u32; 2]>, String> {
    match class {
        Class::Unicode(class) => {
            Ok(class.iter().map(|range| [u32::from(range.start()), u32::from(range.end())]).collect())
        }
        Class::Bytes(class) => {
            let range = |range: &regex_syntax::hir::ClassBytesRange| match (range.start(), range.end()) {
                (start, end @ 0..=0x7f) => Ok([u32::from(start), u32::from(end)]),
                (start @ 0..=0x80, 0xff) => Ok([u32::from(start), u32::from(char::MAX)]),
                _ => Err("it holds bytes that are no characters".to_string()),
            };
            class.iter().map(range).collect()
        }
    }
}

fn holds(look: Look, before: Beside, behind: Beside) -> bool {
    let is_border = (before == Beside::Word) != (behind == Beside::Word);
    match look {
        Look::Start => before == Beside::Border,
        Look::End => behind == Beside::Border,
        Look::StartLF => matches!(before, Beside::Border | Beside::Newline),
        Look::EndLF => matches!(behind, Beside::Border | Beside::Newline),
        Look::WordAscii => is_border,
        _ => !is_border,
    }
}

/// All steps that are reached without a code point.
fn closure(steps: &[Step], from: &BTreeSet<usize>, before: Beside, behind: Beside) -> BTreeSet<usize> {
    let (mut reached, mut open) = (BTreeSet::new(), from.iter().copied().collect::<Vec<_>>());
    while let Some(at) = open.pop() {
        if reached.insert(at) {
            match &steps[at] {
                Step::Fork(next) => open.extend(next),
                Step::Look(look, next) if holds(*look, before, behind) => open.push(*next),
                _ => {}
            }
        }
    }
    reached
}

/// Code points that all steps treat alike: the first of each interval, the class of each, and one code point of each class.
fn intervals(steps: &[Step]) -> (Vec<i64>, Vec<i64>, Vec<u32>) {
    let mut borders = BTreeSet::from([0u32, 1, 0x0a, 0x0b, 0x30, 0x3a, 0x41, 0x5b, 0x5f, 0x60, 0x61, 0x7b]);
    for step in steps {
        if let Step::Take(ranges, _) = step {
            borders.extend(ranges.iter().flat_map(|[start, end]| [*start, end.saturating_add(1)]));
        }
    }
    let (mut keys, mut classes, mut samples) = (BTreeMap::new(), Vec::new(), Vec::new());
    for start in borders.iter().skip(1) {
        let taking = |(at, step): (usize, &Step)| match step {
            Step::Take(ranges, _) if ranges.iter().any(|[low, high]| (low..=high).contains(&start)) => {
                Some(at)
            }
            _ => None,
        };
        let key: (Vec<usize>, Beside) =
            (steps.iter().enumerate().filter_map(taking).collect(), Beside::of(*start));
        let class = *keys.entry(key).or_insert_with(|| {
            samples.push(*start);
            samples.len() as i64 - 1
        });
        classes.push(class);
    }
    // U+0000 is the last class.
    classes.insert(0, samples.len() as i64);
    (borders.into_iter().skip(1).map(i64::from).collect(), classes, samples)
}

/// The automaton of a pattern that must match the whole text.
///
/// # Errors
/// What is wrong with the pattern, or what of it is not supported.
pub(crate) fn automaton(pattern: &str) -> Result<Automaton, String> {
    let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
    let hir = parser.parse(pattern).map_err(|error| error.to_string())?;
    let mut builder = Builder { steps: vec![Step::Done] };
    let start = builder.build(&hir, 0)?;
    let steps = builder.steps;
    let (borders, class_of, samples) = intervals(&steps);
    let classes = samples.len() + 1;
    let mut states: BTreeMap<(BTreeSet<usize>, Beside), usize> = BTreeMap::new();
    let mut open = vec![(BTreeSet::from([start]), Beside::Border)];
    states.insert(open[0].clone(), 0);
    let (mut table, mut accepts, mut next) = (Vec::new(), Vec::new(), 0);
    while next < open.len() {
        let (own, before) = open[next].clone();
        accepts.push(i64::from(closure(&steps, &own, before, Beside::Border).contains(&0)));
        for sample in &samples {
            let behind = Beside::of(*sample);
            let taken = |at: usize| match &steps[at] {
                Step::Take(ranges, next)
                    if ranges.iter().any(|[low, high]| (low..=high).contains(&sample)) =>
                {
                    Some(*next)
                }
                _ => None,
            };
            let reached: BTreeSet<usize> =
                closure(&steps, &own, before, behind).into_iter().filter_map(taken).collect();
            // Where nothing is reached, what is before makes no difference.
            let key = if reached.is_empty() { (reached, Beside::Other) } else { (reached, behind) };
            let count = states.len();
            let to = *states.entry(key.clone()).or_insert(count);
            if to == count {
                open.push(key);
            }
            table.push(to as i64);
        }
        table.push(next as i64);
        if table.len() > ENTRIES_MAX {
            return Err(format!("its table has more than {ENTRIES_MAX} entries"));
        }
        next += 1;
    }
    Ok(Automaton { borders, class_of, classes, table, accepts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(automaton: &Automaton, text: &str) -> bool {
        let step = |state: usize, one: char| {
            let interval =
                automaton.borders.iter().filter(|border| **border <= i64::from(u32::from(one))).count();
            automaton.table[state * automaton.classes + automaton.class_of[interval] as usize] as usize
        };
        automaton.accepts[text.chars().fold(0, step)] == 1
    }

    #[test]
    fn whole_texts_match() {
        for (pattern, yes, no) in [
            ("", &[""][..], &["a"][..]),
            ("a|bc*", &["a", "b", "bccc"], &["", "ab", "abc"]),
            ("(ab){2,3}", &["abab", "ababab"], &["ab", "abababab"]),
            ("x{0,2}y+?", &["y", "xxyy"], &["xxxy", "x"]),
            (r"\bto\b.*", &["to", "to be"], &["tobe", "xto"]),
            (r"a\Bb", &["ab"], &["a b"]),
            ("^a$|(?m:b$\nc)", &["a", "b\nc"], &["b"]),
            (r"[^a-c日]?", &[], &[]),
            (r"\W", &["日", " ", "é"], &["a", "_", "日日"]),
            (r"\w+\s\d{3}", &["ab 123"], &["é 123", "ab 12"]),
            (".", &["日", "a"], &["\n", ""]),
            ("日+é?", &["日", "日日é"], &["é"]),
            ("(?i)abc", &["aBC"], &["ab"]),
            (
                r"www\.[\w.-]+\.\bcom\b",
                &["www.google.com", "www.a-b.c.com"],
                &["www.bbc.co.uk", "wwwXgoogle.com"],
            ),
            ("(a*)*b|(|a)+c", &["aab", "b", "aac", "c"], &["a", ""]),
        ] {
            let Ok(automaton) = automaton(pattern) else {
                assert!(yes.is_empty() && no.is_empty(), "{pattern} is refused");
                continue;
            };
            yes.iter().for_each(|text| assert!(matches(&automaton, text), "{pattern} should match {text:?}"));
            no.iter()
                .for_each(|text| assert!(!matches(&automaton, text), "{pattern} should not match {text:?}"));
        }
    }

    #[test]
    fn what_is_not_taken_is_named() {
        for (pattern, said) in [
            ("(", "unclosed"),
            (r"\p{L}", "Unicode"),
            ("a{1000}{1000}", "states"),
            (r"[\x80-\x90]", "bytes"),
            ("(?:a|b)*a(?:a|b){18}", "entries"),
        ] {
            let error = automaton(pattern).unwrap_err();
            assert!(error.contains(said), "{pattern}: {error}");
        }
    }
}
