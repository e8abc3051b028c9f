//! Numbers as MLIR prints them: floats, the elements of dense constants, and the escapes of weight names.
//!
//! Source of the float rules: `printFloatValue` in mlir/lib/IR/AsmPrinter.cpp and `APFloat::toString` in LLVM 19. Six digits
//! when they read back to the same number, else as many as the format holds, else the bits.
//!
//! ```text
//! 5.000000e-02   3.14159274   9.9999999999999995E-8   0x7FC00000
//! ```

use crate::element::{Element, Family};
use crate::number;
use half::{bf16, f16};
use std::fmt::Write;

/// Significand bits, the hidden one included, which decide how many digits a format can show.
fn significand_bits(element: Element) -> usize {
    match element {
        Element::F64 => 53,
        Element::F32 => 24,
        Element::F16 => 11,
        Element::BF16 => 8,
        Element::F8E4M3FN | Element::F8E4M3FNUZ => 4,
        Element::F8E5M2 | Element::F8E5M2FNUZ => 3,
        _ => 2,
    }
}

/// The bits of a float in its own format.
pub fn float_bits(value: f64, element: Element) -> u64 {
    match element {
        Element::F64 => value.to_bits(),
        Element::F32 => u64::from((value as f32).to_bits()),
        Element::F16 => u64::from(f16::from_f64(value).to_bits()),
        Element::BF16 => u64::from(bf16::from_f64(value).to_bits()),
        _ => u64::from(number::encode(element, value, true)),
    }
}

/// The float that has these bits in its format.
pub fn float_from_bits(bits: u64, element: Element) -> f64 {
    match element {
        Element::F64 => f64::from_bits(bits),
        Element::F32 => f64::from(f32::from_bits(bits as u32)),
        Element::F16 => f16::from_bits(bits as u16).to_f64(),
        Element::BF16 => bf16::from_bits(bits as u16).to_f64(),
        _ => number::decode(element, bits as u8),
    }
}

/// A float as MLIR prints it.
pub fn float_text(value: f64, element: Element) -> String {
    bits_text(float_bits(value, element), element)
}

/// A float given by its bits, as MLIR prints it.
fn bits_text(bits: u64, element: Element) -> String {
    let value = float_from_bits(bits, element);
    if value.is_finite() {
        let short = exponential(value, 6);
        let same = match element {
            Element::F32 => short.parse::<f32>().is_ok_and(|read| u64::from(read.to_bits()) == bits),
            _ => short.parse::<f64>().is_ok_and(|read| float_bits(read, element) == bits),
        };
        if same {
            return short;
        }
        let long = natural(value, 2 + significand_bits(element) * 59 / 196);
        if long.contains('.') {
            return long;
        }
    }
    format!("0x{bits:X}")
}

/// A natural number, low limb first, for exact decimal digits.
struct Natural(Vec<u32>);

impl Natural {
    fn multiply(&mut self, factor: u32) {
        let mut carry = 0u64;
        for limb in &mut self.0 {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// Divides in place and gives the remainder.
    fn divide(&mut self, divisor: u32) -> u32 {
        let mut rest = 0u64;
        for limb in self.0.iter_mut().rev() {
            let value = rest << 32 | u64::from(*limb);
            *limb = (value / u64::from(divisor)) as u32;
            rest = value % u64::from(divisor);
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        rest as u32
    }

    fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    /// Decimal digits, first the most significant.
    fn into_digits(mut self) -> Vec<u8> {
        let mut digits = Vec::new();
        while !self.0.is_empty() {
            let mut nine = self.divide(1_000_000_000);
            for _ in 0..9 {
                digits.push(b'0' + (nine % 10) as u8);
                nine /= 10;
            }
        }
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        digits.reverse();
        digits
    }
}

/// Significant digits without trailing zeros, and the power of ten of the first one. LLVM cuts the exact number off near the
/// wanted count and then rounds half up what is still too long; both steps show in what it prints (1e-7 is not `1.000000e-07`).
fn digits(value: f64, count: usize) -> (Vec<u8>, i32) {
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let (significand, power) = match (bits >> 52 & 0x7ff) as i32 {
        0 => (fraction, -1074),
        exponent => (fraction | 1 << 52, exponent - 1075),
    };
    if significand == 0 {
        return (vec![b'0'], 0);
    }
    let odd = significand >> significand.trailing_zeros();
    let power = power + significand.trailing_zeros() as i32;
    let mut number = Natural(vec![odd as u32, (odd >> 32) as u32]);
    for _ in 0..power.unsigned_abs() {
        number.multiply(if power > 0 { 2 } else { 5 });
    }
    while number.0.last() == Some(&0) {
        number.0.pop();
    }
    let mut last_power = power.min(0);
    let kept_bits = (count * 196).div_ceil(59);
    for _ in 0..number.bits().saturating_sub(kept_bits) * 59 / 196 {
        number.divide(10);
        last_power += 1;
    }
    let mut digits = number.into_digits();
    let first_power = last_power + digits.len() as i32 - 1;
    let round_up = digits.get(count).is_some_and(|digit| *digit >= b'5');
    digits.truncate(count);
    if round_up {
        while digits.last() == Some(&b'9') {
            digits.pop();
        }
        match digits.last_mut() {
            Some(last) => *last += 1,
            None => return (vec![b'1'], first_power + 1),
        }
    }
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
    (digits, first_power)
}

/// `%e` with six decimals, of `count` significant digits.
fn exponential(value: f64, count: usize) -> String {
    let (digits, exponent) = digits(value, count);
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    let (first, rest) = digits.split_at(1);
    let (first, rest) = (String::from_utf8_lossy(first), String::from_utf8_lossy(rest));
    format!("{sign}{first}.{rest:0<6}e{exponent_sign}{:02}", exponent.unsigned_abs())
}

/// `APFloat::toString` with its default padding of three zeros.
fn natural(value: f64, count: usize) -> String {
    let (digits, first_power) = digits(value, count);
    let text = String::from_utf8_lossy(&digits).into_owned();
    let length = digits.len() as i32;
    let last_power = first_power - (length - 1);
    let scientific = if last_power >= 0 {
        last_power > 3 || (length + last_power) as usize > count
    } else {
        first_power < -3
    };
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if scientific {
        let rest = if length == 1 { "0" } else { &text[1..] };
        let exponent_sign = if first_power < 0 { '-' } else { '+' };
        return format!("{sign}{}.{rest}E{exponent_sign}{}", &text[..1], first_power.unsigned_abs());
    }
    if last_power >= 0 {
        return format!("{sign}{text}{}", "0".repeat(last_power as usize));
    }
    if first_power >= 0 {
        let (whole, fraction) = text.split_at(first_power as usize + 1);
        return format!("{sign}{whole}.{fraction}");
    }
    format!("{sign}0.{}{text}", "0".repeat((-first_power - 1) as usize))
}

/// The code of element `index` in packed little-endian bytes; `None` past the end.
pub(crate) fn code_at(element: Element, bytes: &[u8], index: usize) -> Option<u64> {
    let bits = element.bits();
    if bits < 8 {
        let at = index * bits;
        return Some(u64::from(bytes.get(at / 8)? >> (at % 8)) & ((1 << bits) - 1));
    }
    let width = bits / 8;
    let slice = bytes.get(index * width..(index + 1) * width)?;
    Some(slice.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// One element of a dense constant from its code.
pub(crate) fn write_code(out: &mut String, element: Element, code: u64) {
    let bits = element.bits() as u32;
    let written = match element.family() {
        Family::Float => {
            out.push_str(&bits_text(code, element));
            Ok(())
        }
        Family::Bool => write!(out, "{}", code != 0),
        Family::Signed => write!(out, "{}", ((code << (64 - bits)) as i64) >> (64 - bits)),
        Family::Unsigned => write!(out, "{code}"),
    };
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected texts are what mlir-opt 19.1.7 prints for these numbers.
    #[test]
    fn floats_print_as_in_mlir() {
        let rows = [
            (0.05, Element::F64, "5.000000e-02"),
            (1.0e-7, Element::F64, "9.9999999999999995E-8"),
            (123_456_789.0, Element::F64, "0x419D6F3454000000"),
            (123_456.0, Element::F64, "1.234560e+05"),
            (1_234_567.0, Element::F64, "0x4132D68700000000"),
            (1.0e300, Element::F64, "1.000000e+300"),
            (-0.0, Element::F64, "-0.000000e+00"),
            (0.333_333_333_333_3, Element::F32, "0.333333343"),
            (0.3, Element::F16, "3.000490e-01"),
            (1.0e-45, Element::F32, "1.401300e-45"),
            (f64::NEG_INFINITY, Element::F32, "0xFF800000"),
            (f64::INFINITY, Element::F64, "0x7FF0000000000000"),
            (0.1, Element::F16, "9.997550e-02"),
            (0.1, Element::BF16, "1.000980e-01"),
            (1.015625, Element::F16, "1.015630e+00"),
            (1.5, Element::F8E4M3FN, "1.500000e+00"),
        ];
        for (value, element, expected) in rows {
            assert_eq!(float_text(value, element), expected, "{value:?} as {element}");
        }
    }

    #[test]
    fn every_f16_reads_back() {
        for bits in 0..=u16::MAX {
            let text = bits_text(u64::from(bits), Element::F16);
            let read = match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
                None => float_bits(text.parse().unwrap(), Element::F16),
            };
            assert_eq!(read, u64::from(bits), "{text}");
        }
    }
}
