//! How a model wants to be sampled and where its texts end: `generation_config.json` over `genai_config.json` over `config.json`.
//!
//! Knows these files and nothing of tokenizers or samplers' inner workings.

use serde::Deserialize;
use std::path::Path;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_runtime::generate::sample::Sampling;

/// The files, weakest first.
pub const FILES: &[&str] = &["config.json", "genai_config.json", "generation_config.json"];

/// The file that counts most.
pub const STRONGEST: &str = "generation_config.json";

/// Settings of the transformers library that change a text and are not understood here, with the values that leave it as it is.
const NOT_UNDERSTOOD: &[(&str, &[&str])] = &[
    ("num_beams", &["1"]),
    ("num_beam_groups", &["1"]),
    ("no_repeat_ngram_size", &["0"]),
    ("min_new_tokens", &["0"]),
    ("min_length", &["0"]),
    ("bad_words_ids", &["[]"]),
    ("suppress_tokens", &["[]"]),
    ("begin_suppress_tokens", &["[]"]),
    ("forced_bos_token_id", &[]),
    ("forced_eos_token_id", &[]),
    ("forced_decoder_ids", &["[]"]),
    ("sequence_bias", &["{}", "[]"]),
    ("penalty_alpha", &["0", "0.0"]),
    ("epsilon_cutoff", &["0", "0.0"]),
    ("eta_cutoff", &["0", "0.0"]),
    ("top_h", &[]),
    ("guidance_scale", &["1", "1.0"]),
    ("exponential_decay_length_penalty", &[]),
    ("encoder_repetition_penalty", &["1", "1.0"]),
    ("dola_layers", &[]),
];

/// A warning for each setting in `generation_config.json` that would change the text and is not understood.
pub fn not_understood(bytes: &[u8]) -> Diagnostics {
    let Ok(serde_json::Value::Object(said)) = serde_json::from_slice(bytes) else {
        return Diagnostics::new();
    };
    let asked = NOT_UNDERSTOOD.iter().filter_map(|(name, neutral)| {
        let value = said.get(*name).filter(|value| !value.is_null())?.to_string();
        (!neutral.contains(&value.as_str())).then(|| {
            let what = format!("{STRONGEST} says '{name}': {value}, which is not supported and left out");
            Diagnostic::warning(Location::Unknown, what)
                .with_help("texts may differ from those of transformers")
        })
    });
    asked.collect()
}

/// What the files say of generation; what none says is absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GenerationConfig {
    /// One id or a list of ids that end a text.
    pub eos_token_id: Option<OneOrMany>,
    /// One text or a list of texts that end a text.
    pub stop_strings: Option<OneOrManyTexts>,
    /// The largest number of new tokens.
    pub max_new_tokens: Option<usize>,
    /// The length the model was made for, from `config.json`.
    pub max_position_embeddings: Option<usize>,
    /// Whether tokens are drawn; if not, temperature and cuts are without effect.
    pub do_sample: Option<bool>,
    /// See [`Sampling::temperature`].
    pub temperature: Option<f32>,
    /// See [`Sampling::top_k`].
    pub top_k: Option<usize>,
    /// See [`Sampling::top_p`].
    pub top_p: Option<f32>,
    /// See [`Sampling::min_p`].
    pub min_p: Option<f32>,
    /// See [`Sampling::typical_p`].
    pub typical_p: Option<f32>,
    /// See [`Sampling::repetition_penalty`].
    pub repetition_penalty: Option<f32>,
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

/// As [`OneOrMany`], of texts.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrManyTexts {
    /// One text.
    One(String),
    /// Several texts.
    Many(Vec<String>),
}

/// ONNX Runtime GenAI's file keeps the same words in two groups.
#[derive(Default, Deserialize)]
#[serde(default)]
struct GenAiConfig {
    model: GenerationConfig,
    search: GenerationConfig,
}

impl GenerationConfig {
    /// Reads JSON text of the file of that name.
    ///
    /// # Errors
    /// Names the file and what serde finds wrong, with line and column.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<GenerationConfig, Diagnostic> {
        let fault = |error: serde_json::Error| {
            Diagnostic::error(Location::Unknown, format!("cannot read {name}: {error}"))
                .with_help("mend the file, or take it away and give the settings as options")
        };
        if name == "genai_config.json" {
            let GenAiConfig { model, search } = serde_json::from_slice(bytes).map_err(fault)?;
            return Ok(model.or(search));
        }
        serde_json::from_slice(bytes).map_err(fault)
    }

    /// The ids that end a text.
    pub fn eos_ids(&self) -> Vec<u32> {
        match &self.eos_token_id {
            Some(OneOrMany::One(id)) => vec![*id],
            Some(OneOrMany::Many(ids)) => ids.clone(),
            None => Vec::new(),
        }
    }

    /// The texts that end a text.
    pub fn stop_texts(&self) -> Vec<String> {
        match &self.stop_strings {
            Some(OneOrManyTexts::One(text)) => vec![text.clone()],
            Some(OneOrManyTexts::Many(texts)) => texts.clone(),
            None => Vec::new(),
        }
    }

    /// How to sample by these files alone: greedy unless `do_sample` is true, then with what is said, and the model's own
    /// distribution where nothing is.
    pub fn sampling(&self) -> Sampling {
        let plain = Sampling::default();
        let draws = self.do_sample == Some(true);
        Sampling {
            temperature: if draws { self.temperature.unwrap_or(1.0) } else { 0.0 },
            top_k: self.top_k.filter(|_| draws).unwrap_or(plain.top_k),
            top_p: self.top_p.filter(|_| draws).unwrap_or(plain.top_p),
            min_p: self.min_p.filter(|_| draws).unwrap_or(plain.min_p),
            typical_p: self.typical_p.filter(|_| draws).unwrap_or(plain.typical_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(plain.repetition_penalty),
            ..plain
        }
    }

    /// What `over` says, and where it is silent what this says.
    #[must_use]
    pub fn or(self, over: GenerationConfig) -> GenerationConfig {
        GenerationConfig {
            eos_token_id: over.eos_token_id.or(self.eos_token_id),
            stop_strings: over.stop_strings.or(self.stop_strings),
            max_new_tokens: over.max_new_tokens.or(self.max_new_tokens),
            max_position_embeddings: over.max_position_embeddings.or(self.max_position_embeddings),
            do_sample: over.do_sample.or(self.do_sample),
            temperature: over.temperature.or(self.temperature),
            top_k: over.top_k.or(self.top_k),
            top_p: over.top_p.or(self.top_p),
            min_p: over.min_p.or(self.min_p),
            typical_p: over.typical_p.or(self.typical_p),
            repetition_penalty: over.repetition_penalty.or(self.repetition_penalty),
        }
    }

    /// Puts together what there is: `read` gives the bytes of a file, or nothing.
    ///
    /// # Errors
    /// As [`GenerationConfig::from_bytes`].
    pub fn from_files(read: impl Fn(&str) -> Option<Vec<u8>>) -> Result<GenerationConfig, Diagnostic> {
        let mut config = GenerationConfig::default();
        for name in FILES {
            if let Some(bytes) = read(name) {
                config = config.or(GenerationConfig::from_bytes(name, &bytes)?);
            }
        }
        Ok(config)
    }

    /// Reads what a model folder has; absent files are no fault.
    ///
    /// # Errors
    /// As [`GenerationConfig::from_bytes`].
    pub fn from_folder(folder: &Path) -> Result<GenerationConfig, Diagnostic> {
        GenerationConfig::from_files(|name| std::fs::read(folder.join(name)).ok())
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
        assert!(read("{}").is_empty() && read(r#"{"eos_token_id": null}"#).is_empty());
        let wrong = GenerationConfig::from_bytes("x.json", b"{\n\"temperature\": \"hot\"}").unwrap_err();
        assert!(wrong.what.contains("x.json") && wrong.what.contains("line 2"), "{wrong}");
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let asks = br#"{"num_beams": 4, "no_repeat_ngram_size": 0, "min_new_tokens": 3, "suppress_tokens": null, "top_k": 5}"#;
        let all: Vec<String> = not_understood(asks).iter().map(|one| one.what.clone()).collect();
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].contains("'num_beams': 4") && all[1].contains("'min_new_tokens': 3"), "{all:?}");
        let read = |text: &str| GenerationConfig::from_bytes("x", text.as_bytes()).unwrap().stop_texts();
        assert_eq!(read(r#"{"stop_strings": "a"}"#), ["a"]);
        assert_eq!(read(r#"{"stop_strings": ["a", "b"]}"#), ["a", "b"]);
        assert!(read("{}").is_empty());
    }

    #[test]
    fn stronger_files_win_and_sampling_needs_do_sample() {
        let files = |name: &str| -> Option<Vec<u8>> {
            let text = match name {
                "config.json" => r#"{"eos_token_id": 1, "max_position_embeddings": 64, "temperature": 9.0}"#,
                "genai_config.json" => {
                    r#"{"model": {"eos_token_id": [1, 2]}, "search": {"top_k": 5, "temperature": 0.5}}"#
                }
                "generation_config.json" => r#"{"do_sample": true, "temperature": 0.7, "min_p": 0.1}"#,
                _ => return None,
            };
            Some(text.as_bytes().to_vec())
        };
        let config = GenerationConfig::from_files(files).unwrap();
        assert_eq!((config.eos_ids(), config.max_position_embeddings), (vec![1, 2], Some(64)));
        let sampling = config.sampling();
        assert_eq!((sampling.temperature, sampling.top_k, sampling.min_p), (0.7, 5, 0.1));
        let greedy = GenerationConfig { do_sample: Some(false), ..config };
        assert_eq!(greedy.sampling(), Sampling::default());
    }
}
