//! A file that says which weights get which format: what `--quantize`, `--quantize-override` and their kin say, kept beside a model.
//!
//! TOML. Entries of `weights` count in order, the last that fits, as the flags do; flags count after the file.
//!
//! ```toml
//! preset = "mixed"
//! allow-fallback = true
//! max-weights-mb = 40.0
//!
//! [[weights]]
//! role = "attention"            # or a family's member: attention.key
//! format = "int8"
//!
//! [[weights]]
//! name = "*layers.0.*"          # a glob over the weight's name and those of the nodes that use it
//! format = "float"
//! ```

use serde::Deserialize;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_ir::weight_format::Preset;
use tilewright_passes::quantize_weights::policy::Override;
use toml::Spanned;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyFile {
    /// The preset to start from.
    pub preset: Option<String>,
    /// Take the nearest format where one does not fit.
    pub allows_fallback: bool,
    /// Choose formats so that all weights take at most this many megabytes (10^6 bytes).
    pub max_weights_mb: Option<f64>,
    /// `PATTERN=FORMAT`, in order.
    pub overrides: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Text {
    preset: Option<Spanned<String>>,
    #[serde(default)]
    allow_fallback: bool,
    max_weights_mb: Option<f64>,
    #[serde(default)]
    weights: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    role: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
    format: Option<Spanned<String>>,
}

/// Reads the text of a policy file; `name` is for messages.
///
/// # Errors
/// Text that is no TOML, and every unknown key, preset, role and format, each in its line.
pub fn parse(name: &str, text: &str) -> Result<PolicyFile, Diagnostics> {
    let problem = |offset: usize, what: String| {
        Diagnostic::error(Location::in_text(name, text, offset), what).with_help(
            "a policy holds preset, allow-fallback, max-weights-mb, and entries [[weights]] with role or name, and format",
        )
    };
    let found: Text = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        vec![problem(offset, error.message().trim().to_string())]
    })?;
    let mut problems = Diagnostics::new();
    if let Some(preset) = &found.preset
        && let Err(what) = Preset::find(preset.get_ref())
    {
        problems.push(problem(preset.span().start, what));
    }
    let mut overrides = Vec::new();
    for entry in &found.weights {
        let whole = entry.span().start;
        let Entry { role, name, format } = entry.get_ref();
        let (pattern, at) = match (role, name) {
            (Some(role), None) => (format!("role:{}", role.get_ref()), role.span().start),
            (None, Some(name)) => (name.get_ref().clone(), name.span().start),
            _ => {
                problems.push(problem(whole, "an entry needs either 'role' or 'name'".into()));
                continue;
            }
        };
        let Some(format) = format else {
            problems.push(problem(whole, "an entry needs 'format', such as \"int8\" or \"float\"".into()));
            continue;
        };
        // Role and format apart, so that each is told where it stands.
        let read = |pattern: &str, format: &str| format!("{pattern}={format}").parse::<Override>();
        let before = problems.len();
        problems.extend(read(&pattern, "float").err().map(|what| problem(at, what)));
        problems.extend(read("*", format.get_ref()).err().map(|what| problem(format.span().start, what)));
        if problems.len() == before {
            overrides.push(format!("{pattern}={}", format.get_ref()));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(PolicyFile {
        preset: found.preset.map(Spanned::into_inner),
        allows_fallback: found.allow_fallback,
        max_weights_mb: found.max_weights_mb,
        overrides,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read() {
        let text = "preset = \"mixed\"\nallow-fallback = true\n\n[[weights]]\nrole = \"attention\"\nformat = \"int8\"\n\n\
                    [[weights]]\nname = \"*layers.0.*\"\nformat = \"float\"\n";
        let found = parse("p.toml", text).unwrap();
        assert_eq!(found.preset.as_deref(), Some("mixed"));
        assert!(found.allows_fallback && found.max_weights_mb.is_none());
        assert_eq!(found.overrides, ["role:attention=int8", "*layers.0.*=float"]);
    }

    #[test]
    fn every_fault_is_told_with_its_line() {
        let text = "preset = \"mixd\"\n[[weights]]\nrole = \"atention\"\nformat = \"int8\"\n[[weights]]\nname = \"*\"\nformat = \"itn4\"\n\
                    [[weights]]\nformat = \"int8\"\n[[weights]]\nname = \"a\"\n";
        let told = |text: &str| -> Vec<String> {
            let problems = parse("p.toml", text).unwrap_err();
            problems.iter().map(|one| format!("{}: {}", one.location, one.what)).collect()
        };
        let found = told(text);
        let expected = [
            "\"p.toml\":1:10: unknown preset 'mixd': did you mean 'mixed'?",
            "\"p.toml\":3:8: unknown role 'atention': did you mean 'attention'?",
            "\"p.toml\":7:10: unknown weight format 'itn4': did you mean 'int4'?",
            "\"p.toml\":8:1: an entry needs either 'role' or 'name'",
            "\"p.toml\":10:1: an entry needs 'format'",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
        let unknown = told("\n[[weights]]\nrol = \"last\"\n");
        assert!(unknown[0].starts_with("\"p.toml\":3:1: unknown field `rol`"), "{}", unknown[0]);
        assert!(told("preset = \n")[0].starts_with("\"p.toml\":1:"));
    }
}
