//! JSON's own forms (RFC 8259) as grammar: strings in UTF-8, numbers, words, lists and maps of any value.

use tilewright_runtime::generate::grammar::{Grammar, Node, NodeId};

/// Digits of a number before its point, and after.
pub(super) const DIGITS_MAX: u32 = 15;
/// Digits of an exponent: larger ones do not fit 64 bits.
const EXPONENT_DIGITS_MAX: u32 = 2;

/// Nodes that all schemas share.
pub(super) struct Values {
    /// Any value.
    pub(super) any: NodeId,
    pub(super) number: NodeId,
    pub(super) integer: NodeId,
    pub(super) boolean: NodeId,
    pub(super) null: NodeId,
    /// With at most one space after it.
    pub(super) colon: NodeId,
    /// With at most one space after it.
    pub(super) comma: NodeId,
    character: NodeId,
    quote: NodeId,
}

fn optional(grammar: &mut Grammar, node: NodeId) -> NodeId {
    grammar.add(Node::Repeat { node, minimum: 0, maximum: Some(1) })
}

impl Values {
    pub(super) fn new(grammar: &mut Grammar) -> Values {
        let space = grammar.literal(" ");
        let space = optional(grammar, space);
        let spaced = |grammar: &mut Grammar, mark: &str| {
            let mark = grammar.literal(mark);
            grammar.add(Node::Sequence(vec![mark, space]))
        };
        let (colon, comma) = (spaced(grammar, ":"), spaced(grammar, ","));
        let (yes, no, null) = (grammar.literal("true"), grammar.literal("false"), grammar.literal("null"));
        let boolean = grammar.add(Node::Choice(vec![yes, no]));
        let (integer, number) = numbers(grammar);
        let any = grammar.declare();
        let values = Values {
            any,
            number,
            integer,
            boolean,
            null,
            colon,
            comma,
            character: character(grammar),
            quote: grammar.literal("\""),
        };
        let string = values.string(grammar, 0, None);
        let list = values.list(grammar, &[], any, 0, None);
        let map = values.map(grammar, any);
        grammar.define(any, Node::Choice(vec![string, number, boolean, null, list, map]));
        values
    }

    /// A string of so many characters.
    pub(super) fn string(&self, grammar: &mut Grammar, minimum: u32, maximum: Option<u32>) -> NodeId {
        let characters = grammar.add(Node::Repeat { node: self.character, minimum, maximum });
        grammar.add(Node::Sequence(vec![self.quote, characters, self.quote]))
    }

    /// A string of what `inside` makes; it gets the node of one character.
    pub(super) fn text(
        &self,
        grammar: &mut Grammar,
        inside: impl FnOnce(&mut Grammar, NodeId) -> Result<NodeId, String>,
    ) -> Result<NodeId, String> {
        let inside = inside(grammar, self.character)?;
        Ok(grammar.add(Node::Sequence(vec![self.quote, inside, self.quote])))
    }

    /// A list of so many items, the first ones of forms of their own.
    pub(super) fn list(
        &self,
        grammar: &mut Grammar,
        first: &[NodeId],
        item: NodeId,
        minimum: u32,
        maximum: Option<u32>,
    ) -> NodeId {
        let (open, close) = (grammar.literal("["), grammar.literal("]"));
        let own = first.len().min(maximum.unwrap_or(u32::MAX) as usize) as u32;
        let left = maximum.map(|maximum| maximum - own);
        let mut inside = match own {
            0 => self.separated(grammar, item, minimum, maximum),
            _ => {
                let more = grammar.add(Node::Sequence(vec![self.comma, item]));
                grammar.add(Node::Repeat { node: more, minimum: minimum.saturating_sub(own), maximum: left })
            }
        };
        // From the last of its own on: each may be where the list ends.
        for (index, one) in first[..own as usize].iter().enumerate().rev() {
            let parts = if index > 0 { vec![self.comma, *one, inside] } else { vec![*one, inside] };
            inside = grammar.add(Node::Sequence(parts));
            if index as u32 >= minimum {
                let nothing = grammar.literal("");
                inside = grammar.add(Node::Choice(vec![nothing, inside]));
            }
        }
        grammar.add(Node::Sequence(vec![open, inside, close]))
    }

    /// An object of any names and values of one form.
    pub(super) fn map(&self, grammar: &mut Grammar, value: NodeId) -> NodeId {
        let (open, close) = (grammar.literal("{"), grammar.literal("}"));
        let name = self.string(grammar, 0, None);
        let member = grammar.add(Node::Sequence(vec![name, self.colon, value]));
        let inside = self.separated(grammar, member, 0, None);
        grammar.add(Node::Sequence(vec![open, inside, close]))
    }

    fn separated(&self, grammar: &mut Grammar, item: NodeId, minimum: u32, maximum: Option<u32>) -> NodeId {
        let nothing = grammar.literal("");
        if maximum == Some(0) {
            return nothing;
        }
        let more = grammar.add(Node::Sequence(vec![self.comma, item]));
        let (minimum_more, maximum_more) = (minimum.saturating_sub(1), maximum.map(|count| count - 1));
        let rest = grammar.add(Node::Repeat { node: more, minimum: minimum_more, maximum: maximum_more });
        let some = grammar.add(Node::Sequence(vec![item, rest]));
        if minimum == 0 { grammar.add(Node::Choice(vec![nothing, some])) } else { some }
    }
}

/// Integers, and numbers.
fn numbers(grammar: &mut Grammar) -> (NodeId, NodeId) {
    let minus = grammar.literal("-");
    let sign = optional(grammar, minus);
    let (zero, digit, first) =
        (grammar.literal("0"), grammar.add(Node::class(b"0-9")), grammar.add(Node::class(b"1-9")));
    let further = grammar.add(Node::Repeat { node: digit, minimum: 0, maximum: Some(DIGITS_MAX - 1) });
    let natural = grammar.add(Node::Sequence(vec![first, further]));
    let magnitude = grammar.add(Node::Choice(vec![zero, natural]));
    let integer = grammar.add(Node::Sequence(vec![sign, magnitude]));
    let point = grammar.literal(".");
    let decimals = grammar.add(Node::Repeat { node: digit, minimum: 1, maximum: Some(DIGITS_MAX) });
    let fraction = grammar.add(Node::Sequence(vec![point, decimals]));
    let letter = grammar.add(Node::class(b"eE"));
    let either = grammar.add(Node::class(b"+-"));
    let exponent_sign = optional(grammar, either);
    let exponent_digits =
        grammar.add(Node::Repeat { node: digit, minimum: 1, maximum: Some(EXPONENT_DIGITS_MAX) });
    let exponent = grammar.add(Node::Sequence(vec![letter, exponent_sign, exponent_digits]));
    let (fraction, exponent) = (optional(grammar, fraction), optional(grammar, exponent));
    let number = grammar.add(Node::Sequence(vec![integer, fraction, exponent]));
    (integer, number)
}

/// One character of a string: UTF-8 without overlong forms and surrogates (RFC 3629, section 4), or an escape that is no half of a
/// surrogate pair.
fn character(grammar: &mut Grammar) -> NodeId {
    let mut plain = [u64::MAX, u64::MAX, 0, 0];
    // Neither control characters nor the quote nor the backslash.
    plain[0] &= !(0xffff_ffff | 1 << b'"');
    plain[1] &= !(1 << (b'\\' - 64));
    let plain = grammar.add(Node::Class(plain));
    let next = grammar.add(Node::range(0x80, 0xbf));
    let sequence = |grammar: &mut Grammar, ranges: &[(u8, u8)], more: usize| {
        let mut parts: Vec<NodeId> =
            ranges.iter().map(|&(first, last)| grammar.add(Node::range(first, last))).collect();
        parts.extend(std::iter::repeat_n(next, more));
        grammar.add(Node::Sequence(parts))
    };
    let mut choices = vec![
        plain,
        sequence(grammar, &[(0xc2, 0xdf)], 1),
        sequence(grammar, &[(0xe0, 0xe0), (0xa0, 0xbf)], 1),
        sequence(grammar, &[(0xe1, 0xec)], 2),
        sequence(grammar, &[(0xed, 0xed), (0x80, 0x9f)], 1),
        sequence(grammar, &[(0xee, 0xef)], 2),
        sequence(grammar, &[(0xf0, 0xf0), (0x90, 0xbf)], 2),
        sequence(grammar, &[(0xf1, 0xf3)], 3),
        sequence(grammar, &[(0xf4, 0xf4), (0x80, 0x8f)], 2),
    ];
    let backslash = grammar.literal("\\");
    let short = grammar.add(Node::class(b"\"\\/bfnrt"));
    choices.push(grammar.add(Node::Sequence(vec![backslash, short])));
    let unicode = grammar.literal("\\u");
    let hex = grammar.add(Node::class(b"0-9a-fA-F"));
    let (not_d, d, low) = (
        grammar.add(Node::class(b"0-9a-ce-fA-CE-F")),
        grammar.add(Node::class(b"dD")),
        grammar.add(Node::class(b"0-7")),
    );
    choices.push(grammar.add(Node::Sequence(vec![unicode, not_d, hex, hex, hex])));
    choices.push(grammar.add(Node::Sequence(vec![unicode, d, low, hex, hex])));
    grammar.add(Node::Choice(choices))
}
