//! Element types: what one number in a view is, and how many bits it takes.
//!
//! The runtime has its own list (the device carries no compiler); a target maps the compiler's types to these one by one.
//! This file knows widths and value sets. It must not know views, memory or commands.
//!
//! ```
//! use tilewright_runtime::element::Element;
//! assert_eq!(Element::I4.bits(), 4);
//! assert_eq!(Element::parse("bf16"), Some(Element::BF16));
//! ```

/// The class of numbers an element belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// IEEE-like floating point, f8 and the nf4 code book included.
    Float,
    /// Two's complement integers.
    Signed,
    /// Unsigned integers.
    Unsigned,
    /// One byte, 0 or 1.
    Boolean,
}

macro_rules! elements {
    ($( $(#[$doc:meta])* $variant:ident = $tag:literal, $name:literal, $bits:literal, $class:ident; )*) => {
        /// What one number is. The discriminant is the wire tag.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Element { $( $(#[$doc])* $variant = $tag, )* }

        impl Element {
            /// Every element type, in wire order.
            pub const ALL: &'static [Element] = &[$( Element::$variant, )*];

            /// The element with this wire tag.
            pub const fn from_tag(tag: u8) -> Option<Element> {
                match tag { $( $tag => Some(Element::$variant), )* _ => None }
            }

            /// The name used in dumps: `f32`, `i4`, `bool`.
            pub const fn name(self) -> &'static str {
                match self { $( Element::$variant => $name, )* }
            }

            /// Bits that one element takes in memory.
            pub const fn bits(self) -> u32 {
                match self { $( Element::$variant => $bits, )* }
            }

            /// The class of numbers.
            pub const fn class(self) -> Class {
                match self { $( Element::$variant => Class::$class, )* }
            }
        }
    };
}

elements! {
    /// IEEE binary64.
    F64 = 0, "f64", 64, Float;
    /// IEEE binary32.
    F32 = 1, "f32", 32, Float;
    /// IEEE binary16.
    F16 = 2, "f16", 16, Float;
    /// The upper half of a binary32.
    BF16 = 3, "bf16", 16, Float;
    /// 64-bit two's complement.
    I64 = 4, "i64", 64, Signed;
    /// 32-bit two's complement.
    I32 = 5, "i32", 32, Signed;
    /// 16-bit two's complement.
    I16 = 6, "i16", 16, Signed;
    /// 8-bit two's complement.
    I8 = 7, "i8", 8, Signed;
    /// 64-bit unsigned.
    U64 = 8, "u64", 64, Unsigned;
    /// 32-bit unsigned.
    U32 = 9, "u32", 32, Unsigned;
    /// 16-bit unsigned.
    U16 = 10, "u16", 16, Unsigned;
    /// 8-bit unsigned.
    U8 = 11, "u8", 8, Unsigned;
    /// A byte that is 0 or 1; any other byte reads as 1.
    Bool = 12, "bool", 8, Boolean;
    /// 4-bit two's complement, two to a byte, low nibble first.
    I4 = 13, "i4", 4, Signed;
    /// 4-bit unsigned, two to a byte, low nibble first.
    U4 = 14, "u4", 4, Unsigned;
    /// 2-bit two's complement, four to a byte, lowest bits first.
    I2 = 15, "i2", 2, Signed;
    /// 2-bit unsigned, four to a byte, lowest bits first.
    U2 = 16, "u2", 2, Unsigned;
    /// OCP 8-bit float, 4 exponent bits, no infinities, NaN is 0x7f and 0xff (OFP8 specification 1.0).
    F8E4M3FN = 17, "f8e4m3fn", 8, Float;
    /// OCP 8-bit float, 5 exponent bits, with infinities (OFP8 specification 1.0).
    F8E5M2 = 18, "f8e5m2", 8, Float;
    /// 4-bit code into the 16 levels of NormalFloat-4 (Dettmers et al. 2023, arXiv:2305.14314, appendix E).
    NF4 = 19, "nf4", 4, Float;
    /// 8-bit float, 4 exponent bits, no infinities, no minus zero: its code is NaN (ONNX "Float stored in 8 bits").
    F8E4M3FNUZ = 20, "f8e4m3fnuz", 8, Float;
    /// 8-bit float, 5 exponent bits, no infinities, no minus zero: its code is NaN (ONNX "Float stored in 8 bits").
    F8E5M2FNUZ = 21, "f8e5m2fnuz", 8, Float;
    /// A power of two: the scale of an OCP MX block (MX specification 1.0).
    F8E8M0 = 22, "f8e8m0", 8, Float;
    /// 4-bit float, 2 exponent bits, two to a byte, low nibble first (OCP MX specification 1.0).
    F4E2M1 = 23, "f4e2m1", 4, Float;
}

impl Element {
    /// The element with this name.
    pub fn parse(name: &str) -> Option<Element> {
        Element::ALL.iter().copied().find(|element| element.name() == name)
    }

    /// Whether values are floating point (f8 and nf4 included).
    pub const fn is_float(self) -> bool {
        matches!(self.class(), Class::Float)
    }

    /// Whether values are integers (booleans are not).
    pub const fn is_integer(self) -> bool {
        matches!(self.class(), Class::Signed | Class::Unsigned)
    }

    /// Smallest and largest value of an integer or boolean element; `None` for floats.
    pub const fn integer_range(self) -> Option<(i128, i128)> {
        let bits = self.bits();
        match self.class() {
            Class::Float => None,
            Class::Boolean => Some((0, 1)),
            Class::Signed => Some((-(1 << (bits - 1)), (1 << (bits - 1)) - 1)),
            Class::Unsigned => Some((0, (1 << bits) - 1)),
        }
    }

    /// Bytes that `count` packed elements take, rounded up to whole bytes; `None` when it does not fit 64 bits.
    pub fn packed_bytes(self, count: u64) -> Option<u64> {
        Some(count.checked_mul(u64::from(self.bits()))?.div_ceil(8))
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_names_are_one_to_one() {
        for (index, &element) in Element::ALL.iter().enumerate() {
            assert_eq!(element as usize, index);
            assert_eq!(Element::from_tag(element as u8), Some(element));
            assert_eq!(Element::parse(element.name()), Some(element));
        }
        assert_eq!(Element::from_tag(200), None);
    }

    #[test]
    fn ranges_and_sizes() {
        assert_eq!(Element::I4.integer_range(), Some((-8, 7)));
        assert_eq!(Element::U64.integer_range(), Some((0, u64::MAX as i128)));
        assert_eq!(Element::I4.packed_bytes(3), Some(2));
        assert_eq!(Element::F64.packed_bytes(u64::MAX), None);
    }
}
