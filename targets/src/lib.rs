//! Targets: from `core` IR to the command stream of one NPU.
//!
//! The way down: [`lower`] drives a function through a [`target::Target`]'s table of [`lowering::Lowering`]s (and the [`host`]
//! fallback) into `tile` IR; [`place`] gives every buffer its bytes by the [`memory_plan`]ner, [`check_memory_plan`] checks that independently; [`emit`] writes
//! the runtime's program and the list of constants; [`placement`] says what runs where, and why.
//!
//! It must not know: files, ONNX, terminals, or how a command is executed.

pub mod check_memory_plan;
pub mod check_offsets;
pub mod derive;
pub mod description;
pub mod emit;
pub mod fields;
pub mod figures;
pub mod host;
pub mod host_cpu;
pub mod idle_waits;
mod live_ranges;
pub mod lower;
pub mod lowering;
pub mod machines;
pub mod memory_plan;
pub mod npu_gen3;
pub mod op_command;
pub mod place;
pub mod placement;
pub mod range;
mod schedule;
pub mod target;
pub mod view;
