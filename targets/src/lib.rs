//! tilewright: the targets crate.
