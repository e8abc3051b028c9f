//! Aliases: names for attributes, types and locations, on lines of their own before or after their use.
//!
//! ```text
//! #map = [1, 2]      !row = tensor<1x64xf32>      #loc1 = loc("/model/layers.0")
//! ```

use super::cursor::{Cursor, Parsed};
use super::op::Parser;
use crate::attribute::Attribute;
use crate::location::Location;
use crate::types::Type;

/// What an alias stands for.
#[derive(Clone)]
pub(super) enum Alias {
    Attribute(Attribute),
    Type(Type),
    Location(Location),
}

pub(super) enum AliasState {
    /// Where its text begins.
    Unread(usize),
    /// Its text is being read: a use now is a cycle.
    Open,
    /// Its value, how many attributes it holds, and where its text ends.
    Read(Alias, usize, usize),
}

impl<'a> Parser<'a> {
    /// Aliases may be used before their line, so all lines that begin with `#name =` or `!name =` are found first.
    pub(super) fn find_aliases(&mut self) {
        let text = self.cursor.text;
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            if line.trim_start().starts_with(['#', '!'])
                && let Some((name, rest)) = line.split_once('=')
                && !name.trim().contains([' ', '<', '"'])
            {
                let start = offset + line.len() - rest.len();
                self.aliases.entry(name.trim()).or_insert(AliasState::Unread(start));
            }
            offset += line.len();
        }
    }

    /// Steps over `#name` or `!name` and gives what it stands for.
    pub(super) fn alias(&mut self, mark: u8, name: &'a str) -> Parsed<Alias> {
        let token = self.cursor.token;
        let fault = |what: &str| Cursor::fault(token.start, format!("'{}{name}' {what}", mark as char));
        let Some((key, state)) = self.aliases.get_key_value(self.cursor.token_text()) else {
            return Err(fault("is not defined"));
        };
        let key = *key;
        let (value, nodes) = match state {
            AliasState::Open => return Err(fault("stands for itself")),
            AliasState::Read(value, nodes, _) => (value.clone(), *nodes),
            AliasState::Unread(start) => {
                let start = *start;
                self.read_alias(key, start)?;
                match self.aliases.get(key) {
                    Some(AliasState::Read(value, nodes, _)) => (value.clone(), *nodes),
                    _ => return Err(fault("is not defined")),
                }
            }
        };
        self.cursor.jump(token.end);
        self.cursor.count_alias(token.start, nodes)?;
        Ok(value)
    }

    fn read_alias(&mut self, key: &'a str, start: usize) -> Parsed<()> {
        self.aliases.insert(key, AliasState::Open);
        let nodes = std::mem::take(&mut self.cursor.nodes);
        self.cursor.jump(start);
        let value = if key.starts_with('!') {
            Alias::Type(self.ty()?)
        } else if self.cursor.at_word("loc") {
            Alias::Location(self.trailing_location()?.unwrap_or_default())
        } else {
            Alias::Attribute(self.attribute()?)
        };
        let own = std::mem::replace(&mut self.cursor.nodes, nodes);
        self.aliases.insert(key, AliasState::Read(value, own, self.cursor.token.start));
        Ok(())
    }

    /// A line `#name = ..` at the outer level: read now if no op has used it yet.
    pub(super) fn alias_line(&mut self) -> Parsed<()> {
        let start = self.cursor.token.start;
        let name = self.cursor.token_text();
        match self.aliases.get(name) {
            Some(AliasState::Unread(at)) => {
                let at = *at;
                let Some((key, _)) = self.aliases.get_key_value(name) else { return Ok(()) };
                let key = *key;
                self.read_alias(key, at)?;
            }
            Some(AliasState::Read(_, _, end)) => {
                let end = *end;
                self.cursor.jump(end);
            }
            _ => return Err(Cursor::fault(start, format!("expected an op, found '{name}'"))),
        }
        // A second line of the same name would end before it began.
        if self.cursor.token.start <= start {
            return Err(Cursor::fault(start, format!("'{name}' is defined twice")));
        }
        Ok(())
    }
}
