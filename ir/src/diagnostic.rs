//! What the user is told: a severity, where, what, and a way out.
//!
//! Rendering to a terminal is the compiler's task; here it is plain data.

use crate::location::Location;
use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// For information.
    Note,
    /// The result stands, but the user should know.
    Warning,
    /// There is no result.
    Error,
}

/// What kind of fault, for the exit code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A fault in the input or its use (exit code 1).
    #[default]
    User,
    /// An operator, type or form that is not supported (exit code 3).
    Unsupported,
}

/// One message to the user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Whose limits it is about.
    pub kind: Kind,
    /// Where: a model node or a place in a file.
    pub location: Location,
    /// What is wrong, with the expected and the found value.
    pub what: String,
    /// The way out; may be empty.
    pub help: String,
}

impl Diagnostic {
    /// An error of the user's input.
    pub fn error(location: Location, what: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            kind: Kind::User,
            location,
            what: what.into(),
            help: String::new(),
        }
    }

    /// Something we do not support.
    pub fn unsupported(location: Location, what: impl Into<String>) -> Diagnostic {
        Diagnostic { kind: Kind::Unsupported, ..Diagnostic::error(location, what) }
    }

    /// A warning.
    pub fn warning(location: Location, what: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(location, what) }
    }

    /// The same with a way out.
    pub fn with_help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = help.into();
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}", self.what)?;
        if self.location != Location::Unknown {
            write!(f, "\n  at {}", self.location)?;
        }
        if !self.help.is_empty() {
            write!(f, "\n  help: {}", self.help)?;
        }
        Ok(())
    }
}

/// All problems of one input, at least one of them an error.
pub type Diagnostics = Vec<Diagnostic>;
