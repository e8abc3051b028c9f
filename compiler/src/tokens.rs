//! Text to token ids and back, one token at a time, never splitting a character.
//!
//! Knows `tokenizer.json` and `generation_config.json`; knows no model and no target.

use serde::Deserialize;
use std::path::Path;
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
        let encoding = self.tokenizer.encode(text, true).map_err(|error| {
            Diagnostic::error(Location::Unknown, format!("cannot tokenize the prompt: {error}"))
        })?;
        Ok(encoding.get_ids().to_vec())
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

/// What `generation_config.json` (or `config.json`) says of generation.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct GenerationConfig {
    /// One id or a list of ids that end a text.
    #[serde(default)]
    pub eos_token_id: Option<OneOrMany>,
    /// The largest number of new tokens.
    #[serde(default)]
    pub max_new_tokens: Option<usize>,
    /// The length the model was made for, from `config.json`.
    #[serde(default)]
    pub max_position_embeddings: Option<usize>,
}

/// JSON's one value or a list of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One id.
    One(u32),
    /// Several ids.
    Many(Vec<u32>),
}

impl GenerationConfig {
    /// Reads JSON text.
    ///
    /// # Errors
    /// Names the file and what serde finds wrong, with line and column.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<GenerationConfig, Diagnostic> {
        serde_json::from_slice(bytes)
            .map_err(|error| Diagnostic::error(Location::Unknown, format!("cannot read {name}: {error}")))
    }

    /// The ids that end a text.
    pub fn eos_ids(&self) -> Vec<u32> {
        match &self.eos_token_id {
            Some(OneOrMany::One(id)) => vec![*id],
            Some(OneOrMany::Many(ids)) => ids.clone(),
            None => Vec::new(),
        }
    }

    /// What `over` says, and where it is silent what this says.
    #[must_use]
    pub fn or(self, over: GenerationConfig) -> GenerationConfig {
        GenerationConfig {
            eos_token_id: over.eos_token_id.or(self.eos_token_id),
            max_new_tokens: over.max_new_tokens.or(self.max_new_tokens),
            max_position_embeddings: over.max_position_embeddings.or(self.max_position_embeddings),
        }
    }

    /// Reads what a model folder has: `generation_config.json` over `config.json`; absent files are no fault.
    ///
    /// # Errors
    /// As [`GenerationConfig::from_bytes`].
    pub fn from_folder(folder: &Path) -> Result<GenerationConfig, Diagnostic> {
        let read = |name: &str| match std::fs::read(folder.join(name)) {
            Ok(bytes) => GenerationConfig::from_bytes(name, &bytes).map(Some),
            Err(_) => Ok(None),
        };
        let model = read("config.json")?.unwrap_or_default();
        let generation = read("generation_config.json")?.unwrap_or_default();
        Ok(model.or(generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eos_is_one_or_many() {
        let read = |text: &str| GenerationConfig::from_bytes("x", text.as_bytes()).unwrap().eos_ids();
        assert_eq!(read(r#"{"eos_token_id": 3}"#), [3]);
        assert_eq!(read(r#"{"eos_token_id": [3, 4], "other": {}}"#), [3, 4]);
        assert!(read("{}").is_empty());
        assert!(GenerationConfig::from_bytes("x", b"{").is_err());
    }
}
