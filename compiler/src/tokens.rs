//! Text to token ids and back, one token at a time, never splitting a character.
//!
//! Knows `tokenizer.json`; knows no model and no target.

use std::collections::BTreeMap;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;
use tokenizers::Tokenizer;

/// A tokenizer.
pub struct TokenCodec {
    tokenizer: Tokenizer,
}

impl TokenCodec {
    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// Says what the tokenizer library finds wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<TokenCodec, Diagnostic> {
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| {
            Diagnostic::error(Location::Unknown, format!("cannot read tokenizer.json: {error}")).with_help(
                "give token ids with --input-ids, or a tokenizer.json of the Hugging Face tokenizers library",
            )
        })?;
        Ok(TokenCodec { tokenizer })
    }

    /// The ids of a text, with the special tokens that the tokenizer adds.
    ///
    /// # Errors
    /// Says what the tokenizer library finds wrong.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Diagnostic> {
        self.encode_as(text, true)
    }

    /// The ids of a text that has its special tokens already, as a chat template writes it.
    ///
    /// # Errors
    /// Says what the tokenizer library finds wrong.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, Diagnostic> {
        self.encode_as(text, false)
    }

    fn encode_as(&self, text: &str, adds_special_tokens: bool) -> Result<Vec<u32>, Diagnostic> {
        let encoding = self.tokenizer.encode(text, adds_special_tokens).map_err(|error| {
            Diagnostic::error(Location::Unknown, format!("cannot tokenize the prompt: {error}"))
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The id of a token by its name in the vocabulary, such as `<|im_end|>`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The first difference between two vocabularies; none when every id stands for the same token.
    pub fn difference(&self, other: &TokenCodec) -> Option<String> {
        let by_id = |codec: &TokenCodec| -> BTreeMap<u32, String> {
            codec.tokenizer.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect()
        };
        let (ours, theirs) = (by_id(self), by_id(other));
        let differs = ours.keys().chain(theirs.keys()).filter(|id| ours.get(id) != theirs.get(id)).min()?;
        let name = |tokens: &BTreeMap<u32, String>| {
            tokens.get(differs).map_or("no token".to_string(), |token| format!("{token:?}"))
        };
        Some(format!("id {differs} is {} in one and {} in the other", name(&ours), name(&theirs)))
    }

    /// The text of ids, without special tokens.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true).unwrap_or_default()
    }

    /// A stream that turns ids into text as they come.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { codec: self, ids: Vec::new(), start: 0, emitted_bytes: 0 }
    }
}

/// Turns ids into text as they come. A character whose bytes span several tokens appears when it is complete.
pub struct TextStream<'a> {
    codec: &'a TokenCodec,
    ids: Vec<u32>,
    /// The first id that decoding starts from: earlier text is settled and not decoded again.
    start: usize,
    /// Bytes of the text from `start` on that were given out.
    emitted_bytes: usize,
}

/// Ids that stay in the decoding window, so that spacing rules see their left context.
const CONTEXT_TOKENS: usize = 8;

impl TextStream<'_> {
    /// Adds an id; gives the text that is now certain.
    pub fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let text = self.codec.decode(&self.ids[self.start..]);
        // An unfinished character decodes to the replacement character at the end.
        if text.ends_with('\u{fffd}') {
            return String::new();
        }
        let new = text.get(self.emitted_bytes..).unwrap_or_default().to_string();
        self.emitted_bytes = text.len();
        if self.ids.len() - self.start > 4 * CONTEXT_TOKENS {
            let start = self.ids.len() - CONTEXT_TOKENS;
            let tail = self.codec.decode(&self.ids[start..]);
            // Only where the shorter window reads as the end of the longer one.
            if text.ends_with(&tail) {
                self.start = start;
                self.emitted_bytes = tail.len();
            }
        }
        new
    }

    /// What is left at the end: bytes of an unfinished character show as the replacement character.
    pub fn finish(&mut self) -> String {
        let text = self.codec.decode(&self.ids[self.start..]);
        text.get(self.emitted_bytes..).unwrap_or_default().to_string()
    }
}
