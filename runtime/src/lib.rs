//! The tilewright runtime: command set, artifact container, checker, interpreter, timing model and text generation.
//!
//! This is what a device carries. It knows commands, not operators: no model format, no optimiser, no compiler crate. A compiler
//! makes a [`stream::Program`] with [`stream::ProgramBuilder`] and writes it, with the weights, through
//! [`artifact::ArtifactWriter`]; a device maps the file, checks it and runs it.
//!
//! | file | subject |
//! |---|---|
//! | `command_table` | the table: opcode, fields and meaning of every command |
//! | `commands`, `operands`, `functions`, `fields` | the types generated from it, and the types of fields |
//! | `encode`, `decode`, `disassemble`, `arbitrary` | bytes, text and fuzz input, generated from it |
//! | `element`, `view` | element types; strided windows with register-dependent addresses |
//! | `stream`, `artifact` | one program and its bytes; the `.npu` file, its weights and its signature |
//! | `opening` | from a path to an artifact that is bound to its weights and trusted |
//! | `npy` | tensors in numpy's files |
//! | `deployment`, `hardware`, `protect` | one model for several NPUs: which of them is there; memory kept to the process |

pub mod arbitrary;
pub mod artifact;
pub mod checker;
mod command_table;
pub mod commands;
pub mod control;
pub mod decode;
pub mod deployment;
pub mod disassemble;
pub mod element;
pub mod encode;
pub mod extension;
mod fields;
mod functions;
pub mod generate;
pub mod hardware;
pub mod interpreter;
pub mod kernels;
pub mod kv_cache;
pub mod memory;
pub mod npy;
pub mod opening;
mod operands;
pub mod protect;
pub mod random;
pub mod session;
pub mod stream;
pub mod timing;
pub mod view;
