//! Shared parts of the tests: corpus files, seeded inputs, tolerance, real MLIR, the folder of recorded models.
//!
//! Nothing imports this crate.

pub mod corpus_file;
pub mod layer_traffic;
pub mod mlir_reader;
pub mod networks;
pub mod python;
pub mod recorded;
pub mod second_count;
