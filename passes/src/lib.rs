//! tilewright: the passes crate.

pub mod form_kernels;
pub mod machine;
