//! Tokens of rule files, each with its line and column.

use tilewright_ir::registry;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A name; op names hold a dot.
    Word(String),
    /// `?name`.
    Variable(String),
    /// A whole number.
    Int(i64),
    /// A number with a point or an exponent.
    Float(f64),
    /// `"text"`.
    Text(String),
    /// Punctuation.
    Mark(&'static str),
    /// The end of the file.
    End,
}

/// A token and where it begins.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The token.
    pub token: Token,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Byte offset.
    pub at: usize,
}

/// A fault of a rule file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}")]
pub struct RuleError {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong, and the way out.
    pub what: String,
}

/// Longest first.
const MARKS: &[&str] = &[
    "=>", "==", "!=", "<=", ">=", "&&", "||", "..", "(", ")", "{", "}", "[", "]", ",", ";", ":", "=", "<",
    ">", "+", "-", "*", "/", "%", "!", "~",
];

/// Cuts text into tokens; `//` and `#` begin comments.
///
/// # Errors
/// A character that begins no token, or a number out of range.
pub fn tokens(file: &str, text: &str) -> Result<Vec<Placed>, RuleError> {
    let bytes = text.as_bytes();
    let (mut at, mut line, mut line_start) = (0, 1, 0);
    let mut out = Vec::new();
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'\n' {
            (at, line, line_start) = (at + 1, line + 1, at + 1);
            continue;
        }
        if byte.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        if byte == b'#' || bytes[at..].starts_with(b"//") {
            while at < bytes.len() && bytes[at] != b'\n' {
                at += 1;
            }
            continue;
        }
        let column = at - line_start + 1;
        let fail = |what: String| RuleError { file: file.into(), line, column, what };
        let (token, next) = token(text, at).map_err(fail)?;
        out.push(Placed { token, line, column, at });
        at = next;
    }
    out.push(Placed { token: Token::End, line, column: at - line_start + 1, at });
    Ok(out)
}

fn token(text: &str, at: usize) -> Result<(Token, usize), String> {
    let bytes = text.as_bytes();
    let run = |from: usize, fits: fn(u8) -> bool| {
        bytes[from..].iter().position(|byte| !fits(*byte)).map_or(bytes.len(), |length| from + length)
    };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = bytes[at];
    if first == b'?' {
        let end = run(at + 1, name);
        if end == at + 1 {
            return Err("expected a name behind '?'".into());
        }
        return Ok((Token::Variable(text[at + 1..end].into()), end));
    }
    if first.is_ascii_alphabetic() || first == b'_' {
        let end = run(at, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
        return Ok((Token::Word(text[at..end].into()), end));
    }
    if first.is_ascii_digit() {
        return number(text, at);
    }
    if first == b'"' {
        let end =
            bytes[at + 1..].iter().position(|byte| *byte == b'"').ok_or("text without a closing '\"'")?;
        return Ok((Token::Text(text[at + 1..at + 1 + end].into()), at + end + 2));
    }
    match MARKS.iter().find(|mark| text[at..].starts_with(**mark)) {
        Some(mark) => Ok((Token::Mark(mark), at + mark.len())),
        None => Err(format!("unexpected character '{}'", text[at..].chars().next().unwrap_or(' '))),
    }
}

fn number(text: &str, at: usize) -> Result<(Token, usize), String> {
    let bytes = text.as_bytes();
    let mut end = at;
    let mut float = false;
    while let Some(byte) = bytes.get(end) {
        match byte {
            b'0'..=b'9' => {}
            b'.' if !float && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) => float = true,
            b'e' | b'E' => {
                float = true;
                if matches!(bytes.get(end + 1), Some(b'-' | b'+')) {
                    end += 1;
                }
            }
            _ => break,
        }
        end += 1;
    }
    let digits = &text[at..end];
    let fail = |_| format!("cannot read the number '{digits}'");
    if float {
        digits
            .parse()
            .map(|value| (Token::Float(value), end))
            .map_err(|_| format!("cannot read the number '{digits}'"))
    } else {
        digits.parse().map(|value| (Token::Int(value), end)).map_err(fail)
    }
}

/// The candidate nearest to a word, for "did you mean".
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let best = registry::nearest(word, candidates);
    best.map_or(String::new(), |known| format!("; did you mean '{known}'?"))
}
