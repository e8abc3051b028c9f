//! What a model computes in, in one word: as deployments and `--precision` say it.
//!
//! A word is a float type for products, or a preset of weight formats; a table says which.
//!
//! ```text
//! fp16   =>   products in f16, weights stored so        int4   =>   the preset int4, floats as the machine has them
//! ```

use tilewright_ir::element::Element;
use tilewright_ir::registry::nearest;
use tilewright_ir::weight_format::{PRESETS, Preset};

/// A row of the table of words.
struct Word {
    name: &'static str,
    float: Option<Element>,
    preset: Option<&'static str>,
    about: &'static str,
}

const fn word(
    name: &'static str,
    float: Option<Element>,
    preset: Option<&'static str>,
    about: &'static str,
) -> Word {
    Word { name, float, preset, about }
}

/// The words beside the presets' own names.
static WORDS: [Word; 5] = [
    word("fp32", Some(Element::F32), None, "32-bit floats throughout"),
    word("fp16", Some(Element::F16), None, "products in 16-bit floats"),
    word("bf16", Some(Element::BF16), None, "products in bfloat16"),
    word("int8", None, Some("w8a8"), "8-bit weights, and activations in 8 bits with a scale per row"),
    word("int4", None, Some("int4"), "4-bit weights in groups of 32, activations in floats"),
];

/// What a model computes in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precision {
    /// As it was written.
    pub name: String,
    float: Option<Element>,
    preset: Option<String>,
}

impl Precision {
    /// All words with what they mean: those of the table, then the presets.
    pub fn words() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
        let is_own = |name: &str| WORDS.iter().any(|word| word.name == name);
        let presets = PRESETS.iter().map(|preset| (preset.name, preset.doc));
        WORDS.iter().map(|word| (word.name, word.about)).chain(presets.filter(move |row| !is_own(row.0)))
    }

    /// Reads a word.
    ///
    /// # Errors
    /// Says that it is not known, and the nearest one or all that are.
    pub fn parse(text: &str) -> Result<Precision, String> {
        if let Some(word) = WORDS.iter().find(|word| word.name == text) {
            let preset = word.preset.map(str::to_owned);
            return Ok(Precision { name: text.to_owned(), float: word.float, preset });
        }
        if Preset::find(text).is_ok() {
            return Ok(Precision { name: text.to_owned(), float: None, preset: Some(text.to_owned()) });
        }
        let names: Vec<&str> = Precision::words().map(|row| row.0).collect();
        let way = match nearest(text, names.iter().copied()) {
            Some(name) => format!("did you mean '{name}'?"),
            None => format!("known are {}", names.join(", ")),
        };
        Err(format!("no precision is called '{text}': {way}"))
    }

    /// The float type in which products are computed; the one of the model, or what the machine has, when there is none.
    pub fn float(&self) -> Option<Element> {
        self.float
    }

    /// The preset of weight formats. A word is for all weights: those that it does not fit take the nearest format.
    pub fn preset(&self) -> Option<&str> {
        self.preset.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_known_once() {
        let mut names: Vec<&str> = Precision::words().map(|row| row.0).collect();
        for name in &names {
            assert_eq!(Precision::parse(name).unwrap().name, *name);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(Precision::parse("fp61").unwrap_err().contains("did you mean 'fp16'?"));
        assert!(Precision::parse("something").unwrap_err().contains("fp32, fp16"));
    }
}
