//! Seeded random tensors for tests of rules and passes: the same seed gives the same values on every platform.
//!
//! Floats are made by integer arithmetic and sums alone, so that no platform's `exp` or `log` shows. Knows no op.
//!
//! ```
//! # use tilewright_ir::{element::Element, sample::Sampler, types::TensorType};
//! let x = Sampler::new(1).tensor(&TensorType::of(Element::F32, &[2, 3]), &Default::default()).unwrap();
//! assert_eq!(x.shape, [2, 3]);
//! ```

use crate::dim::Bindings;
use crate::element::{Element, Family};
use crate::number::round_float;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// A stream of random values: splitmix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
#[derive(Clone, Debug)]
pub struct Sampler {
    state: u64,
}

impl Sampler {
    /// A stream by its seed.
    pub fn new(seed: u64) -> Sampler {
        Sampler { state: seed }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from `low` up to but not including `high`; `low` when the range is empty.
    pub fn below(&mut self, low: i64, high: i64) -> i64 {
        let width = high.saturating_sub(low).max(1) as u64;
        low + (self.bits() % width) as i64
    }

    /// A number from 0 up to but not including 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A roughly normal value of mean 0 and deviation 1: the sum of twelve uniform ones less six. Every sixteenth is one of 0, 1, -1
    /// and a few times as large, where rules like to be wrong.
    pub fn real(&mut self) -> f64 {
        match self.below(0, 64) {
            0 => 0.0,
            1 => 1.0,
            2 => -1.0,
            3 => 8.0 * (self.unit() - 0.5),
            _ => (0..12).map(|_| self.unit()).sum::<f64>() - 6.0,
        }
    }

    /// An integer in a small range that the element type can hold: -8 to 7, or 0 to 15 for unsigned types, 0 or 1 for i1.
    pub fn integer(&mut self, element: Element) -> i64 {
        let (low, high) = element.integer_range().unwrap_or((-8, 7));
        let low_limit = if element.family() == Family::Signed { -8 } else { 0 };
        let high_limit = if element.family() == Family::Signed { 7 } else { 15 };
        self.below(low.max(low_limit), high.min(high_limit) + 1)
    }

    /// A tensor of a type, its symbols bound.
    ///
    /// # Errors
    /// When a dimension has no value.
    pub fn tensor(&mut self, ty: &TensorType, bindings: &Bindings) -> Result<Tensor, String> {
        let shape = ty
            .shape
            .iter()
            .map(|dim| {
                let value = dim.evaluate(bindings).and_then(|value| usize::try_from(value).ok());
                value.ok_or_else(|| format!("dimension '{dim}' has no value"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let count: usize = shape.iter().product();
        if ty.element.is_float() {
            // A scale format holds no negative values.
            let sign = |value: f64| if ty.element == Element::F8E8M0 { value.abs() + 0.5 } else { value };
            let values = (0..count).map(|_| round_float(ty.element, sign(self.real()))).collect();
            return Ok(Tensor::from_floats(ty.element, &shape, values));
        }
        let values = (0..count).map(|_| self.integer(ty.element)).collect();
        let dims: Vec<i64> = shape.iter().map(|dim| *dim as i64).collect();
        Ok(Tensor::from_ints(ty.element, &dims, values))
    }

    /// An integer tensor with values from `low` up to but not including `high`: indices.
    pub fn indices(&mut self, element: Element, shape: &[i64], low: i64, high: i64) -> Tensor {
        let count: i64 = shape.iter().product();
        Tensor::from_ints(element, shape, (0..count).map(|_| self.below(low, high)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        // First outputs for seed 1234567 as published with the reference implementation in C.
        let mut sampler = Sampler::new(1_234_567);
        let found = [sampler.bits(), sampler.bits(), sampler.bits()];
        assert_eq!(found, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn every_element_type_is_sampled_within_its_range() {
        for element in Element::ALL {
            let ty = TensorType::of(*element, &[4, 50]);
            let one = Sampler::new(7).tensor(&ty, &Bindings::new()).unwrap();
            assert_eq!(one, Sampler::new(7).tensor(&ty, &Bindings::new()).unwrap());
            assert_ne!(one, Sampler::new(8).tensor(&ty, &Bindings::new()).unwrap(), "{element}");
            let back = Tensor::from_bytes(&ty, &one.to_bytes()).unwrap();
            assert_eq!(back, one, "{element} values are representable");
            assert!(one.floats().iter().all(|value| value.is_finite() && value.abs() <= 16.0), "{element}");
        }
    }

    #[test]
    fn symbols_need_values() {
        let ty = TensorType::new(Element::F32, ["seq".parse().unwrap()]);
        assert!(Sampler::new(1).tensor(&ty, &Bindings::new()).unwrap_err().contains("seq"));
        let bound = Sampler::new(1).tensor(&ty, &Bindings::from([("seq".into(), 3)])).unwrap();
        assert_eq!(bound.shape, [3]);
    }
}
