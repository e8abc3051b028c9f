//! The machines that are described and have no lowerings of their own: each models a class of hardware in public figures.
//!
//! ```text
//! machines/apple-m5-npu.toml   =>   --target apple-m5-npu
//! ```

use crate::description;
use crate::host_cpu::{self, HOST_CPU};
use crate::npu_gen3::{self, NPU_GEN3};
use crate::target::{Target, Targets};
use std::sync::LazyLock;

/// Name and text of each, in the order in which they are listed.
const DESCRIPTIONS: [(&str, &str); 4] = [
    ("apple-m5-npu", include_str!("machines/apple-m5-npu.toml")),
    ("qualcomm-snapdragon-x-gen3", include_str!("machines/qualcomm-snapdragon-x-gen3.toml")),
    ("generic-linux-npu", include_str!("machines/generic-linux-npu.toml")),
    ("micro-npu", include_str!("machines/micro-npu.toml")),
];

/// Name and text of all described machines: the targets whose lowerings they have come first.
pub fn descriptions() -> impl Iterator<Item = (&'static str, &'static str)> {
    let own =
        [(HOST_CPU.name, host_cpu::machine::DESCRIPTION), (NPU_GEN3.name, npu_gen3::machine::DESCRIPTION)];
    own.into_iter().chain(DESCRIPTIONS)
}

/// The text of a described machine; `None` for one that has none.
pub fn text(target: &str) -> Option<&'static str> {
    descriptions().find(|(name, _)| *name == target).map(|(_, text)| text)
}

/// Their targets, made once.
pub(crate) static DESCRIBED: LazyLock<Vec<&'static Target>> = LazyLock::new(|| {
    let base = Targets::empty().with(&NPU_GEN3);
    let made = DESCRIPTIONS.map(|(name, text)| {
        description::target(text, name, &base).unwrap_or_else(|problems| panic!("{name}: {problems:?}"))
    });
    made.to_vec()
});
