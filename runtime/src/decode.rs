//! Bytes to commands, views and expressions. Generated from the table; total: any bytes give a value or `None`.
//!
//! Nothing is allocated by a count that the remaining bytes cannot hold. This file must not know what a command does.

use crate::command_table::for_each_command;
use crate::commands::*;
use crate::element::Element;
use crate::encode::Field;
use crate::view::{Expression, Extent, RANK_MAX, Space, TERMS_MAX, View};

/// A cursor over bytes that never reads past the end.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, position: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.position.checked_add(count)?;
        let taken = self.bytes.get(self.position..end)?;
        self.position = end;
        Some(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|bytes| bytes[0])
    }

    /// A little-endian u16.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// A little-endian u32.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A little-endian u64.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A little-endian i64.
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// A byte that must be 0 or 1.
    pub fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A u32 count of items that take at least `item_bytes` each; refused when so many cannot follow.
    pub fn count(&mut self, item_bytes: usize) -> Option<usize> {
        let count = self.u32()? as usize;
        (count.checked_mul(item_bytes.max(1))? <= self.remaining()).then_some(count)
    }

    /// A u32 length and so many bytes of UTF-8.
    pub fn string(&mut self) -> Option<String> {
        let count = self.count(1)?;
        std::str::from_utf8(self.take(count)?).ok().map(str::to_owned)
    }
}

macro_rules! define_decoder {
    ($( $(#[$doc:meta])* $opcode:literal $kind:ident $name:ident = $variant:ident {
        $( $(#[$field_doc:meta])* $([$access:ident])? $field:ident: $type:ty, )*
    }, )*) => {
        /// Reads one command; `None` on truncation, an unknown opcode or a field value outside its set.
        pub fn read_command(reader: &mut Reader<'_>) -> Option<Command> {
            let byte = reader.u8()?;
            if byte >= TARGET_OPCODE_MIN {
                let length = usize::from(reader.u16()?);
                return Some(Command::Target { opcode: byte, payload: reader.take(length)?.into() });
            }
            match Opcode::from_byte(byte)? {
                $( Opcode::$variant => Some(Command::$variant { $( $field: Field::decode(reader)?, )* }), )*
            }
        }
    };
}

for_each_command!(define_decoder);

/// Decodes the first command of `bytes`, with its length in bytes.
pub fn decode_command(bytes: &[u8]) -> Option<(Command, usize)> {
    let mut reader = Reader::new(bytes);
    let command = read_command(&mut reader)?;
    Some((command, reader.position()))
}

/// Reads what [`crate::encode::encode_expression`] wrote. Terms must ascend and be non-zero, so that equal expressions have
/// equal bytes.
pub fn read_expression(reader: &mut Reader<'_>) -> Option<Expression> {
    let count = usize::from(reader.u8()?);
    if count > TERMS_MAX {
        return None;
    }
    let constant = reader.i64()?;
    let mut terms: Vec<(Register, i64)> = Vec::with_capacity(count);
    for _ in 0..count {
        let term = (Register(reader.u16()?), reader.i64()?);
        if term.1 == 0 || terms.last().is_some_and(|last| last.0 >= term.0) {
            return None;
        }
        terms.push(term);
    }
    Some(Expression::new(constant, terms))
}

/// Reads what [`crate::encode::encode_view`] wrote.
pub fn read_view(reader: &mut Reader<'_>) -> Option<View> {
    let space = Space::from_tag(reader.u8()?)?;
    let element = Element::from_tag(reader.u8()?)?;
    let rank = usize::from(reader.u8()?);
    if rank > RANK_MAX {
        return None;
    }
    let base_bytes = read_expression(reader)?;
    let mut view = View {
        space,
        element,
        base_bytes,
        dims: Vec::with_capacity(rank),
        strides: Vec::with_capacity(rank),
    };
    for _ in 0..rank {
        let cap = reader.u32()?;
        let bound = if reader.bool()? { Some(read_expression(reader)?) } else { None };
        view.dims.push(Extent { cap, bound });
        view.strides.push(reader.i64()?);
    }
    Some(view)
}
