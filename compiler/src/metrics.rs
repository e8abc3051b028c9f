//! How far two tensors are apart.

use serde::Serialize;
use tilewright_ir::tensor::Tensor;

/// The distance of one output from its reference.
#[derive(Clone, Debug, Serialize)]
pub struct Distance {
    /// Largest absolute difference.
    pub max_absolute_error: f64,
    /// Cosine of the angle between them; 1 is equal direction. 1 when both are zero.
    pub cosine: f64,
    /// Signal to quantisation noise ratio, in dB: 10 log10(sum reference^2 / sum difference^2); infinite when equal.
    pub sqnr_db: f64,
    /// Number of elements beyond `atol + rtol * |reference|`.
    pub mismatches: usize,
    /// Number of elements.
    pub elements: usize,
    /// Row-major index of the first element beyond the tolerance.
    pub first_mismatch: Option<usize>,
}

/// Compares a result with its reference.
///
/// # Errors
/// When shapes or element types differ, naming both.
pub fn compare(found: &Tensor, reference: &Tensor, rtol: f64, atol: f64) -> Result<Distance, String> {
    if found.shape != reference.shape || found.element != reference.element {
        return Err(format!("types differ: expected {}, found {}", reference.ty(), found.ty()));
    }
    let (mut dot, mut norm_found, mut norm_reference, mut noise) = (0.0, 0.0, 0.0, 0.0);
    let mut distance = Distance {
        max_absolute_error: 0.0,
        cosine: 1.0,
        sqnr_db: f64::INFINITY,
        mismatches: 0,
        elements: reference.len(),
        first_mismatch: None,
    };
    for index in 0..reference.len() {
        let (a, b) = (found.float(index), reference.float(index));
        let same = a == b || (a.is_nan() && b.is_nan());
        let error = if same { 0.0 } else { (a - b).abs() };
        // A NaN against a number is a mismatch however wide the tolerance.
        if !same && (error.is_nan() || error > atol + rtol * b.abs()) {
            distance.mismatches += 1;
            distance.first_mismatch.get_or_insert(index);
        }
        distance.max_absolute_error =
            if error.is_nan() { f64::NAN } else { distance.max_absolute_error.max(error) };
        if a.is_finite() && b.is_finite() {
            dot += a * b;
            norm_found += a * a;
            norm_reference += b * b;
            noise += error * error;
        }
    }
    if norm_found > 0.0 && norm_reference > 0.0 {
        distance.cosine = dot / (norm_found.sqrt() * norm_reference.sqrt());
    } else if norm_found != norm_reference {
        distance.cosine = 0.0;
    }
    if noise > 0.0 {
        distance.sqnr_db = 10.0 * (norm_reference / noise).log10();
    }
    Ok(distance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::element::Element;

    #[test]
    fn counts_and_measures() {
        let reference = Tensor::from_floats(Element::F32, &[3], vec![1.0, 2.0, f64::NAN]);
        let found = Tensor::from_floats(Element::F32, &[3], vec![1.0, 2.5, f64::NAN]);
        let distance = compare(&found, &reference, 1e-3, 1e-4).unwrap();
        assert_eq!((distance.mismatches, distance.first_mismatch), (1, Some(1)));
        assert!((distance.max_absolute_error - 0.5).abs() < 1e-9);
        assert!((distance.sqnr_db - 10.0 * (5.0f64 / 0.25).log10()).abs() < 1e-9);
        let nan = Tensor::from_floats(Element::F32, &[3], vec![f64::NAN, 2.0, f64::NAN]);
        assert_eq!(compare(&nan, &reference, 1.0, 1.0).unwrap().mismatches, 1);
    }
}
