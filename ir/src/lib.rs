//! tilewright's IR: MLIR's ideas (ops, regions, blocks, attributes, locations, dialects) as plain Rust data.
//!
//! The map: [`element`], [`dim`], [`types`], [`attribute`], [`location`] are values; [`module`] is the arena that holds a
//! program, [`builder`] makes ops in it; [`op_def`] is the single definition of an op and [`dialects`] hold them, known through a
//! [`registry`]; [`mod@print`] and `parse` are its text; [`verify`] says what is well formed; [`tensor`], [`number`] and
//! [`evaluate`] are the reference semantics, [`fold`] applies them at compile time; [`axes`] sees an op as nested loops;
//! [`sample`] makes random tensors for tests; [`weight_format`] names the formats of quantised weights and [`quantizer`] makes them.
//!
//! It must not know: files, ONNX, passes, targets.

pub mod attribute;
pub mod axes;
pub mod builder;
pub mod compressor;
pub mod diagnostic;
pub mod dialects;
pub mod dim;
pub mod edit;
pub mod element;
pub mod evaluate;
pub mod fold;
pub mod graph_view;
pub mod lex;
pub mod location;
pub mod module;
pub mod number;
pub mod op_def;
pub mod parse;
pub mod print;
pub mod quantizer;
pub mod registry;
pub mod sample;
pub mod shape;
pub mod symbols;
pub mod tensor;
pub mod types;
pub mod verify;
pub mod weight_format;
