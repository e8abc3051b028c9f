//! tilewright: the compiler crate.
