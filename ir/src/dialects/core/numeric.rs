//! Scalar functions in f64, and the activations by name. The obvious formulas, stable at both ends.
//!
//! Knows no op.

use crate::element::Element;
use crate::tensor::{Data, Tensor};

/// Activations that fuse into `core.linear` and `core.glu`.
pub const ACTIVATIONS: &[&str] = &["none", "relu", "silu", "gelu", "gelu_tanh", "sigmoid", "tanh"];

/// The function of an activation's name.
pub(super) fn activation(name: &str) -> Result<fn(f64) -> f64, String> {
    Ok(match name {
        "none" => |x| x,
        "relu" => relu,
        "silu" => silu,
        "gelu" => gelu,
        "gelu_tanh" => gelu_tanh,
        "sigmoid" => sigmoid,
        "tanh" => f64::tanh,
        other => return Err(format!("unknown activation '{other}'; known: {}", ACTIVATIONS.join(", "))),
    })
}

pub(super) fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

pub(super) fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The error function by the series `2/sqrt(pi) e^(-x^2) sum 2^n x^(2n+1) / (2n+1)!!` (Abramowitz and Stegun 7.1.6), whose terms
/// all have one sign; beyond 6 it is 1 in f64.
pub(super) fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    if x.is_nan() {
        return x;
    }
    if magnitude >= 6.0 {
        return x.signum();
    }
    let square = x * x;
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > sum.abs() * 1e-17 {
        term *= 2.0 * square / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-square).exp() * sum
}

pub(super) fn gelu(x: f64) -> f64 {
    if x.is_infinite() {
        return relu(x);
    }
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

pub(super) fn gelu_tanh(x: f64) -> f64 {
    if x.is_infinite() {
        return relu(x);
    }
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

/// Element by element, rounded once to the element type; f32 takes no detour.
pub(super) fn map(x: &Tensor, f: impl Fn(f64) -> f64) -> Tensor {
    match &x.data {
        Data::F32(values) if x.element == Element::F32 => Tensor {
            element: x.element,
            shape: x.shape.clone(),
            data: Data::F32(values.iter().map(|value| f(f64::from(*value)) as f32).collect()),
        },
        _ => x.map(f),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_has_tabulated_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, expected) in
            [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)]
        {
            assert!((erf(x) - expected).abs() < 1e-10, "erf({x}) = {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        assert_eq!(erf(f64::INFINITY), 1.0);
    }

    #[test]
    fn activations_are_finite_at_both_ends() {
        for name in ACTIVATIONS {
            let f = activation(name).unwrap();
            assert!(f(-1e4).is_finite() && f(1e4).is_finite() && f(f64::NAN).is_nan(), "{name}");
        }
        assert!(activation("swish").unwrap_err().contains("silu"));
    }

    #[test]
    fn activations_have_hand_computed_values() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} and {b}");
        near(silu(1.0), 0.731_058_6);
        near(gelu(1.0), 0.841_344_7);
        near(gelu_tanh(1.0), 0.841_192);
        near(softplus(0.0), std::f64::consts::LN_2);
    }
}
