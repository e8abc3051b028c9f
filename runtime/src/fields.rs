//! The types that command fields may have: bytes, text and random values of each.
//!
//! A new field type is one `impl` here (or one name in a list below); commands then use it in the table.

use crate::arbitrary::ByteSource;
use crate::commands::*;
use crate::decode::Reader;
use crate::disassemble::Printer;
use crate::encode::{Field, NONE_ID};
use std::fmt::Write;

macro_rules! number_fields {
    ($($type:ty: $bytes:literal),*) => { $(
        impl Field for $type {
            fn encode(&self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
            fn decode(reader: &mut Reader<'_>) -> Option<Self> {
                reader.array::<$bytes>().map(<$type>::from_le_bytes)
            }
            fn print(&self, _: &Printer<'_>, text: &mut String) {
                let _ = write!(text, "{self:?}");
            }
            fn arbitrary(source: &mut ByteSource<'_>) -> Self {
                <$type>::from_le_bytes(source.array::<$bytes>())
            }
        }
    )* };
}

number_fields!(u8: 1, u16: 2, u32: 4, i32: 4, i64: 8, f32: 4, f64: 8);

macro_rules! named_fields {
    ($($type:ty),*) => { $(
        impl Field for $type {
            fn encode(&self, bytes: &mut Vec<u8>) {
                bytes.push(*self as u8);
            }
            fn decode(reader: &mut Reader<'_>) -> Option<Self> {
                <$type>::from_tag(reader.u8()?)
            }
            fn print(&self, _: &Printer<'_>, text: &mut String) {
                text.push_str(self.name());
            }
            fn arbitrary(source: &mut ByteSource<'_>) -> Self {
                *source.choose(<$type>::ALL)
            }
        }
    )* };
}

named_fields!(
    UnaryFunction,
    BinaryFunction,
    ReduceFunction,
    ScatterReduction,
    PoolFunction,
    CumulativeFunction,
    ArgFunction,
    NormalizeKind,
    KeyPart,
    Rounding
);

impl Field for Engine {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(*self as u8);
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Engine::from_tag(reader.u8()?)
    }
    fn print(&self, _: &Printer<'_>, text: &mut String) {
        text.push_str(self.name());
    }
    fn arbitrary(source: &mut ByteSource<'_>) -> Self {
        *source.choose(Engine::ALL)
    }
    fn engine(&self) -> Option<Engine> {
        Some(*self)
    }
}

impl Field for bool {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(*self));
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        reader.bool()
    }
    fn print(&self, _: &Printer<'_>, text: &mut String) {
        text.push_str(if *self { "true" } else { "false" });
    }
    fn arbitrary(source: &mut ByteSource<'_>) -> Self {
        source.u8() & 1 == 1
    }
}

impl Field for [u32; 3] {
    fn encode(&self, bytes: &mut Vec<u8>) {
        for number in self {
            bytes.extend(number.to_le_bytes());
        }
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some([reader.u32()?, reader.u32()?, reader.u32()?])
    }
    fn print(&self, _: &Printer<'_>, text: &mut String) {
        let _ = write!(text, "{}x{}x{}", self[0], self[1], self[2]);
    }
    fn arbitrary(source: &mut ByteSource<'_>) -> Self {
        [(); 3].map(|()| u32::arbitrary(source))
    }
}

impl Field for Register {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.0.to_le_bytes());
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        reader.u16().map(Register)
    }
    fn print(&self, printer: &Printer<'_>, text: &mut String) {
        text.push_str(&printer.register(*self));
    }
    fn arbitrary(source: &mut ByteSource<'_>) -> Self {
        Register(u16::from(source.u8() % 8))
    }
}

macro_rules! id_fields {
    ($($type:ident: $print:ident),*) => { $(
        impl Field for $type {
            fn encode(&self, bytes: &mut Vec<u8>) {
                bytes.extend(self.0.to_le_bytes());
            }
            fn decode(reader: &mut Reader<'_>) -> Option<Self> {
                reader.u32().filter(|&id| id != NONE_ID).map($type)
            }
            fn print(&self, printer: &Printer<'_>, text: &mut String) {
                text.push_str(&printer.$print(*self));
            }
            fn arbitrary(source: &mut ByteSource<'_>) -> Self {
                $type(u32::from(source.u8() % 32))
            }
        }

        impl Field for Option<$type> {
            fn encode(&self, bytes: &mut Vec<u8>) {
                bytes.extend(self.map_or(NONE_ID, |id| id.0).to_le_bytes());
            }
            fn decode(reader: &mut Reader<'_>) -> Option<Self> {
                reader.u32().map(|id| (id != NONE_ID).then_some($type(id)))
            }
            fn print(&self, printer: &Printer<'_>, text: &mut String) {
                match self {
                    Some(id) => text.push_str(&printer.$print(*id)),
                    None => text.push_str("none"),
                }
            }
            fn arbitrary(source: &mut ByteSource<'_>) -> Self {
                (source.u8() & 1 == 1).then(|| $type::arbitrary(source))
            }
        }
    )* };
}

id_fields!(ViewId: view, ExpressionId: expression);
