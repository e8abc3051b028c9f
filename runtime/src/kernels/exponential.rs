//! Exponential functions of many f32 at once: exp, sigmoid, silu, tanh, erf, gelu.
//!
//! Each is arithmetic without branches, so that the compiler makes vector code of it; additions and products keep their order and are not
//! fused, so that all processors give the same bits. Errors are a few units in the last place of the result (of 1 for erf).
//!
//! ```text
//! exponential::silu(&mut lanes)    // every x becomes x / (1 + e^-x)
//! ```

use super::scalar::ERFC_COEFFICIENTS;
use super::wide::widest;

/// Adding and subtracting it rounds a number below 2^22 to an integer, nearest even, whose low bits are then those of the sum.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts: products of the first with integers below 2^15 are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// e^x. Cody and Waite's reduction to |r| <= ln 2 / 2, there the series to r^7 / 7!, which leaves 5e-9.
#[inline(always)]
fn exp_of(x: f32) -> f32 {
    // Beyond it the result is infinite, or 0; NaN stays.
    let x = x.clamp(-104.0, 89.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut sum = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * r + coefficient;
    }
    // 2^power in two factors: each is a normal number.
    let half = power >> 1;
    let factor = |power: i32| f32::from_bits((power.wrapping_add(127) << 23) as u32);
    sum * factor(half) * factor(power.wrapping_sub(half))
}

#[inline(always)]
fn sigmoid_of(x: f32) -> f32 {
    let e = exp_of(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

#[inline(always)]
fn tanh_of(x: f32) -> f32 {
    let e = exp_of(-2.0 * x.abs());
    let far = (1.0 - e) / (1.0 + e);
    // Near 0 that loses digits: the series to x^11, which leaves 2e-8 of it at 0.35.
    let square = x * x;
    let mut sum = -1382.0 / 155_925.0;
    for coefficient in [62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0, 1.0] {
        sum = sum * square + coefficient;
    }
    if x.abs() < 0.35 { x * sum } else { far.copysign(x) }
}

/// Terms of the Chebyshev series of erfc that f32 can tell from 0.
const ERFC_TERMS: usize = 13;

#[inline(always)]
fn erf_of(x: f32) -> f32 {
    let z = x.abs();
    // As `scalar::erfc`, in f32.
    let t = 2.0 / (2.0 + z);
    let ty = 4.0 * t - 2.0;
    let (mut d, mut dd) = (0.0f32, 0.0f32);
    for coefficient in ERFC_COEFFICIENTS[1..ERFC_TERMS].iter().rev() {
        (d, dd) = (ty * d - dd + *coefficient as f32, d);
    }
    let far = 1.0 - t * exp_of(0.5 * (ERFC_COEFFICIENTS[0] as f32 + ty * d) - dd - z * z);
    // Near 0 the series of `scalar::erf`: 1 / ((-1)^n n! (2 n + 1)).
    let square = x * x;
    let mut sum = -1.0 / 75_600.0;
    for coefficient in [1.0 / 9360.0, -1.0 / 1320.0, 1.0 / 216.0, -1.0 / 42.0, 0.1, -1.0 / 3.0, 1.0] {
        sum = sum * square + coefficient;
    }
    if z < 0.5 { x * sum * std::f32::consts::FRAC_2_SQRT_PI } else { far.copysign(x) }
}

macro_rules! over_lanes {
    ($($(#[$doc:meta])* $name:ident, $inner:ident: |$x:ident| $value:expr;)*) => { $(
        $(#[$doc])*
        pub fn $name(lanes: &mut [f32]) {
            $inner(lanes);
        }

        widest! {
            fn $inner[][](lanes: &mut [f32]) {
                for lane in lanes {
                    let $x = *lane;
                    *lane = $value;
                }
            }
        }
    )* };
}

over_lanes! {
    /// e^x.
    exp, exp_lanes: |x| exp_of(x);
    /// 1 / (1 + e^-x).
    sigmoid, sigmoid_lanes: |x| sigmoid_of(x);
    /// x / (1 + e^-x).
    silu, silu_lanes: |x| x * sigmoid_of(x);
    /// Hyperbolic tangent.
    tanh, tanh_lanes: |x| tanh_of(x);
    /// Gauss error function.
    erf, erf_lanes: |x| erf_of(x);
    /// 0.5 x (1 + erf(x / sqrt 2)).
    gelu, gelu_lanes: |x| 0.5 * x * (1.0 + erf_of(x * std::f32::consts::FRAC_1_SQRT_2));
    /// The tanh approximation of gelu (Hendrycks & Gimpel 2016, arXiv:1606.08415).
    gelu_tanh, gelu_tanh_lanes:
        |x| 0.5 * x * (1.0 + tanh_of(0.797_884_6 * (x + 0.044_715 * x * x * x)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of all sizes, and those near 0 and near where functions change their form.
    fn values() -> Vec<f32> {
        let mut values: Vec<f32> = (-4000..=4000).map(|at| at as f32 * 0.0271).collect();
        values.extend((-400..=400).map(|at| at as f32 * 0.0031));
        values.extend((-60..=20).flat_map(|power| [1.3f32.powi(power), -(1.3f32.powi(power))]));
        values
    }

    fn check(function: fn(&mut [f32]), exact: fn(f64) -> f64, absolute: f64, relative: f64) {
        let values = values();
        let mut found = values.clone();
        function(&mut found);
        for (x, found) in values.iter().zip(found) {
            let expected = exact(f64::from(*x));
            let error = (f64::from(found) - expected).abs();
            let fits = error <= absolute + relative * expected.abs() || found == expected as f32;
            assert!(fits, "f({x}) = {found}, expected {expected}");
        }
    }

    #[test]
    fn functions_agree_with_those_of_f64() {
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        check(exp, f64::exp, 1.5e-45, 2.5e-7);
        check(sigmoid, logistic, 1.5e-45, 4e-7);
        check(silu, |x| x / (1.0 + (-x).exp()), 1e-43, 4e-7);
        check(tanh, f64::tanh, 0.0, 8e-7);
        check(erf, super::super::scalar::erf, 0.0, 5e-7);
        check(gelu, super::super::scalar::double::gelu, 3e-7, 5e-7);
        check(gelu_tanh, super::super::scalar::double::gelu_tanh, 3e-7, 5e-7);
    }

    #[test]
    fn extremes_are_those_of_the_standard_library() {
        let mut lanes = [f32::NEG_INFINITY, -200.0, -0.0, 200.0, f32::INFINITY, f32::NAN];
        exp(&mut lanes);
        assert_eq!(lanes[..5], [0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]);
        assert!(lanes[5].is_nan());
        let mut lanes = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN];
        tanh(&mut lanes);
        assert_eq!(lanes[..2], [-1.0, 1.0]);
        assert!(lanes[2].is_nan());
        let mut lanes = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -0.0];
        erf(&mut lanes);
        assert_eq!(lanes[..2], [-1.0, 1.0]);
        assert!(lanes[2].is_nan() && lanes[3] == 0.0);
    }
}
