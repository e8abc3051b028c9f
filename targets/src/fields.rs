//! Reads an op's attributes with their defaults.
//!
//! ```text
//! let axis = Fields(&operation.attributes).axis("axis", -1, rank)?;
//! ```

use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::dim::Dim;
use tilewright_ir::op_def::normalize_axis;

/// The attributes of an op.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a Attributes);

impl<'a> Fields<'a> {
    /// An integer, or the default.
    pub fn int(self, name: &str, default: i64) -> i64 {
        self.0.get(name).and_then(Attribute::as_int).unwrap_or(default)
    }

    /// A float, or the default.
    pub fn float(self, name: &str, default: f64) -> f64 {
        self.0.get(name).and_then(Attribute::as_float).unwrap_or(default)
    }

    /// A truth value, or the default.
    pub fn flag(self, name: &str, default: bool) -> bool {
        self.0.get(name).and_then(Attribute::as_bool).unwrap_or(default)
    }

    /// A word, or the default.
    pub fn text(self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).and_then(Attribute::as_str).unwrap_or(default)
    }

    /// Integers; empty when left out.
    pub fn ints(self, name: &str) -> &'a [i64] {
        self.0.get(name).and_then(Attribute::as_ints).unwrap_or(&[])
    }

    /// Integers, or `count` times the default.
    pub fn ints_or(self, name: &str, default: i64, count: usize) -> Vec<i64> {
        match self.ints(name) {
            [] => vec![default; count],
            given => given.to_vec(),
        }
    }

    /// Dimension expressions.
    ///
    /// # Errors
    /// When they are left out or not readable.
    pub fn dims(self, name: &str) -> Result<Vec<Dim>, String> {
        let dims = self.0.get(name).and_then(Attribute::as_dims);
        dims.ok_or_else(|| format!("attribute '{name}' must hold dimensions"))
    }

    /// One dimension expression.
    ///
    /// # Errors
    /// When it is left out or not readable.
    pub fn dim(self, name: &str) -> Result<Dim, String> {
        let dim = self.0.get(name).and_then(Attribute::as_dim);
        dim.ok_or_else(|| format!("attribute '{name}' must be a dimension"))
    }

    /// An axis, counted from 0.
    ///
    /// # Errors
    /// When it is out of range for `rank`.
    pub fn axis(self, name: &str, default: i64, rank: usize) -> Result<usize, String> {
        let axis = self.int(name, default);
        normalize_axis(axis, rank)
            .ok_or_else(|| format!("attribute '{name}' = {axis} is out of range for rank {rank}"))
    }
}
