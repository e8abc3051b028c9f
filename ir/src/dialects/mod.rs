//! The in-tree dialects: one file per dialect or family, one static per op.

pub mod builtin;
pub mod core;
pub mod tile;

use crate::registry::Dialect;

/// All in-tree dialects.
pub static ALL: &[&Dialect] = &[&builtin::DIALECT, &core::DIALECT, &tile::DIALECT];
