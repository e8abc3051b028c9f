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
use std::path::Path;
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

/// Reads a policy file.
///
/// # Errors
/// A file that cannot be read or is no TOML, and every unknown key, preset, role and format with its line.
pub fn read(path: &Path) -> Result<PolicyFile, Diagnostics> {
    let text = crate::output::read_text(path).map_err(|problem| vec![problem])?;
    parse(&path.display().to_string(), &text)
}

/// Reads the text of a policy file; `name` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(name: &str, text: &str) -> Result<PolicyFile, Diagnostics> {
    let line = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let problem = |offset: usize, what: String| {
        Diagnostic::error(Location::Unknown, format!("{name}:{}: {what}", line(offset))).with_help(
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
        let found = parse("p.toml", text).unwrap_err();
        let told: Vec<String> = found.iter().map(|one| one.what.clone()).collect();
        assert_eq!(told.len(), 5, "{told:#?}");
        assert!(told[0].starts_with("p.toml:1: unknown preset 'mixd': did you mean 'mixed'?"), "{}", told[0]);
        assert!(
            told[1].starts_with("p.toml:3: unknown role 'atention': did you mean 'attention'?"),
            "{}",
            told[1]
        );
        assert!(
            told[2].starts_with("p.toml:7: unknown weight format 'itn4': did you mean 'int4'?"),
            "{}",
            told[2]
        );
        assert!(told[3].starts_with("p.toml:8: an entry needs either 'role' or 'name'"), "{}", told[3]);
        assert!(told[4].starts_with("p.toml:10: an entry needs 'format'"), "{}", told[4]);
        let unknown = parse("p.toml", "\n[[weights]]\nrol = \"last\"\n").unwrap_err();
        assert!(unknown[0].what.starts_with("p.toml:3: unknown field `rol`"), "{}", unknown[0]);
        assert!(parse("p.toml", "preset = \n").unwrap_err()[0].what.starts_with("p.toml:1: "));
    }
}
