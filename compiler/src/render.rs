//! Shows diagnostics on a terminal: rustc's look, with the source line where there is one.
//!
//! Knows terminals; nothing else in the compiler does but `cli`.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::io::IsTerminal;
use tilewright_ir::diagnostic::{Diagnostic, Severity};
use tilewright_ir::location::Location;

/// Prints diagnostics to standard error, with source lines from `sources` (file name, text) where a location names one.
pub fn print_all(diagnostics: &[Diagnostic], sources: &[(&str, &str)]) {
    let renderer = if std::io::stderr().is_terminal() { Renderer::styled() } else { Renderer::plain() };
    for diagnostic in diagnostics {
        eprintln!("{}", render(diagnostic, sources, &renderer));
    }
    let errors = diagnostics.iter().filter(|one| one.severity == Severity::Error).count();
    if errors > 1 {
        eprintln!("error: {errors} problems in all");
    }
}

/// One diagnostic as text.
pub fn render(diagnostic: &Diagnostic, sources: &[(&str, &str)], renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let mut group = Group::with_title(level.primary_title(diagnostic.what.as_str()));
    let place = match &diagnostic.location {
        Location::File(file, line, column) => {
            let found = sources.iter().find(|source| *source.0 == **file);
            match found.and_then(|source| span(source.1, *line, *column).map(|span| (source.1, span))) {
                Some((text, span)) => {
                    group = group.element(
                        Snippet::source(text).path(&**file).annotation(AnnotationKind::Primary.span(span)),
                    );
                    None
                }
                None => Some(format!("at {file}:{line}:{column}")),
            }
        }
        Location::Unknown => None,
        other => Some(format!("at {other}")),
    };
    if let Some(place) = &place {
        group = group.element(Level::NOTE.message(place.as_str()));
    }
    if !diagnostic.help.is_empty() {
        group = group.element(Level::HELP.message(diagnostic.help.as_str()));
    }
    renderer.render(&[group]).to_string()
}

/// The byte span of the word at a line and column (both from 1).
fn span(text: &str, line: u32, column: u32) -> Option<std::ops::Range<usize>> {
    let start_of_line: usize =
        text.split_inclusive('\n').take(line.checked_sub(1)? as usize).map(str::len).sum();
    let start = start_of_line + column.checked_sub(1)? as usize;
    let rest = text.get(start..)?;
    let length = rest.find(|c: char| c.is_whitespace() || ",()<>{}".contains(c)).unwrap_or(rest.len()).max(1);
    text.get(start..start + length).map(|_| start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_line() {
        let diagnostic = Diagnostic::error(Location::File("a.mlir".into(), 2, 3), "unknown op 'core.relux'")
            .with_help("did you mean 'core.relu'?");
        let text = render(&diagnostic, &[("a.mlir", "first\n  core.relux x\n")], &Renderer::plain());
        assert!(
            text.contains("a.mlir:2:3") && text.contains("^^^^^^^^^^") && text.contains("did you mean"),
            "{text}"
        );
    }
}
