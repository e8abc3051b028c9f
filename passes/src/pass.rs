//! What a pass is: a name, typed options, and a function from module to module.
//!
//! Knows no pass by name; [`crate::BUILTIN`] lists the in-tree ones and a [`Passes`] registry adds others.
//!
//! ```text
//! pub static DEF: PassDef = PassDef { name: "cse", doc: "Merges equal pure ops.", options: &[], make: |_| Ok(Box::new(Cse)) };
//! ```

use crate::machine::Machine;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;
use tilewright_ir::registry::Registry;

/// A transformation of a module.
pub trait Pass: Send + Sync {
    /// Changes the module.
    ///
    /// # Errors
    /// Problems of the user's input; the module is then not to be used.
    fn run(&self, module: &mut Module, context: &mut PassContext) -> Result<(), Diagnostics>;
}

/// One option of a pass, for help and checking.
#[derive(Clone, Copy, Debug)]
pub struct OptionDef {
    /// Its name, as in `name=value`.
    pub name: &'static str,
    /// The default as text; empty for none.
    pub default: &'static str,
    /// One line.
    pub doc: &'static str,
}

/// The single definition of a pass.
pub struct PassDef {
    /// Its name in pipelines.
    pub name: &'static str,
    /// What it does, and the IR it expects.
    pub doc: &'static str,
    /// Its options.
    pub options: &'static [OptionDef],
    /// Makes the pass from its options.
    pub make: fn(&Options) -> Result<Box<dyn Pass>, String>,
}

/// The options given in a pipeline text: `name{key=value key2=value}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Values by key.
    pub values: BTreeMap<String, String>,
}

impl Options {
    /// The value of an option, or the default.
    ///
    /// # Errors
    /// When the text is not of the option's type.
    pub fn get<T: FromStr>(&self, key: &str, default: T) -> Result<T, String> {
        match self.values.get(key) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| {
                format!("option '{key}': cannot read '{text}' as {}", std::any::type_name::<T>())
            }),
        }
    }

    /// A list separated by commas.
    pub fn list(&self, key: &str) -> Vec<String> {
        let text = self.values.get(key).map_or("", String::as_str);
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_string).collect()
    }
}

/// A rule file that the user gave.
#[derive(Clone, Debug)]
pub struct RuleText {
    /// Its name in messages.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What passes may ask for and report to.
pub struct PassContext {
    /// The known ops.
    pub registry: Registry,
    /// The machine compiled for.
    pub machine: Machine,
    /// Rule files beyond the in-tree ones.
    pub rules: Vec<RuleText>,
    /// Replaces the machine's cost, for targets that know better.
    pub cost: Option<Arc<dyn crate::egraph::cost::CostModel>>,
    /// Names of approximate rules that the precision policy grants; `*` grants all.
    pub granted: Vec<String>,
    /// Warnings and notes so far.
    pub diagnostics: Diagnostics,
    /// What the optimiser did, for `--explain`.
    pub reports: Vec<crate::egraph::explain::BlockReport>,
    /// What became of the weights.
    pub weights: Vec<crate::quantize_weights::WeightRow>,
}

impl PassContext {
    /// A context for the in-tree ops and the reference machine.
    pub fn new(registry: Registry) -> PassContext {
        PassContext {
            registry,
            machine: Machine::reference(),
            rules: Vec::new(),
            cost: None,
            granted: Vec::new(),
            diagnostics: Vec::new(),
            reports: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// Adds a warning.
    pub fn warn(&mut self, location: Location, what: impl Into<String>, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(location, what).with_help(help));
    }
}

/// The known passes.
#[derive(Clone)]
pub struct Passes {
    defs: Vec<&'static PassDef>,
}

impl Default for Passes {
    fn default() -> Passes {
        Passes { defs: crate::BUILTIN.to_vec() }
    }
}

impl Passes {
    /// Adds a pass from elsewhere.
    ///
    /// # Panics
    /// When the name is taken: a fault of the program, found at start.
    #[must_use]
    pub fn with(mut self, def: &'static PassDef) -> Passes {
        assert!(self.find(def.name).is_none(), "pass '{}' is registered twice", def.name);
        self.defs.push(def);
        self
    }

    /// The pass of that name.
    pub fn find(&self, name: &str) -> Option<&'static PassDef> {
        self.defs.iter().copied().find(|def| def.name == name)
    }

    /// All passes, in-tree ones first.
    pub fn all(&self) -> &[&'static PassDef] {
        &self.defs
    }

    /// The known name nearest to `name`.
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        tilewright_ir::registry::nearest(name, self.defs.iter().map(|def| def.name))
    }
}
