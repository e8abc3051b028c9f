//! Tensors for kernel tests: bytes of their own, values in and out as f64.

use super::lanes::{load, store};
use crate::element::Element;
use crate::memory::{Destination, Source};
use crate::random::Random;

/// A tensor that owns its bytes.
pub(crate) struct Values {
    element: Element,
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

impl Values {
    pub(crate) fn source(&self) -> Source<'_> {
        Source::packed(self.element, &self.dims, &self.bytes).expect("test tensors fit")
    }
    pub(crate) fn destination(&mut self) -> Destination<'_> {
        Destination::packed(self.element, &self.dims, &mut self.bytes).expect("test tensors fit")
    }
}

/// A row-major tensor of these values; zeros where none are given.
pub(crate) fn values(element: Element, dims: &[usize], numbers: &[f64]) -> Values {
    let count: usize = dims.iter().product();
    let bytes = vec![0; element.packed_bytes(count as u64).expect("small") as usize];
    let mut tensor = Values { element, dims: dims.to_vec(), bytes };
    let mut padded = numbers.to_vec();
    padded.resize(count, 0.0);
    store(&mut tensor.destination(), 0, 1, &padded);
    tensor
}

/// A row-major tensor of seeded values: small integers for integer elements, else uniform in -1..1 (powers of two: 0.25..1.25).
pub(crate) fn random(element: Element, dims: &[usize], seed: u64) -> Values {
    let mut random = Random::new(seed);
    let range = element.integer_range().map(|(low, high)| (low.max(-100) as f64, high.min(100) as f64));
    let numbers: Vec<f64> = (0..dims.iter().product())
        .map(|_| match range {
            Some((low, high)) => (low + random.next_f64() * (high - low)).round(),
            // A power of two is positive.
            None if element == Element::F8E8M0 => random.next_f64() + 0.25,
            None => random.next_f64() * 2.0 - 1.0,
        })
        .collect();
    values(element, dims, &numbers)
}

/// The values of a packed tensor.
pub(crate) fn read(source: &Source<'_>) -> Vec<f64> {
    let mut numbers = vec![0f64; source.dims().iter().product()];
    load(source, 0, 1, &mut numbers);
    numbers
}

/// Asserts that two lists agree to `tolerance`, relative to the larger of 1 and the expected value.
pub(crate) fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(difference <= tolerance * expected.abs().max(1.0), "[{index}]: {found}, expected {expected}");
    }
}
