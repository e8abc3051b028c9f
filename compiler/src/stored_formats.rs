//! How the weights of an artifact are stored: each with its scales and zero points, and all by format. Read from the index of constants,
//! so it tells of models that arrived quantised as well.
//!
//! ```text
//! val_100  i4, f16 per 32      20736 bytes  0.9 %
//! ```

use serde::Serialize;
use std::collections::BTreeMap;
use tilewright_runtime::element::Element;
use tilewright_runtime::stream::ConstantInfo;

/// A weight with what belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredWeight {
    /// Its name in the source model.
    pub name: String,
    /// `i4, f16 per 32`: what a number is stored as; its scales, and how many numbers share one.
    pub format: String,
    /// Extents, as stored.
    pub shape: Vec<u64>,
    /// Bytes, scales and zero points included.
    pub bytes: u64,
    /// Its part of all bytes.
    pub share: f64,
}

/// All weights of one format.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredFormat {
    /// As [`StoredWeight::format`].
    pub format: String,
    /// How many.
    pub tensors: usize,
    /// Bytes.
    pub bytes: u64,
    /// Their part of all bytes.
    pub share: f64,
}

/// What the names of a weight's parts end in.
const PARTS: [&str; 3] = [".scale", ".zero_point", ".levels"];

/// The weights of an index, largest first.
pub fn weights(index: &[ConstantInfo]) -> Vec<StoredWeight> {
    let by_name: BTreeMap<&str, &ConstantInfo> = index.iter().map(|one| (one.name.as_str(), one)).collect();
    let total: u64 = index.iter().map(|one| one.bytes).sum();
    let is_part = |name: &str| {
        PARTS.iter().any(|part| name.strip_suffix(part).is_some_and(|whole| by_name.contains_key(whole)))
    };
    let mut found: Vec<StoredWeight> = index
        .iter()
        .filter(|one| !is_part(&one.name))
        .map(|one| {
            let part = |suffix: &str| by_name.get(format!("{}{suffix}", one.name).as_str()).copied();
            let parts: Vec<&ConstantInfo> = PARTS.iter().filter_map(|suffix| part(suffix)).collect();
            let bytes = one.bytes + parts.iter().map(|part| part.bytes).sum::<u64>();
            StoredWeight {
                name: one.name.clone(),
                format: format(one, part(".scale"), part(".zero_point"), part(".levels")),
                shape: one.shape.clone(),
                bytes,
                share: bytes as f64 / total.max(1) as f64,
            }
        })
        .collect();
    found.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    found
}

/// Weights summed up by format, most bytes first.
pub fn formats(weights: &[StoredWeight]) -> Vec<StoredFormat> {
    let mut sums: BTreeMap<&str, StoredFormat> = BTreeMap::new();
    for one in weights {
        let sum = sums.entry(&one.format).or_insert_with(|| StoredFormat {
            format: one.format.clone(),
            tensors: 0,
            bytes: 0,
            share: 0.0,
        });
        sum.tensors += 1;
        sum.bytes += one.bytes;
        sum.share += one.share;
    }
    let mut sums: Vec<StoredFormat> = sums.into_values().collect();
    sums.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.format.cmp(&b.format)));
    sums
}

fn format(
    weight: &ConstantInfo,
    scale: Option<&ConstantInfo>,
    zero_point: Option<&ConstantInfo>,
    levels: Option<&ConstantInfo>,
) -> String {
    let element: Element = weight.element;
    let mut text = element.name().to_string();
    if let Some(levels) = levels {
        text += &format!(", {} levels of {}", count(levels), levels.element.name());
    }
    if let Some(scale) = scale {
        text += &match count(scale) {
            1 => format!(", one {}", scale.element.name()),
            scales => format!(", {} per {}", scale.element.name(), count(weight).div_ceil(scales)),
        };
    }
    if zero_point.is_some() {
        text += ", zero points";
    }
    text
}

fn count(info: &ConstantInfo) -> u64 {
    info.shape.iter().product::<u64>().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(name: &str, element: Element, shape: &[u64], bytes: u64) -> ConstantInfo {
        ConstantInfo { name: name.into(), element, shape: shape.to_vec(), offset_bytes: 0, bytes }
    }

    #[test]
    fn parts_belong_to_their_weight() {
        let index = [
            constant("gain", Element::F32, &[64], 256),
            constant("w", Element::I4, &[64, 8], 256),
            constant("w.scale", Element::F16, &[2, 8], 32),
            constant("alone.scale", Element::F32, &[4], 16),
            constant("v", Element::U8, &[4, 4], 16),
            constant("v.scale", Element::F32, &[], 4),
            constant("v.zero_point", Element::U8, &[], 1),
        ];
        let found = weights(&index);
        let told: Vec<(&str, &str, u64)> =
            found.iter().map(|one| (one.name.as_str(), one.format.as_str(), one.bytes)).collect();
        assert_eq!(
            told,
            [
                ("w", "i4, f16 per 32", 288),
                ("gain", "f32", 256),
                ("v", "u8, one f32, zero points", 21),
                ("alone.scale", "f32", 16),
            ]
        );
        let formats = formats(&found);
        assert_eq!((formats[0].format.as_str(), formats[0].tensors), ("i4, f16 per 32", 1));
        assert_eq!((formats[1].format.as_str(), formats[1].tensors, formats[1].bytes), ("f32", 2, 272));
        assert!((formats.iter().map(|one| one.share).sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
