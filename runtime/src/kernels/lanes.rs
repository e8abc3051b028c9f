//! Between elements in memory and the numbers kernels compute with.
//!
//! A [`Lane`] is f32, f64, or an integer wide enough; [`load`] widens a strided run of elements to lanes, [`store`] rounds
//! lanes to elements (nearest even for floats, wrapping for integers). This is the only file that knows element encodings.

use super::small_float;
use crate::element::{Class, Element};
use crate::functions::Rounding;
use crate::memory::{Destination, Source};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A number kernels compute with.
pub trait Lane:
    Copy + Default + PartialOrd + PartialEq + FromBytes + IntoBytes + Immutable + KnownLayout + 'static
{
    /// Whether NaN and fractions exist.
    const IS_FLOAT: bool;
    /// The element that is stored just as the lane is, if there is one.
    const ELEMENT: Option<Element>;
    /// From f32, truncating to integers.
    fn from_f32(value: f32) -> Self;
    /// From f64, truncating to integers, rounding to f32.
    fn from_f64(value: f64) -> Self;
    /// From i32, rounding. Narrow integers go this way: there are vector instructions for it.
    fn from_i32(value: i32) -> Self;
    /// From i64, wrapping or rounding.
    fn from_i64(value: i64) -> Self;
    /// From u64, wrapping or rounding.
    fn from_u64(value: u64) -> Self;
    /// To f32, nearest even.
    fn to_f32(self) -> f32;
    /// To f64.
    fn to_f64(self) -> f64;
    /// To i64: the low bits of integers, truncation (saturating) of floats.
    fn to_i64(self) -> i64;
    /// Sum; integers wrap.
    fn add(self, other: Self) -> Self;
    /// Difference; integers wrap.
    fn subtract(self, other: Self) -> Self;
    /// Product; integers wrap.
    fn multiply(self, other: Self) -> Self;
    /// Larger; NaN when either is.
    fn maximum(self, other: Self) -> Self;
    /// Smaller; NaN when either is.
    fn minimum(self, other: Self) -> Self;
    /// Whether this is NaN.
    fn is_nan(self) -> bool;
}

macro_rules! float_lane {
    ($type:ty, $element:expr) => {
        impl Lane for $type {
            const ELEMENT: Option<Element> = $element;
            const IS_FLOAT: bool = true;
            #[inline]
            fn from_f32(value: f32) -> Self {
                value as $type
            }
            #[inline]
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            #[inline]
            fn from_i32(value: i32) -> Self {
                value as $type
            }
            #[inline]
            fn from_i64(value: i64) -> Self {
                value as $type
            }
            #[inline]
            fn from_u64(value: u64) -> Self {
                value as $type
            }
            #[inline]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline]
            fn to_i64(self) -> i64 {
                self as i64
            }
            #[inline]
            fn add(self, other: Self) -> Self {
                self + other
            }
            #[inline]
            fn subtract(self, other: Self) -> Self {
                self - other
            }
            #[inline]
            fn multiply(self, other: Self) -> Self {
                self * other
            }
            #[inline]
            fn maximum(self, other: Self) -> Self {
                if self.is_nan() || self > other { self } else { other }
            }
            #[inline]
            fn minimum(self, other: Self) -> Self {
                if self.is_nan() || self < other { self } else { other }
            }
            #[inline]
            fn is_nan(self) -> bool {
                <$type>::is_nan(self)
            }
        }
    };
}

macro_rules! integer_lane {
    ($type:ty, $element:expr) => {
        impl Lane for $type {
            const ELEMENT: Option<Element> = $element;
            const IS_FLOAT: bool = false;
            #[inline]
            fn from_f32(value: f32) -> Self {
                value as $type
            }
            #[inline]
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            #[inline]
            fn from_i32(value: i32) -> Self {
                value as $type
            }
            #[inline]
            fn from_i64(value: i64) -> Self {
                value as $type
            }
            #[inline]
            fn from_u64(value: u64) -> Self {
                value as $type
            }
            #[inline]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline]
            fn to_i64(self) -> i64 {
                self as i64
            }
            #[inline]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline]
            fn subtract(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline]
            fn multiply(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline]
            fn maximum(self, other: Self) -> Self {
                self.max(other)
            }
            #[inline]
            fn minimum(self, other: Self) -> Self {
                self.min(other)
            }
            #[inline]
            fn is_nan(self) -> bool {
                false
            }
        }
    };
}

float_lane!(f32, Some(Element::F32));
float_lane!(f64, Some(Element::F64));
integer_lane!(i32, Some(Element::I32));
integer_lane!(i64, Some(Element::I64));
integer_lane!(i128, None);

/// Runs a block with `$lane` bound to the lane type that holds all `$elements` exactly: f64 for f64, f32 for other floats,
/// i128 for u64, i64 for other integers.
macro_rules! with_lane {
    ($elements:expr, $lane:ident => $body:expr) => {
        match $crate::kernels::lanes::lane_kind(&$elements) {
            $crate::kernels::lanes::LaneKind::F32 => {
                type $lane = f32;
                $body
            }
            $crate::kernels::lanes::LaneKind::F64 => {
                type $lane = f64;
                $body
            }
            $crate::kernels::lanes::LaneKind::I64 => {
                type $lane = i64;
                $body
            }
            $crate::kernels::lanes::LaneKind::I128 => {
                type $lane = i128;
                $body
            }
        }
    };
}
pub(crate) use with_lane;

/// Which lanes hold given elements exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    /// Floats of at most 32 bits.
    F32,
    /// Some f64.
    F64,
    /// Integers of at most 63 bits, i64, booleans.
    I64,
    /// Some u64.
    I128,
}

/// The narrowest kind that holds all of these elements.
pub fn lane_kind(elements: &[Element]) -> LaneKind {
    if elements.contains(&Element::F64) {
        LaneKind::F64
    } else if elements.iter().any(|element| element.is_float()) {
        LaneKind::F32
    } else if elements.contains(&Element::U64) {
        LaneKind::I128
    } else {
        LaneKind::I64
    }
}

/// The 16 levels of NormalFloat-4 (arXiv:2305.14314, appendix E).
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

fn f32_to_nf4(value: f32) -> u8 {
    let mut best = 0;
    for (code, level) in NF4_LEVELS.iter().enumerate() {
        if (value - level).abs() < (value - NF4_LEVELS[best]).abs() {
            best = code;
        }
    }
    best as u8
}

/// Reads `lanes.len()` elements that lie `stride` elements apart, beginning `offset` elements after the window's origin.
#[inline]
pub fn load<L: Lane>(source: &Source<'_>, offset: i64, stride: i64, lanes: &mut [L]) {
    if lanes.is_empty() {
        return; // an empty window has no bytes to locate
    }
    macro_rules! wide {
        ($type:ty, $convert:expr) => {{
            const SIZE: usize = size_of::<$type>();
            let (start, _) = source.locate(offset);
            if stride == 1 {
                let bytes = &source.bytes[start..start + lanes.len() * SIZE];
                for (lane, chunk) in lanes.iter_mut().zip(bytes.chunks_exact(SIZE)) {
                    *lane =
                        $convert(<$type>::from_le_bytes(chunk.try_into().expect("chunks are of this size")));
                }
            } else {
                let mut place = start as i64;
                for lane in lanes.iter_mut() {
                    let chunk = &source.bytes[place as usize..place as usize + SIZE];
                    *lane =
                        $convert(<$type>::from_le_bytes(chunk.try_into().expect("slices are of this size")));
                    place += stride * SIZE as i64;
                }
            }
        }};
    }
    macro_rules! narrow {
        ($convert:expr) => {{
            let bits = source.element().bits();
            let mask = (1u8 << bits) - 1;
            let (start, shift) = source.locate(offset);
            if bits == 4 && stride == 1 && shift == 0 {
                // Codes first, numbers then: the second loop has vector instructions.
                let mut codes = [0u8; 32];
                for (lanes, bytes) in lanes.chunks_mut(32).zip(source.bytes[start..].chunks(16)) {
                    for (pair, &byte) in codes.chunks_exact_mut(2).zip(bytes) {
                        (pair[0], pair[1]) = (byte & 0xf, byte >> 4);
                    }
                    lanes.iter_mut().zip(&codes).for_each(|(lane, &code)| *lane = $convert(code));
                }
                return;
            }
            let mut place = offset;
            for lane in lanes.iter_mut() {
                let (byte, shift) = source.locate(place);
                *lane = $convert((source.bytes[byte] >> shift) & mask);
                place += stride;
            }
        }};
    }
    match source.element() {
        Element::F64 => wide!(f64, L::from_f64),
        Element::F32 => wide!(f32, L::from_f32),
        Element::F16 if stride == 1 => load_halves(source, offset, lanes),
        Element::F16 => wide!(f16, |value: f16| L::from_f32(value.to_f32())),
        // The upper half of an f32, whatever it holds.
        Element::BF16 => wide!(u16, |bits: u16| L::from_f32(f32::from_bits(u32::from(bits) << 16))),
        Element::I64 => wide!(i64, L::from_i64),
        Element::I32 => wide!(i32, L::from_i32),
        Element::I16 => wide!(i16, |value| L::from_i32(i32::from(value))),
        Element::I8 => wide!(i8, |value| L::from_i32(i32::from(value))),
        Element::U64 => wide!(u64, L::from_u64),
        Element::U32 => wide!(u32, |value| L::from_i64(i64::from(value))),
        Element::U16 => wide!(u16, |value| L::from_i32(i32::from(value))),
        Element::U8 => wide!(u8, |value| L::from_i32(i32::from(value))),
        Element::Bool => wide!(u8, |value| L::from_i32(i32::from(value != 0))),
        Element::F4E2M1 => narrow!(|code: u8| L::from_f32(small_float::decode(code, Element::F4E2M1))),
        element @ (Element::F8E4M3FN
        | Element::F8E5M2
        | Element::F8E4M3FNUZ
        | Element::F8E5M2FNUZ
        | Element::F8E8M0) => wide!(u8, |code| L::from_f32(small_float::decode(code, element))),
        Element::I4 => narrow!(|code: u8| L::from_i32(i32::from((code << 4) as i8 >> 4))),
        Element::I2 => narrow!(|code: u8| L::from_i32(i32::from((code << 6) as i8 >> 6))),
        Element::U4 | Element::U2 => narrow!(|code: u8| L::from_i32(i32::from(code))),
        Element::NF4 => narrow!(|code: u8| L::from_f32(NF4_LEVELS[usize::from(code)])),
    }
}

/// Writes lanes as elements: floats to nearest even, integers wrapping, to bool whether not 0, to f8 saturating.
#[inline]
pub fn store<L: Lane>(destination: &mut Destination<'_>, offset: i64, stride: i64, lanes: &[L]) {
    if lanes.is_empty() {
        return;
    }
    macro_rules! wide {
        ($type:ty, $convert:expr) => {{
            const SIZE: usize = size_of::<$type>();
            let (start, _) = destination.locate(offset);
            if stride == 1 {
                let bytes = &mut destination.bytes[start..start + lanes.len() * SIZE];
                for (&lane, chunk) in lanes.iter().zip(bytes.chunks_exact_mut(SIZE)) {
                    let value: $type = $convert(lane);
                    chunk.copy_from_slice(&value.to_le_bytes());
                }
            } else {
                let mut place = start as i64;
                for &lane in lanes {
                    let value: $type = $convert(lane);
                    destination.bytes[place as usize..place as usize + SIZE]
                        .copy_from_slice(&value.to_le_bytes());
                    place += stride * SIZE as i64;
                }
            }
        }};
    }
    macro_rules! narrow {
        ($convert:expr) => {{
            let mask = (1u8 << destination.element().bits()) - 1;
            let mut place = offset;
            for &lane in lanes {
                let code: u8 = $convert(lane);
                let (byte, shift) = destination.locate(place);
                let slot = &mut destination.bytes[byte];
                *slot = (*slot & !(mask << shift)) | ((code & mask) << shift);
                place += stride;
            }
        }};
    }
    match destination.element() {
        Element::F64 => wide!(f64, L::to_f64),
        Element::F32 => wide!(f32, L::to_f32),
        Element::F16 if stride == 1 => store_halves(destination, offset, lanes),
        Element::F16 => wide!(f16, |lane: L| f16::from_f32(lane.to_f32())),
        Element::BF16 => wide!(bf16, |lane: L| bf16::from_f32(lane.to_f32())),
        Element::I64 => wide!(i64, L::to_i64),
        Element::I32 => wide!(i32, |lane: L| lane.to_i64() as i32),
        Element::I16 => wide!(i16, |lane: L| lane.to_i64() as i16),
        Element::I8 => wide!(i8, |lane: L| lane.to_i64() as i8),
        Element::U64 => wide!(u64, |lane: L| lane.to_i64() as u64),
        Element::U32 => wide!(u32, |lane: L| lane.to_i64() as u32),
        Element::U16 => wide!(u16, |lane: L| lane.to_i64() as u16),
        Element::U8 => wide!(u8, |lane: L| lane.to_i64() as u8),
        Element::Bool => wide!(u8, |lane: L| u8::from(lane != L::default())),
        Element::F4E2M1 => {
            narrow!(|lane: L| small_float::encode(lane.to_f32(), Element::F4E2M1, true, Rounding::HalfEven))
        }
        element @ (Element::F8E4M3FN
        | Element::F8E5M2
        | Element::F8E4M3FNUZ
        | Element::F8E5M2FNUZ
        | Element::F8E8M0) => {
            wide!(u8, |lane: L| small_float::encode(lane.to_f32(), element, true, Rounding::HalfEven))
        }
        Element::I4 | Element::U4 | Element::I2 | Element::U2 => narrow!(|lane: L| lane.to_i64() as u8),
        Element::NF4 => narrow!(|lane: L| f32_to_nf4(lane.to_f32())),
    }
}

/// Halves converted at a time: with the CPU's instructions, when it has them.
const HALVES: usize = 64;

fn load_halves<L: Lane>(source: &Source<'_>, offset: i64, lanes: &mut [L]) {
    let (start, _) = source.locate(offset);
    let bytes = &source.bytes[start..start + lanes.len() * 2];
    let (mut halves, mut floats) = ([f16::ZERO; HALVES], [0f32; HALVES]);
    for (lanes, bytes) in lanes.chunks_mut(HALVES).zip(bytes.chunks(2 * HALVES)) {
        for (half, bytes) in halves.iter_mut().zip(bytes.chunks_exact(2)) {
            *half = f16::from_le_bytes([bytes[0], bytes[1]]);
        }
        halves[..lanes.len()].convert_to_f32_slice(&mut floats[..lanes.len()]);
        lanes.iter_mut().zip(&floats).for_each(|(lane, &float)| *lane = L::from_f32(float));
    }
}

fn store_halves<L: Lane>(destination: &mut Destination<'_>, offset: i64, lanes: &[L]) {
    let (start, _) = destination.locate(offset);
    let bytes = &mut destination.bytes[start..start + lanes.len() * 2];
    let (mut halves, mut floats) = ([f16::ZERO; HALVES], [0f32; HALVES]);
    for (lanes, bytes) in lanes.chunks(HALVES).zip(bytes.chunks_mut(2 * HALVES)) {
        floats.iter_mut().zip(lanes).for_each(|(float, lane)| *float = lane.to_f32());
        halves[..lanes.len()].convert_from_f32_slice(&floats[..lanes.len()]);
        for (half, bytes) in halves.iter().zip(bytes.chunks_exact_mut(2)) {
            bytes.copy_from_slice(&half.to_le_bytes());
        }
    }
}

/// A contiguous run that is stored just as the lanes are, in place.
#[inline]
pub fn direct_run<'b, L: Lane>(source: &'b Source<'_>, offset: i64, count: usize) -> Option<&'b [L]> {
    if L::ELEMENT != Some(source.element()) || cfg!(target_endian = "big") || count == 0 {
        return None;
    }
    let (start, _) = source.locate(offset);
    <[L]>::ref_from_bytes(source.bytes.get(start..start + count * size_of::<L>())?).ok()
}

/// A run of f32: in place when it is stored so, else loaded into `buffer`.
#[inline]
pub fn float_run<'b>(source: &'b Source<'_>, offset: i64, stride: i64, buffer: &'b mut [f32]) -> &'b [f32] {
    let is_contiguous = stride == 1 || buffer.len() == 1;
    if let Some(run) = is_contiguous.then(|| direct_run(source, offset, buffer.len())).flatten() {
        return run;
    }
    load(source, offset, stride, buffer);
    buffer
}

/// One element as i64 (integers and booleans).
pub fn load_integer(source: &Source<'_>, offset: i64) -> i64 {
    let mut lane = [0i64];
    load(source, offset, 1, &mut lane);
    lane[0]
}

/// Clamps to an integer element's range and converts; NaN gives 0. Floats must be rounded already.
pub fn saturate_to<L: Lane>(value: f64, element: Element) -> L {
    let Some((low, high)) = element.integer_range() else { return L::from_f64(value) };
    // `as` saturates; i128 holds every range exactly.
    let clamped = (value as i128).clamp(low, high);
    if element.class() == Class::Unsigned { L::from_u64(clamped as u64) } else { L::from_i64(clamped as i64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(element: Element, values: &[f32]) -> Vec<f32> {
        let mut bytes = vec![0u8; element.packed_bytes(values.len() as u64).expect("small") as usize];
        let mut destination = Destination::packed(element, &[values.len()], &mut bytes).expect("fits");
        store(&mut destination, 0, 1, values);
        let mut back = vec![0f32; values.len()];
        load(&destination.as_source(), 0, 1, &mut back);
        back
    }

    #[test]
    fn every_element_keeps_small_integers() {
        for &element in Element::ALL {
            let values: &[f32] = match element {
                Element::Bool | Element::U2 | Element::I2 => &[1.0, 0.0, 1.0, 1.0, 0.0],
                Element::NF4 => &[-1.0, 0.0, 1.0, 0.0, 1.0],
                Element::F8E8M0 => &[1.0, 2.0, 4.0, 8.0, 0.5],
                Element::F4E2M1 => &[-6.0, 0.0, 3.0, -1.0, 4.0],
                _ if element.class() == Class::Unsigned => &[7.0, 0.0, 3.0, 1.0, 5.0],
                _ => &[-6.0, 0.0, 3.0, -1.0, 5.0],
            };
            let expected: Vec<f32> = values
                .iter()
                .map(|&value| if element == Element::I2 { (value as i8) as f32 } else { value })
                .collect();
            assert_eq!(round_trip(element, values), expected, "{element}");
        }
    }

    #[test]
    fn nibbles_are_low_first_and_reversible() {
        let bytes = [0x21u8, 0xf3];
        let source = Source::packed(Element::I4, &[4], &bytes).expect("fits");
        let mut lanes = [0i64; 4];
        load(&source, 0, 1, &mut lanes);
        assert_eq!(lanes, [1, 2, 3, -1]);
        load(&source, 3, -1, &mut lanes);
        assert_eq!(lanes, [-1, 3, 2, 1]);
    }

    #[test]
    fn saturation_knows_every_range() {
        assert_eq!(saturate_to::<i64>(300.0, Element::I8), 127);
        assert_eq!(saturate_to::<i64>(-9.0, Element::I4), -8);
        assert_eq!(saturate_to::<i64>(f64::NAN, Element::U8), 0);
        assert_eq!(saturate_to::<i128>(1e30, Element::U64), i128::from(u64::MAX));
    }
}
