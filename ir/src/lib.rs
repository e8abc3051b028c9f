//! tilewright: the ir crate.
