//! Seeded numbers for weights: each from its own place alone, so that blocks can be made in parallel and in any order.
//!
//! Element `i` is a sum of the four 16-bit parts of a hash of (seed, tensor, i): close to normal, and exact integers until the last
//! rounding, so that every machine writes the same bytes.

use super::{Options, Weight};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use std::io::Write;

/// How numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Storage {
    /// binary32.
    F32,
    /// binary16.
    #[default]
    F16,
    /// bfloat16.
    #[value(name = "bf16")]
    BF16,
}

impl Storage {
    /// Bytes of one number.
    pub(crate) fn bytes(self) -> usize {
        if self == Storage::F32 { 4 } else { 2 }
    }

    /// `TensorProto.DataType`.
    pub(crate) fn onnx_type(self) -> i32 {
        match self {
            Storage::F32 => 1,
            Storage::F16 => 10,
            Storage::BF16 => 16,
        }
    }

    /// Its name in `config.json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Storage::F32 => "float32",
            Storage::F16 => "float16",
            Storage::BF16 => "bfloat16",
        }
    }

    fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        bytes.clear();
        match self {
            Storage::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Storage::F16 => {
                let mut narrow = vec![f16::ZERO; values.len()];
                narrow.convert_from_f32_slice(values);
                bytes.extend(narrow.iter().flat_map(|value| value.to_le_bytes()));
            }
            Storage::BF16 => {
                let mut narrow = vec![bf16::ZERO; values.len()];
                narrow.convert_from_f32_slice(values);
                bytes.extend(narrow.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
    }
}

/// What the numbers of a weight are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Values {
    /// Random with this standard deviation.
    Random(f32),
    /// All 1.
    Ones,
    /// Cosines of position times frequency, a row per position; frequencies fall from 1 by this base.
    Cosines(f64),
    /// Sines likewise.
    Sines(f64),
}

/// Elements made at once by one thread.
const BLOCK: usize = 1 << 18;
/// Blocks in memory at once, times two: 16 MB of f32.
const BLOCKS: usize = 8;

/// Writes the numbers of a weight, little-endian.
pub(super) fn write(weight: &Weight, options: &Options, sink: &mut impl Write) -> std::io::Result<()> {
    let key = tensor_key(options.seed, &weight.name);
    let count = weight.count();
    let row = *weight.dims.last().unwrap_or(&1);
    for start in (0..count).step_by(BLOCK * BLOCKS) {
        let end = (start + BLOCK * BLOCKS).min(count);
        let blocks: Vec<Vec<u8>> = (start..end)
            .into_par_iter()
            .step_by(BLOCK)
            .map(|first| {
                let range = first..(first + BLOCK).min(end);
                let values: Vec<f32> = range.map(|index| weight.values.at(key, index, row)).collect();
                let mut bytes = Vec::with_capacity(values.len() * options.storage.bytes());
                options.storage.encode(&values, &mut bytes);
                bytes
            })
            .collect();
        blocks.iter().try_for_each(|block| sink.write_all(block))?;
    }
    Ok(())
}

impl Values {
    #[inline]
    fn at(self, key: u64, index: usize, row: usize) -> f32 {
        match self {
            Values::Random(deviation) => normal(key, index as u64) * deviation,
            Values::Ones => 1.0,
            Values::Cosines(base) => angle(base, index, row).cos() as f32,
            Values::Sines(base) => angle(base, index, row).sin() as f32,
        }
    }
}

fn angle(base: f64, index: usize, row: usize) -> f64 {
    (index / row) as f64 * base.powf(-((index % row) as f64) / row as f64)
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014).
#[inline]
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn tensor_key(seed: u64, name: &str) -> u64 {
    name.bytes().fold(mix(seed ^ 0x9e37_79b9_7f4a_7c15), |key, byte| mix(key ^ u64::from(byte)))
}

/// Mean 0, deviation 1, within 3.5.
#[inline]
fn normal(key: u64, index: u64) -> f32 {
    let bits = mix(key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let sum = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
    // Four uniform numbers of 0..65536 have mean 131070 and variance 4/12 * 65536^2.
    const INVERSE_DEVIATION: f32 = 1.732_050_8 / 65536.0;
    (sum as i32 - 131_070) as f32 * INVERSE_DEVIATION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_near_normal_and_differ_between_tensors() {
        let key = tensor_key(1, "a");
        let values: Vec<f64> = (0..100_000).map(|index| f64::from(normal(key, index))).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|value| value * value).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let neighbours: f64 = values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / 1e5;
        assert!(neighbours.abs() < 0.02, "{neighbours}");
        assert_ne!(tensor_key(1, "a"), tensor_key(1, "b"));
        assert_ne!(tensor_key(1, "a"), tensor_key(2, "a"));
    }
}
