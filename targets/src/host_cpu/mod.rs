//! `host-cpu`: the processor itself, at its own speed. Portable commands on whole tensors in DRAM, as on `host`; what costs time there
//! is written otherwise here.
//!
//! [`product`] gives products weights that are packed when the artifact is written; ops without a row here run as on `host`. It must not
//! know how a command is computed: which layouts the runtime is quick on is a table in [`layout`].
//!
//! ```text
//! core.linear(x, w)  =>  matmul host a=x b=const[..] u4<n1 x k1 x 2 x 16 x 4>
//! ```

pub mod layout;
pub mod machine;
pub mod product;
pub mod weights;

use crate::lowering::engine;
use crate::target::{Figures, Target};
use tilewright_runtime::hardware::Evidence;

/// The target.
pub static HOST_CPU: Target = Target {
    name: "host-cpu",
    doc: "The processor itself: portable commands at the speed of the machine, weights packed for its vector and matrix units when the \
          artifact is written. A profile's times are those of a model of two server cores; what a run measures is the machine's own.",
    machine: Figures::Made(machine::machine),
    copy_engine: engine::HOST,
    evidence: &[Evidence::ALWAYS],
    lowerings: product::LOWERINGS,
};
