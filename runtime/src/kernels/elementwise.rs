//! Elementwise functions of one, two and three operands.

use super::exponential;
use super::lanes::{Lane, LaneKind, lane_kind, load, store, with_lane};
use super::scalar::{double, single};
use super::walk::for_each_row;
use super::{Fault, require, same_dims};
use crate::element::{Class, Element};
use crate::functions::{BinaryFunction, UnaryFunction};
use crate::memory::{Destination, Source};

/// Lanes worked on at a time: three buffers of f64 stay within 6 KiB of first-level cache.
pub(crate) const CHUNK: usize = 256;

/// Walks one destination and one source in step, `body` mapping lanes in place.
pub(crate) fn map1<L: Lane>(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    mut body: impl FnMut(&mut [L]),
) -> Result<(), Fault> {
    same_dims("extents of destination and x differ", destination, x)?;
    let window = destination.window.clone();
    for_each_row(window.dims(), [window.strides(), x.strides()], |length, offsets, steps| {
        let mut buffer = [L::default(); CHUNK];
        for start in (0..length).step_by(CHUNK) {
            let lanes = &mut buffer[..CHUNK.min(length - start)];
            let place = |view: usize| offsets[view] + start as i64 * steps[view];
            load(x, place(1), steps[1], lanes);
            body(lanes);
            store(destination, place(0), steps[0], lanes);
        }
        Ok(())
    })
}

/// Walks one destination and two sources in step, `body(a, b)` leaving the result in `a`.
pub(crate) fn map2<L: Lane>(
    destination: &mut Destination<'_>,
    a: &Source<'_>,
    b: &Source<'_>,
    mut body: impl FnMut(&mut [L], &[L]),
) -> Result<(), Fault> {
    same_dims("extents of destination and a differ", destination, a)?;
    same_dims("extents of destination and b differ", destination, b)?;
    let window = destination.window.clone();
    for_each_row(window.dims(), [window.strides(), a.strides(), b.strides()], |length, offsets, steps| {
        let (mut left, mut right) = ([L::default(); CHUNK], [L::default(); CHUNK]);
        for start in (0..length).step_by(CHUNK) {
            let count = CHUNK.min(length - start);
            let place = |view: usize| offsets[view] + start as i64 * steps[view];
            load(a, place(1), steps[1], &mut left[..count]);
            load(b, place(2), steps[2], &mut right[..count]);
            body(&mut left[..count], &right[..count]);
            store(destination, place(0), steps[0], &left[..count]);
        }
        Ok(())
    })
}

macro_rules! float_unary {
    ($type:ident, $module:ident, $function:expr, $lanes:expr, $alpha:expr, $beta:expr) => {{
        use UnaryFunction as F;
        let (alpha, beta) = ($alpha as $type, $beta as $type);
        macro_rules! each {
            ($f:expr) => {{
                let f = $f;
                $lanes.iter_mut().for_each(|lane| *lane = f(*lane))
            }};
        }
        match $function {
            F::Copy => {}
            F::Negate => each!(|x: $type| -x),
            F::Absolute => each!($type::abs),
            F::Exp => each!($type::exp),
            F::Log => each!($type::ln),
            F::Sqrt => each!($type::sqrt),
            F::Rsqrt => each!(|x: $type| 1.0 / x.sqrt()),
            F::Reciprocal => each!($type::recip),
            F::Square => each!(|x: $type| x * x),
            F::Tanh => each!($type::tanh),
            F::Sigmoid => each!($module::sigmoid),
            F::Erf => each!($module::erf),
            F::Relu => each!(|x: $type| if x < 0.0 { 0.0 } else { x }),
            F::Silu => each!(|x: $type| x * $module::sigmoid(x)),
            F::Gelu => each!($module::gelu),
            F::GeluTanh => each!($module::gelu_tanh),
            F::Not => each!(|x: $type| if x == 0.0 { 1.0 } else { 0.0 }),
            F::BitwiseNot => {}
            F::IsNan => each!(|x: $type| if x.is_nan() { 1.0 } else { 0.0 }),
            F::IsInfinite => each!(|x: $type| if x.is_infinite() { 1.0 } else { 0.0 }),
            F::Sign => each!($module::sign),
            F::RoundHalfEven => each!($type::round_ties_even),
            F::Floor => each!($type::floor),
            F::Ceil => each!($type::ceil),
            F::Truncate => each!($type::trunc),
            F::Sin => each!($type::sin),
            F::Cos => each!($type::cos),
            F::Tan => each!($type::tan),
            F::Asin => each!($type::asin),
            F::Acos => each!($type::acos),
            F::Atan => each!($type::atan),
            F::Sinh => each!($type::sinh),
            F::Cosh => each!($type::cosh),
            F::Asinh => each!($type::asinh),
            F::Acosh => each!($type::acosh),
            F::Atanh => each!($type::atanh),
            F::Log1p => each!($type::ln_1p),
            F::Expm1 => each!($type::exp_m1),
            F::Softplus => each!($module::softplus),
            F::Softsign => each!(|x: $type| x / (1.0 + x.abs())),
            F::Mish => each!(|x: $type| x * $module::softplus(x).tanh()),
            F::HardSwish => each!(|x: $type| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            F::LeakyRelu => each!(|x: $type| if x < 0.0 { alpha * x } else { x }),
            F::Elu => each!(|x: $type| if x < 0.0 { alpha * x.exp_m1() } else { x }),
            F::HardSigmoid => each!(|x: $type| (alpha * x + beta).clamp(0.0, 1.0)),
            F::Clamp => each!(|x: $type| if x.is_nan() { x } else { x.max(alpha).min(beta) }),
            F::Affine => each!(|x: $type| alpha * x + beta),
        }
    }};
}

/// Work per element, as threads count it.
pub(crate) fn cost(function: UnaryFunction) -> u64 {
    if exponential(function).is_some() { 8 } else { 4 }
}

/// The function on many f32 at once, where it has exponentials.
fn exponential(function: UnaryFunction) -> Option<fn(&mut [f32])> {
    use UnaryFunction as F;
    Some(match function {
        F::Exp => exponential::exp,
        F::Sigmoid => exponential::sigmoid,
        F::Silu => exponential::silu,
        F::Tanh => exponential::tanh,
        F::Erf => exponential::erf,
        F::Gelu => exponential::gelu,
        F::GeluTanh => exponential::gelu_tanh,
        _ => return None,
    })
}

/// `destination = function(x)`; see [`UnaryFunction`].
pub fn unary(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    function: UnaryFunction,
    alpha: f64,
    beta: f64,
) -> Result<(), Fault> {
    let kind = lane_kind(&[x.element()]);
    let is_integer = matches!(kind, LaneKind::I64 | LaneKind::I128);
    require(is_integer || function != UnaryFunction::BitwiseNot, "bitwise_not needs integers")?;
    match kind {
        LaneKind::F32 => match exponential(function) {
            Some(many) => map1::<f32>(destination, x, many),
            None => {
                map1::<f32>(destination, x, |lanes| float_unary!(f32, single, function, lanes, alpha, beta))
            }
        },
        LaneKind::F64 => {
            map1::<f64>(destination, x, |lanes| float_unary!(f64, double, function, lanes, alpha, beta))
        }
        LaneKind::I64 | LaneKind::I128 => {
            let is_bool = x.element().class() == Class::Boolean;
            require(
                integer_unary(function, is_bool, 0, alpha, beta).is_some(),
                "this function needs floats",
            )?;
            map1::<i128>(destination, x, |lanes| {
                for lane in lanes {
                    *lane = integer_unary(function, is_bool, *lane, alpha, beta).unwrap_or(*lane);
                }
            })
        }
    }
}

/// The unary functions that integers have; `None` for the others.
fn integer_unary(function: UnaryFunction, is_bool: bool, x: i128, alpha: f64, beta: f64) -> Option<i128> {
    use UnaryFunction as F;
    Some(match function {
        F::Copy | F::RoundHalfEven | F::Floor | F::Ceil | F::Truncate => x,
        F::Negate => -x,
        F::Absolute => x.abs(),
        F::Square => x.wrapping_mul(x),
        F::Relu => x.max(0),
        F::Sign => x.signum(),
        F::Not => i128::from(x == 0),
        F::BitwiseNot if is_bool => i128::from(x == 0),
        F::BitwiseNot => !x,
        F::IsNan | F::IsInfinite => 0,
        F::Clamp => {
            // Through f64: the constants are f64, and casts saturate.
            let (low, high) = (alpha.ceil() as i128, beta.floor() as i128);
            x.max(low).min(high)
        }
        _ => return None,
    })
}

/// `destination = function(a, b)`; see [`BinaryFunction`]. `a` and `b` have one element type.
pub fn binary(
    destination: &mut Destination<'_>,
    a: &Source<'_>,
    b: &Source<'_>,
    function: BinaryFunction,
) -> Result<(), Fault> {
    let kind = lane_kind(&[a.element(), b.element()]);
    let is_float = matches!(kind, LaneKind::F32 | LaneKind::F64);
    require(!is_float || !is_bitwise(function), "bitwise functions need integers")?;
    let bits = a.element().bits();
    match kind {
        LaneKind::F32 => {
            float_binary::<f32>(destination, a, b, function, f32::powf, single::remainder_floor, |a, b| {
                (a / b, a % b)
            })
        }
        LaneKind::F64 => {
            float_binary::<f64>(destination, a, b, function, f64::powf, double::remainder_floor, |a, b| {
                (a / b, a % b)
            })
        }
        LaneKind::I64 | LaneKind::I128 => map2::<i128>(destination, a, b, |a, b| {
            for (a, &b) in a.iter_mut().zip(b) {
                *a = integer_binary(function, *a, b, bits);
            }
        }),
    }
}

fn is_bitwise(function: BinaryFunction) -> bool {
    use BinaryFunction as F;
    matches!(function, F::And | F::Or | F::Xor | F::ShiftLeft | F::ShiftRight)
}

fn float_binary<L: Lane>(
    destination: &mut Destination<'_>,
    a: &Source<'_>,
    b: &Source<'_>,
    function: BinaryFunction,
    power: fn(L, L) -> L,
    remainder_floor: fn(L, L) -> L,
    divide: fn(L, L) -> (L, L),
) -> Result<(), Fault> {
    use BinaryFunction as F;
    let truth = |value: bool| L::from_i64(i64::from(value));
    macro_rules! each {
        ($f:expr) => {{
            let f = $f;
            map2::<L>(destination, a, b, |a, b| a.iter_mut().zip(b).for_each(|(a, &b)| *a = f(*a, b)))
        }};
    }
    match function {
        F::Add => each!(L::add),
        F::Subtract => each!(L::subtract),
        F::Multiply => each!(L::multiply),
        F::Divide => each!(|a, b| divide(a, b).0),
        F::Power => each!(power),
        F::Maximum => each!(L::maximum),
        F::Minimum => each!(L::minimum),
        F::RemainderFloor => each!(remainder_floor),
        F::RemainderTruncate => each!(|a, b| divide(a, b).1),
        F::Equal => each!(|a, b| truth(a == b)),
        F::NotEqual => each!(|a, b| truth(a != b)),
        F::Less => each!(|a, b| truth(a < b)),
        F::LessEqual => each!(|a, b| truth(a <= b)),
        F::Greater => each!(|a, b| truth(a > b)),
        F::GreaterEqual => each!(|a, b| truth(a >= b)),
        F::And | F::Or | F::Xor | F::ShiftLeft | F::ShiftRight => {
            Err(Fault::Shape("bitwise functions need integers"))
        }
    }
}

/// Exact in i128; the store wraps to the destination's width. `bits` is the operands' width.
fn integer_binary(function: BinaryFunction, a: i128, b: i128, bits: u32) -> i128 {
    use BinaryFunction as F;
    match function {
        F::Add => a + b,
        F::Subtract => a - b,
        F::Multiply => a.wrapping_mul(b),
        F::Divide => a.checked_div(b).unwrap_or(0),
        F::Power => integer_power(a, b),
        F::Maximum => a.max(b),
        F::Minimum => a.min(b),
        F::RemainderFloor => {
            let r = a.checked_rem(b).unwrap_or(0);
            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
        }
        F::RemainderTruncate => a.checked_rem(b).unwrap_or(0),
        F::Equal => i128::from(a == b),
        F::NotEqual => i128::from(a != b),
        F::Less => i128::from(a < b),
        F::LessEqual => i128::from(a <= b),
        F::Greater => i128::from(a > b),
        F::GreaterEqual => i128::from(a >= b),
        F::And => a & b,
        F::Or => a | b,
        F::Xor => a ^ b,
        F::ShiftLeft => {
            if (0..i128::from(bits)).contains(&b) {
                a << b
            } else {
                0
            }
        }
        // A distance outside the width, a negative one included, leaves nothing but the sign.
        F::ShiftRight => a >> if (0..128).contains(&b) { b } else { 127 },
    }
}

/// a^b by squaring, wrapping; a negative exponent gives the truncated quotient 1 / a^|b|.
fn integer_power(a: i128, b: i128) -> i128 {
    if b < 0 {
        return match a {
            1 => 1,
            -1 => {
                if b % 2 == 0 {
                    1
                } else {
                    -1
                }
            }
            _ => 0,
        };
    }
    let (mut result, mut base, mut exponent) = (1i128, a, b);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    result
}

/// `destination = condition ? a : b`.
pub fn select(
    destination: &mut Destination<'_>,
    condition: &Source<'_>,
    a: &Source<'_>,
    b: &Source<'_>,
) -> Result<(), Fault> {
    require(condition.element() == Element::Bool, "the condition of select must be bool")?;
    require(
        a.element() == b.element() && destination.element() == a.element(),
        "select needs one element type",
    )?;
    same_dims("extents of destination and condition differ", destination, condition)?;
    same_dims("extents of destination and a differ", destination, a)?;
    same_dims("extents of destination and b differ", destination, b)?;
    with_lane!([a.element()], L => select_lanes::<L>(destination, condition, a, b))
}

fn select_lanes<L: Lane>(
    destination: &mut Destination<'_>,
    condition: &Source<'_>,
    a: &Source<'_>,
    b: &Source<'_>,
) -> Result<(), Fault> {
    let window = destination.window.clone();
    let strides = [window.strides(), condition.strides(), a.strides(), b.strides()];
    for_each_row(window.dims(), strides, |length, offsets, steps| {
        let mut keep = [0i64; CHUNK];
        let (mut left, mut right) = ([L::default(); CHUNK], [L::default(); CHUNK]);
        for start in (0..length).step_by(CHUNK) {
            let count = CHUNK.min(length - start);
            let place = |view: usize| offsets[view] + start as i64 * steps[view];
            load(condition, place(1), steps[1], &mut keep[..count]);
            load(a, place(2), steps[2], &mut left[..count]);
            load(b, place(3), steps[3], &mut right[..count]);
            for index in 0..count {
                if keep[index] == 0 {
                    left[index] = right[index];
                }
            }
            store(destination, place(0), steps[0], &left[..count]);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{read, values};

    #[test]
    fn unary_functions_match_their_formulas() {
        use UnaryFunction as F;
        type Formula = (F, fn(f64) -> f64);
        let formulas: &[Formula] = &[
            (F::Negate, |x| -x),
            (F::Exp, f64::exp),
            (F::Rsqrt, |x| 1.0 / x.sqrt()),
            (F::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
            (F::Silu, |x| x / (1.0 + (-x).exp())),
            (F::GeluTanh, |x| {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }),
            (F::Gelu, |x| 0.5 * x * (1.0 + crate::kernels::scalar::erf(x / 2f64.sqrt()))),
            (F::Softplus, |x| (1.0 + x.exp()).ln()),
            (F::Mish, |x| x * (1.0 + x.exp()).ln().tanh()),
            (F::LeakyRelu, |x| if x < 0.0 { 0.25 * x } else { x }),
            (F::HardSigmoid, |x| (0.25 * x + 0.5).clamp(0.0, 1.0)),
            (F::Affine, |x| 0.25 * x + 0.5),
            (F::Clamp, |x| x.clamp(0.25, 0.5)),
        ];
        let inputs: Vec<f64> = (0..40).map(|index| f64::from(index) * 0.17 - 3.0).collect();
        for &(function, formula) in formulas {
            for element in [Element::F32, Element::F64, Element::F16] {
                let x = values(element, &[5, 8], &inputs);
                let mut out = values(element, &[5, 8], &[]);
                unary(&mut out.destination(), &x.source(), function, 0.25, 0.5).expect("extents agree");
                let tolerance = if element == Element::F16 { 2e-3 } else { 1e-6 };
                for (&x, y) in read(&x.source()).iter().zip(read(&out.source())) {
                    let expected = formula(x);
                    let is_close = (y - expected).abs() <= tolerance * expected.abs().max(1.0);
                    assert!(
                        is_close || (y.is_nan() && expected.is_nan()),
                        "{function} {element} {x}: {y}, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn integers_wrap_and_never_trap() {
        let a = values(Element::I8, &[4], &[127.0, -128.0, 7.0, -7.0]);
        let b = values(Element::I8, &[4], &[1.0, -1.0, 0.0, 2.0]);
        let mut out = values(Element::I8, &[4], &[]);
        let mut run = |function| {
            binary(&mut out.destination(), &a.source(), &b.source(), function).expect("extents agree");
            read(&out.source())
        };
        assert_eq!(run(BinaryFunction::Add), [-128.0, 127.0, 7.0, -5.0]);
        assert_eq!(run(BinaryFunction::Divide), [127.0, -128.0, 0.0, -3.0]);
        assert_eq!(run(BinaryFunction::RemainderFloor), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(run(BinaryFunction::RemainderTruncate), [0.0, 0.0, 0.0, -1.0]);
        assert_eq!(run(BinaryFunction::ShiftLeft), [-2.0, 0.0, 7.0, -28.0]);
        assert_eq!(integer_power(-2, 3), -8);
    }

    #[test]
    fn comparisons_select_and_broadcast() {
        let a = values(Element::F32, &[2, 3], &[1.0, 5.0, f64::NAN, 4.0, 2.0, 3.0]);
        let b = values(Element::F32, &[2, 3], &[2.0; 6]);
        let mut keep = values(Element::Bool, &[2, 3], &[]);
        binary(&mut keep.destination(), &a.source(), &b.source(), BinaryFunction::Greater)
            .expect("extents agree");
        assert_eq!(read(&keep.source()), [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
        let mut out = values(Element::F32, &[2, 3], &[]);
        select(&mut out.destination(), &keep.source(), &a.source(), &b.source()).expect("extents agree");
        assert_eq!(read(&out.source()), [2.0, 5.0, 2.0, 4.0, 2.0, 3.0]);
        let short = values(Element::F32, &[3], &[]);
        assert!(binary(&mut out.destination(), &a.source(), &short.source(), BinaryFunction::Add).is_err());
    }
}
