//! Floats of at most 8 bits: one table of formats, from which codes become numbers and numbers codes.
//!
//! Sources: OCP OFP8 1.0 (e4m3fn, e5m2), ONNX "Float stored in 8 bits" (the `fnuz` formats), OCP MX 1.0 (e8m0, e2m1). It must not know
//! memory or commands.

use crate::element::Element;
use crate::functions::Rounding;

/// What the codes at the end of a format's range mean.
#[derive(Clone, Copy, PartialEq)]
enum Specials {
    /// Infinities and NaN, as in IEEE.
    Ieee,
    /// All ones is NaN.
    AllOnes,
    /// The code of minus zero is NaN; there is no minus zero.
    MinusZero,
    /// None; NaN becomes minus zero.
    None,
}

/// Exponent bits, mantissa bits, exponent bias, and the special codes.
#[derive(Clone, Copy)]
struct Format {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    specials: Specials,
}

fn format(element: Element) -> Format {
    let (exponent_bits, mantissa_bits, bias, specials) = match element {
        Element::F8E5M2 => (5, 2, 15, Specials::Ieee),
        Element::F8E4M3FNUZ => (4, 3, 8, Specials::MinusZero),
        Element::F8E5M2FNUZ => (5, 2, 16, Specials::MinusZero),
        Element::F4E2M1 => (2, 1, 1, Specials::None),
        _ => (4, 3, 7, Specials::AllOnes),
    };
    Format { exponent_bits, mantissa_bits, bias, specials }
}

/// Whether the element is one of these formats.
pub fn is_small_float(element: Element) -> bool {
    matches!(
        element,
        Element::F8E4M3FN
            | Element::F8E5M2
            | Element::F8E4M3FNUZ
            | Element::F8E5M2FNUZ
            | Element::F8E8M0
            | Element::F4E2M1
    )
}

/// The number that a code stands for.
pub fn decode(code: u8, element: Element) -> f32 {
    if element == Element::F8E8M0 {
        return if code == 0xff { f32::NAN } else { ((i32::from(code) - 127) as f64).exp2() as f32 };
    }
    let Format { exponent_bits, mantissa_bits, bias, specials } = format(element);
    let sign_bit = 1u8 << (exponent_bits + mantissa_bits);
    let sign = if code & sign_bit != 0 { -1.0f32 } else { 1.0 };
    let magnitude = code & (sign_bit - 1);
    let exponent = i32::from(magnitude >> mantissa_bits);
    let mantissa = i32::from(magnitude & ((1 << mantissa_bits) - 1));
    match specials {
        Specials::AllOnes if magnitude == sign_bit - 1 => return f32::NAN,
        Specials::MinusZero if code == sign_bit => return f32::NAN,
        Specials::Ieee if exponent == (1 << exponent_bits) - 1 => {
            return if mantissa == 0 { sign * f32::INFINITY } else { f32::NAN };
        }
        _ => {}
    }
    let unit = (exponent.max(1) - bias - mantissa_bits as i32) as f32;
    let significand = if exponent == 0 { mantissa } else { mantissa + (1 << mantissa_bits) };
    sign * significand as f32 * unit.exp2()
}

/// The nearest code, ties to even. Out of range: the largest finite value when saturating, else infinity or NaN where the format has
/// one. `rounding` is for powers of two alone: nearest (ties up), down (floor) or up (ceil).
pub fn encode(value: f32, element: Element, saturate: bool, rounding: Rounding) -> u8 {
    if element == Element::F8E8M0 {
        return encode_power(value, saturate, rounding);
    }
    let Format { exponent_bits, mantissa_bits, bias, specials } = format(element);
    let sign_bit = 1u8 << (exponent_bits + mantissa_bits);
    let sign = if value.is_sign_negative() { sign_bit } else { 0 };
    let all_ones = sign_bit - 1;
    let (largest, overflow, nan) = match specials {
        Specials::Ieee => {
            let infinity = all_ones & !((1 << mantissa_bits) - 1);
            (infinity - 1, sign | infinity, sign | all_ones)
        }
        Specials::AllOnes => (all_ones - 1, sign | all_ones, sign | all_ones),
        Specials::MinusZero => (all_ones, sign_bit, sign_bit),
        Specials::None => (all_ones, sign | all_ones, sign_bit),
    };
    if value.is_nan() {
        return nan;
    }
    let too_large = if saturate { sign | largest } else { overflow };
    let magnitude = value.abs();
    if magnitude.is_infinite() {
        return too_large;
    }
    let exponent = (((magnitude.to_bits() >> 23) as i32) - 127).max(1 - bias);
    let unit = ((exponent - mantissa_bits as i32) as f32).exp2();
    // Exact: a division by a power of two of a value within the format's range, then one rounding.
    let steps = (magnitude / unit).round_ties_even();
    let code = steps as i64 + (i64::from(exponent + bias - 1) << mantissa_bits);
    match code {
        code if code > i64::from(largest) => too_large,
        0 if specials == Specials::MinusZero => 0,
        code => sign | code as u8,
    }
}

/// The power of two of an e8m0 scale; negative values and NaN are NaN.
fn encode_power(value: f32, saturate: bool, rounding: Rounding) -> u8 {
    if value.is_nan() || value < 0.0 {
        return 0xff;
    }
    let bits = f64::from(value).to_bits();
    let (exponent, fraction) = ((bits >> 52) as i32 - 1023, bits & ((1 << 52) - 1));
    let is_up = match rounding {
        Rounding::Floor => false,
        Rounding::Ceil => fraction > 0,
        _ => fraction >= 1 << 51,
    };
    let exponent = exponent + i32::from(is_up);
    if exponent > 127 && !saturate {
        return 0xff;
    }
    (exponent.clamp(-127, 127) + 127) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [Element; 6] = [
        Element::F8E4M3FN,
        Element::F8E5M2,
        Element::F8E4M3FNUZ,
        Element::F8E5M2FNUZ,
        Element::F8E8M0,
        Element::F4E2M1,
    ];

    #[test]
    fn codes_are_their_own_nearest_value() {
        for element in FORMATS {
            for code in 0..=(((1u16 << element.bits()) - 1) as u8) {
                let value = decode(code, element);
                if value.is_finite() {
                    let again = encode(value, element, true, Rounding::HalfEven);
                    assert_eq!(again, code, "{element} {code:#x} = {value}");
                }
            }
        }
        assert_eq!(decode(0x7e, Element::F8E4M3FN), 448.0);
        assert_eq!(decode(0x7f, Element::F8E4M3FNUZ), 240.0);
        assert_eq!(decode(0x7, Element::F4E2M1), 6.0);
    }

    #[test]
    fn every_float_goes_to_the_nearest_value() {
        for element in FORMATS.into_iter().filter(|element| *element != Element::F8E8M0) {
            let codes = 0..=(((1u16 << element.bits()) - 1) as u8);
            let values: Vec<f32> =
                codes.map(|code| decode(code, element)).filter(|value| value.is_finite()).collect();
            let largest = values.iter().copied().fold(0.0, f32::max);
            for step in -4000..=4000 {
                let x = step as f32 / 4000.0 * largest;
                let found = decode(encode(x, element, true, Rounding::HalfEven), element);
                let best = values.iter().map(|value| (value - x).abs()).fold(f32::INFINITY, f32::min);
                assert!((found - x).abs() <= best, "{element}: {x} became {found}");
            }
        }
    }

    #[test]
    fn beyond_the_range() {
        let code = |value, element, saturate| encode(value, element, saturate, Rounding::HalfEven);
        assert_eq!(code(1e9, Element::F8E4M3FN, true), 0x7e);
        assert_eq!(code(464.1, Element::F8E4M3FN, false), 0x7f);
        assert_eq!(code(1e9, Element::F8E5M2, false), 0x7c);
        assert_eq!(code(f32::NEG_INFINITY, Element::F8E5M2FNUZ, true), 0xff);
        assert_eq!(code(f32::INFINITY, Element::F8E4M3FNUZ, false), 0x80);
        assert_eq!(code(f32::NAN, Element::F4E2M1, true), 0x8);
        let power = |value, rounding| decode(encode(value, Element::F8E8M0, true, rounding), Element::F8E8M0);
        assert_eq!(power(3.0, Rounding::Floor), 2.0);
        assert_eq!(power(2.1, Rounding::Ceil), 4.0);
        assert_eq!(power(2.9, Rounding::HalfEven), 2.0);
    }
}
