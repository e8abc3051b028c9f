//! A place in the text: the token at hand, faults and their lines, and the limits that keep hostile text harmless.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::lex::{Kind, Lexer, Token};
use crate::location::Location;
use std::sync::Arc;

/// Regions, attributes and types may be nested this deep, which keeps the stack small in debug builds too.
const DEPTH_MAX: usize = 96;
/// Attributes, types and locations that all uses of aliases may stand for together.
const ALIAS_NODES_MAX: usize = 1 << 22;

/// One fault.
#[derive(Debug)]
pub(super) struct Fault {
    /// Byte offset.
    pub(super) at: usize,
    /// What was expected and found.
    pub(super) what: String,
    /// The way out; may be empty.
    pub(super) help: String,
}

/// The value or the first fault.
pub(super) type Parsed<T> = Result<T, Box<Fault>>;

/// Faults of a whole text.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) list: Diagnostics,
}

/// A position in a text with one token looked at.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    lexer: Lexer<'a>,
    pub(super) token: Token,
    file: Arc<str>,
    first_line: usize,
    line_starts: Vec<usize>,
    depth: usize,
    /// Attributes, types and locations read so far, alias uses counted in full.
    pub(super) nodes: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str, file: &str, first_line: usize) -> Cursor<'a> {
        let mut lexer = Lexer::new(text, 0);
        let token = lexer.next_token();
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(breaks).collect();
        let file = if file.is_empty() { "<text>" } else { file }.into();
        Cursor { text, lexer, token, file, first_line, line_starts, depth: 0, nodes: 0 }
    }

    /// Moves to a byte offset.
    pub(super) fn jump(&mut self, at: usize) {
        self.lexer = Lexer::new(self.text, at);
        self.token = self.lexer.next_token();
    }

    /// Steps over the token at hand and gives its text.
    pub(super) fn take(&mut self) -> &'a str {
        let text = self.token_text();
        self.token = self.lexer.next_token();
        text
    }

    pub(super) fn token_text(&self) -> &'a str {
        self.text.get(self.token.start..self.token.end).unwrap_or_default()
    }

    /// True if the token is this punctuation.
    pub(super) fn at(&self, punctuation: u8) -> bool {
        self.token.kind == Kind::Punctuation(punctuation)
    }

    /// True if the token is this bare word.
    pub(super) fn at_word(&self, word: &str) -> bool {
        self.token.kind == Kind::Bare && self.token_text() == word
    }

    /// Steps over this punctuation if it is here.
    pub(super) fn eat(&mut self, punctuation: u8) -> bool {
        let found = self.at(punctuation);
        if found {
            self.token = self.lexer.next_token();
        }
        found
    }

    /// Steps over this punctuation or says that it is missing.
    pub(super) fn expect(&mut self, punctuation: u8) -> Parsed<()> {
        if self.eat(punctuation) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("'{}'", punctuation as char)))
        }
    }

    /// Steps over a token of this kind and gives its text.
    pub(super) fn expect_kind(&mut self, kind: Kind, wanted: &str) -> Parsed<&'a str> {
        if self.token.kind == kind { Ok(self.take()) } else { Err(self.unexpected(wanted)) }
    }

    /// The text must be used up.
    pub(super) fn expect_end(&self) -> Parsed<()> {
        if self.token.kind == Kind::End { Ok(()) } else { Err(self.unexpected("the end of the text")) }
    }

    /// The inside of a string token, escapes resolved.
    pub(super) fn string(&mut self, wanted: &str) -> Parsed<String> {
        let at = self.token.start;
        let text = self.expect_kind(Kind::Str, wanted)?;
        let inside = &text[1..text.len() - 1];
        crate::lex::unescape(inside).ok_or_else(|| {
            Cursor::fault(at, format!("the string {text} has an escape that is not '\\\\', '\\\"', '\\n', '\\t' or the two hexadecimal digits of UTF-8"))
        })
    }

    /// A fault at a byte offset.
    pub(super) fn fault(at: usize, what: impl Into<String>) -> Box<Fault> {
        Box::new(Fault { at, what: what.into(), help: String::new() })
    }

    /// A fault at the token: what was expected, what is there.
    pub(super) fn unexpected(&self, wanted: &str) -> Box<Fault> {
        let found = match self.token.kind {
            Kind::End => "the end of the text".to_string(),
            Kind::Bad(why) => format!("'{}' ({why})", shorten(self.token_text())),
            _ => format!("'{}'", shorten(self.token_text())),
        };
        Cursor::fault(self.token.start, format!("expected {wanted}, found {found}"))
    }

    /// Goes one level deeper while `f` runs.
    pub(super) fn enter(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Cursor::fault(self.token.start, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.count(1)
    }

    /// Comes back from [`Cursor::enter`].
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// After a fault, back to the depth of the op that goes on.
    pub(super) fn restore_depth(&mut self, depth: usize) {
        self.depth = depth;
    }

    fn count(&mut self, nodes: usize) -> Parsed<()> {
        self.nodes += nodes;
        Ok(())
    }

    /// Counts what a use of an alias stands for.
    pub(super) fn count_alias(&mut self, at: usize, nodes: usize) -> Parsed<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if nodes > ALIAS_NODES_MAX || self.nodes > ALIAS_NODES_MAX + self.text.len() {
            return Err(Cursor::fault(at, "aliases stand for too many attributes"));
        }
        Ok(())
    }

    /// Line and column of a byte offset, from 1.
    pub(super) fn line_and_column(&self, at: usize) -> (u32, u32) {
        let line = self.line_starts.partition_point(|start| *start <= at).max(1) - 1;
        let column = at - self.line_starts.get(line).copied().unwrap_or(0);
        ((line + self.first_line + 1) as u32, column as u32 + 1)
    }

    /// A byte offset as a location.
    pub(super) fn location_of(&self, at: usize) -> Location {
        let (line, column) = self.line_and_column(at);
        Location::File(self.file.clone(), line, column)
    }

    pub(super) fn diagnostic(&self, fault: &Fault) -> Diagnostic {
        Diagnostic::error(self.location_of(fault.at), fault.what.clone()).with_help(fault.help.clone())
    }

    /// Blanks before the first character of the line of an offset; `None` if something else stands before the offset.
    pub(super) fn indentation(&self, at: usize) -> Option<usize> {
        let line = self.line_starts.partition_point(|start| *start <= at).max(1) - 1;
        let start = self.line_starts.get(line).copied()?;
        let before = self.text.get(start..at)?;
        before.bytes().all(|byte| byte == b' ').then_some(before.len())
    }

    /// The start of the first line after `at` that is indented like an op at `indentation`, or closes what holds it.
    pub(super) fn next_op_line(&self, at: usize, indentation: usize) -> Option<usize> {
        let first = self.line_starts.partition_point(|start| *start <= at);
        self.line_starts[first.min(self.line_starts.len())..].iter().copied().find_map(|start| {
            let line = self.text.get(start..)?;
            let blanks = line.bytes().position(|byte| byte != b' ')?;
            let byte = *line.as_bytes().get(blanks)?;
            let begins_op = blanks == indentation && matches!(byte, b'"' | b'%');
            let closes = blanks < indentation && byte == b'}';
            (begins_op || closes).then_some(start + blanks)
        })
    }
}

/// The first characters of a long token.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}
