//! The bytes of every token of a `tokenizer.json`, for grammars, which are about bytes.
//!
//! Byte-level vocabularies write bytes as letters (GPT-2's table); others write text with a mark for the space, and bytes of their own
//! as `<0x0A>`. Special tokens are no text.

use serde_json::Value;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;
use tilewright_runtime::generate::vocabulary::Vocabulary;

/// SentencePiece's mark for the space.
const SPACE_MARK: &str = "\u{2581}";

/// How tokens are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// Letters that stand for bytes.
    ByteLevel,
    /// Text with marks for spaces.
    Marked,
}

fn fault(what: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Location::Unknown, what)
        .with_help("a grammar needs a byte-level or SentencePiece-like tokenizer.json")
}

/// Reads the bytes of a `tokenizer.json`.
///
/// # Errors
/// When the tokenizer's tokens cannot be told apart as bytes.
pub fn vocabulary(tokenizer: &[u8]) -> Result<Vocabulary, Diagnostic> {
    let json: Value = serde_json::from_slice(tokenizer)
        .map_err(|error| fault(format!("cannot read tokenizer.json: {error}")))?;
    let spelling = spelling(&json["decoder"])?;
    let byte_of = letters();
    let mut tokens: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut add = |token: &str, id: u64| {
        let bytes = match spelling {
            Spelling::ByteLevel => token.chars().map(&byte_of).collect::<Option<Vec<u8>>>(),
            Spelling::Marked => Some(marked(token)),
        };
        tokens.extend(u32::try_from(id).ok().zip(bytes));
    };
    match &json["model"]["vocab"] {
        Value::Object(vocab) => {
            vocab.iter().for_each(|(token, id)| add(token, id.as_u64().unwrap_or(u64::MAX)))
        }
        Value::Array(vocab) => {
            (0..).zip(vocab).for_each(|(id, entry)| add(entry[0].as_str().unwrap_or_default(), id))
        }
        _ => return Err(fault("tokenizer.json holds no vocabulary")),
    }
    let added = json["added_tokens"].as_array().into_iter().flatten();
    for one in added {
        let Some(id) = one["id"].as_u64().and_then(|id| u32::try_from(id).ok()) else { continue };
        tokens.retain(|token| token.0 != id);
        // An added token is written as it is, and a special one is not written at all.
        if one["special"] != Value::Bool(true) {
            tokens.push((id, one["content"].as_str().unwrap_or_default().as_bytes().to_vec()));
        }
    }
    Ok(Vocabulary::new(tokens))
}

fn spelling(decoder: &Value) -> Result<Spelling, Diagnostic> {
    let kind = |decoder: &Value| decoder["type"].as_str().unwrap_or_default().to_string();
    let parts = decoder["decoders"].as_array().cloned().unwrap_or_else(|| vec![decoder.clone()]);
    let kinds: Vec<String> = parts.iter().map(kind).collect();
    let has = |name: &str| kinds.iter().any(|kind| kind == name);
    if has("ByteLevel") {
        Ok(Spelling::ByteLevel)
    } else if has("Metaspace") || has("ByteFallback") || has("Replace") {
        Ok(Spelling::Marked)
    } else {
        Err(fault(format!(
            "tokenizer.json: what tokens of a decoder '{}' write is not known",
            kinds.join(", ")
        )))
    }
}

fn marked(token: &str) -> Vec<u8> {
    let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).filter(|hex| hex.len() == 2);
    match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => vec![byte],
        None => token.replace(SPACE_MARK, " ").into_bytes(),
    }
}

/// GPT-2's letters for bytes: printable Latin-1 characters are themselves, the others follow from U+0100 on.
fn letters() -> impl Fn(char) -> Option<u8> {
    let is_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others: Vec<u8> = (0..=255u8).filter(|byte| !is_itself(*byte)).collect();
    move |letter| match u32::from(letter) {
        code @ 0..=255 => u8::try_from(code).ok().filter(|byte| is_itself(*byte)),
        code => others.get(code as usize - 256).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(json: &str) -> Vec<Option<Vec<u8>>> {
        let vocabulary = vocabulary(json.as_bytes()).unwrap();
        (0..5).map(|id| vocabulary.bytes(id).map(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn letters_marks_and_special_tokens_are_read() {
        let level = r#"{"model": {"vocab": {"<s>": 0, "Ġthe": 1, "Ċ": 2, "Ã©": 3, "x": 4}},
            "decoder": {"type": "ByteLevel"}, "added_tokens": [{"id": 0, "content": "<s>", "special": true}]}"#;
        let expected = [None, Some(" the"), Some("\n"), Some("é"), Some("x")];
        assert_eq!(bytes(level), expected.map(|text| text.map(|text| text.as_bytes().to_vec())));
        let marked = r#"{"model": {"vocab": [["<unk>", 0], ["▁the", -1], ["<0x0A>", -2], ["é", -3]]},
            "decoder": {"type": "Sequence", "decoders": [{"type": "Replace"}, {"type": "ByteFallback"}]},
            "added_tokens": [{"id": 0, "content": "<unk>", "special": true}, {"id": 4, "content": "<b>", "special": false}]}"#;
        let expected = [None, Some(" the"), Some("\n"), Some("é"), Some("<b>")];
        assert_eq!(bytes(marked), expected.map(|text| text.map(|text| text.as_bytes().to_vec())));
        let words = vocabulary(br#"{"model": {"vocab": {}}, "decoder": {"type": "WordPiece"}}"#).unwrap_err();
        assert!(words.what.contains("WordPiece"), "{words}");
    }

    #[test]
    fn every_byte_has_a_letter_of_its_own() {
        let byte_of = letters();
        let mut found: Vec<u8> = (0u32..0x150).filter_map(char::from_u32).filter_map(byte_of).collect();
        found.sort_unstable();
        assert_eq!(found, (0..=255).collect::<Vec<u8>>());
    }
}
