//! Regular expressions as grammar: `pattern`, and `format` for the forms that a regular expression says.
//!
//! The expressions are those of JSON Schema (ECMA-262 without look-around and back references), read by `regex-syntax`. A pattern may match
//! anywhere in the text unless `^` and `$` hold it. The grammar is over the bytes of JSON's text: quotes, backslashes and control
//! characters are escaped in it.
//!
//! ```text
//! ^a+"?$   =>   '"' 'a'+ ('\"' | '') '"'
//! ```

use super::json::Json;
use regex_syntax::ast::{self, Ast, ClassPerlKind, ClassSet, ClassSetItem};
use regex_syntax::hir::{Class, Hir, HirKind, Look, translate::Translator};
use regex_syntax::utf8::Utf8Sequences;
use tilewright_runtime::generate::grammar::{Grammar, Node, NodeId};

/// Nodes that one pattern may take: beyond it a step of the machine gets slow.
const NODES_MAX: usize = 4096;

const DATE: &str = "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))";
const TIME: &str =
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
const HOST: &str = "[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?){0,6}";
const BYTE: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

/// A pattern that writes texts of a format; each is valid, not every valid one is written (no 29 February, no literal addresses). Sources: RFC
/// 3339 for dates and times, RFC 9562 for UUIDs, RFC 1123 for host names, RFC 5321 for addresses, RFC 3986 for URIs.
pub(super) fn of_format(name: &str) -> Option<String> {
    Some(match name {
        "date" => format!("^{DATE}$"),
        "time" => format!("^{TIME}$"),
        "date-time" => format!("^{DATE}T{TIME}$"),
        "duration" => "^P([0-9]{1,4}W|[0-9]{1,4}Y([0-9]{1,4}M([0-9]{1,4}D)?)?|[0-9]{1,4}M([0-9]{1,4}D)?|[0-9]{1,4}D|T([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S))$".into(),
        "uuid" => "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$".into(),
        "ipv4" => format!("^{BYTE}(\\.{BYTE}){{3}}$"),
        "ipv6" => "^[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}$".into(),
        "hostname" => format!("^{HOST}$"),
        "email" => format!("^[A-Za-z0-9]{{1,20}}([._+-][A-Za-z0-9]{{1,20}}){{0,2}}@{HOST}$"),
        "uri" => format!("^https?://{HOST}(/[A-Za-z0-9._~-]{{0,60}}){{0,8}}(\\?[A-Za-z0-9=&._~-]{{1,60}})?$"),
        _ => return None,
    })
}

/// A pattern that was read.
#[derive(Debug)]
pub(super) struct Pattern(Hir);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What in it is not understood.
    pub(super) fn new(text: &str) -> Result<Pattern, String> {
        // A brace without a first number is text to ECMA-262 and a repetition to `regex-syntax`.
        if text.contains("{,") {
            return Err("'{,' has no first number: write '{0,' or '\\{,'".into());
        }
        let mut tree = ast::parse::Parser::new().parse(text).map_err(|error| error.kind().to_string())?;
        as_ecma(&mut tree)?;
        let hir = Translator::new().translate(text, &tree).map_err(|error| error.kind().to_string())?;
        Ok(Pattern(hir))
    }

    /// Fewest and most characters of a match, where `^` and `$` hold the whole.
    pub(super) fn lengths(&self) -> (u64, Option<u64>) {
        let alternatives = alternatives(&self.0);
        let is_held = alternatives.iter().all(|one| {
            let parts = concatenated(one);
            is_look(parts.first(), Look::Start) && is_look(parts.last(), Look::End)
        });
        let (least, most) = lengths(&self.0);
        (least, most.filter(|_| is_held))
    }

    /// The texts in which the pattern matches, without their quotes. `character` is any one character of JSON's text.
    ///
    /// # Errors
    /// Assertions that are not at the ends; a pattern that takes too many nodes.
    pub(super) fn node(&self, grammar: &mut Grammar, character: NodeId) -> Result<NodeId, String> {
        let anything = grammar.add(Node::Repeat { node: character, minimum: 0, maximum: None });
        let mut writer = Writer { grammar, nodes_left: NODES_MAX };
        let mut choices = Vec::new();
        for one in alternatives(&self.0) {
            let mut parts = concatenated(one);
            let mut nodes = Vec::new();
            let (mut begins, mut ends) = (true, true);
            while is_look(parts.first(), Look::Start) {
                (begins, parts) = (false, &parts[1..]);
            }
            while is_look(parts.last(), Look::End) {
                (ends, parts) = (false, &parts[..parts.len() - 1]);
            }
            nodes.extend(begins.then_some(anything));
            for part in parts {
                nodes.push(writer.node(part)?);
            }
            nodes.extend(ends.then_some(anything));
            choices.push(writer.add(Node::Sequence(nodes))?);
        }
        writer.add(Node::Choice(choices))
    }
}

fn alternatives(hir: &Hir) -> &[Hir] {
    match hir.kind() {
        HirKind::Alternation(parts) => parts,
        _ => std::slice::from_ref(hir),
    }
}

fn concatenated(hir: &Hir) -> &[Hir] {
    match hir.kind() {
        HirKind::Concat(parts) => parts,
        _ => std::slice::from_ref(hir),
    }
}

fn is_look(hir: Option<&Hir>, look: Look) -> bool {
    hir.is_some_and(|hir| matches!(hir.kind(), HirKind::Look(found) if *found == look))
}

/// Gives classes the meaning that they have in ECMA-262, and refuses what has another one there or none.
fn as_ecma(tree: &mut Ast) -> Result<(), String> {
    let parsed = |text: &str| ast::parse::Parser::new().parse(text).map_err(|error| error.to_string());
    match tree {
        Ast::Flags(_) => return Err("flags are not supported".into()),
        Ast::Dot(_) => *tree = parsed("[^\\n\\r\\u2028\\u2029]")?,
        Ast::ClassPerl(class) => {
            let text = match (&class.kind, class.negated) {
                (ClassPerlKind::Digit, false) => "[0-9]",
                (ClassPerlKind::Digit, true) => "[^0-9]",
                (ClassPerlKind::Word, false) => "[A-Za-z0-9_]",
                (ClassPerlKind::Word, true) => "[^A-Za-z0-9_]",
                (ClassPerlKind::Space, false) => "[\\s\\uFEFF]",
                (ClassPerlKind::Space, true) => "[^\\s\\uFEFF]",
            };
            *tree = parsed(text)?;
        }
        Ast::ClassBracketed(class) => match &mut class.kind {
            ClassSet::Item(item) => as_ecma_item(item)?,
            ClassSet::BinaryOp(_) => {
                return Err("'&&', '--' and '~~' in a class: escape them".into());
            }
        },
        Ast::Repetition(repetition) => as_ecma(&mut repetition.ast)?,
        Ast::Group(group) => {
            if group.flags().is_some_and(|flags| !flags.items.is_empty()) {
                return Err("flags are not supported".into());
            }
            as_ecma(&mut group.ast)?;
        }
        Ast::Alternation(all) => all.asts.iter_mut().try_for_each(as_ecma)?,
        Ast::Concat(all) => all.asts.iter_mut().try_for_each(as_ecma)?,
        Ast::Empty(_) | Ast::Literal(_) | Ast::Assertion(_) | Ast::ClassUnicode(_) => {}
    }
    Ok(())
}

fn as_ecma_item(item: &mut ClassSetItem) -> Result<(), String> {
    match item {
        ClassSetItem::Perl(class) if class.kind != ClassPerlKind::Space => {
            let kind = match class.kind {
                ClassPerlKind::Digit => ast::ClassAsciiKind::Digit,
                _ => ast::ClassAsciiKind::Word,
            };
            *item = ClassSetItem::Ascii(ast::ClassAscii { span: class.span, kind, negated: class.negated });
        }
        ClassSetItem::Ascii(_) | ClassSetItem::Bracketed(_) => {
            return Err("a class within a class: escape the inner '['".into());
        }
        ClassSetItem::Union(union) => union.items.iter_mut().try_for_each(as_ecma_item)?,
        _ => {}
    }
    Ok(())
}

/// Fewest and most characters.
fn lengths(hir: &Hir) -> (u64, Option<u64>) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => (0, Some(0)),
        HirKind::Literal(literal) => {
            let count = String::from_utf8_lossy(&literal.0).chars().count() as u64;
            (count, Some(count))
        }
        HirKind::Class(_) => (1, Some(1)),
        HirKind::Capture(capture) => lengths(&capture.sub),
        HirKind::Repetition(repetition) => {
            let (least, most) = lengths(&repetition.sub);
            let times = repetition.max.map(u64::from);
            let most = if most == Some(0) { most } else { most.zip(times).map(|(a, b)| a.saturating_mul(b)) };
            (least.saturating_mul(u64::from(repetition.min)), most)
        }
        HirKind::Concat(parts) => parts.iter().map(lengths).fold((0, Some(0)), |sum, one| {
            (sum.0 + one.0, sum.1.zip(one.1).map(|(a, b)| a.saturating_add(b)))
        }),
        HirKind::Alternation(parts) => {
            let all: Vec<_> = parts.iter().map(lengths).collect();
            let most = all.iter().map(|one| one.1).collect::<Option<Vec<_>>>();
            let least = all.iter().map(|one| one.0).min().unwrap_or(0);
            (least, most.map(|most| most.into_iter().max().unwrap_or(0)))
        }
    }
}

struct Writer<'g> {
    grammar: &'g mut Grammar,
    nodes_left: usize,
}

impl Writer<'_> {
    fn add(&mut self, node: Node) -> Result<NodeId, String> {
        self.nodes_left = self.nodes_left.checked_sub(1).ok_or("it is too large")?;
        Ok(self.grammar.add(node))
    }

    fn all(&mut self, parts: &[Hir]) -> Result<Vec<NodeId>, String> {
        parts.iter().map(|part| self.node(part)).collect()
    }

    fn node(&mut self, hir: &Hir) -> Result<NodeId, String> {
        match hir.kind() {
            HirKind::Empty => self.add(Node::Literal(Vec::new())),
            HirKind::Literal(literal) => self.literal(&String::from_utf8_lossy(&literal.0)),
            HirKind::Class(class) => self.class(class),
            HirKind::Look(_) => Err("'^', '$' and '\\b' are understood at its ends only".into()),
            HirKind::Capture(capture) => self.node(&capture.sub),
            HirKind::Concat(parts) => {
                let parts = self.all(parts)?;
                self.add(Node::Sequence(parts))
            }
            HirKind::Alternation(parts) => {
                let parts = self.all(parts)?;
                self.add(Node::Choice(parts))
            }
            HirKind::Repetition(repetition) => {
                let (minimum, maximum) = (repetition.min, repetition.max);
                // What may be empty is repeated as what is not, any number of times.
                if is_nullable(&repetition.sub) {
                    let node = self.not_empty(&repetition.sub)?;
                    return self.add(Node::Repeat { node, minimum: 0, maximum });
                }
                let node = self.node(&repetition.sub)?;
                self.add(Node::Repeat { node, minimum, maximum })
            }
        }
    }

    /// The same without the empty text.
    fn not_empty(&mut self, hir: &Hir) -> Result<NodeId, String> {
        if !is_nullable(hir) {
            return self.node(hir);
        }
        let mut choices = Vec::new();
        match hir.kind() {
            HirKind::Capture(capture) => return self.not_empty(&capture.sub),
            HirKind::Repetition(repetition) if repetition.max != Some(0) => {
                let node = self.not_empty(&repetition.sub)?;
                return self.add(Node::Repeat { node, minimum: 1, maximum: repetition.max });
            }
            HirKind::Alternation(parts) => {
                for part in parts {
                    choices.push(self.not_empty(part)?);
                }
            }
            // The first part that is not empty, and what follows it.
            HirKind::Concat(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let mut sequence = vec![self.not_empty(part)?];
                    sequence.extend(self.all(&parts[index + 1..])?);
                    choices.push(self.add(Node::Sequence(sequence))?);
                }
            }
            HirKind::Look(_) => return self.node(hir),
            _ => {}
        }
        self.add(Node::Choice(choices))
    }

    /// Characters as they stand between quotes.
    fn literal(&mut self, text: &str) -> Result<NodeId, String> {
        let quoted = Json::String(text.to_string()).text();
        self.add(Node::Literal(quoted[1..quoted.len() - 1].into()))
    }

    fn class(&mut self, class: &Class) -> Result<NodeId, String> {
        let Class::Unicode(class) = class else { return Err("classes of bytes are not supported".into()) };
        let mut choices = Vec::new();
        for range in class.ranges() {
            let mut first = range.start();
            let is_escaped = |one: char| one < ' ' || one == '"' || one == '\\';
            let escaped = (0..0x80u8).map(char::from).filter(|one| is_escaped(*one));
            for one in escaped.filter(|one| (range.start()..=range.end()).contains(one)) {
                choices.push(self.literal(&one.to_string())?);
                if first < one {
                    self.plain(first, char::from(one as u8 - 1), &mut choices)?;
                }
                first = char::from(one as u8 + 1);
            }
            if first <= range.end() {
                self.plain(first, range.end(), &mut choices)?;
            }
        }
        self.add(Node::Choice(choices))
    }

    /// Characters that stand for themselves.
    fn plain(&mut self, first: char, last: char, choices: &mut Vec<NodeId>) -> Result<(), String> {
        for sequence in Utf8Sequences::new(first, last) {
            let mut parts = Vec::new();
            for range in sequence.as_slice() {
                parts.push(self.add(Node::range(range.start, range.end))?);
            }
            choices.push(self.add(Node::Sequence(parts))?);
        }
        Ok(())
    }
}

/// Whether it may match the empty text.
fn is_nullable(hir: &Hir) -> bool {
    hir.properties().minimum_len() == Some(0)
}
