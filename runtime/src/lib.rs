//! tilewright: the runtime crate.
