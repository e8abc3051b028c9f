//! The `core` dialect: what models compute, on immutable tensors, with no target in mind. Families live in files of their own.
//!
//! ```text
//! %matmul = "core.matmul"(%x, %w) : (tensor<1x4x64xf32>, tensor<64x64xf32>) -> tensor<1x4x64xf32>
//! ```

mod constant;

pub use constant::CONSTANT;

use crate::registry::Dialect;

/// The dialect.
pub static DIALECT: Dialect =
    Dialect { name: "core", doc: "Pure tensor ops with symbolic shapes.", ops: &[&CONSTANT] };
