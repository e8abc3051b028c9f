//! Shared parts of the tests.

pub mod mlir_reader;
