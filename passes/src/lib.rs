//! tilewright: the passes crate.
