//! The machines that are described and have no lowerings of their own: each models a class of hardware in public figures.
//!
//! ```text
//! machines/apple-m5-npu.toml   =>   --target apple-m5-npu
//! ```

use crate::description;
use crate::target::{Target, Targets};
use std::sync::LazyLock;

/// File name and text of each, in the order in which they are listed.
pub const TEXTS: &[(&str, &str)] = &[
    ("npu-gen3.toml", include_str!("npu_gen3/machine.toml")),
    ("apple-m5-npu.toml", include_str!("machines/apple-m5-npu.toml")),
    ("qualcomm-snapdragon-x-gen3.toml", include_str!("machines/qualcomm-snapdragon-x-gen3.toml")),
    ("generic-linux-npu.toml", include_str!("machines/generic-linux-npu.toml")),
    ("micro-npu.toml", include_str!("machines/micro-npu.toml")),
];

/// The text of a described machine; `None` for one that has none.
pub fn text(target: &str) -> Option<&'static str> {
    let file = format!("{target}.toml");
    TEXTS.iter().find(|(name, _)| *name == file).map(|(_, text)| *text)
}

/// Their targets but the one whose lowerings they have, made once.
pub(crate) static DESCRIBED: LazyLock<Vec<&'static Target>> = LazyLock::new(|| {
    let base = Targets::empty().with(&crate::npu_gen3::NPU_GEN3);
    let described = TEXTS.iter().filter(|(_, text)| !text.contains("name = \"npu-gen3\""));
    described
        .map(|(file, text)| {
            description::target(text, file, &base).unwrap_or_else(|problems| panic!("{file}: {problems:?}"))
        })
        .collect()
});
