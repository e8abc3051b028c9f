//! Cuts MLIR text into tokens. Linear in the text, never fails: what is no token is a token of kind [`Kind::Bad`].
//!
//! Knows spellings only, not what they mean. Comments (`// ..`) and blanks are between tokens.
//!
//! ```text
//! %0:2 = "core.top_k"(%x) <{k = 3 : i64}> : (tensor<4x?xf32, ["n"]>) -> ..
//! ```

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `tensor`, `func.func`.
    Bare,
    /// `12`, `0x1F`.
    Integer,
    /// `1.5e-3`.
    Float,
    /// `"text"`, quotes included.
    Str,
    /// `@name` or `@"name"`.
    At,
    /// `#name`, `#1`.
    Hash,
    /// `!name`.
    Bang,
    /// `%name`.
    Percent,
    /// `^name`.
    Caret,
    /// `->`.
    Arrow,
    /// `{-#`: the start of a section of MLIR's file data.
    FileData,
    /// One character of punctuation.
    Punctuation(u8),
    /// The end of the text.
    End,
    /// No token; says why.
    Bad(&'static str),
}

/// A token: its kind and the bytes it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Byte offset of its first character.
    pub start: usize,
    /// Byte offset after its last character.
    pub end: usize,
}

/// A position in a text, which gives token after token.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

/// A character of a name that follows `%`, `^`, `#`, `!`, `@`; a bare word takes no `-`.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_$.-".contains(&byte)
}

fn is_bare_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_$.".contains(&byte)
}

impl<'a> Lexer<'a> {
    /// Begins at a byte offset.
    pub fn new(text: &'a str, at: usize) -> Lexer<'a> {
        Lexer { text, at }
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|byte| !wanted(*byte)).unwrap_or(rest.len());
    }

    fn skip_blank(&mut self) {
        loop {
            self.skip_while(|byte| byte.is_ascii_whitespace());
            if self.byte(0) == b'/' && self.byte(1) == b'/' {
                self.skip_while(|byte| byte != b'\n');
            } else {
                return;
            }
        }
    }

    /// The next token. After the end: the end again.
    pub fn next_token(&mut self) -> Token {
        self.skip_blank();
        let start = self.at;
        let kind = if start >= self.text.len() { Kind::End } else { self.kind() };
        Token { kind, start, end: self.at }
    }

    fn kind(&mut self) -> Kind {
        let first = self.byte(0);
        match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                self.skip_while(is_bare_byte);
                Kind::Bare
            }
            b'0'..=b'9' => self.number(),
            b'"' => self.string(Kind::Str),
            b'@' if self.byte(1) == b'"' => {
                self.at += 1;
                self.string(Kind::At)
            }
            b'@' => self.name(Kind::At, is_bare_byte, "expected a symbol name after '@'"),
            b'%' => self.name(Kind::Percent, is_name_byte, "expected a value name after '%'"),
            b'^' => self.name(Kind::Caret, is_name_byte, "expected a block name after '^'"),
            b'#' => self.name(Kind::Hash, is_name_byte, "expected a name after '#'"),
            b'!' => self.name(Kind::Bang, is_name_byte, "expected a type name after '!'"),
            b'-' if self.byte(1) == b'>' => {
                self.at += 2;
                Kind::Arrow
            }
            b'{' if self.byte(1) == b'-' && self.byte(2) == b'#' => {
                self.at += 3;
                Kind::FileData
            }
            b'(' | b')' | b'{' | b'}' | b'[' | b']' | b'<' | b'>' | b',' | b':' | b'=' | b'-' | b'?'
            | b'*' | b'+' => {
                self.at += 1;
                Kind::Punctuation(first)
            }
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                self.at += rest.chars().next().map_or(1, char::len_utf8);
                Kind::Bad("unexpected character")
            }
        }
    }

    /// A name after a mark. Digits alone end at the first letter, as in `%0#1`.
    fn name(&mut self, kind: Kind, wanted: fn(u8) -> bool, missing: &'static str) -> Kind {
        self.at += 1;
        let start = self.at;
        if self.byte(0).is_ascii_digit() {
            self.skip_while(|byte| byte.is_ascii_digit());
        } else {
            self.skip_while(wanted);
            // `!a->b`: an arrow is no part of a name.
            let bytes = self.text.as_bytes();
            while self.at > start && bytes[self.at - 1] == b'-' && self.byte(0) == b'>' {
                self.at -= 1;
            }
        }
        if self.at == start { Kind::Bad(missing) } else { kind }
    }

    fn number(&mut self) -> Kind {
        if self.byte(0) == b'0' && self.byte(1) == b'x' && self.byte(2).is_ascii_hexdigit() {
            self.at += 2;
            self.skip_while(|byte| byte.is_ascii_hexdigit());
            return Kind::Integer;
        }
        self.skip_while(|byte| byte.is_ascii_digit());
        if self.byte(0) != b'.' {
            return Kind::Integer;
        }
        self.at += 1;
        self.skip_while(|byte| byte.is_ascii_digit());
        if matches!(self.byte(0), b'e' | b'E') {
            let signed = usize::from(matches!(self.byte(1), b'+' | b'-'));
            if self.byte(1 + signed).is_ascii_digit() {
                self.at += 1 + signed;
                self.skip_while(|byte| byte.is_ascii_digit());
            }
        }
        Kind::Float
    }

    fn string(&mut self, kind: Kind) -> Kind {
        self.at += 1;
        loop {
            self.skip_while(|byte| !matches!(byte, b'"' | b'\\' | b'\n'));
            match self.byte(0) {
                b'"' => {
                    self.at += 1;
                    return kind;
                }
                // The character after a backslash may be a quote.
                b'\\' if self.text.is_char_boundary(self.at + 2) && self.byte(1) != b'\n' => self.at += 2,
                b'\\' => self.at += 1,
                _ => return Kind::Bad("the string is not closed on its line"),
            }
        }
    }
}

/// The text of a string token's inside, with `\\`, `\"`, `\n`, `\t` and `\HH` resolved; `None` when an escape is wrong or the
/// bytes are no UTF-8.
pub fn unescape(inside: &str) -> Option<String> {
    if !inside.contains('\\') {
        return Some(inside.to_string());
    }
    let mut bytes = Vec::with_capacity(inside.len());
    let mut rest = inside.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'\\' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let (byte, taken) = match after.first()? {
            b'\\' => (b'\\', 1),
            b'"' => (b'"', 1),
            b'n' => (b'\n', 1),
            b't' => (b'\t', 1),
            _ => (hex_pair(after)?, 2),
        };
        bytes.push(byte);
        rest = &after[taken..];
    }
    String::from_utf8(bytes).ok()
}

/// The byte that the first two hexadecimal digits spell.
pub(crate) fn hex_pair(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| (*text.get(at)? as char).to_digit(16);
    Some((digit(0)? * 16 + digit(1)?) as u8)
}

/// The pieces of a text between lines that begin with `// -----`, each with the number of its first line, from 0.
pub fn split_input(text: &str) -> Vec<(usize, &str)> {
    let mut pieces = Vec::new();
    let (mut start, mut offset, mut first_line) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.starts_with("// -----") {
            pieces.push((first_line, &text[start..offset]));
            start = offset + line.len();
            first_line = number + 1;
        }
        offset += line.len();
    }
    pieces.push((first_line, &text[start..]));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        let mut lexer = Lexer::new(text, 0);
        let mut tokens = Vec::new();
        loop {
            let token = lexer.next_token();
            if token.kind == Kind::End {
                return tokens;
            }
            tokens.push((token.kind, &text[token.start..token.end]));
        }
    }

    #[test]
    fn tokens_end_where_mlir_ends_them() {
        assert_eq!(kinds("%0#1 // rest"), [(Kind::Percent, "%0"), (Kind::Hash, "#1")]);
        assert_eq!(kinds("!a.b->x"), [(Kind::Bang, "!a.b"), (Kind::Arrow, "->"), (Kind::Bare, "x")]);
        assert_eq!(
            kinds("1.5E-8 0x7F 4x"),
            [(Kind::Float, "1.5E-8"), (Kind::Integer, "0x7F"), (Kind::Integer, "4"), (Kind::Bare, "x")]
        );
        assert_eq!(kinds(r#""a\"b" @"x y""#), [(Kind::Str, r#""a\"b""#), (Kind::At, r#"@"x y""#)]);
        assert!(matches!(kinds("\"open\n")[0].0, Kind::Bad(_)));
        assert!(matches!(kinds("é")[0].0, Kind::Bad(_)));
    }

    #[test]
    fn escapes_read_back() {
        for text in ["plain", "a\n\"b\\\t", "é✓", "\u{0}"] {
            assert_eq!(unescape(&crate::attribute::escape(text)).as_deref(), Some(text));
        }
        assert_eq!(unescape("\\q"), None);
        assert_eq!(unescape("\\FF"), None);
    }

    #[test]
    fn pieces_keep_their_line_numbers() {
        assert_eq!(split_input("a\n// -----\nb\n"), [(0, "a\n"), (2, "b\n")]);
        assert_eq!(split_input(""), [(0, "")]);
    }
}
