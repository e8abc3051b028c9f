//! Made-up commands for fuzzing, generated from the table: any bytes give a well-formed command.

use crate::command_table::for_each_command;
use crate::commands::*;
use crate::encode::Field;

/// Random bytes to draw from; reads zeros past the end.
#[derive(Clone, Debug)]
pub struct ByteSource<'a> {
    bytes: &'a [u8],
}

impl<'a> ByteSource<'a> {
    /// Draws from these bytes.
    pub fn new(bytes: &'a [u8]) -> ByteSource<'a> {
        ByteSource { bytes }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((&first, rest)) => {
                self.bytes = rest;
                first
            }
            None => 0,
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        [(); N].map(|()| self.u8())
    }

    /// One of a non-empty list.
    pub fn choose<'list, T>(&mut self, list: &'list [T]) -> &'list T {
        &list[usize::from(self.u8()) % list.len()]
    }
}

macro_rules! define_arbitrary {
    ($( $(#[$doc:meta])* $opcode:literal $kind:ident $name:ident = $variant:ident {
        $( $(#[$field_doc:meta])* $([$access:ident])? $field:ident: $type:ty, )*
    }, )*) => {
        /// A command made from bytes: every opcode can occur, ids are small, one in 16 is a target's.
        pub fn arbitrary_command(source: &mut ByteSource<'_>) -> Command {
            let choice = source.u8();
            if choice & 0xf == 0xf {
                let opcode = source.u8() | TARGET_OPCODE_MIN;
                let length = usize::from(source.u8() % 16);
                return Command::Target { opcode, payload: (0..length).map(|_| source.u8()).collect() };
            }
            match *source.choose(Opcode::ALL) {
                $( Opcode::$variant => Command::$variant { $( $field: Field::arbitrary(source), )* }, )*
            }
        }
    };
}

for_each_command!(define_arbitrary);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode_command;
    use crate::encode::encode_command;
    use crate::random::Random;

    #[test]
    fn commands_survive_the_wire_and_truncation_is_refused() {
        let mut random = Random::new(7);
        let mut opcodes = std::collections::BTreeSet::new();
        for _ in 0..4000 {
            let noise: Vec<u8> = (0..64).map(|_| random.next_u64() as u8).collect();
            let command = arbitrary_command(&mut ByteSource::new(&noise));
            opcodes.insert(command.opcode_byte().min(TARGET_OPCODE_MIN));
            let mut bytes = Vec::new();
            encode_command(&command, &mut bytes);
            let (back, length) = decode_command(&bytes).expect("what was encoded decodes");
            assert_eq!(length, bytes.len());
            let mut again = Vec::new();
            encode_command(&back, &mut again);
            assert_eq!(again, bytes);
            assert_eq!(decode_command(&bytes[..bytes.len() - 1]), None, "{command:?}");
        }
        assert_eq!(opcodes.len(), Opcode::ALL.len() + 1);
    }

    #[test]
    fn any_bytes_decode_or_are_refused() {
        let mut random = Random::new(11);
        for _ in 0..20_000 {
            let noise: Vec<u8> = (0..random.below(48)).map(|_| random.next_u64() as u8).collect();
            if let Some((_, length)) = decode_command(&noise) {
                assert!(length <= noise.len());
            }
        }
    }
}
