//! Opcode and command types, generated from the table in `command_table`.
//!
//! What each command means is said in the table and appears here as documentation of [`Command`]'s variants. This file must
//! not know how a command is executed.

pub use crate::functions::{
    ArgFunction, BinaryFunction, CumulativeFunction, Engine, KeyPart, NormalizeKind, PoolFunction,
    ReduceFunction, Rounding, ScatterReduction, UnaryFunction,
};
pub use crate::operands::{Access, ExpressionId, Kind, ViewId};
pub use crate::view::Register;

use crate::command_table::for_each_command;
use crate::encode::Field;

/// Lowest opcode that belongs to targets.
pub const TARGET_OPCODE_MIN: u8 = 0x80;
/// Most bytes a target's own command may carry.
pub const TARGET_PAYLOAD_BYTES_MAX: usize = u16::MAX as usize;

macro_rules! define_commands {
    ($( $(#[$doc:meta])* $opcode:literal $kind:ident $name:ident = $variant:ident {
        $( $(#[$field_doc:meta])* $([$access:ident])? $field:ident: $type:ty, )*
    }, )*) => {
        /// The first byte of a portable command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Opcode { $( $(#[$doc])* $variant = $opcode, )* }

        impl Opcode {
            /// Every portable opcode, ascending.
            pub const ALL: &'static [Opcode] = &[$( Opcode::$variant, )*];

            /// The opcode with this byte.
            pub const fn from_byte(byte: u8) -> Option<Opcode> {
                match byte { $( $opcode => Some(Opcode::$variant), )* _ => None }
            }

            /// The name used in dumps.
            pub const fn name(self) -> &'static str {
                match self { $( Opcode::$variant => stringify!($name), )* }
            }

            /// What kind of work it is.
            pub const fn kind(self) -> Kind {
                match self { $( Opcode::$variant => Kind::$kind, )* }
            }
        }

        /// One command of a program.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Command {
            $( $(#[$doc])* $variant { $( $(#[$field_doc])* $field: $type, )* }, )*
            /// A command of the target's own, executed through [`crate::extension::Extension`].
            Target {
                /// at least [`TARGET_OPCODE_MIN`]
                opcode: u8,
                /// the target's bytes
                payload: Box<[u8]>,
            },
        }

        impl Command {
            /// The opcode byte.
            pub const fn opcode_byte(&self) -> u8 {
                match self { $( Command::$variant { .. } => $opcode, )* Command::Target { opcode, .. } => *opcode }
            }

            /// The name used in dumps.
            pub const fn name(&self) -> &'static str {
                match self { $( Command::$variant { .. } => stringify!($name), )* Command::Target { .. } => "target" }
            }

            /// What kind of work it is.
            pub const fn kind(&self) -> Kind {
                match self { $( Command::$variant { .. } => Kind::$kind, )* Command::Target { .. } => Kind::Target }
            }

            /// The engine that runs it; `None` for control commands and a target's own.
            pub fn engine(&self) -> Option<Engine> {
                let mut engine = None;
                match self {
                    $( Command::$variant { $( $field, )* } => { $( engine = engine.or(Field::engine($field)); )* } )*
                    Command::Target { .. } => {}
                }
                engine
            }

            /// Calls `visit(field name, access, view)` for every view the command touches, in field order.
            pub fn for_each_view(&self, mut visit: impl FnMut(&'static str, Access, ViewId)) {
                match self {
                    $( Command::$variant { $( $field, )* } => {
                        $(
                            $( visit_view(stringify!($field), access!($access), *$field, &mut visit); )?
                            let _ = $field;
                        )*
                    } )*
                    Command::Target { .. } => {}
                }
                let _ = &mut visit;
            }
        }
    };
}

#[rustfmt::skip]
macro_rules! access {
    (read) => { Access::Read };
    (write) => { Access::Write };
    (update) => { Access::Update };
}

fn visit_view(
    name: &'static str,
    access: Access,
    view: impl Into<Option<ViewId>>,
    visit: &mut impl FnMut(&'static str, Access, ViewId),
) {
    if let Some(view) = view.into() {
        visit(name, access, view);
    }
}

for_each_command!(define_commands);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_small_and_portable() {
        assert!(Opcode::ALL.len() <= 40, "{} portable commands, at most 40", Opcode::ALL.len());
        for &opcode in Opcode::ALL {
            assert!((opcode as u8) < TARGET_OPCODE_MIN);
            assert_eq!(Opcode::from_byte(opcode as u8), Some(opcode));
        }
    }

    #[test]
    fn views_are_visited_with_their_access() {
        let command = Command::Convert {
            engine: Engine::Vector,
            destination: ViewId(4),
            x: ViewId(7),
            saturate: true,
            rounding: Rounding::HalfEven,
        };
        let mut seen = Vec::new();
        command.for_each_view(|name, access, view| seen.push((name, access, view.0)));
        assert_eq!(seen, [("destination", Access::Write, 4), ("x", Access::Read, 7)]);
        assert_eq!(command.engine(), Some(Engine::Vector));
    }
}
