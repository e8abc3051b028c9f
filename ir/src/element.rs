//! Element types: one row per type, with its MLIR spelling and its width.
//!
//! Knows nothing of tensors, targets or files.
//!
//! ```text
//! tensor<4xf32>   tensor<4xi8>   tensor<4xui4>   tensor<4xi1>
//! ```

use std::fmt;

/// How the bits of an element are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Truth value, one byte in memory.
    Bool,
    /// Two's complement. MLIR's signless integers are read as signed.
    Signed,
    /// Unsigned integer.
    Unsigned,
    /// Floating point, including the small formats and codebooks (nf4).
    Float,
}

macro_rules! elements {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $bits:literal, $family:ident;)*) => {
        /// The type of one element of a tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Element { $($(#[$doc])* $name,)* }

        impl Element {
            /// Every element type, in declaration order.
            pub const ALL: &'static [Element] = &[$(Element::$name,)*];

            /// The spelling in MLIR text.
            pub fn text(self) -> &'static str {
                match self { $(Element::$name => $text,)* }
            }

            /// Bits that one element takes in memory. A bool takes 8.
            pub fn bits(self) -> usize {
                match self { $(Element::$name => $bits,)* }
            }

            /// How its bits are read.
            pub fn family(self) -> Family {
                match self { $(Element::$name => Family::$family,)* }
            }
        }
    };
}

elements! {
    /// IEEE binary64.
    F64 = "f64", 64, Float;
    /// IEEE binary32.
    F32 = "f32", 32, Float;
    /// IEEE binary16.
    F16 = "f16", 16, Float;
    /// bfloat16: binary32 without its low 16 bits.
    BF16 = "bf16", 16, Float;
    /// OCP FP8 e4m3, finite only.
    F8E4M3FN = "f8E4M3FN", 8, Float;
    /// OCP FP8 e5m2.
    F8E5M2 = "f8E5M2", 8, Float;
    /// FP8 e4m3, finite, no negative zero.
    F8E4M3FNUZ = "f8E4M3FNUZ", 8, Float;
    /// FP8 e5m2, finite, no negative zero.
    F8E5M2FNUZ = "f8E5M2FNUZ", 8, Float;
    /// OCP MX scale: a power of two. MLIR 19 does not know it, so it is a type of our own in text.
    F8E8M0 = "!core.f8E8M0FNU", 8, Float;
    /// OCP MX FP4. A type of our own in text, as above.
    F4E2M1 = "!core.f4E2M1FN", 4, Float;
    /// NormalFloat 4 (Dettmers et al. 2023, arXiv:2305.14314, appendix E): an index into 16 quantiles.
    NF4 = "!core.nf4", 4, Float;
    /// Signed 64-bit.
    I64 = "i64", 64, Signed;
    /// Signed 32-bit.
    I32 = "i32", 32, Signed;
    /// Signed 16-bit.
    I16 = "i16", 16, Signed;
    /// Signed 8-bit.
    I8 = "i8", 8, Signed;
    /// Signed 4-bit, two to a byte, low nibble first.
    I4 = "i4", 4, Signed;
    /// Signed 2-bit, four to a byte, low bits first.
    I2 = "i2", 2, Signed;
    /// Unsigned 64-bit.
    U64 = "ui64", 64, Unsigned;
    /// Unsigned 32-bit.
    U32 = "ui32", 32, Unsigned;
    /// Unsigned 16-bit.
    U16 = "ui16", 16, Unsigned;
    /// Unsigned 8-bit.
    U8 = "ui8", 8, Unsigned;
    /// Unsigned 4-bit, two to a byte, low nibble first.
    U4 = "ui4", 4, Unsigned;
    /// Unsigned 2-bit, four to a byte, low bits first.
    U2 = "ui2", 2, Unsigned;
    /// Truth value.
    Bool = "i1", 8, Bool;
}

impl Element {
    /// Reads an MLIR spelling.
    pub fn from_text(text: &str) -> Option<Element> {
        // Later versions of MLIR know the MX formats by these names.
        let text = match text {
            "f8E8M0FNU" => "!core.f8E8M0FNU",
            "f4E2M1FN" => "!core.f4E2M1FN",
            _ => text,
        };
        Element::ALL.iter().copied().find(|element| element.text() == text)
    }

    /// Bytes that `count` packed elements take, rounded up.
    pub fn bytes_of(self, count: usize) -> usize {
        (count * self.bits()).div_ceil(8)
    }

    /// True for floating point, small formats included.
    pub fn is_float(self) -> bool {
        self.family() == Family::Float
    }

    /// True for signed and unsigned integers, not for bool.
    pub fn is_integer(self) -> bool {
        matches!(self.family(), Family::Signed | Family::Unsigned)
    }

    /// Smallest and largest value: infinities of float types.
    pub fn limits(self) -> (f64, f64) {
        match self.integer_range() {
            Some((low, _)) if self == Element::U64 => (low as f64, u64::MAX as f64),
            Some((low, high)) => (low as f64, high as f64),
            None => (f64::NEG_INFINITY, f64::INFINITY),
        }
    }

    /// Smallest and largest value of an integer type that fits an `i64`; `None` for the other types.
    /// `U64` saturates at `i64::MAX`.
    pub fn integer_range(self) -> Option<(i64, i64)> {
        let bits = self.bits() as u32;
        match self.family() {
            Family::Signed if bits == 64 => Some((i64::MIN, i64::MAX)),
            Family::Signed => Some((-(1 << (bits - 1)), (1 << (bits - 1)) - 1)),
            Family::Unsigned if bits == 64 => Some((0, i64::MAX)),
            Family::Unsigned => Some((0, (1 << bits) - 1)),
            Family::Bool => Some((0, 1)),
            Family::Float => None,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
