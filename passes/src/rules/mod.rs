//! Rewrite rules as text: language, loader, and random instances for their tests. The rules themselves lie in `../rewrites`.
//!
//! ```text
//! rule fuse_linear { (core.add (core.matmul ?x ?w) ?b) => (core.linear ?x ?w ?b {activation="none", transpose_weight=false}) .. }
//! ```

pub mod check;
pub mod expression;
pub mod functions;
pub mod lex;
pub mod parse;
pub mod pattern;
pub mod sample;
pub mod value;

use crate::pass::RuleText;
use pattern::Rule;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;
use tilewright_ir::registry::Registry;

/// The in-tree rule files: name and text.
pub static FILES: &[(&str, &str)] = &[
    ("algebra.rules", include_str!("../rewrites/algebra.rules")),
    ("layout.rules", include_str!("../rewrites/layout.rules")),
    ("normalization.rules", include_str!("../rewrites/normalization.rules")),
    ("activation.rules", include_str!("../rewrites/activation.rules")),
    ("linear.rules", include_str!("../rewrites/linear.rules")),
    ("rope.rules", include_str!("../rewrites/rope.rules")),
    ("attention.rules", include_str!("../rewrites/attention.rules")),
    ("quantization.rules", include_str!("../rewrites/quantization.rules")),
];

/// Loads the in-tree rules and the given files.
///
/// # Errors
/// The first fault of a file, with its line and column.
pub fn load(registry: &Registry, extra: &[RuleText]) -> Result<Vec<Rule>, Diagnostic> {
    let mut rules: Vec<Rule> = Vec::new();
    let files =
        FILES.iter().copied().chain(extra.iter().map(|file| (file.name.as_str(), file.text.as_str())));
    for (name, text) in files {
        let loaded = parse::parse(name, text, registry).map_err(|error| {
            let location = Location::File(error.file.as_str().into(), error.line as u32, error.column as u32);
            Diagnostic::error(location, error.what)
        })?;
        for rule in loaded {
            if let Some(other) = rules.iter().find(|other| other.name == rule.name) {
                let what =
                    format!("rule '{}' at {} is defined already at {}", rule.name, rule.place, other.place);
                return Err(Diagnostic::error(Location::Unknown, what));
            }
            rules.push(rule);
        }
    }
    Ok(rules)
}
