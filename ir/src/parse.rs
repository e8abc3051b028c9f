//! Reads MLIR's generic form: what [`crate::print`] and mlir-opt print, for registered ops.
//!
//! Checks the form alone: that names are defined once and used with one type, that types and attributes can be read.
//! [`crate::verify`] says whether the ops are used rightly. After a fault it goes on with the next op of the module, so that
//! each gives its first error. Any text ends in a module or in diagnostics, in time linear in its length.
//!
//! ```text
//! #loc1 = loc("/act")
//! %0:2 = "core.top_k"(%x) <{axis = -1 : i64, k = 3 : i64}> : (tensor<4xf32>) -> (tensor<3xf32>, tensor<3xi64>) loc(#loc1)
//! ```

mod alias;
mod attribute;
mod cursor;
mod elements;
mod op;
mod scope;
mod types;

use crate::attribute::{Attribute, Elements, Resource};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::location::Location;
use crate::module::Module;
use crate::registry::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use crate::lex::split_input;

/// How to read a text.
#[derive(Clone, Copy, Debug, Default)]
pub struct ParseOptions<'a> {
    /// Name of the text in diagnostics; empty means `<text>`.
    pub file: &'a str,
    /// Lines that come before this text in its file, as [`split_input`] gives them.
    pub first_line: usize,
    /// Ops without `loc(..)` get their place in this text; else they stay without.
    pub file_locations: bool,
    /// The weights that `dense_resource<..>` may name.
    pub resources: Option<&'a Resources>,
    /// A weight that is not among them becomes pseudo-random numbers from this seed, for tests; else it is an error.
    pub stand_in_seed: Option<u64>,
}

/// Weights by name, for texts that name them.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    by_name: BTreeMap<Arc<str>, Vec<Arc<Resource>>>,
}

impl Resources {
    /// Adds a weight. Several may share a name; the hash or the type in the text tells them apart.
    pub fn insert(&mut self, resource: Arc<Resource>) {
        self.by_name.entry(resource.name.clone()).or_default().push(resource);
    }

    /// All weights of a module, so that its own text can be read back.
    pub fn of(module: &Module) -> Resources {
        let mut resources = Resources::default();
        for op in module.all_ops() {
            module.op(op).attributes.values().for_each(|value| resources.collect(value));
        }
        resources
    }

    /// Adds the weights of an attribute, those inside arrays and dictionaries too.
    fn collect(&mut self, value: &Attribute) {
        match value {
            Attribute::Elements(Elements::Resource(resource)) => self.insert(resource.clone()),
            Attribute::Array(values) => values.iter().for_each(|value| self.collect(value)),
            Attribute::Dict(values) => values.values().for_each(|value| self.collect(value)),
            _ => {}
        }
    }

    /// The weights of that name.
    pub fn find(&self, name: &str) -> &[Arc<Resource>] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Reads a module. Ops outside a `builtin.module` are put into one.
///
/// # Errors
/// The first fault of each op at the outer level, with line, column, what was expected and what was found.
pub fn parse(text: &str, registry: &Registry, options: &ParseOptions) -> Result<Module, Diagnostics> {
    let mut parser = op::Parser::new(text, registry, *options);
    parser.read_all();
    let cursor::Faults { list, .. } = parser.finish();
    match list {
        faults if faults.is_empty() => Ok(parser.into_module()),
        faults => Err(faults),
    }
}

/// Reads one dimension-free type, such as `tensor<4xf32>`.
///
/// # Errors
/// What was expected and what was found.
pub fn parse_type(text: &str) -> Result<crate::types::Type, Diagnostic> {
    let registry = Registry::empty();
    let mut parser = op::Parser::new(text, &registry, ParseOptions::default());
    let read = parser.ty().and_then(|ty| parser.expect_end().map(|()| ty));
    read.map_err(|fault| parser.diagnostic(&fault))
}

/// Reads one attribute, such as `dense<1> : tensor<2xi64>`.
///
/// # Errors
/// What was expected and what was found.
pub fn parse_attribute(text: &str) -> Result<crate::attribute::Attribute, Diagnostic> {
    let registry = Registry::empty();
    let mut parser = op::Parser::new(text, &registry, ParseOptions::default());
    let read = parser.attribute().and_then(|value| parser.expect_end().map(|()| value));
    read.map_err(|fault| parser.diagnostic(&fault))
}

/// Reads what stands inside `loc(..)`.
///
/// # Errors
/// What was expected and what was found.
pub fn parse_location(text: &str) -> Result<Location, Diagnostic> {
    let registry = Registry::empty();
    let mut parser = op::Parser::new(text, &registry, ParseOptions::default());
    let read = parser.location().and_then(|value| parser.expect_end().map(|()| value));
    read.map_err(|fault| parser.diagnostic(&fault))
}
