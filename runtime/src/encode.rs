//! Commands, views and expressions to bytes. Generated from the table; nothing here knows a particular command.
//!
//! A command is its opcode byte, then its fields in the table's order, little-endian and without padding. An optional id is
//! a u32 with all bits set for none. A target's command is opcode, u16 length, payload.
//!
//! ```
//! use tilewright_runtime::commands::Command;
//! use tilewright_runtime::{decode::decode_command, encode::encode_command};
//! let mut bytes = Vec::new();
//! encode_command(&Command::Wait { token: 3 }, &mut bytes);
//! assert_eq!(bytes, [0x11, 3, 0]);
//! assert_eq!(decode_command(&bytes), Some((Command::Wait { token: 3 }, 3)));
//! ```

use crate::command_table::for_each_command;
use crate::commands::*;
use crate::decode::Reader;
use crate::disassemble::Printer;
use crate::view::{Expression, RANK_MAX, TERMS_MAX, View};

/// The id that stands for "none".
pub(crate) const NONE_ID: u32 = u32::MAX;

/// One type of command field: its bytes, its text, and how to make one up.
pub(crate) trait Field: Sized {
    /// Appends the bytes.
    fn encode(&self, bytes: &mut Vec<u8>);
    /// Reads them back; `None` on truncation or a value outside the type's set.
    fn decode(reader: &mut Reader<'_>) -> Option<Self>;
    /// Writes the text of a dump.
    fn print(&self, printer: &Printer<'_>, text: &mut String);
    /// Some value made from random bytes (the end of input reads as zeros).
    fn arbitrary(source: &mut crate::arbitrary::ByteSource<'_>) -> Self;
    /// The engine, if this field is one.
    fn engine(&self) -> Option<Engine> {
        None
    }
}

macro_rules! define_encoder {
    ($( $(#[$doc:meta])* $opcode:literal $kind:ident $name:ident = $variant:ident {
        $( $(#[$field_doc:meta])* $([$access:ident])? $field:ident: $type:ty, )*
    }, )*) => {
        /// Appends one command.
        ///
        /// # Panics
        /// When a target's payload is longer than [`TARGET_PAYLOAD_BYTES_MAX`] or its opcode is not a target's.
        pub fn encode_command(command: &Command, bytes: &mut Vec<u8>) {
            bytes.push(command.opcode_byte());
            match command {
                $( Command::$variant { $( $field, )* } => { $( Field::encode($field, bytes); )* } )*
                Command::Target { opcode, payload } => {
                    assert!(*opcode >= TARGET_OPCODE_MIN, "opcode {opcode:#x} is not a target's");
                    assert!(payload.len() <= TARGET_PAYLOAD_BYTES_MAX, "payload of {} bytes", payload.len());
                    bytes.extend((payload.len() as u16).to_le_bytes());
                    bytes.extend(payload.iter());
                }
            }
        }
    };
}

for_each_command!(define_encoder);

/// Appends an expression: u8 term count, i64 constant, then (u16 register, i64 coefficient) each.
///
/// # Panics
/// When it has more than [`TERMS_MAX`] terms.
pub fn encode_expression(expression: &Expression, bytes: &mut Vec<u8>) {
    let terms = expression.terms();
    assert!(terms.len() <= TERMS_MAX, "{} terms, at most {TERMS_MAX}", terms.len());
    bytes.push(terms.len() as u8);
    bytes.extend(expression.constant_part().to_le_bytes());
    for (register, coefficient) in terms {
        bytes.extend(register.0.to_le_bytes());
        bytes.extend(coefficient.to_le_bytes());
    }
}

/// Appends a view: u8 space, u8 element, u8 rank, base, then per dimension u32 cap, u8 has-bound, bound, i64 stride.
///
/// # Panics
/// When rank and stride count differ or exceed [`RANK_MAX`].
pub fn encode_view(view: &View, bytes: &mut Vec<u8>) {
    assert!(view.rank() <= RANK_MAX, "rank {}, at most {RANK_MAX}", view.rank());
    assert_eq!(view.rank(), view.strides.len(), "one stride per dimension");
    bytes.extend([view.space as u8, view.element as u8, view.rank() as u8]);
    encode_expression(&view.base_bytes, bytes);
    for (dim, stride) in view.dims.iter().zip(&view.strides) {
        bytes.extend(dim.cap.to_le_bytes());
        bytes.push(u8::from(dim.bound.is_some()));
        if let Some(bound) = &dim.bound {
            encode_expression(bound, bytes);
        }
        bytes.extend(stride.to_le_bytes());
    }
}
