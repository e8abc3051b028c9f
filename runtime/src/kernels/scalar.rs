//! Scalar functions that the standard library lacks or that need care with infinities.
//!
//! Everything is computed in the lane's own precision except erf, which is computed in f64.

/// Chebyshev coefficients of erfc(z) exp(z^2) / t with t = 2 / (2 + z); W. Press et al., Numerical Recipes, 3rd edition,
/// section 6.2.2; relative error below 1.2e-16 for z >= 0.
pub(super) const ERFC_COEFFICIENTS: [f64; 28] = [
    -1.3026537197817094,
    0.641_969_792_356_490_3,
    1.9476473204185836e-2,
    -9.561_514_786_808_63e-3,
    -9.46595344482036e-4,
    3.66839497852761e-4,
    4.2523324806907e-5,
    -2.0278578112534e-5,
    -1.624290004647e-6,
    1.303655835580e-6,
    1.5626441722e-8,
    -8.5238095915e-8,
    6.529054439e-9,
    5.059343495e-9,
    -9.91364156e-10,
    -2.27365122e-10,
    9.6467911e-11,
    2.394038e-12,
    -6.886027e-12,
    8.94487e-13,
    3.13092e-13,
    -1.12708e-13,
    3.81e-16,
    7.106e-15,
    -1.523e-15,
    -9.4e-17,
    1.21e-16,
    -2.8e-17,
];

/// Complementary error function.
pub fn erfc(x: f64) -> f64 {
    let z = x.abs();
    let t = 2.0 / (2.0 + z);
    let ty = 4.0 * t - 2.0;
    let (mut d, mut dd) = (0.0, 0.0);
    for &coefficient in ERFC_COEFFICIENTS[1..].iter().rev() {
        (d, dd) = (ty * d - dd + coefficient, d);
    }
    let positive = t * (-z * z + 0.5 * (ERFC_COEFFICIENTS[0] + ty * d) - dd).exp();
    if x.is_nan() {
        x
    } else if x >= 0.0 {
        positive
    } else {
        2.0 - positive
    }
}

/// Error function. Near 0 the Taylor series, so that small results keep their digits.
pub fn erf(x: f64) -> f64 {
    if x.abs() > 0.5 {
        return 1.0 - erfc(x);
    }
    // 2/sqrt(pi) * sum of (-1)^n x^(2n+1) / (n! (2n+1)); 14 terms reach 1e-17 for |x| <= 0.5.
    let (mut term, mut sum) = (x, x);
    for n in 1..14 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

macro_rules! float_functions {
    ($module:ident, $type:ident) => {
        /// For this precision.
        pub mod $module {
            use std::$type::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

            /// 1 / (1 + e^-x), without overflow.
            pub fn sigmoid(x: $type) -> $type {
                if x >= 0.0 {
                    1.0 / (1.0 + (-x).exp())
                } else {
                    let e = x.exp();
                    e / (1.0 + e)
                }
            }
            /// ln(1 + e^x), without overflow.
            pub fn softplus(x: $type) -> $type {
                x.max(0.0) + (-x.abs()).exp().ln_1p()
            }
            /// Gauss error function.
            pub fn erf(x: $type) -> $type {
                super::erf(f64::from(x)) as $type
            }
            /// 0.5 x (1 + erf(x / sqrt 2))
            pub fn gelu(x: $type) -> $type {
                0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
            }
            /// The tanh approximation of gelu (Hendrycks & Gimpel 2016, arXiv:1606.08415).
            pub fn gelu_tanh(x: $type) -> $type {
                0.5 * x * (1.0 + (FRAC_2_PI.sqrt() * (x + 0.044715 * x * x * x)).tanh())
            }
            /// -1, 0 or 1; NaN stays.
            pub fn sign(x: $type) -> $type {
                if x.is_nan() || x == 0.0 { x } else { x.signum() }
            }
            /// Remainder with the sign of b.
            pub fn remainder_floor(a: $type, b: $type) -> $type {
                let r = a % b;
                if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
            }
        }
    };
}

float_functions!(single, f32);
float_functions!(double, f64);

#[cfg(test)]
mod tests {
    use super::*;

    /// erf by its all-positive series: 2/sqrt(pi) e^(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!.
    fn erf_series(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..400 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp()
    }

    #[test]
    fn erf_agrees_with_another_series() {
        for step in -120..=120 {
            let x = f64::from(step) * 0.05;
            assert!((erf(x) - erf_series(x)).abs() < 2e-15, "erf({x}) = {} or {}", erf(x), erf_series(x));
        }
        assert_eq!((erf(40.0), erf(-40.0)), (1.0, -1.0));
        assert!(erf(f64::NAN).is_nan());
    }

    #[test]
    fn extremes_stay_finite() {
        assert_eq!((single::sigmoid(-200.0), single::sigmoid(200.0)), (0.0, 1.0));
        assert_eq!(single::softplus(500.0), 500.0);
        assert_eq!(double::remainder_floor(-7.0, 3.0), 2.0);
        assert_eq!(single::sign(-0.5), -1.0);
    }
}
