//! Tokens as bytes, and the constraint that a grammar puts on them.
//!
//! The bytes of all tokens form a trie, so that one walk through it with the grammar's machine finds all tokens that may come next: a
//! branch that cannot be read is passed over whole. Masks are kept by state, since texts come back to the same states (inside a
//! string, for one). Knows no tokenizer: the caller says which bytes a token is.

use super::generation::Constraint;
use super::grammar::{Machine, State};
use std::collections::HashMap;
use std::sync::Arc;

/// Masks that are kept at most; then all are forgotten.
const MASKS_MAX: usize = 32;

/// A node of the trie, in depth-first order.
#[derive(Clone, Debug)]
struct Branch {
    byte: u8,
    depth: u32,
    /// Index after its last descendant.
    end: u32,
    /// Its tokens in [`Vocabulary::ids`].
    ids: std::ops::Range<u32>,
}

/// The bytes of tokens.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    branches: Vec<Branch>,
    ids: Vec<u32>,
    /// By token.
    bytes: HashMap<u32, Box<[u8]>>,
}

impl Vocabulary {
    /// From tokens with their bytes; those of no bytes (special tokens) are never part of a text.
    pub fn new(tokens: impl IntoIterator<Item = (u32, Vec<u8>)>) -> Vocabulary {
        let mut tokens: Vec<(Vec<u8>, u32)> =
            tokens.into_iter().filter(|one| !one.1.is_empty()).map(|(id, bytes)| (bytes, id)).collect();
        tokens.sort_unstable();
        let mut vocabulary = Vocabulary::default();
        // Branches from the root to the token before, by depth.
        let mut open: Vec<usize> = Vec::new();
        let mut previous: &[u8] = &[];
        for (bytes, id) in &tokens {
            let shared = previous.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            vocabulary.close(&mut open, shared);
            for (depth, &byte) in bytes.iter().enumerate().skip(shared) {
                open.push(vocabulary.branches.len());
                let at = vocabulary.ids.len() as u32;
                vocabulary.branches.push(Branch { byte, depth: depth as u32, end: 0, ids: at..at });
            }
            vocabulary.ids.push(*id);
            if let Some(last) = open.last() {
                vocabulary.branches[*last].ids.end = vocabulary.ids.len() as u32;
            }
            vocabulary.bytes.insert(*id, bytes.clone().into_boxed_slice());
            previous = bytes;
        }
        vocabulary.close(&mut open, 0);
        vocabulary
    }

    fn close(&mut self, open: &mut Vec<usize>, depth: usize) {
        for branch in open.drain(depth..) {
            self.branches[branch].end = self.branches.len() as u32;
        }
    }

    /// The bytes of a token; none for a special one.
    pub fn bytes(&self, token: u32) -> Option<&[u8]> {
        self.bytes.get(&token).map(|bytes| &bytes[..])
    }

    /// Calls `visit(token, bytes left after it)` for each token that can be read after `state`.
    fn each_readable(&self, machine: &mut Machine, state: &State, mut visit: impl FnMut(u32, u64)) {
        let mut states = vec![state.clone()];
        let mut at = 0;
        while let Some(branch) = self.branches.get(at) {
            states.truncate(branch.depth as usize + 1);
            let next = machine.step(&states[branch.depth as usize], branch.byte);
            let Some(left) = machine.bytes_left(&next) else {
                at = branch.end as usize;
                continue;
            };
            for &id in &self.ids[branch.ids.start as usize..branch.ids.end as usize] {
                visit(id, left);
            }
            states.push(next);
            at += 1;
        }
    }
}

/// Tokens that may come next, ascending, each with the bytes that it leaves to be written at least.
type Mask = Arc<[(u32, u32)]>;

/// A text of a grammar's form, in tokens.
#[derive(Debug)]
pub struct GrammarConstraint {
    machine: Machine,
    state: State,
    vocabulary: Arc<Vocabulary>,
    masks: HashMap<State, Mask>,
}

impl GrammarConstraint {
    /// At the beginning of a text.
    pub fn new(machine: Machine, vocabulary: Arc<Vocabulary>) -> GrammarConstraint {
        let state = machine.start().clone();
        GrammarConstraint { machine, state, vocabulary, masks: HashMap::new() }
    }

    fn mask(&mut self) -> Mask {
        if let Some(mask) = self.masks.get(&self.state) {
            return mask.clone();
        }
        let mut found = Vec::new();
        self.vocabulary.each_readable(&mut self.machine, &self.state, |token, left| {
            found.push((token, u32::try_from(left).unwrap_or(u32::MAX)));
        });
        found.sort_unstable();
        let mask: Mask = found.into();
        if self.masks.len() >= MASKS_MAX {
            self.masks.clear();
        }
        self.masks.insert(self.state.clone(), mask.clone());
        mask
    }
}

impl Constraint for GrammarConstraint {
    /// So that the text becomes whole within `tokens_left`, tokens that leave more bytes than there are tokens are refused: a byte may
    /// need a token of its own. Where all do, those that leave the fewest bytes are taken, as tokens of several bytes may yet do it.
    fn restrict(&mut self, logits: &mut [f32], tokens_left: usize, stop_tokens: &[u32]) -> bool {
        let mask = self.mask();
        let is_whole = self.state.is_whole();
        let fewest = if is_whole { 0 } else { mask.iter().map(|one| one.1).min().unwrap_or(0) };
        let left_max = u32::try_from(tokens_left.saturating_sub(1)).unwrap_or(u32::MAX).max(fewest);
        let mut allowed = mask.iter().filter(|one| one.1 <= left_max).map(|one| one.0).peekable();
        let mut is_any = false;
        for (token, logit) in (0u32..).zip(logits) {
            while allowed.next_if(|next| *next < token).is_some() {}
            if allowed.peek() == Some(&token) || is_whole && stop_tokens.contains(&token) {
                is_any = true;
            } else {
                *logit = f32::NEG_INFINITY;
            }
        }
        is_any
    }

    fn push(&mut self, token: u32) {
        let bytes = self.vocabulary.bytes(token).unwrap_or_default();
        self.state = self.machine.read(&self.state, bytes);
    }

    fn is_whole(&self) -> bool {
        self.state.is_whole()
    }

    fn is_ended(&self) -> bool {
        self.state.is_ended()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::grammar::{Grammar, Node};

    fn vocabulary() -> Vocabulary {
        let mut tokens: Vec<(u32, Vec<u8>)> = (0..128u8).map(|byte| (u32::from(byte), vec![byte])).collect();
        let words: [&[u8]; 6] = [b"[1", b"[1,", b"1]", b",2,3", b"]]", b""];
        tokens.extend((128..).zip(words.iter().map(|word| word.to_vec())));
        Vocabulary::new(tokens)
    }

    /// A list of digits.
    fn list() -> GrammarConstraint {
        let mut grammar = Grammar::default();
        let digit = grammar.add(Node::class(b"0-9"));
        let (open, close, comma) = (grammar.literal("["), grammar.literal("]"), grammar.literal(","));
        let more = grammar.add(Node::Sequence(vec![comma, digit]));
        let rest = grammar.add(Node::Repeat { node: more, minimum: 1, maximum: None });
        let all = grammar.add(Node::Sequence(vec![open, digit, rest, close]));
        GrammarConstraint::new(Machine::new(grammar, all).expect("a sound grammar"), Arc::new(vocabulary()))
    }

    fn allowed(constraint: &mut GrammarConstraint, tokens_left: usize) -> Vec<u32> {
        let mut logits = vec![0.0; 135];
        constraint.restrict(&mut logits, tokens_left, &[134]);
        (0..).zip(&logits).filter(|(_, logit)| **logit == 0.0).map(|(token, _)| token).collect()
    }

    #[test]
    fn tokens_that_can_be_read_are_allowed() {
        let mut constraint = list();
        assert_eq!(allowed(&mut constraint, 99), [u32::from(b'['), 128, 129]);
        constraint.push(128);
        assert_eq!(allowed(&mut constraint, 99), [u32::from(b','), 131]);
        constraint.push(131);
        assert_eq!(allowed(&mut constraint, 99), [u32::from(b','), u32::from(b']'), 131]);
        assert!(!constraint.is_whole());
        constraint.push(u32::from(b']'));
        assert!(constraint.is_ended() && constraint.is_whole());
        // Only the end of the text is left.
        assert_eq!(allowed(&mut constraint, 99), [134]);
    }

    #[test]
    fn texts_become_whole_within_the_limit() {
        let mut constraint = list();
        // The shortest text is [d,d]: after "[1" three bytes are missing, after "[" four.
        assert_eq!(allowed(&mut constraint, 4), [128, 129]);
        assert_eq!(allowed(&mut constraint, 3), [129]);
        // It can hardly be done in two: the nearest to it is taken, and the text may be cut.
        assert_eq!(allowed(&mut constraint, 2), [129]);
        constraint.push(128);
        constraint.push(131);
        assert_eq!(allowed(&mut constraint, 1), [u32::from(b']')]);
        assert_eq!(allowed(&mut constraint, 3), [u32::from(b','), u32::from(b']'), 131]);
        assert_eq!(allowed(&mut constraint, 2), [u32::from(b']'), 131]);
    }
}
