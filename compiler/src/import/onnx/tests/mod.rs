//! Tests of the import as a whole: models built here, mutations of them, and the optional reference folder.

mod build;
mod faults;
mod gradient;
mod mutations;
mod parity;
mod semantics;
mod strings;
mod sweep;
