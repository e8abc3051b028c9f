//! Attributes: compile-time facts of an op, and their MLIR text.
//!
//! A weight is an [`Elements::Resource`]: bytes that someone else keeps mapped, a name, and a content hash made when asked
//! for. It is never copied into the IR.
//!
//! ```text
//! 3 : i64   5.000000e-02 : f32   "none"   array<i64: 1, 2>   [1, "past_seq"]   dense<1> : tensor<2xi64>   @main   unit
//! ```

use crate::dim::Dim;
use crate::element::Element;
use crate::types::{TensorType, Type};
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Attributes of an op, sorted by name as MLIR prints them.
pub type Attributes = BTreeMap<Cow<'static, str>, Attribute>;

/// One compile-time value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    /// Present or absent.
    Unit,
    /// `true` or `false`.
    Bool(bool),
    /// An integer; `i64` unless said.
    Int(i64),
    /// A float, kept as binary64 bits so that it can be compared and hashed; prints with `: f64` left out.
    Float(Float),
    /// Text.
    Str(Arc<str>),
    /// A type.
    Type(Type),
    /// `array<i64: ..>`.
    Ints(Arc<[i64]>),
    /// `array<i32: ..>`: used for `operandSegmentSizes` alone.
    Segments(Arc<[i32]>),
    /// `[..]`.
    Array(Arc<[Attribute]>),
    /// `{..}`.
    Dict(Arc<Attributes>),
    /// `@name`.
    Symbol(Arc<str>),
    /// Constant elements of a tensor.
    Elements(Elements),
}

/// A float that compares and hashes by its bits.
#[derive(Clone, Copy, Debug)]
pub struct Float(pub f64);

impl PartialEq for Float {
    fn eq(&self, other: &Float) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Float {}
impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Float) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Float {
    fn cmp(&self, other: &Float) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
impl std::hash::Hash for Float {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// Constant elements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Elements {
    /// Few elements, kept and printed in place: little-endian packed bytes of the type.
    Dense(TensorType, Bytes),
    /// A weight: printed by name and hash.
    Resource(Arc<Resource>),
}

/// A weight that lives elsewhere (a mapped file, a decoded message).
#[derive(Debug)]
pub struct Resource {
    /// Its name in the source model.
    pub name: Arc<str>,
    /// Its type; every dimension is known.
    pub ty: TensorType,
    /// Its bytes, little-endian and packed, shared with the owner of the mapping.
    pub bytes: Bytes,
    hash: OnceLock<[u8; 32]>,
}

impl Resource {
    /// A weight over shared bytes.
    pub fn new(name: &str, ty: TensorType, bytes: Bytes) -> Resource {
        Resource { name: name.into(), ty, bytes, hash: OnceLock::new() }
    }

    /// A weight whose content hash is known beforehand, or which stands for one with that hash.
    pub fn with_hash(name: &str, ty: TensorType, bytes: Bytes, hash: [u8; 32]) -> Resource {
        Resource { name: name.into(), ty, bytes, hash: OnceLock::from(hash) }
    }

    /// blake3 of the bytes, computed once when first asked for.
    pub fn hash(&self) -> [u8; 32] {
        *self.hash.get_or_init(|| *blake3::hash(&self.bytes).as_bytes())
    }

    /// Identity: the same bytes in memory under the same type. Two weights with equal content at two places differ here; the
    /// emitter joins them by hash.
    fn key(&self) -> (&TensorType, &str, usize, usize) {
        (&self.ty, &self.name, self.bytes.as_ptr() as usize, self.bytes.len())
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Resource) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Resource {}
impl PartialOrd for Resource {
    fn partial_cmp(&self, other: &Resource) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Resource {
    // Type and name first; the address only tells apart two weights of one name, whose content then decides, so that the order
    // does not depend on where a file was mapped.
    fn cmp(&self, other: &Resource) -> std::cmp::Ordering {
        let by_name = (&self.ty, &self.name).cmp(&(&other.ty, &other.name));
        if by_name.is_ne() || self.key() == other.key() { by_name } else { self.hash().cmp(&other.hash()) }
    }
}
impl std::hash::Hash for Resource {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.ty.hash(state);
        self.name.hash(state);
    }
}

impl Elements {
    /// The tensor type.
    pub fn ty(&self) -> &TensorType {
        match self {
            Elements::Dense(ty, _) => ty,
            Elements::Resource(resource) => &resource.ty,
        }
    }

    /// Little-endian packed bytes.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Elements::Dense(_, bytes) => bytes,
            Elements::Resource(resource) => &resource.bytes,
        }
    }

    /// In-place elements from integers, narrowed to the element type (which must not be a float).
    pub fn from_ints(element: Element, shape: &[i64], values: &[i64]) -> Elements {
        let tensor = crate::tensor::Tensor::from_ints(element, shape, values.to_vec());
        tensor.to_elements()
    }
}

impl Attribute {
    /// Text.
    pub fn str(text: &str) -> Attribute {
        Attribute::Str(text.into())
    }

    /// A float.
    pub fn float(value: f64) -> Attribute {
        Attribute::Float(Float(value))
    }

    /// `array<i64: ..>`.
    pub fn ints(values: &[i64]) -> Attribute {
        Attribute::Ints(values.into())
    }

    /// Dimension expressions as an array of integers and strings.
    pub fn dims(dims: &[Dim]) -> Attribute {
        Attribute::Array(dims.iter().map(Attribute::dim).collect())
    }

    /// One dimension expression: an integer, or a string when symbolic.
    pub fn dim(dim: &Dim) -> Attribute {
        match dim {
            Dim::Known(value) => Attribute::Int(*value),
            Dim::Symbolic(_) => Attribute::Str(dim.to_string().into()),
        }
    }

    /// Reads what [`Attribute::dim`] wrote.
    pub fn as_dim(&self) -> Option<Dim> {
        match self {
            Attribute::Int(value) => Some(Dim::Known(*value)),
            Attribute::Str(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Reads what [`Attribute::dims`] wrote (also `array<i64: ..>`).
    pub fn as_dims(&self) -> Option<Vec<Dim>> {
        match self {
            Attribute::Array(items) => items.iter().map(Attribute::as_dim).collect(),
            Attribute::Ints(values) => Some(values.iter().copied().map(Dim::Known).collect()),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Attribute::Int(value) = self { Some(*value) } else { None }
    }

    /// The float; an integer is widened.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Attribute::Float(value) => Some(value.0),
            Attribute::Int(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Attribute::Bool(value) = self { Some(*value) } else { None }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        if let Attribute::Str(text) = self { Some(text) } else { None }
    }

    /// The integers of `array<i64: ..>`.
    pub fn as_ints(&self) -> Option<&[i64]> {
        if let Attribute::Ints(values) = self { Some(values) } else { None }
    }

    /// The constant elements, if it holds them.
    pub fn as_elements(&self) -> Option<&Elements> {
        if let Attribute::Elements(elements) = self { Some(elements) } else { None }
    }
}

macro_rules! from {
    ($($from:ty => $make:expr;)*) => {
        $(impl From<$from> for Attribute {
            fn from(value: $from) -> Attribute { let make: fn($from) -> Attribute = $make; make(value) }
        })*
    };
}
from! {
    i64 => Attribute::Int;
    usize => |value| Attribute::Int(value as i64);
    bool => Attribute::Bool;
    f64 => Attribute::float;
    &str => Attribute::str;
    &[i64] => Attribute::ints;
    Vec<i64> => |values| Attribute::ints(&values);
    Vec<Dim> => |dims| Attribute::dims(&dims);
    Type => Attribute::Type;
    Elements => Attribute::Elements;
}

/// Text with MLIR's string escapes: `\\`, `\"` and two hexadecimal digits for bytes outside printable ASCII.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' => out.push_str("\\22"),
            b'\\' => out.push_str("\\\\"),
            0x20..0x7f => out.push(byte as char),
            _ => out.push_str(&format!("\\{byte:02X}")),
        }
    }
    out
}

impl fmt::Display for Float {
    /// MLIR's `%e` with six digits when that reads back to the same number, else enough digits, else (not finite) hexadecimal
    /// bits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::print::float_text(self.0, Element::F64))
    }
}
