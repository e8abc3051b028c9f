//! A machine over bytes that says what may come next in a text of a given form.
//!
//! A [`Grammar`] is made of literals, byte classes, sequences, choices and counted repetitions, and may refer to itself. A [`State`] is
//! the set of all ways in which the bytes so far can be read: each is a stack of unfinished nodes. Stacks are kept once and shared
//! ([`Machine`]), so that a state is a few numbers and equal states are found equal. Knows bytes only, neither JSON nor tokens.
//!
//! ```
//! use tilewright_runtime::generate::grammar::{Grammar, Machine, Node};
//! let mut grammar = Grammar::default();
//! let digit = grammar.add(Node::class(b"0-9"));
//! let number = grammar.add(Node::Repeat { node: digit, minimum: 1, maximum: Some(3) });
//! let mut machine = Machine::new(grammar, number).unwrap();
//! let start = machine.start().clone();
//! let state = machine.read(&start, b"12");
//! assert!(state.is_whole() && !machine.read(&state, b"3").is_dead());
//! assert!(machine.read(&state, b"345").is_dead());
//! ```

use std::collections::HashMap;

/// A node's number in its grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

/// A form of text.
#[derive(Clone, Debug)]
pub enum Node {
    /// Exactly these bytes.
    Literal(Vec<u8>),
    /// One byte of a set: bit b % 64 of word b / 64 for each byte b of it.
    Class([u64; 4]),
    /// One after the other.
    Sequence(Vec<NodeId>),
    /// One of them.
    Choice(Vec<NodeId>),
    /// One node again and again; it must not be empty.
    Repeat {
        /// what
        node: NodeId,
        /// fewest times
        minimum: u32,
        /// most times; without limit when there is none
        maximum: Option<u32>,
    },
}

impl Node {
    /// A class written as in regular expressions: `a-z0-9_`; a `-` at the end is itself.
    pub fn class(ranges: &[u8]) -> Node {
        let mut set = [0u64; 4];
        let mut rest = ranges;
        while let [first, tail @ ..] = rest {
            let (last, after) = match tail {
                [b'-', last, after @ ..] => (*last, after),
                _ => (*first, tail),
            };
            (*first..=last).for_each(|byte| set[usize::from(byte / 64)] |= 1 << (byte % 64));
            rest = after;
        }
        Node::Class(set)
    }

    /// Every byte of a range, ends included.
    pub fn range(first: u8, last: u8) -> Node {
        Node::class(&[first, b'-', last])
    }
}

/// Nodes that refer to each other.
#[derive(Clone, Debug, Default)]
pub struct Grammar {
    nodes: Vec<Node>,
}

impl Grammar {
    /// Adds a node.
    pub fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// Adds a literal.
    pub fn literal(&mut self, bytes: impl Into<Vec<u8>>) -> NodeId {
        self.add(Node::Literal(bytes.into()))
    }

    /// Makes room for a node that is defined later with [`Grammar::define`], so that it can refer to itself.
    pub fn declare(&mut self) -> NodeId {
        self.add(Node::Choice(Vec::new()))
    }

    /// Says what a declared node is.
    pub fn define(&mut self, id: NodeId, node: Node) {
        self.nodes[id.0 as usize] = node;
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Fewest bytes of each node; none for one that never ends.
    fn shortest(&self) -> Vec<Option<u64>> {
        let mut shortest: Vec<Option<u64>> = vec![None; self.nodes.len()];
        loop {
            let mut is_changed = false;
            for index in 0..self.nodes.len() {
                let of = |id: &NodeId| shortest[id.0 as usize];
                let found = match &self.nodes[index] {
                    Node::Literal(bytes) => Some(bytes.len() as u64),
                    Node::Class(_) => Some(1),
                    Node::Sequence(parts) => {
                        parts.iter().try_fold(0u64, |sum, part| Some(sum.saturating_add(of(part)?)))
                    }
                    Node::Choice(parts) => parts.iter().filter_map(of).min(),
                    Node::Repeat { minimum: 0, .. } => Some(0),
                    Node::Repeat { node, minimum, .. } => {
                        of(node).map(|bytes| bytes.saturating_mul(u64::from(*minimum)))
                    }
                };
                if found != shortest[index] && found.is_some() {
                    shortest[index] = found;
                    is_changed = true;
                }
            }
            if !is_changed {
                return shortest;
            }
        }
    }
}

/// Why a grammar cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// Nothing of finite length has the form.
    #[error("the form refers to itself without an end: no text has it")]
    Endless,
    /// A node begins with itself.
    #[error("the form begins with itself")]
    LeftRecursive,
    /// A repetition of what may be empty.
    #[error("what is repeated may be empty")]
    EmptyRepetition,
}

/// An unfinished node on a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Frame {
    node: NodeId,
    /// Bytes of a literal, parts of a sequence, or times of a repetition that are done.
    done: u32,
    /// The frame below; [`BOTTOM`] when there is none.
    below: u32,
}

/// The number of the empty stack: everything was read.
const BOTTOM: u32 = 0;

/// All readings of the bytes so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Stacks by number, ascending.
    stacks: Vec<u32>,
}

impl State {
    /// Whether the text is whole as it is.
    pub fn is_whole(&self) -> bool {
        self.stacks.first() == Some(&BOTTOM)
    }

    /// Whether no text of the form begins so.
    pub fn is_dead(&self) -> bool {
        self.stacks.is_empty()
    }

    /// Whether the text is whole and nothing may follow.
    pub fn is_ended(&self) -> bool {
        self.stacks == [BOTTOM]
    }
}

/// A grammar with the stacks that were met.
#[derive(Clone, Debug)]
pub struct Machine {
    grammar: Grammar,
    shortest: Vec<u64>,
    frames: Vec<Frame>,
    /// Fewest bytes that finish a stack, by its number.
    left: Vec<u64>,
    numbers: HashMap<Frame, u32>,
    start: State,
}

impl Machine {
    /// Starts before the first byte of `root`.
    ///
    /// # Errors
    /// When the grammar has no text, or cannot be read from left to right.
    pub fn new(grammar: Grammar, root: NodeId) -> Result<Machine, GrammarError> {
        let shortest = grammar.shortest();
        if shortest[root.0 as usize].is_none() {
            return Err(GrammarError::Endless);
        }
        check(&grammar, &shortest)?;
        let bottom = Frame { node: root, done: u32::MAX, below: BOTTOM };
        let mut machine = Machine {
            grammar,
            // What never ends is never entered: see `push`.
            shortest: shortest.into_iter().map(|bytes| bytes.unwrap_or(u64::MAX)).collect(),
            frames: vec![bottom],
            left: vec![0],
            numbers: HashMap::new(),
            start: State::default(),
        };
        let mut stacks = Vec::new();
        machine.push(root, BOTTOM, &mut stacks);
        machine.start = State { stacks: sorted(stacks) };
        Ok(machine)
    }

    /// Before the first byte.
    pub fn start(&self) -> &State {
        &self.start
    }

    /// After more bytes.
    pub fn read(&mut self, state: &State, bytes: &[u8]) -> State {
        let mut state = state.clone();
        for &byte in bytes {
            state = self.step(&state, byte);
        }
        state
    }

    /// After one more byte.
    pub fn step(&mut self, state: &State, byte: u8) -> State {
        let mut stacks = Vec::new();
        for &stack in &state.stacks {
            if stack == BOTTOM {
                continue;
            }
            let Frame { node, done, below } = self.frames[stack as usize];
            match self.grammar.node(node) {
                Node::Literal(bytes) if bytes[done as usize] == byte => {
                    if done as usize + 1 == bytes.len() {
                        self.finish(below, &mut stacks);
                    } else {
                        let next = self.number(Frame { node, done: done + 1, below });
                        stacks.push(next);
                    }
                }
                Node::Class(set) if set[usize::from(byte / 64)] >> (byte % 64) & 1 == 1 => {
                    self.finish(below, &mut stacks);
                }
                _ => {}
            }
        }
        State { stacks: sorted(stacks) }
    }

    /// Fewest bytes that make the text whole; none for a dead state.
    pub fn bytes_left(&self, state: &State) -> Option<u64> {
        state.stacks.iter().map(|stack| self.left[*stack as usize]).min()
    }

    fn number(&mut self, frame: Frame) -> u32 {
        if let Some(&number) = self.numbers.get(&frame) {
            return number;
        }
        let number = self.frames.len() as u32;
        let of = |id: NodeId| self.shortest[id.0 as usize];
        let own = match self.grammar.node(frame.node) {
            Node::Literal(bytes) => bytes.len() as u64 - u64::from(frame.done),
            Node::Class(_) | Node::Choice(_) => of(frame.node),
            // The part that was begun lies above.
            Node::Sequence(parts) => {
                parts[frame.done as usize..].iter().fold(0u64, |sum, part| sum.saturating_add(of(*part)))
            }
            Node::Repeat { node, minimum, .. } => {
                of(*node).saturating_mul(u64::from(minimum.saturating_sub(frame.done)))
            }
        };
        self.left.push(own.saturating_add(self.left[frame.below as usize]));
        self.frames.push(frame);
        self.numbers.insert(frame, number);
        number
    }

    /// Begins a node on a stack: all stacks whose top is a byte to be read.
    fn push(&mut self, node: NodeId, below: u32, into: &mut Vec<u32>) {
        if self.shortest[node.0 as usize] == u64::MAX {
            return;
        }
        match self.grammar.node(node) {
            Node::Literal(bytes) if bytes.is_empty() => self.finish(below, into),
            Node::Literal(_) | Node::Class(_) => {
                let number = self.number(Frame { node, done: 0, below });
                into.push(number);
            }
            Node::Sequence(parts) => match parts.first().copied() {
                None => self.finish(below, into),
                Some(first) => {
                    let number = self.number(Frame { node, done: 1, below });
                    self.push(first, number, into);
                }
            },
            Node::Choice(parts) => {
                for part in parts.clone() {
                    self.push(part, below, into);
                }
            }
            &Node::Repeat { node: repeated, minimum, maximum } => {
                if maximum != Some(0) {
                    let number = self.number(Frame { node, done: 1, below });
                    self.push(repeated, number, into);
                }
                if minimum == 0 {
                    self.finish(below, into);
                }
            }
        }
    }

    /// The node above a stack is done: goes on with the stack.
    fn finish(&mut self, stack: u32, into: &mut Vec<u32>) {
        if stack == BOTTOM {
            into.push(BOTTOM);
            return;
        }
        let Frame { node, done, below } = self.frames[stack as usize];
        match self.grammar.node(node) {
            Node::Sequence(parts) => match parts.get(done as usize).copied() {
                None => self.finish(below, into),
                Some(part) => {
                    // The last part stands in the sequence's place, so that stacks do not grow with lists.
                    let is_last = parts.len() == done as usize + 1;
                    let number =
                        if is_last { below } else { self.number(Frame { node, done: done + 1, below }) };
                    self.push(part, number, into);
                }
            },
            &Node::Repeat { node: repeated, minimum, maximum } => {
                if maximum.is_none_or(|maximum| done < maximum) {
                    // Without a limit only the minimum is counted, so that states recur.
                    let counted = if maximum.is_none() { (done + 1).min(minimum.max(1)) } else { done + 1 };
                    let number = self.number(Frame { node, done: counted, below });
                    self.push(repeated, number, into);
                }
                if done >= minimum {
                    self.finish(below, into);
                }
            }
            Node::Literal(_) | Node::Class(_) | Node::Choice(_) => {
                unreachable!("these have nothing above them on a stack")
            }
        }
    }
}

fn sorted(mut stacks: Vec<u32>) -> Vec<u32> {
    stacks.sort_unstable();
    stacks.dedup();
    stacks
}

/// Refuses repetitions of nothing, and nodes that begin with themselves.
fn check(grammar: &Grammar, shortest: &[Option<u64>]) -> Result<(), GrammarError> {
    let is_empty = |id: NodeId| shortest[id.0 as usize] == Some(0);
    let begins_with: Vec<Vec<NodeId>> = grammar
        .nodes
        .iter()
        .map(|node| match node {
            Node::Literal(_) | Node::Class(_) => Vec::new(),
            Node::Choice(parts) => parts.clone(),
            Node::Repeat { node, .. } => vec![*node],
            Node::Sequence(parts) => {
                let count = parts.iter().take_while(|part| is_empty(**part)).count();
                parts[..parts.len().min(count + 1)].to_vec()
            }
        })
        .collect();
    for (index, node) in grammar.nodes.iter().enumerate() {
        if let Node::Repeat { node, .. } = node
            && is_empty(*node)
        {
            return Err(GrammarError::EmptyRepetition);
        }
        let mut open = begins_with[index].clone();
        let mut seen = vec![false; grammar.nodes.len()];
        while let Some(next) = open.pop() {
            if next.0 as usize == index {
                return Err(GrammarError::LeftRecursive);
            }
            if !std::mem::replace(&mut seen[next.0 as usize], true) {
                open.extend(&begins_with[next.0 as usize]);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[` value, ... `]` or a digit or `true`.
    fn lists() -> Machine {
        let mut grammar = Grammar::default();
        let value = grammar.declare();
        let digit = grammar.add(Node::class(b"0-9"));
        let word = grammar.literal("true");
        let (open, close, comma) = (grammar.literal("["), grammar.literal("]"), grammar.literal(","));
        let more = grammar.add(Node::Sequence(vec![comma, value]));
        let rest = grammar.add(Node::Repeat { node: more, minimum: 0, maximum: None });
        let items = grammar.add(Node::Sequence(vec![value, rest]));
        let nothing = grammar.literal("");
        let inside = grammar.add(Node::Choice(vec![items, nothing]));
        let list = grammar.add(Node::Sequence(vec![open, inside, close]));
        grammar.define(value, Node::Choice(vec![digit, word, list]));
        Machine::new(grammar, value).expect("a sound grammar")
    }

    #[test]
    fn texts_of_the_form_and_their_beginnings_are_read() {
        let mut machine = lists();
        let start = machine.start().clone();
        for text in ["1", "true", "[]", "[1]", "[[],[1,2],true]", "[[[[[[1]]]]],7]"] {
            for end in 0..text.len() {
                let state = machine.read(&start, &text.as_bytes()[..end]);
                assert!(!state.is_dead() && !state.is_whole(), "{:?}", &text[..end]);
                assert!(machine.bytes_left(&state).expect("alive") <= (text.len() - end) as u64);
            }
            assert!(machine.read(&start, text.as_bytes()).is_ended(), "{text}");
        }
        for text in ["x", "[,", "[1,]", "12", "[1]]", "tru ", "[true1"] {
            assert!(machine.read(&start, text.as_bytes()).is_dead(), "{text}");
        }
        let state = machine.read(&start, b"[[1,t");
        assert_eq!(machine.bytes_left(&state), Some(5));
    }

    #[test]
    fn long_lists_need_no_more_stacks() {
        let mut machine = lists();
        let state = machine.read(&machine.start().clone(), b"[1,[2,3],");
        let after = machine.frames.len();
        let later = machine.read(&state, &b"[2,3],".repeat(100));
        assert_eq!((later, machine.frames.len()), (state, after));
    }

    #[test]
    fn repetitions_are_counted() {
        let mut grammar = Grammar::default();
        let letter = grammar.add(Node::class(b"a-cx-"));
        let some = grammar.add(Node::Repeat { node: letter, minimum: 2, maximum: Some(3) });
        let digit = grammar.add(Node::class(b"0-9"));
        let many = grammar.add(Node::Repeat { node: digit, minimum: 2, maximum: None });
        let both = grammar.add(Node::Sequence(vec![some, many]));
        let mut machine = Machine::new(grammar, both).expect("a sound grammar");
        let start = machine.start().clone();
        let whole = |machine: &mut Machine, text: &str| machine.read(&start, text.as_bytes()).is_whole();
        assert!(whole(&mut machine, "ab12") && whole(&mut machine, "a-x99999"));
        assert!(!whole(&mut machine, "a12") && !whole(&mut machine, "abca12") && !whole(&mut machine, "ab1"));
        assert_eq!(machine.bytes_left(&start), Some(4));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let mut grammar = Grammar::default();
        let itself = grammar.declare();
        let open = grammar.literal("[");
        grammar.define(itself, Node::Sequence(vec![open, itself]));
        assert_eq!(Machine::new(grammar, itself).err(), Some(GrammarError::Endless));
        let mut grammar = Grammar::default();
        let itself = grammar.declare();
        let end = grammar.literal("x");
        let more = grammar.add(Node::Sequence(vec![itself, end]));
        grammar.define(itself, Node::Choice(vec![more, end]));
        assert_eq!(Machine::new(grammar, itself).err(), Some(GrammarError::LeftRecursive));
        let mut grammar = Grammar::default();
        let nothing = grammar.literal("");
        let many = grammar.add(Node::Repeat { node: nothing, minimum: 0, maximum: None });
        assert_eq!(Machine::new(grammar, many).err(), Some(GrammarError::EmptyRepetition));
    }
}
