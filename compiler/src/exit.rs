//! How a command ends: exit codes and what stands behind them.
//!
//! ```text
//! 0 ok   1 user error   2 usage   3 unsupported operator or type   4 parity over threshold   130 interrupted
//! ```

use std::process::ExitCode;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics, Kind, Severity};
use tilewright_ir::location::Location;

/// The documented exit codes, for `--help` and for tests.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (0, "ok"),
    (1, "user error: a file, a model or an option's value is wrong"),
    (2, "usage: the command line cannot be read"),
    (3, "unsupported operator, type or form in the model"),
    (4, "parity over threshold"),
    (130, "interrupted by ctrl-C; what was there is printed"),
];

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// Told by diagnostics; exit code 1, or 3 if one of them is about something unsupported.
    Diagnostics(Diagnostics),
    /// The command line says something impossible; exit code 2.
    Usage(String),
    /// As [`Failure::Diagnostics`], but already shown to the user with their source lines.
    Shown(Diagnostics),
    /// Results differ by more than allowed; exit code 4. The report has been printed.
    Parity(String),
    /// The user ended it with ctrl-C; exit code 130, as shells say it. What there was has been printed.
    Interrupted,
}

impl Failure {
    /// A user error in one sentence, with a way out.
    pub fn user(what: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure::Diagnostics(vec![Diagnostic::error(Location::Unknown, what).with_help(help)])
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// The exit code as a number.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Diagnostics(all) | Failure::Shown(all) => {
                let unsupported =
                    |one: &Diagnostic| one.severity == Severity::Error && one.kind == Kind::Unsupported;
                if all.iter().any(unsupported) { 3 } else { 1 }
            }
            Failure::Usage(_) => 2,
            Failure::Parity(_) => 4,
            Failure::Interrupted => 130,
        }
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Failure {
        Failure::Diagnostics(diagnostics)
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Failure {
        Failure::Diagnostics(vec![diagnostic])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_wins_over_user_error() {
        let user = Diagnostic::error(Location::Unknown, "a");
        let unsupported = Diagnostic::unsupported(Location::Unknown, "b");
        assert_eq!(Failure::from(user.clone()).code(), 1);
        assert_eq!(Failure::from(vec![user, unsupported]).code(), 3);
    }
}
