//! Equality saturation of one slice: build, saturate, extract, plan the new ops.
//!
//! [`mod@slice`] cuts a module's ops free; [`outline`] says where; [`analysis`] and [`node`] are the graph; [`saturate`] applies rules
//! within a [`budget`]; [`cost`], [`extract`] and [`exact`] choose; [`plan`] is the result, with its [`explain`] report.
//!
//! It must not know: files, targets, op names other than in the price list.

pub mod analysis;
pub mod budget;
pub mod cost;
pub mod exact;
pub mod explain;
pub mod extract;
pub mod node;
pub mod outline;
pub mod plan;
pub mod saturate;
pub mod slice;
