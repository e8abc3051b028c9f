//! Why a node could not be imported, before it is known where the node is.
//!
//! A row answers with a fault; the importer adds the node's name and collects all of them into one report.

use std::sync::Arc;
use tilewright_ir::diagnostic::{Diagnostic, Kind};
use tilewright_ir::dim::Dim;
use tilewright_ir::location::Location;

/// Why a node could not be imported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Two dimensions must be equal and a symbol can be replaced to make them so: import again with the replacement.
    Unify(Arc<str>, Dim),
    /// The cause is in the report already.
    Reported,
    /// A fault of the model: what is wrong, and the way out.
    Model(String, String),
    /// Something we do not support: what, and the way out.
    Unsupported(String, String),
}

/// What a step of the import gives.
pub(crate) type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// A fault of the model.
    pub(crate) fn model(what: impl Into<String>) -> Fault {
        Fault::Model(what.into(), String::new())
    }

    /// A form that is not supported.
    pub(crate) fn unsupported(what: impl Into<String>, help: impl Into<String>) -> Fault {
        Fault::Unsupported(what.into(), help.into())
    }

    /// The message to the user; `None` when there is none of its own.
    pub(crate) fn diagnostic(self, location: Location, node: &str) -> Option<Diagnostic> {
        let (kind, what, help) = match self {
            Fault::Unify(..) | Fault::Reported => return None,
            Fault::Model(what, help) => (Kind::User, what, help),
            Fault::Unsupported(what, help) => (Kind::Unsupported, what, help),
        };
        let what = if node.is_empty() { what } else { format!("{node}: {what}") };
        Some(Diagnostic { kind, ..Diagnostic::error(location, what).with_help(help) })
    }
}

impl From<String> for Fault {
    fn from(what: String) -> Fault {
        Fault::model(what)
    }
}

impl From<&str> for Fault {
    fn from(what: &str) -> Fault {
        Fault::model(what)
    }
}
