//! How numbers are rounded, wrapped and packed for each element type.
//!
//! Sources: IEEE 754-2019 (f16, round half to even), OCP FP8 (OFP8 1.0) and MX 1.0, ONNX "Float stored in 8 bits", QLoRA
//! (arXiv:2305.14314, appendix E) for nf4.

use crate::element::{Element, Family};
use crate::tensor::Data;
use half::{bf16, f16};

/// The sixteen quantiles of NormalFloat 4.
pub const NF4_LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A small float format: exponent and mantissa bits, bias, and what its special codes mean.
#[derive(Clone, Copy)]
struct Small {
    exponent: u32,
    mantissa: u32,
    bias: i32,
    /// The all-ones code (and for `Uz` the code of minus zero) is NaN.
    specials: Specials,
}

#[derive(Clone, Copy, PartialEq)]
enum Specials {
    /// Infinities and NaNs as in IEEE.
    Ieee,
    /// Only all ones is NaN; no infinity.
    FiniteNan,
    /// Minus zero's code is NaN; no infinity.
    Uz,
    /// None at all.
    Finite,
}

fn small(element: Element) -> Option<Small> {
    let (exponent, mantissa, bias, specials) = match element {
        Element::F8E4M3FN => (4, 3, 7, Specials::FiniteNan),
        Element::F8E5M2 => (5, 2, 15, Specials::Ieee),
        Element::F8E4M3FNUZ => (4, 3, 8, Specials::Uz),
        Element::F8E5M2FNUZ => (5, 2, 16, Specials::Uz),
        Element::F4E2M1 => (2, 1, 1, Specials::Finite),
        _ => return None,
    };
    Some(Small { exponent, mantissa, bias, specials })
}

impl Small {
    fn bits(self) -> u32 {
        1 + self.exponent + self.mantissa
    }

    fn decode(self, code: u32) -> f64 {
        let sign = if code >> (self.bits() - 1) & 1 == 1 { -1.0 } else { 1.0 };
        let exponent = (code >> self.mantissa) & ((1 << self.exponent) - 1);
        let mantissa = code & ((1 << self.mantissa) - 1);
        let top = (1 << self.exponent) - 1;
        match self.specials {
            Specials::Ieee if exponent == top => {
                return if mantissa == 0 { sign * f64::INFINITY } else { f64::NAN };
            }
            Specials::FiniteNan if exponent == top && mantissa == (1 << self.mantissa) - 1 => {
                return f64::NAN;
            }
            Specials::Uz if code == 1 << (self.bits() - 1) => return f64::NAN,
            _ => {}
        }
        let fraction = f64::from(mantissa) / f64::from(1u32 << self.mantissa);
        let (whole, power) = if exponent == 0 { (0.0, 1) } else { (1.0, exponent as i32) };
        sign * (whole + fraction) * 2f64.powi(power - self.bias)
    }

    /// Largest finite value.
    fn largest(self) -> f64 {
        (0..1u32 << (self.bits() - 1))
            .map(|code| self.decode(code))
            .filter(|v| v.is_finite())
            .fold(0.0, f64::max)
    }

    /// Nearest, ties to the even code; beyond the largest saturates when asked, else becomes infinity or NaN.
    fn encode(self, value: f64, saturate: bool) -> u32 {
        let sign = u32::from(value.is_sign_negative()) << (self.bits() - 1);
        let nan = match self.specials {
            Specials::Ieee => sign | (((1 << self.exponent) - 1) << self.mantissa) | 1,
            Specials::FiniteNan => sign | ((1 << (self.bits() - 1)) - 1),
            Specials::Uz => 1 << (self.bits() - 1),
            Specials::Finite => 1 << (self.bits() - 1),
        };
        if value.is_nan() {
            // A format without NaN has minus zero for it, as ONNX's own tests do (float4e2m1).
            return nan;
        }
        let magnitude = value.abs();
        let (mut best, mut distance) = (0u32, f64::INFINITY);
        let mut largest = (0u32, 0.0);
        for code in 0..1u32 << (self.bits() - 1) {
            let candidate = self.decode(code);
            if !candidate.is_finite() {
                continue;
            }
            if candidate >= largest.1 {
                largest = (code, candidate);
            }
            let away = (candidate - magnitude).abs();
            if away < distance || (away == distance && code & 1 == 0) {
                (best, distance) = (code, away);
            }
        }
        // Half a step beyond the largest value still rounds to it.
        let step = largest.1 - self.decode(largest.0 - 1);
        let overflow = magnitude >= largest.1 + step / 2.0;
        if magnitude > largest.1 {
            best = largest.0;
        }
        if overflow && !saturate {
            return match self.specials {
                Specials::Ieee => sign | (((1 << self.exponent) - 1) << self.mantissa),
                Specials::Finite => sign | largest.0,
                _ => nan,
            };
        }
        if best == 0 && self.specials == Specials::Uz { 0 } else { sign | best }
    }
}

/// Rounds to the nearest value of a float type, ties to even. f8 types saturate.
pub fn round_float(element: Element, value: f64) -> f64 {
    match element {
        Element::F64 => value,
        Element::F32 => f64::from(value as f32),
        Element::F16 => f16::from_f64(value).to_f64(),
        Element::BF16 => bf16::from_f64(value).to_f64(),
        _ => decode(element, encode(element, value, true)),
    }
}

/// The code of a value in a format of at most 8 bits.
pub fn encode(element: Element, value: f64, saturate: bool) -> u8 {
    match element {
        Element::F8E8M0 => encode_e8m0(value),
        Element::NF4 => {
            let away = |code: &usize| (f64::from(NF4_LEVELS[*code]) - value).abs();
            (0..16usize).min_by(|a, b| away(a).total_cmp(&away(b))).unwrap_or(7) as u8
        }
        _ => small(element).map_or(0, |format| format.encode(value, saturate) as u8),
    }
}

fn encode_e8m0(value: f64) -> u8 {
    if value.is_nan() || value < 0.0 {
        return 0xff;
    }
    // Rounds to the nearest power of two, as ONNX's default `up`-free conversion of scales does.
    let exponent = if value == 0.0 { -127.0 } else { value.log2().round() };
    (exponent.clamp(-127.0, 127.0) as i32 + 127) as u8
}

/// The value of a code in a format of at most 8 bits.
pub fn decode(element: Element, code: u8) -> f64 {
    match element {
        Element::F8E8M0 if code == 0xff => f64::NAN,
        Element::F8E8M0 => 2f64.powi(i32::from(code) - 127),
        Element::NF4 => f64::from(NF4_LEVELS[usize::from(code & 15)]),
        _ => small(element).map_or(0.0, |format| format.decode(u32::from(code))),
    }
}

/// The largest finite value of a small float format; `None` for the others.
pub fn largest(element: Element) -> Option<f64> {
    small(element).map(Small::largest)
}

/// Truncates towards zero and saturates to the range of an integer type; NaN becomes 0. Bool is `!= 0`.
pub fn float_to_int(element: Element, value: f64) -> i64 {
    match element {
        Element::Bool => i64::from(value != 0.0),
        Element::U64 => value as u64 as i64,
        _ => {
            let (low, high) = element.integer_range().unwrap_or((i64::MIN, i64::MAX));
            (value as i64).clamp(low, high)
        }
    }
}

/// Keeps the low bits that an integer type has.
pub fn wrap_int(element: Element, value: i64) -> i64 {
    let bits = element.bits() as u32;
    match element.family() {
        Family::Bool => i64::from(value != 0),
        Family::Signed if bits < 64 => (value << (64 - bits)) >> (64 - bits),
        Family::Unsigned if bits < 64 => value & ((1i64 << bits) - 1),
        _ => value,
    }
}

/// Reads `count` elements from packed little-endian bytes, which the caller has measured.
pub fn unpack(element: Element, bytes: &[u8], count: usize) -> Data {
    fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
    }
    match element {
        Element::F64 => Data::F64(each(bytes, f64::from_le_bytes)),
        Element::F32 => Data::F32(each(bytes, f32::from_le_bytes)),
        Element::F16 => Data::F32(each(bytes, |b| f16::from_le_bytes(b).to_f32())),
        Element::BF16 => Data::F32(each(bytes, |b| bf16::from_le_bytes(b).to_f32())),
        Element::I64 | Element::U64 => Data::I64(each(bytes, i64::from_le_bytes)),
        Element::I32 => Data::I64(each(bytes, |b| i64::from(i32::from_le_bytes(b)))),
        Element::U32 => Data::I64(each(bytes, |b| i64::from(u32::from_le_bytes(b)))),
        Element::I16 => Data::I64(each(bytes, |b| i64::from(i16::from_le_bytes(b)))),
        Element::U16 => Data::I64(each(bytes, |b| i64::from(u16::from_le_bytes(b)))),
        Element::I8 => Data::I64(each(bytes, |b| i64::from(i8::from_le_bytes(b)))),
        Element::U8 => Data::I64(each(bytes, |b| i64::from(u8::from_le_bytes(b)))),
        Element::Bool => Data::I64(each(bytes, |b: [u8; 1]| i64::from(b[0] != 0))),
        _ => {
            let bits = element.bits();
            let code = |index: usize| {
                let at = index * bits;
                (bytes[at / 8] >> (at % 8)) & (((1u16 << bits) - 1) as u8)
            };
            if element.is_float() {
                Data::F32((0..count).map(|index| decode(element, code(index)) as f32).collect())
            } else {
                Data::I64((0..count).map(|index| wrap_int(element, i64::from(code(index)))).collect())
            }
        }
    }
}

/// Packs values that are representable in the element type into little-endian bytes.
pub fn pack(element: Element, data: &Data) -> Vec<u8> {
    fn join<const N: usize>(parts: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
        parts.flatten().collect()
    }
    match (element, data) {
        (Element::F64, Data::F64(values)) => join(values.iter().map(|v| v.to_le_bytes())),
        (Element::F32, Data::F32(values)) => join(values.iter().map(|v| v.to_le_bytes())),
        (Element::F16, Data::F32(values)) => join(values.iter().map(|v| f16::from_f32(*v).to_le_bytes())),
        (Element::BF16, Data::F32(values)) => join(values.iter().map(|v| bf16::from_f32(*v).to_le_bytes())),
        (_, Data::I64(values)) if element.bits() >= 8 => {
            let width = element.bits() / 8;
            values.iter().flat_map(|value| value.to_le_bytes().into_iter().take(width)).collect()
        }
        _ => {
            let bits = element.bits();
            let codes: Vec<u8> = match data {
                Data::F32(values) => values.iter().map(|v| encode(element, f64::from(*v), true)).collect(),
                Data::I64(values) => values.iter().map(|v| *v as u8).collect(),
                Data::F64(_) => Vec::new(),
            };
            let mut bytes = vec![0u8; element.bytes_of(codes.len())];
            for (index, code) in codes.into_iter().enumerate() {
                let at = index * bits;
                bytes[at / 8] |= (code & (((1u16 << bits) - 1) as u8)) << (at % 8);
            }
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_round_trip_all_codes() {
        for element in
            [Element::F8E4M3FN, Element::F8E5M2, Element::F8E4M3FNUZ, Element::F8E5M2FNUZ, Element::F4E2M1]
        {
            for code in 0..(1u16 << element.bits()) {
                let value = decode(element, code as u8);
                if value.is_finite() {
                    assert_eq!(decode(element, encode(element, value, true)), value, "{element} {code}");
                }
            }
        }
        assert_eq!(largest(Element::F8E4M3FN), Some(448.0));
        assert_eq!(largest(Element::F8E5M2), Some(57344.0));
        assert_eq!(largest(Element::F4E2M1), Some(6.0));
        assert!(decode(Element::F8E4M3FN, encode(Element::F8E4M3FN, 1e9, false)).is_nan());
    }

    #[test]
    fn nibbles_are_low_first() {
        let data = Data::I64(vec![1, -2, 7]);
        let bytes = pack(Element::I4, &data);
        assert_eq!(bytes, [0xe1, 0x07]);
        assert_eq!(unpack(Element::I4, &bytes, 3), data);
    }
}
