//! tilewright: the compiler crate.

pub mod import;
pub mod npy;
